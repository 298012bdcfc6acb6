/* smmla: two rows of a by two columns of b, eight products of int8 for each of their 4 sums. */
#define ISA neoni8mm
#define ROWS 8
#define COLUMNS 8
#define DEPTH 8
#define PQ_A PQ_I8
#define PQ_B PQ_I8
typedef signed char a_t, b_t;
#include "copy.inc"

#include <arm_neon.h>

/* PAIRS pairs of rows; the last one is a row twice where n_rows is odd. */
PQ_INLINE void tile_of(const int PAIRS, const int8_t *a, size_t a_stride, const int8_t *b, size_t groups, int n_rows,
                       const int32_t *row, const int32_t *column, int32_t *c, size_t c_stride, int accumulate)
{
    int32x4_t sums[ROWS / 2][COLUMNS / 2];
    const int8_t *from[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < 2 * PAIRS; r++) from[r] = a + (r < n_rows ? (size_t)r : (size_t)r - 1) * a_stride;
#pragma GCC unroll 4
    for (int p = 0; p < PAIRS; p++)
#pragma GCC unroll 4
        for (int v = 0; v < COLUMNS / 2; v++) sums[p][v] = vdupq_n_s32(0);
    for (size_t g = 0; g < groups; g++, b += COLUMNS * DEPTH) {
        int8x16_t codes[COLUMNS / 2];
#pragma GCC unroll 4
        for (int v = 0; v < COLUMNS / 2; v++) codes[v] = vld1q_s8(b + 16 * v);
#pragma GCC unroll 4
        for (int p = 0; p < PAIRS; p++) {
            const int8x16_t pair = vcombine_s8(vld1_s8(from[2 * p] + g * DEPTH), vld1_s8(from[2 * p + 1] + g * DEPTH));
#pragma GCC unroll 4
            for (int v = 0; v < COLUMNS / 2; v++) sums[p][v] = vmmlaq_s32(sums[p][v], pair, codes[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < 2 * PAIRS; r++)
#pragma GCC unroll 2
        for (int v = 0; v < COLUMNS / 2; v += 2) {
            const int32x4_t x = sums[r / 2][v], y = sums[r / 2][v + 1];
            int32x4_t all = r % 2 ? vcombine_s32(vget_high_s32(x), vget_high_s32(y))
                                  : vcombine_s32(vget_low_s32(x), vget_low_s32(y));
            int32_t *const to = c + (size_t)r * c_stride + 2 * v;
            if (r >= n_rows) continue;
            if (row) all = vaddq_s32(all, vdupq_n_s32(row[r]));
            if (column) all = vaddq_s32(all, vld1q_s32(column + 2 * v));
            if (accumulate) all = vaddq_s32(all, vld1q_s32(to));
            vst1q_s32(to, all);
        }
}

static void tile(const void *a, size_t a_stride, const void *b, size_t groups, int n_rows, const int32_t *row,
                 const int32_t *column, int32_t *c, size_t c_stride, int accumulate)
{
#define PAIR_COUNT(P)                                                                                        \
    case P:                                                                                                  \
        tile_of(P, (const int8_t *)a, a_stride, (const int8_t *)b, groups, n_rows, row, column, c, c_stride, \
                accumulate);                                                                                 \
        break;
    switch ((n_rows + 1) / 2) {
        PAIR_COUNT(1)
        PAIR_COUNT(2)
        PAIR_COUNT(3)
        PAIR_COUNT(4)
    }
#undef PAIR_COUNT
}

/* The verbs of copy_vectors.inc: vectors of two groups, and sums of two, in the first row of two by two. */
enum { LANES = 2 };
typedef int32x4_t sums_t;
typedef int8x16_t codes_t;

PQ_INLINE int32x4_t no_sums(void) { return vdupq_n_s32(0); }
PQ_INLINE int32x4_t sums_of(const int32_t *c) { return vcombine_s32(vld1_s32(c), vdup_n_s32(0)); }
PQ_INLINE int32x4_t add_sums(int32x4_t x, int32x4_t y) { return vaddq_s32(x, y); }
PQ_INLINE void put_sums(int32_t *c, int32x4_t sums) { vst1_s32(c, vget_low_s32(sums)); }
PQ_INLINE int32_t total_of(int32x4_t sums) { return vaddv_s32(vget_low_s32(sums)); }
PQ_INLINE void add_products(int32x4_t *sums, int8x16_t a, int8x16_t b) { *sums = vmmlaq_s32(*sums, a, b); }
PQ_INLINE int8x16_t no_groups(void) { return vdupq_n_s8(0); }
PQ_INLINE int8x16_t ones(void) { return vdupq_n_s8(1); }
PQ_INLINE void put_groups(int8_t *to, int8x16_t groups, size_t n)
{
    if (n == LANES) vst1q_s8(to, groups);
    else vst1_s8(to, vget_low_s8(groups));
}

/* What turns a code of one sign into the other, and is turned into 0 itself. */
PQ_INLINE uint8x16_t flip_of(const pq_type from, const pq_type to) { return vdupq_n_u8(from == to ? 0 : 0x80); }

PQ_INLINE int8x16_t groups_along(const uint8_t *p, size_t n, const pq_type from, const pq_type to)
{
    const uint8x16_t flip = flip_of(from, to);
    uint8x16_t codes = flip;
    if (n == 16) codes = vld1q_u8(p);
    else memcpy(&codes, p, n);
    return vreinterpretq_s8_u8(veorq_u8(codes, flip));
}

/* A row in each 16 bits, and then a column in each half. */
PQ_INLINE int8x16_t groups_across(const uint8_t *p, ptrdiff_t stride, size_t n_k, size_t n, const pq_type from,
                                  const pq_type to)
{
    static const uint8_t column[16] = {0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15};
    const uint8x16_t flip = flip_of(from, to);
    uint8x16_t codes = flip;
    uint8_t rows[DEPTH][LANES];
    memcpy(rows, &codes, sizeof rows);
    for (size_t i = 0; i < n_k; i++) memcpy(rows[i], p + (ptrdiff_t)i * stride, n);
    memcpy(&codes, rows, sizeof rows);
    return vreinterpretq_s8_u8(vqtbl1q_u8(veorq_u8(codes, flip), vld1q_u8(column)));
}

PQ_INLINE void transpose(int8x16_t x[LANES])
{
    const int64x2_t a = vreinterpretq_s64_s8(x[0]), b = vreinterpretq_s64_s8(x[1]);
    x[0] = vreinterpretq_s8_s64(vtrn1q_s64(a, b));
    x[1] = vreinterpretq_s8_s64(vtrn2q_s64(a, b));
}

#include "copy_vectors.inc"

static const pq_gemm_kernels kernels = {ROWS, COLUMNS, DEPTH, PQ_A, PQ_B, tile, pack_b, copy_a, NULL, NULL, 4};
const pq_gemm_kernels *PQ_NAME(gemm)(void) { return &kernels; }
