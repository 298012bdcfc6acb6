/* The element types of arrays: one element in memory, and the k-th of a vector that is held in words. */
#ifndef PQ_ELEMENTS_CUH
#define PQ_ELEMENTS_CUH

#include "primitives.cuh"

struct F32 {
    typedef float value;
    static constexpr int SIZE = 4;
    template <int B> PQ_DEVICE float get(const Words<B> &w, int k) { return __uint_as_float(w.word[k]); }
    template <int B> PQ_DEVICE void put(Words<B> &w, int k, float x) { w.word[k] = __float_as_uint(x); }
    PQ_DEVICE float load(const void *p, i64 i) { return ((const float *)p)[i]; }
    PQ_DEVICE void store(void *p, i64 i, float x) { ((float *)p)[i] = x; }
};

struct F64 {
    typedef double value;
    static constexpr int SIZE = 8;
    template <int B> PQ_DEVICE double get(const Words<B> &w, int k)
    {
        return __longlong_as_double((i64)((u64)w.word[2 * k + 1] << 32 | w.word[2 * k]));
    }
    template <int B> PQ_DEVICE void put(Words<B> &w, int k, double x)
    {
        const u64 bits = (u64)__double_as_longlong(x);
        w.word[2 * k] = (u32)bits;
        w.word[2 * k + 1] = (u32)(bits >> 32);
    }
    PQ_DEVICE double load(const void *p, i64 i) { return ((const double *)p)[i]; }
    PQ_DEVICE void store(void *p, i64 i, double x) { ((double *)p)[i] = x; }
};

/* Two bytes an element: the first of two in the low half of a word. */
template <int B> PQ_DEVICE u32 half_of(const Words<B> &w, int k) { return w.word[k / 2] >> (16 * (k % 2)) & 0xffffu; }

template <int B> PQ_DEVICE void put_half(Words<B> &w, int k, u32 bits)
{
    w.word[k / 2] = k % 2 ? w.word[k / 2] | bits << 16 : bits;
}

struct F16 {
    typedef float value;
    static constexpr int SIZE = 2;
    template <int B> PQ_DEVICE float get(const Words<B> &w, int k) { return widen_f16(half_of(w, k)); }
    template <int B> PQ_DEVICE void put(Words<B> &w, int k, float x) { put_half(w, k, narrow_f16(x)); }
    PQ_DEVICE float load(const void *p, i64 i) { return widen_f16(((const u16 *)p)[i]); }
    PQ_DEVICE void store(void *p, i64 i, float x) { ((u16 *)p)[i] = (u16)narrow_f16(x); }
};

struct BF16 {
    typedef float value;
    static constexpr int SIZE = 2;
    template <int B> PQ_DEVICE float get(const Words<B> &w, int k) { return widen_bf16(half_of(w, k)); }
    template <int B> PQ_DEVICE void put(Words<B> &w, int k, float x) { put_half(w, k, narrow_bf16(x)); }
    PQ_DEVICE float load(const void *p, i64 i) { return widen_bf16(((const u16 *)p)[i]); }
    PQ_DEVICE void store(void *p, i64 i, float x) { ((u16 *)p)[i] = (u16)narrow_bf16(x); }
};

/* int32 accumulators. */
struct I32 {
    typedef int value;
    static constexpr int SIZE = 4;
    template <int B> PQ_DEVICE int get(const Words<B> &w, int k) { return (int)w.word[k]; }
    PQ_DEVICE int load(const void *p, i64 i) { return ((const int *)p)[i]; }
};

/* Codes by their lowest bits, whether signed or not: get() and load() do not extend the sign. */
struct Code8 {
    typedef int value;
    static constexpr int SIZE = 1;
    template <int B> PQ_DEVICE int get(const Words<B> &w, int k) { return (int)(w.word[k / 4] >> (8 * (k % 4)) & 0xffu); }
    template <int B> PQ_DEVICE void put(Words<B> &w, int k, int code)
    {
        const u32 bits = ((u32)code & 0xffu) << (8 * (k % 4));
        w.word[k / 4] = k % 4 ? w.word[k / 4] | bits : bits;
    }
    PQ_DEVICE int load(const void *p, i64 i) { return ((const u8 *)p)[i]; }
    PQ_DEVICE void store(void *p, i64 i, int code) { ((u8 *)p)[i] = (u8)code; }
};

struct Code16 {
    typedef int value;
    static constexpr int SIZE = 2;
    template <int B> PQ_DEVICE int get(const Words<B> &w, int k) { return (int)half_of(w, k); }
    template <int B> PQ_DEVICE void put(Words<B> &w, int k, int code) { put_half(w, k, (u32)code & 0xffffu); }
    PQ_DEVICE int load(const void *p, i64 i) { return ((const u16 *)p)[i]; }
    PQ_DEVICE void store(void *p, i64 i, int code) { ((u16 *)p)[i] = (u16)code; }
};

#endif
