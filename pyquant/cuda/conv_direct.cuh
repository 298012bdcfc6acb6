/* Convolutions of many groups with a few channels each, which would leave tensor cores idle: depthwise ones above all. The
 * time is that of reading the image and writing the result. A thread makes the results of four neighbouring outputs at
 * a few pixels; the image is laid without regard to groups, and the weights lie as bytes (kernel, channel of the group,
 * output), outputs filled up with zeros to a multiple of four (g.ldb). Weights and pixels come from the first-level
 * cache. */
#include "conv.cuh"

static constexpr int DIRECT_PIXELS = 4; /* of a thread: they share the weights, and where an element of the kernel is */

/* With an output for every channel, a word of four channels meets a word of four weights: dp4a adds up the product of
 * one byte when the others are masked. Otherwise each output has channels of its own group. */
template <bool SA, bool SB, bool DEPTHWISE, bool CHANNELS_FIRST>
PQ_DEVICE void convolve_directly(const pq_gemm &g, const pq_gather &where, u32 elements, u32 channels, Divisor by_outputs)
{
    /* Neighbouring threads store to neighbouring places, 32 of them in 8 rows. */
    constexpr u32 STEP = CHANNELS_FIRST ? 32 : 8;
    const u32 quads = ((u32)g.n + 3) / 4, across = CHANNELS_FIRST ? (quads + 7) / 8 : (quads + 31) / 32;
    const u32 down = blockIdx.x / across, sideways = blockIdx.x - down * across;
    const u32 row0 = down * (STEP * DIRECT_PIXELS) + (CHANNELS_FIRST ? threadIdx.x % 32 : threadIdx.x / 32);
    const u32 n0 = 4 * (CHANNELS_FIRST ? sideways * 8 + threadIdx.x / 32 : sideways * 32 + threadIdx.x % 32);
    if (row0 >= (u32)g.m || n0 >= (u32)g.n) return;
    const bool sum_a = g.b_zero.given;
    const u8 *weights = (const u8 *)g.b + n0, *image[DIRECT_PIXELS];
    int acc[DIRECT_PIXELS][4] = {}, sum[DIRECT_PIXELS][4] = {};
    u32 first[4]; /* channel of each output */
#pragma unroll
    for (int i = 0; i < DIRECT_PIXELS; i++) {
        const u32 row = row0 + (u32)i * STEP;
        image[i] = (const u8 *)g.a + 16 * (u64)read_odometer(where.result, row < (u32)g.m ? row : row0);
    }
#pragma unroll
    for (u32 j = 0; j < 4; j++) first[j] = (n0 + j < (u32)g.n ? n0 + j : n0) / by_outputs * channels;

    for (u32 e = 0; e < elements; e++) {
        const u64 place = 16 * (u64)read_odometer(where.kernel, e);
        for (u32 c = 0; c < (DEPTHWISE ? 1 : channels); c++, weights += g.ldb) {
            const u32 w = *(const u32 *)weights;
#pragma unroll
            for (int i = 0; i < DIRECT_PIXELS; i++) {
                const u8 *const pixel = image[i] + place;
                const u32 four = DEPTHWISE ? *(const u32 *)(pixel + n0) : 0;
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const u32 one = DEPTHWISE ? four & 0xffu << (8 * j) : (u32)pixel[first[j] + c] << (8 * j);
                    acc[i][j] = dp4a<SA, SB>(one, w, acc[i][j]);
                    if (sum_a) sum[i][j] = dp4a<SA, false>(one, 0x01010101u, sum[i][j]);
                }
            }
        }
    }

    const int size = result_size(g.output);
    pq_column columns[4];
#pragma unroll
    for (int j = 0; j < 4; j++) columns[j] = column_of(g, (int)n0 + j < g.n ? (int)n0 + j : g.n - 1, 0);
#pragma unroll 1 /* the code of the epilogue stands there once; registers are named by constants */
    for (int s = 0; s < DIRECT_PIXELS; s++) {
        const u32 row = row0 + (u32)s * STEP, in_image = row / where.by_pixels;
        if (row >= (u32)g.m) return;
        pq_row here = row_of(g, (int)row, 0);
        const u32 zeros = here.sum;
        const i64 place = CHANNELS_FIRST ? in_image * where.image + (row - in_image * where.pixels) + n0 * g.ldc
                                         : row * g.ldc + n0;
        u32 y[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int all = 0;
#pragma unroll
            for (int i = 0; i < DIRECT_PIXELS; i++) {
                if (i == s) all = acc[i][j], here.sum = zeros + (u32)sum[i][j];
            }
            y[j] = result_of(g, corrected(all, here, columns[j]), here, columns[j], 0);
        }
        char *const c = (char *)g.c + place * size;
        if (!CHANNELS_FIRST && n0 + 4 <= (u32)g.n && ((u64)c & (u64)(4 * size - 1)) == 0) {
            store_four(c, y, size);
            continue;
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if ((int)n0 + j < g.n) store_result(g.c, place + j * (CHANNELS_FIRST ? g.ldc : 1), y[j], size);
        }
    }
}

#define PQ_DIRECT(KIND, DEPTHWISE, LAYOUT, CHANNELS_FIRST)                                                      \
    PQ_KERNEL __launch_bounds__(256)                                                                            \
        KIND##_##LAYOUT(const pq_gemm g, const pq_gather where, i64 elements, i64 channels, i64 outputs)        \
    {                                                                                                           \
        convolve_directly<PQ_A_SIGNED, PQ_B_SIGNED, DEPTHWISE, CHANNELS_FIRST>(                                 \
            g, where, (u32)elements, (u32)channels, divisor_of(outputs));                                       \
    }
PQ_DIRECT(depthwise, true, nchw, true)
PQ_DIRECT(depthwise, true, nhwc, false)
PQ_DIRECT(grouped, false, nchw, true)
PQ_DIRECT(grouped, false, nhwc, false)
