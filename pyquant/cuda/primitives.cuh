/* What the kernels are written in: a PTX or built-in body for the device, and a C++ body for the host, on which the
 * tests run the same kernels (PQ_HOST; CUDA's own words come from tests/cuda/shim.h there). */
#ifndef PQ_PRIMITIVES_CUH
#define PQ_PRIMITIVES_CUH

#ifdef PQ_HOST
#include "shim.h"
#endif

#define PQ_DEVICE static __device__ __forceinline__
#define PQ_KERNEL extern "C" __global__ void
#define PQ_SEMANTICS PQ_DEVICE
#include "pyquant_semantics.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

/* The launch's dynamic shared memory, aligned to 1024 bytes on the host and as the device gives it there. */
#ifdef PQ_HOST
#define PQ_DYNAMIC_SHARED(type, name) type *const name = (type *)shim::block.dynamic
#else
#define PQ_DYNAMIC_SHARED(type, name)                                                                           \
    extern __shared__ __align__(1024) unsigned char pq_dynamic_shared[];                                        \
    type *const name = (type *)pq_dynamic_shared
#endif

/* 32-bit words that one instruction loads or stores: 4, 2 or 1 of them, and half a one. Loads are marked as read
 * once; they see what this thread has stored, so a kernel may work in place. */
template <int BYTES> struct Words {
    static constexpr int COUNT = BYTES < 4 ? 1 : BYTES / 4;
    u32 word[COUNT];
};

template <int BYTES> PQ_DEVICE Words<BYTES> load_words(const void *p)
{
    static_assert(BYTES == 16 || BYTES == 8 || BYTES == 4 || BYTES == 2, "no such load");
    Words<BYTES> w;
    if constexpr (BYTES == 16) {
        const uint4 v = __ldcs((const uint4 *)p);
        w.word[0] = v.x, w.word[1] = v.y, w.word[2] = v.z, w.word[3] = v.w;
    } else if constexpr (BYTES == 8) {
        const uint2 v = __ldcs((const uint2 *)p);
        w.word[0] = v.x, w.word[1] = v.y;
    } else if constexpr (BYTES == 4) {
        w.word[0] = __ldcs((const u32 *)p);
    } else {
        w.word[0] = __ldcs((const u16 *)p);
    }
    return w;
}

template <int BYTES> PQ_DEVICE void store_words(void *p, const Words<BYTES> &w)
{
    if constexpr (BYTES == 16) *(uint4 *)p = make_uint4(w.word[0], w.word[1], w.word[2], w.word[3]);
    else if constexpr (BYTES == 8) *(uint2 *)p = make_uint2(w.word[0], w.word[1]);
    else if constexpr (BYTES == 4) *(u32 *)p = w.word[0];
    else *(u16 *)p = (u16)w.word[0];
}

/* Between two bounds, NaN staying NaN. */
PQ_DEVICE float clamp_or_nan(float x, float low, float high)
{
#if !defined(PQ_HOST) && __CUDA_ARCH__ >= 800
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(x) : "f"(x), "f"(high));
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(x) : "f"(x), "f"(low));
    return x;
#else
    return x < low ? low : x > high ? high : x;
#endif
}

/* The smaller and the larger, NaN when one is. */
#if defined(PQ_HOST) || __CUDA_ARCH__ >= 800
PQ_DEVICE float min_or_nan(float a, float b)
{
#ifdef PQ_HOST
    return a != a ? a : b != b ? b : b < a ? b : a;
#else
    asm("min.NaN.f32 %0, %0, %1;" : "+f"(a) : "f"(b));
    return a;
#endif
}

PQ_DEVICE float max_or_nan(float a, float b)
{
#ifdef PQ_HOST
    return a != a ? a : b != b ? b : b > a ? b : a;
#else
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(a) : "f"(b));
    return a;
#endif
}
#endif

/* 1 / x rounded to nearest even, for x from 2^-100 to 2^100; anything for others. These are the instructions that
 * __frcp_rn takes inside such a range, without the branch around them. */
PQ_DEVICE float reciprocal(float x)
{
#ifdef PQ_HOST
    return x == 0.0f ? INFINITY : 1.0f / x;
#else
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return __fmaf_rn(y, -__fmaf_rn(y, x, -1.0f), y);
#endif
}

/* Half to even, for |x| < 2^22; NaN gives 0. */
PQ_DEVICE int round_or_zero(float x)
{
#ifdef PQ_HOST
    return x != x ? 0 : (int)pq_rint_f32(x);
#else
    return __float2int_rn(x);
#endif
}

/* float16 and bfloat16, whose bits are in the low half of a word; NaN narrows to 0x7fff, as the instructions have it. */
PQ_DEVICE float widen_f16(u32 h)
{
#ifdef PQ_HOST
    return pq_f16_to_f32((u16)h);
#else
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((u16)h));
    return x;
#endif
}

PQ_DEVICE u32 narrow_f16(float x)
{
#ifdef PQ_HOST
    return x != x ? 0x7fffu : pq_f32_to_f16(x);
#else
    u16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
#endif
}

PQ_DEVICE float widen_bf16(u32 h) { return pq_bf16_to_f32((u16)h); }

PQ_DEVICE u32 narrow_bf16(float x)
{
#if !defined(PQ_HOST) && __CUDA_ARCH__ >= 800
    u16 h;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
#else
    return x != x ? 0x7fffu : pq_f32_to_bf16(x);
#endif
}

/* n / divisor for n < 2^31 by a product: the host hands over multiplier = ceil(2^p / divisor) below 2^32 and p = 31 +
 * ceil(log2 divisor) in one number. The error, n (multiplier - 2^p / divisor) / 2^p < n / 2^p <= 1 / divisor, is too
 * small to reach the next integer. */
struct Divisor {
    u32 multiplier, shift;
};

PQ_DEVICE Divisor divisor_of(i64 packed)
{
    const Divisor d = {(u32)packed, (u32)(packed >> 32)};
    return d;
}

PQ_DEVICE u32 operator/(u32 n, Divisor d) { return (u32)((u64)n * d.multiplier >> d.shift); }

#endif
