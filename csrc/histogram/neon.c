#include "../simd/neon.h"

#include "plain.inc"

#include "simd.inc"
