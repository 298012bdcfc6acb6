/* The verbs of AArch64 NEON: 4 float lanes. See simd/README.md for the contract. */
#include <arm_neon.h>

#include "../kernels.h"
#include "inline.h"

#define ISA neon
enum { LANES = 4, BLOCK = 4 * LANES };

typedef float32x4_t vf;
typedef int32x4_t vi;

PQ_INLINE vf set_f(float x) { return vdupq_n_f32(x); }
PQ_INLINE vi set_i(int32_t x) { return vdupq_n_s32(x); }
PQ_INLINE vf add_f(vf a, vf b) { return vaddq_f32(a, b); }
PQ_INLINE vf mul(vf a, vf b) { return vmulq_f32(a, b); }
PQ_INLINE vf divide(vf a, vf b) { return vdivq_f32(a, b); }
PQ_INLINE vf fma_f(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
PQ_INLINE vf negative_fma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
PQ_INLINE vf min_f(vf bound, vf x) { return vminq_f32(bound, x); } /* NaN comes through */
PQ_INLINE vf max_f(vf bound, vf x) { return vmaxq_f32(bound, x); }
PQ_INLINE vf keep_min(vf x, vf so_far) { return vminnmq_f32(x, so_far); }
PQ_INLINE vf keep_max(vf x, vf so_far) { return vmaxnmq_f32(x, so_far); }
PQ_INLINE vf abs_f(vf x) { return vabsq_f32(x); }
PQ_INLINE vi bits_of(vf x) { return vreinterpretq_s32_f32(x); }
PQ_INLINE vf from_bits(vi x) { return vreinterpretq_f32_s32(x); }
PQ_INLINE vi max_u(vi a, vi b)
{
    return vreinterpretq_s32_u32(vmaxq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b)));
}
PQ_INLINE vi add_i(vi a, vi b) { return vaddq_s32(a, b); }
PQ_INLINE vi sub_i(vi a, vi b) { return vsubq_s32(a, b); }
PQ_INLINE vf to_float(vi x) { return vcvtq_f32_s32(x); }
PQ_INLINE vi to_int(vf x) { return vcvtnq_s32_f32(x); } /* half to even whatever FPCR says; NaN gives 0 */
PQ_INLINE vi min_i(vi a, vi b) { return vminq_s32(a, b); }
PQ_INLINE vi max_i(vi a, vi b) { return vmaxq_s32(a, b); }
PQ_INLINE vi xor_i(vi a, vi b) { return veorq_s32(a, b); }
PQ_INLINE vi zero_where_nan(vi codes, vf x) { (void)x; return codes; } /* to_int did it */
PQ_INLINE int is_finite(vf x)
{
    return vminvq_u32(vcleq_f32(vabsq_f32(x), vdupq_n_f32(3.402823466e+38f))) != 0;
}
PQ_INLINE float reduce_min_f(vf x) { return vminnmvq_f32(x); }
PQ_INLINE float reduce_max_f(vf x) { return vmaxnmvq_f32(x); }
PQ_INLINE uint32_t reduce_max_u(vi x) { return vmaxvq_u32(vreinterpretq_u32_s32(x)); }

/* The first `bytes` bytes at p, the rest of the 16 zero. */
PQ_INLINE uint8x16_t load_first_bytes(const void *p, size_t bytes)
{
    uint8_t buffer[16] = {0};
    memcpy(buffer, p, bytes);
    return vld1q_u8(buffer);
}

PQ_INLINE void store_first_bytes(void *p, size_t bytes, uint8x16_t v)
{
    uint8_t buffer[16];
    vst1q_u8(buffer, v);
    memcpy(p, buffer, bytes);
}

PQ_INLINE vf widen_h(uint16x4_t h, pq_type type)
{
    if (type == PQ_F16) return vcvt_f32_f16(vreinterpret_f16_u16(h));
    return from_bits(vreinterpretq_s32_u32(vshll_n_u16(h, 16)));
}

PQ_INLINE vf load_f(const void *x, size_t i, pq_type type)
{
    if (type == PQ_F32) return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)x + 4 * i));
    return widen_h(vreinterpret_u16_u8(vld1_u8((const uint8_t *)x + 2 * i)), type);
}

PQ_INLINE vf load_first_f(const void *x, size_t i, size_t n, pq_type type)
{
    const size_t size = type == PQ_F32 ? 4 : 2;
    const uint8x16_t v = load_first_bytes((const uint8_t *)x + size * i, size * pq_min(n, LANES));
    return type == PQ_F32 ? vreinterpretq_f32_u8(v) : widen_h(vreinterpret_u16_u8(vget_low_u8(v)), type);
}

PQ_INLINE uint16x4_t narrow_f(vf x, pq_type type)
{
    if (type == PQ_F16) return vreinterpret_u16_f16(vcvt_f16_f32(x));
    const uint32x4_t bits = vreinterpretq_u32_f32(x), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    return vshrn_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd), 16);
}

PQ_INLINE void store_f(void *x, size_t i, vf v, pq_type type)
{
    if (type == PQ_F32) vst1q_u8((uint8_t *)x + 4 * i, vreinterpretq_u8_f32(v));
    else vst1_u8((uint8_t *)x + 2 * i, vreinterpret_u8_u16(narrow_f(v, type)));
}

