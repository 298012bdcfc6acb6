/* Codes to a little-endian bit stream and back. A launch has fewer than 2^31 bits. */
#include "elements.cuh"

enum { BITS_THREADS = 256, BITS_UNROLL = 4 };

/* 1, 2 and 4 bits, both arrays aligned: 16 codes of a byte, in one load or store, are 2 * BITS bytes. */
template <int BITS> PQ_DEVICE void pack_vectors(const u8 *q, u8 *packed, u32 vectors)
{
    const u32 first = blockIdx.x * (BITS_THREADS * BITS_UNROLL) + threadIdx.x;
    Words<16> in[BITS_UNROLL];
#pragma unroll
    for (u32 u = 0; u < BITS_UNROLL; u++) {
        const u32 v = first + u * BITS_THREADS;
        if (v < vectors) in[u] = load_words<16>(q + (u64)v * 16);
    }
#pragma unroll
    for (u32 u = 0; u < BITS_UNROLL; u++) {
        const u32 v = first + u * BITS_THREADS;
        if (v >= vectors) break;
        Words<2 * BITS> out = {};
#pragma unroll
        for (int k = 0; k < 16; k++)
            out.word[k * BITS / 32] |= ((u32)Code8::get(in[u], k) & ((1u << BITS) - 1)) << (k * BITS % 32);
        store_words(packed + (u64)v * 2 * BITS, out);
    }
}

template <int BITS> PQ_DEVICE void unpack_vectors(const u8 *packed, u8 *q, u32 vectors, u32 sign)
{
    const u32 first = blockIdx.x * (BITS_THREADS * BITS_UNROLL) + threadIdx.x;
    Words<2 * BITS> in[BITS_UNROLL];
#pragma unroll
    for (u32 u = 0; u < BITS_UNROLL; u++) {
        const u32 v = first + u * BITS_THREADS;
        if (v < vectors) in[u] = load_words<2 * BITS>(packed + (u64)v * 2 * BITS);
    }
#pragma unroll
    for (u32 u = 0; u < BITS_UNROLL; u++) {
        const u32 v = first + u * BITS_THREADS;
        if (v >= vectors) break;
        Words<16> out;
#pragma unroll
        for (int k = 0; k < 16; k++) {
            const u32 code = in[u].word[k * BITS / 32] >> (k * BITS % 32) & ((1u << BITS) - 1);
            Code8::put(out, k, (int)((code ^ sign) - sign));
        }
        store_words(q + (u64)v * 16, out);
    }
}

#define VECTORS(BITS)                                                                                           \
    PQ_KERNEL __launch_bounds__(BITS_THREADS) pack_##BITS(const u8 *q, u8 *packed, i64 vectors)                 \
    {                                                                                                           \
        pack_vectors<BITS>(q, packed, (u32)vectors);                                                            \
    }                                                                                                           \
    PQ_KERNEL __launch_bounds__(BITS_THREADS) unpack_##BITS(const u8 *packed, u8 *q, i64 vectors, i64 sign)     \
    {                                                                                                           \
        unpack_vectors<BITS>(packed, q, (u32)vectors, (u32)sign);                                               \
    }
VECTORS(1)
VECTORS(2)
VECTORS(4)

/* Any width: a thread for each word of the stream, of which it takes the codes that begin or end in it. */
template <class Code> PQ_DEVICE void pack_any(const void *q, u8 *packed, u32 n, u32 bits, Divisor by_bits)
{
    const u32 begin = (blockIdx.x * BITS_THREADS + threadIdx.x) * 32, end = n * bits;
    if (begin >= end) return;
    const u32 mask = (1u << bits) - 1;
    u32 word = 0, i = begin / by_bits;
    for (u32 at = i * bits; at < begin + 32 && i < n; at += bits, i++) {
        const u32 code = (u32)Code::load(q, i) & mask;
        word |= at < begin ? code >> (begin - at) : code << (at - begin);
    }
    for (u32 byte = 0; byte < 4 && begin + 8 * byte < end; byte++) packed[begin / 8 + byte] = (u8)(word >> (8 * byte));
}

/* A thread for each code, which lies in at most three bytes. */
template <class Code> PQ_DEVICE void unpack_any(const u8 *packed, void *q, u32 n, u32 bits, u32 sign)
{
    const u32 i = blockIdx.x * BITS_THREADS + threadIdx.x;
    if (i >= n) return;
    const u32 at = i * bits, last = (at + bits - 1) / 8;
    u32 word = 0;
    for (u32 byte = at / 8, k = 0; byte <= last; byte++, k += 8) word |= (u32)packed[byte] << k;
    const u32 code = word >> (at % 8) & ((1u << bits) - 1);
    Code::store(q, i, (int)((code ^ sign) - sign));
}

#define ANY(name, CODE)                                                                                         \
    PQ_KERNEL __launch_bounds__(BITS_THREADS)                                                                   \
        pack_any_##name(const void *q, u8 *packed, i64 n, i64 bits, i64 by_bits)                                \
    {                                                                                                           \
        pack_any<CODE>(q, packed, (u32)n, (u32)bits, divisor_of(by_bits));                                      \
    }                                                                                                           \
    PQ_KERNEL __launch_bounds__(BITS_THREADS)                                                                   \
        unpack_any_##name(const u8 *packed, void *q, i64 n, i64 bits, i64 sign)                                 \
    {                                                                                                           \
        unpack_any<CODE>(packed, q, (u32)n, (u32)bits, (u32)sign);                                              \
    }
ANY(i8, Code8)
ANY(i16, Code16)
