#include <immintrin.h>

#include "../kernels.h"
#include "../simd/inline.h"

#define ISA avx2

#define NIBBLES 64
/* low + 16 high in each 16-bit word, then the words' bytes in order. */
PQ_INLINE void pack_nibble_block(const uint8_t *q, uint8_t *packed)
{
    const __m256i mask = _mm256_set1_epi8(15), weights = _mm256_set1_epi16(0x1001);
    const __m256i low = _mm256_loadu_si256((const __m256i *)q), high = _mm256_loadu_si256((const __m256i *)(q + 32));
    const __m256i a = _mm256_maddubs_epi16(_mm256_and_si256(low, mask), weights);
    const __m256i b = _mm256_maddubs_epi16(_mm256_and_si256(high, mask), weights);
    _mm256_storeu_si256((__m256i *)packed, _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8));
}

PQ_INLINE __m256i spread(const uint8_t *packed, __m256i sign)
{
    const __m256i word = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)packed));
    const __m256i both = _mm256_or_si256(word, _mm256_slli_epi16(word, 4));
    return _mm256_sub_epi8(_mm256_xor_si256(_mm256_and_si256(both, _mm256_set1_epi8(15)), sign), sign);
}

PQ_INLINE void unpack_nibble_block(const uint8_t *packed, unsigned sign, uint8_t *q)
{
    const __m256i s = _mm256_set1_epi8((char)sign);
    _mm256_storeu_si256((__m256i *)q, spread(packed, s));
    _mm256_storeu_si256((__m256i *)(q + 32), spread(packed + 16, s));
}

#include "plain.inc"
