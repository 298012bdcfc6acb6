#define ISA neon
#include "plain.inc"
