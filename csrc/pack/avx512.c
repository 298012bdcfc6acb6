#include <immintrin.h>

#include "../kernels.h"
#include "../simd/inline.h"

#define ISA avx512

#define NIBBLES 128
/* low + 16 high in each 16-bit word, then the words' bytes in order. */
PQ_INLINE void pack_nibble_block(const uint8_t *q, uint8_t *packed)
{
    const __m512i mask = _mm512_set1_epi8(15), weights = _mm512_set1_epi16(0x1001);
    const __m512i a = _mm512_maddubs_epi16(_mm512_and_si512(_mm512_loadu_si512(q), mask), weights);
    const __m512i b = _mm512_maddubs_epi16(_mm512_and_si512(_mm512_loadu_si512(q + 64), mask), weights);
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    _mm512_storeu_si512(packed, _mm512_permutexvar_epi64(order, _mm512_packus_epi16(a, b)));
}

PQ_INLINE __m512i spread(const uint8_t *packed, __m512i sign)
{
    const __m512i word = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)packed));
    const __m512i both = _mm512_or_si512(word, _mm512_slli_epi16(word, 4));
    return _mm512_sub_epi8(_mm512_xor_si512(_mm512_and_si512(both, _mm512_set1_epi8(15)), sign), sign);
}

PQ_INLINE void unpack_nibble_block(const uint8_t *packed, unsigned sign, uint8_t *q)
{
    const __m512i s = _mm512_set1_epi8((char)sign);
    _mm512_storeu_si512(q, spread(packed, s));
    _mm512_storeu_si512(q + 64, spread(packed + 32, s));
}

#include "plain.inc"
