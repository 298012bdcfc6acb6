#include <immintrin.h>
#define ISA avx512
#define LANES 4
#include "x86.inc"
typedef __m512i vec;
#define LOAD(p) _mm512_loadu_si512(p)
#define ZIP_LOW(a, b) _mm512_unpacklo_epi8(a, b)
#define ZIP_HIGH(a, b) _mm512_unpackhi_epi8(a, b)
#define STORE_LANES(to, stride, v)                                         \
    (STORE16(to, stride, _mm512_castsi512_si128(v)),                       \
     STORE16((to) + (stride), stride, _mm512_extracti32x4_epi32(v, 1)),    \
     STORE16((to) + 2 * (stride), stride, _mm512_extracti32x4_epi32(v, 2)), \
     STORE16((to) + 3 * (stride), stride, _mm512_extracti32x4_epi32(v, 3)))
#include "simd.inc"
