#include "../simd/avx2.h"

#include "simd.inc"

#include "plain.inc"
