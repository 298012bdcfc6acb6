/* Convolutions of many groups with a few channels each, which would leave tensor cores idle: depthwise ones above all. The
 * time is that of reading the image and writing the result. A thread makes the results of four neighbouring outputs at
 * one pixel; the image is laid without regard to groups, and the weights lie as bytes (kernel, channel of the group,
 * output), outputs filled up with zeros to a multiple of four (g.ldb). Weights and pixels come from the first-level
 * cache. */
#include "conv.cuh"

/* With an output for every channel, a word of four channels meets a word of four weights: dp4a adds up the product of
 * one byte when the others are masked. Otherwise each output has channels of its own group. */
template <bool SA, bool SB, bool DEPTHWISE, bool CHANNELS_FIRST>
PQ_DEVICE void convolve_directly(const pq_gemm &g, const pq_gather &where, u32 elements, u32 channels, Divisor by_outputs)
{
    /* Neighbouring threads store to neighbouring places; a block has 32 of these, in 8 rows. */
    const u32 quads = ((u32)g.n + 3) / 4, across = CHANNELS_FIRST ? (quads + 7) / 8 : (quads + 31) / 32;
    const u32 up = blockIdx.x / across, sideways = blockIdx.x - up * across;
    const u32 row = CHANNELS_FIRST ? up * 32 + threadIdx.x % 32 : up * 8 + threadIdx.x / 32;
    const u32 n0 = 4 * (CHANNELS_FIRST ? sideways * 8 + threadIdx.x / 32 : sideways * 32 + threadIdx.x % 32);
    if (row >= (u32)g.m || n0 >= (u32)g.n) return;
    const u8 *const image = (const u8 *)g.a + 16 * (u64)read_odometer(where.result, row);
    const u8 *weights = (const u8 *)g.b + n0;
    const bool sum_a = g.b_zero.given;
    int acc[4] = {}, sum[4] = {};
    u32 first[4]; /* channel of each output */
#pragma unroll
    for (u32 j = 0; j < 4; j++) first[j] = DEPTHWISE ? n0 + j : (n0 + j < (u32)g.n ? n0 + j : n0) / by_outputs * channels;

    for (u32 e = 0; e < elements; e++) {
        const u8 *const pixel = image + 16 * (u64)read_odometer(where.kernel, e);
        if (DEPTHWISE) {
            const u32 x = *(const u32 *)(pixel + n0), w = *(const u32 *)weights;
            weights += g.ldb;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const u32 one = x & 0xffu << (8 * j);
                acc[j] = dp4a<SA, SB>(one, w, acc[j]);
                if (sum_a) sum[j] = dp4a<SA, false>(one, 0x01010101u, sum[j]);
            }
        } else {
            for (u32 c = 0; c < channels; c++, weights += g.ldb) {
                const u32 w = *(const u32 *)weights;
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const u32 one = (u32)pixel[first[j] + c] << (8 * j);
                    acc[j] = dp4a<SA, SB>(one, w, acc[j]);
                    if (sum_a) sum[j] = dp4a<SA, false>(one, 0x01010101u, sum[j]);
                }
            }
        }
    }

    const int size = result_size(g.output);
    pq_row here = row_of(g, (int)row, 0);
    const u32 depth_zeros = here.sum;
    const u32 in_image = row / where.by_pixels;
    const i64 place = CHANNELS_FIRST ? in_image * where.image + (row - in_image * where.pixels) + n0 * g.ldc
                                     : row * g.ldc + n0;
    u32 y[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int n = (int)n0 + j < g.n ? (int)n0 + j : g.n - 1;
        const pq_column column = column_of(g, n, 0);
        here.sum = depth_zeros + (u32)sum[j];
        y[j] = result_of(g, corrected(acc[j], here, column), here, column, 0);
    }
    char *const c = (char *)g.c + place * size;
    if (!CHANNELS_FIRST && n0 + 4 <= (u32)g.n && ((u64)c & (4 * size - 1)) == 0) {
        store_four(c, y, size);
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if ((int)n0 + j < g.n) store_result(g.c, place + j * (CHANNELS_FIRST ? g.ldc : 1), y[j], size);
    }
}

#define PQ_DIRECT(TYPES, SA, SB, KIND, DEPTHWISE, LAYOUT, CHANNELS_FIRST)                                       \
    PQ_KERNEL __launch_bounds__(256)                                                                            \
        KIND##_##LAYOUT##_##TYPES(const pq_gemm g, const pq_gather where, i64 elements, i64 channels, i64 outputs) \
    {                                                                                                           \
        convolve_directly<SA, SB, DEPTHWISE, CHANNELS_FIRST>(g, where, (u32)elements, (u32)channels,            \
                                                             divisor_of(outputs));                              \
    }
#define PQ_DIRECT_LAYOUTS(TYPES, SA, SB, KIND, DEPTHWISE)                                                       \
    PQ_DIRECT(TYPES, SA, SB, KIND, DEPTHWISE, nchw, true)                                                       \
    PQ_DIRECT(TYPES, SA, SB, KIND, DEPTHWISE, nhwc, false)
#define PQ_DIRECT_KINDS(TYPES, SA, SB)                                                                          \
    PQ_DIRECT_LAYOUTS(TYPES, SA, SB, depthwise, true)                                                           \
    PQ_DIRECT_LAYOUTS(TYPES, SA, SB, grouped, false)
PQ_DIRECT_KINDS(i8i8, true, true)
PQ_DIRECT_KINDS(i8u8, true, false)
PQ_DIRECT_KINDS(u8i8, false, true)
PQ_DIRECT_KINDS(u8u8, false, false)
