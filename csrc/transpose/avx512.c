#include <immintrin.h>
#define ISA avx512
typedef __m128i vec;
#define LOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define STORE(p, v) _mm_storeu_si128((__m128i *)(p), v)
#define ZIP_LOW(a, b) _mm_unpacklo_epi8(a, b)
#define ZIP_HIGH(a, b) _mm_unpackhi_epi8(a, b)
#include "simd.inc"
