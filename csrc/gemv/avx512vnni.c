/* vpdpbusd needs an unsigned and a signed operand. Where a and b are of one type, b becomes the other by flipping its highest
 * bit as it is read, which adds 128 to each of its codes or takes it away, and the sums of the rows of a make up for it. */
#define ISA avx512vnni
#include "../kernels.h"
#include "../simd/inline.h"

#include <immintrin.h>

PQ_INLINE __m512i add_products(__m512i sum, __m512i a, __m512i b, const int a_signed)
{
    if (a_signed)
        __asm__("vpdpbusd\t%2, %1, %0" : "+v"(sum) : "v"(b), "v"(a));
    else
        __asm__("vpdpbusd\t%2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

PQ_INLINE __m512i flipped(__m512i b, const int flip)
{
    return flip ? _mm512_xor_si512(b, _mm512_set1_epi8((char)0x80)) : b;
}

/* The first n of 64. */
PQ_INLINE __mmask64 first_of(size_t n) { return n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1; }
PQ_INLINE __mmask16 first_of_16(size_t n) { return (__mmask16)(n >= 16 ? 0xffff : (1u << n) - 1); }

/* What flipping b has added to the products with each row of a, negated. */
static int32_t owed(const uint8_t *a, int a_signed, size_t k)
{
    __m512i sum = _mm512_setzero_si512();
    const __m512i ones = _mm512_set1_epi8(1);
    for (size_t i = 0; i < k; i += 64) {
        const __m512i x = _mm512_loadu_si512(a + i);
        sum = a_signed ? _mm512_dpbusd_epi32(sum, ones, x) : _mm512_dpbusd_epi32(sum, x, ones);
    }
    const uint32_t total = (uint32_t)_mm512_reduce_add_epi32(sum);
    return (int32_t)((a_signed ? 0u - total : total) * 128u);
}

enum {
    DEEP = 8,               /* rows of b at a time: 16 streams from memory */
    WIDE = 64,               /* columns at a time */
    SUMS = 24 << 10,         /* bytes of c that stay in the first-level cache while b streams by */
    /* Bytes of b that are asked for ahead, to the second-level cache: rows a power of two apart share a set of the first. */
    AHEAD = 16 << 10,
    AHEAD_IN_COLUMN = 4096
};

/* 4 x 64 codes, row by row, to 16 columns of four in each vector; columns are in the order that the unpacking leaves. */
PQ_INLINE void interleave(const __m512i row[4], __m512i out[4])
{
    const __m512i low01 = _mm512_unpacklo_epi8(row[0], row[1]), high01 = _mm512_unpackhi_epi8(row[0], row[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(row[2], row[3]), high23 = _mm512_unpackhi_epi8(row[2], row[3]);
    out[0] = _mm512_unpacklo_epi16(low01, low23);
    out[1] = _mm512_unpackhi_epi16(low01, low23);
    out[2] = _mm512_unpacklo_epi16(high01, high23);
    out[3] = _mm512_unpackhi_epi16(high01, high23);
}

/* Vector v of interleave() has columns 16 l + 4 v ... 16 l + 4 v + 3 in its l-th quarter: to the order of c. */
PQ_INLINE void in_order(__m512i sum[4])
{
    const __m512i a = _mm512_shuffle_i32x4(sum[0], sum[1], 0x44), b = _mm512_shuffle_i32x4(sum[0], sum[1], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(sum[2], sum[3], 0x44), d = _mm512_shuffle_i32x4(sum[2], sum[3], 0xee);
    sum[0] = _mm512_shuffle_i32x4(a, c, 0x88);
    sum[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
    sum[2] = _mm512_shuffle_i32x4(b, d, 0x88);
    sum[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

/* c of a block of columns, kept in the order of interleave(); from and to the real order at the ends. */
PQ_INLINE void add_rows(const uint8_t *a, size_t a_stride, size_t n_rows, const uint8_t *b, ptrdiff_t b_stride, size_t k,
                        size_t n, int32_t *sums, size_t sums_stride, const int a_signed, const int flip)
{
    const ptrdiff_t ahead = (ptrdiff_t)((AHEAD / n + DEEP - 1) / DEEP * DEEP) * b_stride; /* rows, not the rest of these */
    for (size_t i = 0; i < k; i += DEEP) {
        const uint8_t *from[DEEP]; /* a has zeros from row k on, and some row of b must be read with them */
        for (size_t t = 0; t < DEEP; t++) from[t] = b + (ptrdiff_t)pq_min(i + t, k - 1) * b_stride;
        for (size_t j = 0; j < n; j += WIDE) {
            const __mmask64 here = first_of(n - j);
            __m512i y[DEEP];
#pragma GCC unroll 4
            for (size_t g = 0; g < DEEP; g += 4) {
                __m512i row[4];
#pragma GCC unroll 4
                for (size_t t = 0; t < 4; t++) {
                    row[t] = flipped(_mm512_maskz_loadu_epi8(here, from[g + t] + j), flip);
                    _mm_prefetch((const char *)from[g + t] + j + ahead, _MM_HINT_T1);
                }
                interleave(row, y + g);
            }
            for (size_t r = 0; r < n_rows; r++) {
                const uint8_t *const x = a + r * a_stride + i;
                int32_t *const to = sums + r * sums_stride + j;
                __m512i four[DEEP / 4], sum[4];
#pragma GCC unroll 4
                for (size_t g = 0; g < DEEP / 4; g++) four[g] = _mm512_set1_epi32(*(const pq_any_i32 *)(x + 4 * g));
#pragma GCC unroll 4
                for (size_t v = 0; v < 4; v++) sum[v] = _mm512_loadu_si512(to + 16 * v);
#pragma GCC unroll 4
                for (size_t g = 0; g < DEEP / 4; g++)
#pragma GCC unroll 4
                    for (size_t v = 0; v < 4; v++) sum[v] = add_products(sum[v], four[g], y[4 * g + v], a_signed);
#pragma GCC unroll 4
                for (size_t v = 0; v < 4; v++) _mm512_storeu_si512(to + 16 * v, sum[v]);
            }
        }
    }
}

PQ_INLINE void rows(const uint8_t *a, size_t a_stride, size_t n_rows, const uint8_t *b, ptrdiff_t b_stride, size_t k,
                    size_t n, int32_t *c, size_t c_stride, const int a_signed, const int flip)
{
    int32_t sums[SUMS / 4];
    enum { MOST_ROWS = SUMS / 4 / WIDE };
    for (size_t r0 = 0; r0 < n_rows; r0 += MOST_ROWS) {
        const size_t some = pq_min(MOST_ROWS, n_rows - r0), width = SUMS / 4 / some / WIDE * WIDE;
        for (size_t j0 = 0; j0 < n; j0 += width) {
            const size_t columns = pq_min(width, n - j0);
            for (size_t r = 0; r < some; r++) {
                const __m512i start = _mm512_set1_epi32(flip ? owed(a + (r0 + r) * a_stride, a_signed, k) : 0);
                for (size_t j = 0; j < (columns + WIDE - 1) / WIDE * WIDE; j += 16)
                    _mm512_storeu_si512(sums + r * width + j, start);
            }
            add_rows(a + r0 * a_stride, a_stride, some, b + j0, b_stride, k, columns, sums, width, a_signed, flip);
            for (size_t r = 0; r < some; r++)
                for (size_t j = 0; j < columns; j += WIDE) {
                    __m512i sum[4];
#pragma GCC unroll 4
                    for (size_t v = 0; v < 4; v++) sum[v] = _mm512_loadu_si512(sums + r * width + j + 16 * v);
                    in_order(sum);
                    int32_t *const to = c + (r0 + r) * c_stride + j0 + j;
#pragma GCC unroll 4
                    for (size_t v = 0; v < 4; v++) {
                        const __mmask16 here = columns - j > 16 * v ? first_of_16(columns - j - 16 * v) : 0;
                        const __m512i before = _mm512_maskz_loadu_epi32(here, to + 16 * v);
                        _mm512_mask_storeu_epi32(to + 16 * v, here, _mm512_add_epi32(before, sum[v]));
                    }
                }
        }
    }
}

/* The sums of the lanes of four vectors. */
PQ_INLINE __m128i four_sums(__m512i s0, __m512i s1, __m512i s2, __m512i s3)
{
    const __m512i s01 = _mm512_add_epi32(_mm512_unpacklo_epi32(s0, s1), _mm512_unpackhi_epi32(s0, s1));
    const __m512i s23 = _mm512_add_epi32(_mm512_unpacklo_epi32(s2, s3), _mm512_unpackhi_epi32(s2, s3));
    const __m512i s = _mm512_add_epi32(_mm512_unpacklo_epi64(s01, s23), _mm512_unpackhi_epi64(s01, s23));
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* R rows of a times four columns of b, which are asked for one group of columns ahead. */
PQ_INLINE void four_columns(const int R, const uint8_t *a, size_t a_stride, const uint8_t *const b[4], ptrdiff_t ahead,
                            size_t k, size_t n, int32_t *c, size_t c_stride, const int32_t *start, const int a_signed,
                            const int flip)
{
    __m512i sum[4][4];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++) sum[r][t] = _mm512_setzero_si512();
    for (size_t i = 0; i < k; i += 64) {
        const __mmask64 here = first_of(k - i);
        __m512i x[4];
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) x[r] = _mm512_loadu_si512(a + (size_t)r * a_stride + i);
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++) {
            const __m512i y = flipped(_mm512_maskz_loadu_epi8(here, b[t] + i), flip);
            if (ahead) _mm_prefetch((const char *)b[t] + i + ahead, _MM_HINT_T1);
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) sum[r][t] = add_products(sum[r][t], x[r], y, a_signed);
        }
    }
    const __mmask8 columns = (__mmask8)first_of_16(pq_min(n, 4));
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        int32_t *const to = c + (size_t)r * c_stride;
        const __m128i s = four_sums(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
        const __m128i before = _mm_add_epi32(_mm_maskz_loadu_epi32(columns, to), _mm_set1_epi32(start[r]));
        _mm_mask_storeu_epi32(to, columns, _mm_add_epi32(before, s));
    }
}

/* One row of a: column after column, so that memory is read in one stream. */
PQ_INLINE void one_row(const uint8_t *a, const uint8_t *const b[4], size_t k, size_t n, int32_t *c, int32_t start,
                       const int a_signed, const int flip)
{
    enum { SETS = 4 }; /* of sums: each vpdpbusd waits for the one before it on the same sum */
    __m512i sum[4];
#pragma GCC unroll 4
    for (int t = 0; t < 4; t++) {
        __m512i part[SETS];
#pragma GCC unroll 4
        for (int u = 0; u < SETS; u++) part[u] = _mm512_setzero_si512();
        size_t i = 0;
        for (; i + 64 * SETS <= k; i += 64 * SETS)
#pragma GCC unroll 4
            for (int u = 0; u < SETS; u++) {
                const size_t at = i + 64 * (size_t)u;
                _mm_prefetch((const char *)b[t] + at + AHEAD_IN_COLUMN, _MM_HINT_T1);
                part[u] = add_products(part[u], _mm512_loadu_si512(a + at), flipped(_mm512_loadu_si512(b[t] + at), flip),
                                       a_signed);
            }
        for (; i < k; i += 64)
            part[0] = add_products(part[0], _mm512_loadu_si512(a + i),
                                   flipped(_mm512_maskz_loadu_epi8(first_of(k - i), b[t] + i), flip), a_signed);
        sum[t] = _mm512_add_epi32(_mm512_add_epi32(part[0], part[1]), _mm512_add_epi32(part[2], part[3]));
    }
    const __mmask8 columns = (__mmask8)first_of_16(pq_min(n, 4));
    const __m128i before = _mm_add_epi32(_mm_maskz_loadu_epi32(columns, c), _mm_set1_epi32(start));
    _mm_mask_storeu_epi32(c, columns, _mm_add_epi32(before, four_sums(sum[0], sum[1], sum[2], sum[3])));
}

PQ_INLINE void columns(const uint8_t *a, size_t a_stride, size_t n_rows, const uint8_t *b, ptrdiff_t b_stride, size_t k,
                       size_t n, int32_t *c, size_t c_stride, const int a_signed, const int flip)
{
    for (size_t r0 = 0; r0 < n_rows; r0 += 32) {
        const size_t some = pq_min(32, n_rows - r0);
        int32_t start[32];
        for (size_t r = 0; r < some; r++) start[r] = flip ? owed(a + (r0 + r) * a_stride, a_signed, k) : 0;
        for (size_t j = 0; j < n; j += 4) {
            const uint8_t *from[4];
            for (size_t t = 0; t < 4; t++) from[t] = b + (ptrdiff_t)pq_min(j + t, n - 1) * b_stride;
            for (size_t r = 0; r < some; r += 4) {
                const uint8_t *const rows_of_a = a + (r0 + r) * a_stride;
                int32_t *const to = c + (r0 + r) * c_stride + j;
                const ptrdiff_t ahead = r == 0 ? 4 * b_stride : 0;
#define ROW_COUNT(R)                                                                                                   \
    case R: four_columns(R, rows_of_a, a_stride, from, ahead, k, n - j, to, c_stride, start + r, a_signed, flip); break;
                switch (pq_min(some - r, 4)) {
                case 1: one_row(rows_of_a, from, k, n - j, to, start[r], a_signed, flip); break;
                    ROW_COUNT(2)
                    ROW_COUNT(3)
                    ROW_COUNT(4)
                }
#undef ROW_COUNT
            }
        }
    }
}

#define GEMV(op, loop)                                                                                           \
    void PQ_NAME(op)(const uint8_t *a, pq_type a_type, size_t a_stride, size_t n_rows, const uint8_t *b,         \
                     pq_type b_type, ptrdiff_t b_stride, size_t k, size_t n, int32_t *c, size_t c_stride)        \
    {                                                                                                            \
        if (a_type == PQ_I8 && b_type == PQ_I8)                                                                  \
            loop(a, a_stride, n_rows, b, b_stride, k, n, c, c_stride, 1, 1);                                     \
        else if (a_type == PQ_I8)                                                                                \
            loop(a, a_stride, n_rows, b, b_stride, k, n, c, c_stride, 1, 0);                                     \
        else if (b_type == PQ_I8)                                                                                \
            loop(a, a_stride, n_rows, b, b_stride, k, n, c, c_stride, 0, 0);                                     \
        else                                                                                                     \
            loop(a, a_stride, n_rows, b, b_stride, k, n, c, c_stride, 0, 1);                                     \
    }
GEMV(gemv_rows_i8_i32, rows)
GEMV(gemv_columns_i8_i32, columns)
