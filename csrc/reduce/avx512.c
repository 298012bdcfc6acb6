#include "../simd/avx512.h"

#include "simd.inc"

#include "plain.inc"
