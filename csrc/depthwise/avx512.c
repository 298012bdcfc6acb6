#include <immintrin.h>
#define ISA avx512
#define WIDTH 32
#define ADD(sum, a, b) _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
#include "avx512.inc"
