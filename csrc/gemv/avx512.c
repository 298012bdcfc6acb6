#define ISA avx512
#include "plain.inc"
