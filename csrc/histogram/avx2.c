#include "../simd/avx2.h"

#include "plain.inc"

#include "simd.inc"
