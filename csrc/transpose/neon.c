#include <arm_neon.h>
#define ISA neon
#define LANES 1
typedef uint8x16_t vec, vec16;
#define LOAD(p) vld1q_u8(p)
#define ZIP_LOW(a, b) vzip1q_u8(a, b)
#define ZIP_HIGH(a, b) vzip2q_u8(a, b)
#define STORE_LANES(to, stride, v) vst1q_u8(to, v)
#define LOAD16 LOAD
#define ZIP_LOW16 ZIP_LOW
#define ZIP_HIGH16 ZIP_HIGH
#define STORE16 STORE_LANES
#include "simd.inc"
