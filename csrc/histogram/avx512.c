#include "../simd/avx512.h"

#include "plain.inc"

#include "simd.inc"
