#include <arm_neon.h>

#include "../kernels.h"
#include "../simd/inline.h"

#define ISA neon

#define NIBBLES 32
/* Even and odd codes part while loading and meet while storing. */
PQ_INLINE void pack_nibble_block(const uint8_t *q, uint8_t *packed)
{
    const uint8x16x2_t pair = vld2q_u8(q);
    vst1q_u8(packed, vsliq_n_u8(vandq_u8(pair.val[0], vdupq_n_u8(15)), pair.val[1], 4));
}

PQ_INLINE void unpack_nibble_block(const uint8_t *packed, unsigned sign, uint8_t *q)
{
    const uint8x16_t s = vdupq_n_u8((uint8_t)sign), bytes = vld1q_u8(packed);
    uint8x16x2_t pair;
    pair.val[0] = vsubq_u8(veorq_u8(vandq_u8(bytes, vdupq_n_u8(15)), s), s);
    pair.val[1] = vsubq_u8(veorq_u8(vshrq_n_u8(bytes, 4), s), s);
    vst2q_u8(q, pair);
}

#include "plain.inc"
