#include "../simd/neon.h"

#include "simd.inc"

#include "plain.inc"
