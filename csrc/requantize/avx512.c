#define ISA avx512
#include <immintrin.h>

#include "../simd/inline.h"

/* By hand: the compiler makes vectors of 64 bytes, and panels of a product are narrower. */
#define HAS_FLOAT_CODES_I8
PQ_INLINE __m128i sixteen_codes(__m512i acc, __m512 multiplier, __m512 low, __m512 high, __m512i zero_point)
{
    __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier);
    x = _mm512_min_ps(high, _mm512_max_ps(low, x));
    return _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(x), zero_point));
}

PQ_INLINE void float_codes_i8(const pq_any_i32 *acc, size_t n, const float *multiplier, const float *low,
                              const float *high, const int *zero_point, uint8_t *q)
{
    size_t c = 0;
    for (; c + 16 <= n; c += 16) {
        const __m512 scaled_by = _mm512_loadu_ps(multiplier + c);
        _mm_storeu_si128((__m128i *)(q + c),
                         sixteen_codes(_mm512_loadu_si512(acc + c), scaled_by, _mm512_loadu_ps(low + c),
                                       _mm512_loadu_ps(high + c), _mm512_loadu_si512(zero_point + c)));
    }
    if (c < n) {
        const __mmask16 some = (__mmask16)((1u << (n - c)) - 1);
        const __m512 scaled_by = _mm512_maskz_loadu_ps(some, multiplier + c);
        _mm_mask_storeu_epi8(
            q + c, some,
            sixteen_codes(_mm512_maskz_loadu_epi32(some, acc + c), scaled_by, _mm512_maskz_loadu_ps(some, low + c),
                          _mm512_maskz_loadu_ps(some, high + c), _mm512_maskz_loadu_epi32(some, zero_point + c)));
    }
}

#include "plain.inc"
