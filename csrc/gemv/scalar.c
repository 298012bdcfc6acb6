#define ISA scalar
#include "plain.inc"
