/* vpdpbusd on 512 bits: four products of a uint8 and an int8 are added to each of 16 sums. */
#define ISA avx512vnni
#define ROWS 12
#define COLUMNS 32
#define DEPTH 4
#define PQ_A PQ_U8
#define PQ_B PQ_I8
typedef unsigned char a_t;
typedef signed char b_t;
#include "copy.inc"

#include <immintrin.h>

PQ_INLINE __m512i four_of(const uint8_t *a)
{
    return _mm512_set1_epi32(*(const pq_any_i32 *)a);
}

/* sum += a * b. Inline assembly, because GCC 12 copies the sums of the intrinsic around and spills half of them. */
PQ_INLINE void add_products(__m512i *sum, __m512i a, __m512i b)
{
    __asm__("vpdpbusd\t%2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

/* R rows. Few rows have few sums, and each vpdpbusd waits for the one before it on the same sum: so there are U sets of sums, for
 * groups in turn. Three rows share a pointer, because address arithmetic is by one register and once or twice another. */
PQ_INLINE void tile_of(const int R, const int U, const uint8_t *a, size_t stride, const int8_t *b, size_t groups,
                       const int32_t *row, const int32_t *column, int32_t *c, size_t c_stride, int accumulate)
{
    __m512i sum[4][ROWS][2];
    const uint8_t *from[4];
    for (int t = 0; t < 4; t++) from[t] = a + (size_t)(3 * t) * stride;
#pragma GCC unroll 4
    for (int u = 0; u < U; u++)
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) sum[u][r][0] = sum[u][r][1] = _mm512_setzero_si512();
    size_t g = 0;
    for (; g + (size_t)U <= groups; g += (size_t)U) {
#pragma GCC unroll 4
        for (int u = 0; u < U; u++) {
            const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 64);
            b += 128;
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                const __m512i x = four_of(from[r / 3] + (size_t)(r % 3) * stride + 4 * u);
                add_products(&sum[u][r][0], x, b0);
                add_products(&sum[u][r][1], x, b1);
            }
        }
#pragma GCC unroll 4
        for (int t = 0; t < (R + 2) / 3; t++) from[t] += 4 * U;
    }
    for (; U > 1 && g < groups; g++) {
        const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 64);
        b += 128;
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            const __m512i x = four_of(from[r / 3] + (size_t)(r % 3) * stride);
            add_products(&sum[0][r][0], x, b0);
            add_products(&sum[0][r][1], x, b1);
        }
#pragma GCC unroll 4
        for (int t = 0; t < (R + 2) / 3; t++) from[t] += 4;
    }
    const __m512i zero = _mm512_setzero_si512();
    const __m512i column0 = column ? _mm512_loadu_si512(column) : zero;
    const __m512i column1 = column ? _mm512_loadu_si512(column + 16) : zero;
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
        __m512i c0 = sum[0][r][0], c1 = sum[0][r][1];
#pragma GCC unroll 3
        for (int u = 1; u < U; u++) {
            c0 = _mm512_add_epi32(c0, sum[u][r][0]);
            c1 = _mm512_add_epi32(c1, sum[u][r][1]);
        }
        const __m512i both = row ? _mm512_set1_epi32(row[r]) : zero;
        c0 = _mm512_add_epi32(c0, _mm512_add_epi32(column0, both));
        c1 = _mm512_add_epi32(c1, _mm512_add_epi32(column1, both));
        int32_t *const to = c + (size_t)r * c_stride;
        if (accumulate) {
            c0 = _mm512_add_epi32(c0, _mm512_loadu_si512(to));
            c1 = _mm512_add_epi32(c1, _mm512_loadu_si512(to + 16));
        }
        _mm512_storeu_si512(to, c0);
        _mm512_storeu_si512(to + 16, c1);
    }
}

static void tile(const void *a, size_t a_stride, const void *b, size_t groups, int n_rows, const int32_t *row,
                 const int32_t *column, int32_t *c, size_t c_stride, int accumulate)
{
#define ROW_COUNT(R, U)                                                                                        \
    case R:                                                                                                    \
        tile_of(R, U, (const uint8_t *)a, a_stride, (const int8_t *)b, groups, row, column, c, c_stride, accumulate); \
        break;
    switch (n_rows) {
        ROW_COUNT(1, 4)
        ROW_COUNT(2, 4)
        ROW_COUNT(3, 2)
        ROW_COUNT(4, 2)
        ROW_COUNT(5, 1)
        ROW_COUNT(6, 1)
        ROW_COUNT(7, 1)
        ROW_COUNT(8, 1)
        ROW_COUNT(9, 1)
        ROW_COUNT(10, 1)
        ROW_COUNT(11, 1)
        ROW_COUNT(12, 1)
    }
#undef ROW_COUNT
}

static const pq_gemm_kernels kernels = {ROWS, COLUMNS, DEPTH, PQ_A, PQ_B, tile, pack_b_plain, copy_a_plain, NULL, NULL};
const pq_gemm_kernels *pq_gemm_avx512vnni(void) { return &kernels; }
