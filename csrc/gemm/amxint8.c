/* tdpbssd: the products of 16 x 64 and 64 x 16 int8 are added to 16 x 16 sums. Four tiles of sums stay in registers
 * over all of k. */
#define ISA amxint8
#define ROWS 32
#define COLUMNS 32
#define DEPTH 4
#define PQ_A PQ_I8
#define PQ_B PQ_I8
typedef signed char a_t, b_t;
#include "copy.inc"
#include "avx512.inc"
#include "copy_vectors.inc"

#include "../simd/amxint8.h"

/* SUMS_RC: rows 16 R ... of the tile and columns 16 C ... */
#define SUMS_00 0
#define SUMS_01 1
#define SUMS_10 2
#define SUMS_11 3
#define A_0 4
#define A_1 5
#define B_0 6
#define B_1 7

enum { HALF = 16, STEP = 16 /* groups, the most that a tile takes */, B_STRIDE = COLUMNS * DEPTH };

/* The rows that this thread's tiles are configured for; 0: they are not. */
static _Thread_local int configured;

static void configure(int n_rows)
{
    const uint8_t upper = (uint8_t)pq_min((size_t)n_rows, HALF), lower = (uint8_t)(n_rows > HALF ? n_rows - HALF : 1);
    const tile_configuration wanted = {
        .palette = 1,
        .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
        .rows = {[SUMS_00] = upper, [SUMS_01] = upper, [SUMS_10] = lower, [SUMS_11] = lower,
                 [A_0] = upper, [A_1] = lower, [B_0] = STEP, [B_1] = STEP},
    };
    CONFIGURE_TILES(wanted);
    configured = n_rows;
}

static void leave(void)
{
    if (configured) RELEASE_TILES();
    configured = 0;
}

/* Sums += STEP groups; `tall`: more than HALF rows. */
PQ_INLINE void add_step(const int tall, const int8_t *a, size_t a_stride, const int8_t *b)
{
    LOAD_TILE(B_0, b, B_STRIDE);
    LOAD_TILE(A_0, a, a_stride);
    MULTIPLY_TILES(SUMS_00, A_0, B_0);
    LOAD_TILE(B_1, b + B_STRIDE / 2, B_STRIDE);
    MULTIPLY_TILES(SUMS_01, A_0, B_1);
    if (tall) {
        LOAD_TILE(A_1, a + HALF * a_stride, a_stride);
        MULTIPLY_TILES(SUMS_10, A_1, B_0);
        MULTIPLY_TILES(SUMS_11, A_1, B_1);
    }
}

/* What the last groups are when they do not fill a step: copies, with zeros where there is nothing. */
typedef struct {
    _Alignas(64) int8_t a[ROWS][STEP * DEPTH], b[STEP][B_STRIDE];
} step_copy;

PQ_INLINE void copy_step(const int8_t *a, size_t a_stride, const int8_t *b, size_t groups, int n_rows, step_copy *copy)
{
    const __mmask16 mask = (__mmask16)((1u << groups) - 1);
    for (size_t r = 0; r < (size_t)n_rows; r++)
        _mm512_store_si512(copy->a[r], _mm512_maskz_loadu_epi32(mask, a + r * a_stride));
    for (size_t g = 0; g < STEP; g++)
        for (int v = 0; v < 2; v++)
            _mm512_store_si512(copy->b[g] + 64 * v,
                               g < groups ? _mm512_loadu_si512(b + g * B_STRIDE + 64 * v) : _mm512_setzero_si512());
}

/* What the sums are before the first product. */
PQ_INLINE void put_first_sums(int n_rows, const int32_t *row, const int32_t *column, const int32_t *c, size_t c_stride,
                              int accumulate, int32_t *to)
{
    for (int v = 0; v < 2; v++) {
        const __m512i below = column ? sums_of(column + 16 * v) : no_sums();
        for (size_t r = 0; r < (size_t)n_rows; r++) {
            __m512i sums = row ? add_sums(below, all_sums(row[r])) : below;
            if (accumulate) sums = add_sums(sums, sums_of(c + r * c_stride + 16 * v));
            put_sums(to + r * COLUMNS + 16 * v, sums);
        }
    }
}

PQ_INLINE void tile_of(const int tall, const int8_t *a, size_t a_stride, const int8_t *b, size_t groups, int n_rows,
                       const int32_t *row, const int32_t *column, int32_t *c, size_t c_stride, int accumulate)
{
    static const int32_t zeros[COLUMNS];
    _Alignas(64) int32_t sums[ROWS * COLUMNS];
    step_copy copy;
    const size_t steps = groups / STEP, rest = groups % STEP;
    if (rest) copy_step(a + steps * STEP * DEPTH, a_stride, b + steps * STEP * B_STRIDE, rest, n_rows, &copy);
    const int32_t *first = column ? column : zeros; /* the same for all rows, ... */
    size_t stride = 0;
    if (row || accumulate) { /* ... or not */
        put_first_sums(n_rows, row, column, c, c_stride, accumulate, sums);
        first = sums;
        stride = COLUMNS * sizeof *sums;
    }
    LOAD_TILE(SUMS_00, first, stride);
    LOAD_TILE(SUMS_01, first + HALF, stride);
    if (tall) {
        const int32_t *const lower = first == sums ? sums + HALF * COLUMNS : first;
        LOAD_TILE(SUMS_10, lower, stride);
        LOAD_TILE(SUMS_11, lower + HALF, stride);
    }
    for (size_t s = 0; s < steps; s++) add_step(tall, a + s * STEP * DEPTH, a_stride, b + s * STEP * B_STRIDE);
    if (rest) add_step(tall, copy.a[0], STEP * DEPTH, copy.b[0]);
    STORE_TILE(SUMS_00, c, c_stride * sizeof *c);
    STORE_TILE(SUMS_01, c + HALF, c_stride * sizeof *c);
    if (tall) {
        STORE_TILE(SUMS_10, c + HALF * c_stride, c_stride * sizeof *c);
        STORE_TILE(SUMS_11, c + HALF * c_stride + HALF, c_stride * sizeof *c);
    }
}

static void tile(const void *a, size_t a_stride, const void *b, size_t groups, int n_rows, const int32_t *row,
                 const int32_t *column, int32_t *c, size_t c_stride, int accumulate)
{
    if (configured != n_rows) configure(n_rows);
    if (n_rows > HALF)
        tile_of(1, (const int8_t *)a, a_stride, (const int8_t *)b, groups, n_rows, row, column, c, c_stride,
                accumulate);
    else
        tile_of(0, (const int8_t *)a, a_stride, (const int8_t *)b, groups, n_rows, row, column, c, c_stride,
                accumulate);
}

static const pq_gemm_kernels kernels = {ROWS, COLUMNS, DEPTH, PQ_A, PQ_B, tile, pack_b, copy_a, NULL, leave, 16};
const pq_gemm_kernels *PQ_NAME(gemm)(void) { return &kernels; }
