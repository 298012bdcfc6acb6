/* vpdpwssd adds up what vpmaddwd gives. */
#include <immintrin.h>
#define ISA avx512vnni
#define WIDTH 32
#define ADD(sum, a, b) _mm512_dpwssd_epi32(sum, a, b)
#include "avx512.inc"
