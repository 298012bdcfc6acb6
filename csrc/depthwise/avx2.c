/* The verbs of simd.inc on 256 bits. Interleaving works within 16 bytes: the sums of channels 0-3 and 8-11 are in one
 * vector, the others in the other, until they are stored. */
#include <immintrin.h>
#define ISA avx2
#define WIDTH 16
typedef __m256i vec;
typedef struct {
    __m256i low, high;
} sums;

#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define NOTHING() _mm256_setzero_si256()
#define ZIP(pair, a, b) zip(pair, a, b)
#define ADD_PRODUCTS(sum, pair, w) add_products(sum, pair, w)
#define LOAD_SUMS(p) load_sums(p)
#define STORE_SUMS(p, sum) store_sums(p, sum)

static inline __attribute__((always_inline)) void zip(vec pair[2], vec a, vec b)
{
    pair[0] = _mm256_unpacklo_epi16(a, b);
    pair[1] = _mm256_unpackhi_epi16(a, b);
}

static inline __attribute__((always_inline)) void add_products(sums *sum, const vec pair[2], const vec w[2])
{
    sum->low = _mm256_add_epi32(sum->low, _mm256_madd_epi16(pair[0], w[0]));
    sum->high = _mm256_add_epi32(sum->high, _mm256_madd_epi16(pair[1], w[1]));
}

static inline __attribute__((always_inline)) sums load_sums(const int *p)
{
    const __m256i a = LOAD(p), b = LOAD(p + 8);
    return (sums){_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)};
}

static inline __attribute__((always_inline)) void store_sums(int *p, sums sum)
{
    _mm256_storeu_si256((__m256i *)p, _mm256_permute2x128_si256(sum.low, sum.high, 0x20));
    _mm256_storeu_si256((__m256i *)(p + 8), _mm256_permute2x128_si256(sum.low, sum.high, 0x31));
}

#include "simd.inc"
