/* CUDA's built-in variables, barriers, shuffles and atomics. */
#ifndef PQ_SHIM_BUILTINS_H
#define PQ_SHIM_BUILTINS_H

#include "lanes.h"

#define threadIdx (shim::current->index)
#define blockIdx (shim::block.index)
#define blockDim (shim::block.size)
#define gridDim (shim::block.grid)
#define warpSize 32

static inline void __syncthreads() { shim::barrier(0); }
static inline int __syncthreads_count(int p) { return shim::barrier(p); }
static inline int __syncthreads_or(int p) { return shim::barrier(p) != 0; }
static inline int __syncthreads_and(int p)
{
    shim::barrier(p);
    return shim::block.all_votes;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu) { const shim::Exchange<char> all(mask, 0); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}

static inline unsigned __ballot_sync(unsigned mask, int p)
{
    return shim::reduce<unsigned>(mask, p ? 1u << shim::lane() : 0u, [](unsigned a, unsigned b) { return a | b; });
}
static inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == mask; }

template <class T> static inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32)
{
    const unsigned first = shim::lane() / width * width;
    return shim::shuffle(mask, v, first + (unsigned)lane % width, true);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32)
{
    const unsigned source = shim::lane() ^ (unsigned)bits;
    return shim::shuffle(mask, v, source, source < (shim::lane() / width + 1) * width);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32)
{
    const unsigned source = shim::lane() + by;
    return shim::shuffle(mask, v, source, source < (shim::lane() / width + 1) * width);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32)
{
    const unsigned first = shim::lane() / width * width;
    return shim::shuffle(mask, v, shim::lane() - by, shim::lane() >= first + by);
}

#define SHIM_REDUCE(name, type, expression)                                                                     \
    static inline type name(unsigned mask, type v)                                                              \
    {                                                                                                           \
        return shim::reduce<type>(mask, v, [](type a, type b) -> type { return expression; });                  \
    }
SHIM_REDUCE(__reduce_add_sync, unsigned, a + b)
SHIM_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
SHIM_REDUCE(__reduce_max_sync, unsigned, a < b ? b : a)
SHIM_REDUCE(__reduce_or_sync, unsigned, a | b)
SHIM_REDUCE(__reduce_and_sync, unsigned, a & b)
SHIM_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
SHIM_REDUCE(__reduce_add_sync, int, (int)((unsigned)a + (unsigned)b))
SHIM_REDUCE(__reduce_min_sync, int, a < b ? a : b)
SHIM_REDUCE(__reduce_max_sync, int, a < b ? b : a)
#undef SHIM_REDUCE

/* One CPU thread runs everything, so a plain operation is atomic. */
#define SHIM_ATOMIC(name, expression)                                                                           \
    template <class T> static inline T name(T *p, std::common_type_t<T> v)                                      \
    {                                                                                                           \
        const T old = *p;                                                                                       \
        *p = (T)(expression);                                                                                   \
        return old;                                                                                             \
    }
SHIM_ATOMIC(atomicAdd, old + v)
SHIM_ATOMIC(atomicSub, old - v)
SHIM_ATOMIC(atomicMin, v < old ? v : old)
SHIM_ATOMIC(atomicMax, old < v ? v : old)
SHIM_ATOMIC(atomicOr, old | v)
SHIM_ATOMIC(atomicAnd, old & v)
SHIM_ATOMIC(atomicXor, old ^ v)
SHIM_ATOMIC(atomicExch, v)
SHIM_ATOMIC(atomicInc, old >= v ? 0 : old + 1)
#undef SHIM_ATOMIC
template <class T> static inline T atomicCAS(T *p, std::common_type_t<T> expected, std::common_type_t<T> v)
{
    const T old = *p;
    if (old == expected) *p = v;
    return old;
}

#endif
