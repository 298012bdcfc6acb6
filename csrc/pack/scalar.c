#include "../kernels.h"
#include "../simd/inline.h"

#define ISA scalar

#include "plain.inc"
