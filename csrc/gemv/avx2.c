#define ISA avx2
#include "plain.inc"