PQ_INLINE void store_first_f(void *x, size_t i, size_t n, vf v, pq_type type)
{
    const size_t m = pq_min(n, LANES);
    if (type == PQ_F32) {
        store_first_bytes((uint8_t *)x + 4 * i, 4 * m, vreinterpretq_u8_f32(v));
    } else {
        const uint16x4_t h = narrow_f(v, type);
        store_first_bytes((uint8_t *)x + 2 * i, 2 * m, vreinterpretq_u8_u16(vcombine_u16(h, h)));
    }
}

/* No non-temporal vector store in intrinsics: cores here detect streams by themselves. */
PQ_INLINE void stream_f(void *x, size_t i, vf v, pq_type type) { store_f(x, i, v, type); }

PQ_INLINE vi widen_codes(uint8x8_t q, pq_type type)
{
    switch (type) {
    case PQ_I8: return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(q))));
    case PQ_U8: return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(q))));
    case PQ_I16: return vmovl_s16(vreinterpret_s16_u8(q));
    default: return vreinterpretq_s32_u32(vmovl_u16(vreinterpret_u16_u8(q)));
    }
}

PQ_INLINE vi load_first_codes(const void *q, size_t i, size_t n, pq_type type)
{
    const size_t size = type == PQ_I8 || type == PQ_U8 ? 1 : 2;
    return widen_codes(vget_low_u8(load_first_bytes((const uint8_t *)q + size * i, size * pq_min(n, LANES))), type);
}

PQ_INLINE vi load_codes(const void *q, size_t i, pq_type type)
{
    if (type == PQ_I8 || type == PQ_U8) return load_first_codes(q, i, LANES, type);
    return widen_codes(vld1_u8((const uint8_t *)q + 2 * i), type);
}

PQ_INLINE vi load_i(const int32_t *x, size_t i)
{
    return vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)x + 4 * i));
}
PQ_INLINE vi load_first_i(const int32_t *x, size_t i, size_t n) { return bits_of(load_first_f(x, i, n, PQ_F32)); }

/* Conversions saturate here and leave no mark of NaN or overflow, so every block is clamped first (code_of). */
enum { SATURATES = 0 };
PQ_INLINE int holds_lowest(vi ab, vi cd) { (void)ab, (void)cd; return 1; }
PQ_INLINE int holds_indefinite(vi a, vi b, vi c, vi d) { (void)a, (void)b, (void)c, (void)d; return 1; }

PQ_INLINE vi set_byte(int x) { return vreinterpretq_s32_s8(vdupq_n_s8((int8_t)x)); }
PQ_INLINE vi pack_words(vi a, vi b) { return vreinterpretq_s32_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b))); }
PQ_INLINE vi add_saturating(vi a, vi b)
{
    return vreinterpretq_s32_s16(vqaddq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
}
PQ_INLINE vi pack_bytes(vi ab, vi cd)
{
    const int8x8_t low = vqmovn_s16(vreinterpretq_s16_s32(ab)), high = vqmovn_s16(vreinterpretq_s16_s32(cd));
    return vreinterpretq_s32_s8(vcombine_s8(low, high));
}
PQ_INLINE vi min_bytes(vi a, vi b)
{
    return vreinterpretq_s32_s8(vminq_s8(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}
PQ_INLINE vi max_bytes(vi a, vi b)
{
    return vreinterpretq_s32_s8(vmaxq_s8(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}

PQ_INLINE vi low_words(vi a, vi b)
{
    return vreinterpretq_s32_u16(vuzp1q_u16(vreinterpretq_u16_s32(a), vreinterpretq_u16_s32(b)));
}
PQ_INLINE vi add_words(vi a, vi b)
{
    return vreinterpretq_s32_u16(vaddq_u16(vreinterpretq_u16_s32(a), vreinterpretq_u16_s32(b)));
}

typedef struct {
    vi low, high;
} codes;

PQ_INLINE void store_16(void *p, vi v) { vst1q_u8((uint8_t *)p, vreinterpretq_u8_s32(v)); }

PQ_INLINE void store_codes(void *q, size_t i, codes c, pq_type type)
{
    if (type == PQ_I8) {
        store_16((uint8_t *)q + i, c.low);
    } else {
        store_16((uint8_t *)q + 2 * i, c.low);
        store_16((uint8_t *)q + 2 * i + 16, c.high);
    }
}

PQ_INLINE void stream_codes(void *q, size_t i, codes c, pq_type type) { store_codes(q, i, c, type); }

PQ_INLINE void store_first_codes(void *q, size_t i, size_t n, codes c, pq_type type)
{
    if (type == PQ_I8) {
        store_first_bytes((uint8_t *)q + i, pq_min(n, BLOCK), vreinterpretq_u8_s32(c.low));
    } else {
        store_first_bytes((uint8_t *)q + 2 * i, 2 * pq_min(n, 8), vreinterpretq_u8_s32(c.low));
        if (n > 8)
            store_first_bytes((uint8_t *)q + 2 * i + 16, 2 * pq_min(n - 8, 8), vreinterpretq_u8_s32(c.high));
    }
}

PQ_INLINE void stream_line(void *to, const void *from) { memcpy(to, from, 64); }
PQ_INLINE void stream_end(void) {}
