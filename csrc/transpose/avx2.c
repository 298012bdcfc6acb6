#include <immintrin.h>
#define ISA avx2
#define LANES 2
#include "x86.inc"
typedef __m256i vec;
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define ZIP_LOW(a, b) _mm256_unpacklo_epi8(a, b)
#define ZIP_HIGH(a, b) _mm256_unpackhi_epi8(a, b)
#define STORE_LANES(to, stride, v)                               \
    (STORE16(to, stride, _mm256_castsi256_si128(v)),             \
     STORE16((to) + (stride), stride, _mm256_extracti128_si256(v, 1)))
#include "simd.inc"
