/* Images made ready for convolutions: channels last and in chunks of 16 bytes, with their padding around them; and sums of
 * what a result is made of. Weights are laid by the same kernel, an output as an image of its own without padding. */
#include "conv.cuh"
#include "elements.cuh"
#include "step.cuh"

/* From codes or floats with any strides; floats are quantized on the way. pyquant/_cuda_convolution.py has the same
 * layout. */
struct pq_laying {
    const void *from;
    u8 *to;
    const float *scales; /* of floats, and the zero point, which stands around the image; null: the values below */
    const int *zero_points;
    i64 image, channel, along[3]; /* elements from one to the next */
    float scale;
    int zero_point, qmin, qmax;
    int channels_last;     /* do neighbouring threads take neighbouring chunks, or pixels? */
    u32 chunks;            /* how many to make, fewer than 2^31 */
    u32 size[3], before[3];
    u32 pixels, of_pixel;  /* of a laid image; chunks in each */
    u32 plane, line;       /* pixels in them, of the laid image */
    u32 of_group, channels; /* chunks, and the channels that are in them */
    Divisor by_pixels, by_pixel, by_plane, by_line, by_group;
};

/* Codes are taken as they are. */
struct Same {
    PQ_DEVICE Same of(const pq_laying &) { return {}; }
    __device__ __forceinline__ u32 operator()(int code) const { return (u32)code & 0xffu; }
};

struct Quantized {
    Step step;
    PQ_DEVICE Quantized of(const pq_laying &l)
    {
        const Params p = {l.scales, l.zero_points, l.scale, l.zero_point};
        return {make_step(Params::scale_at(p, 0), Params::zero_point_at(p, 0), l.qmin, l.qmax)};
    }
    __device__ __forceinline__ u32 operator()(float x) const { return (u32)(steps_of(x, step) + step.zero_point) & 0xffu; }
};

template <class T, class CODE> PQ_DEVICE void lay(const pq_laying &l)
{
    const u32 t = blockIdx.x * 256 + threadIdx.x;
    if (t >= l.chunks) return;
    /* (image, pixel, chunk) or (image, chunk, pixel) */
    const u32 inner = l.channels_last ? t / l.by_pixel : t / l.by_pixels;
    const u32 low = t - inner * (l.channels_last ? l.of_pixel : l.pixels);
    const u32 image = l.channels_last ? inner / l.by_pixels : inner / l.by_pixel;
    const u32 high = inner - image * (l.channels_last ? l.pixels : l.of_pixel);
    const u32 pixel = l.channels_last ? high : low, chunk = l.channels_last ? low : high;
    const u32 d = pixel / l.by_plane, in_plane = pixel - d * l.plane, h = in_plane / l.by_line;
    const u32 at[3] = {d - l.before[0], h - l.before[1], in_plane - h * l.line - l.before[2]}; /* wraps outside */
    const u32 group = chunk / l.by_group, channel = (chunk - group * l.of_group) * 16;
    const int count = l.channels - channel < 16 ? (int)(l.channels - channel) : 16;
    const bool inside = at[0] < l.size[0] && at[1] < l.size[1] && at[2] < l.size[2];
    Words<16> out = {{0, 0, 0, 0}};
    if (!inside) {
        const u32 code = (u32)(l.zero_points ? *l.zero_points : l.zero_point) & 0xffu;
#pragma unroll
        for (int k = 0; k < 16; k++) out.word[k / 4] |= (k < count ? code : 0) << (8 * (k % 4));
    } else {
        const CODE code = CODE::of(l);
        const i64 first = image * l.image + (i64)(group * l.channels + channel) * l.channel + at[0] * l.along[0] +
                          at[1] * l.along[1] + at[2] * l.along[2];
        const char *const p = (const char *)l.from + first * T::SIZE;
        if (l.channel == 1 && count == 16 && ((u64)p & 15) == 0) {
            Words<16> in[T::SIZE];
#pragma unroll
            for (int i = 0; i < T::SIZE; i++) in[i] = load_words<16>(p + 16 * i);
#pragma unroll
            for (int k = 0; k < 16; k++) Code8::put(out, k, (int)code(T::get(in[k * T::SIZE / 16], k % (16 / T::SIZE))));
        } else {
            typename T::value in[16];
#pragma unroll
            for (int k = 0; k < 16; k++) in[k] = k < count ? T::load(p, k * l.channel) : 0;
#pragma unroll
            for (int k = 0; k < 16; k++) out.word[k / 4] |= (k < count ? code(in[k]) : 0) << (8 * (k % 4));
        }
    }
    store_words(l.to + 16 * ((u64)(image * l.pixels + pixel) * l.of_pixel + chunk), out);
}

#define PQ_LAY(NAME, T, CODE)                                                                                   \
    PQ_KERNEL __launch_bounds__(256, 3) lay_##NAME(const pq_laying l) { lay<T, CODE>(l); }
PQ_LAY(codes, Code8, Same)
PQ_LAY(f32, F32, Quantized)
PQ_LAY(f16, F16, Quantized)
PQ_LAY(bf16, BF16, Quantized)

/* sums[group][row] of the first `chunks` chunks of K, for zero points of weights: a warp a row, groups `step` chunks
 * apart. */
template <bool SIGNED>
PQ_DEVICE void sum_results(const pq_gather &where, const void *image, int *sums, u32 rows, u32 chunks, u32 step)
{
    const u32 blocks = (rows + 7) / 8, group = blockIdx.x / blocks, row = (blockIdx.x - group * blocks) * 8 + (u32)warp_id();
    if (row >= rows) return;
    const uint4 *const p = (const uint4 *)image + (u64)group * step + read_odometer(where.result, row);
    int sum = 0;
    for (u32 i = (u32)lane_id(); i < chunks; i += 32) {
        const uint4 x = p[read_odometer(where.kernel, where.first + i)];
        sum = dp4a<SIGNED, false>(x.x, 0x01010101u, sum);
        sum = dp4a<SIGNED, false>(x.y, 0x01010101u, sum);
        sum = dp4a<SIGNED, false>(x.z, 0x01010101u, sum);
        sum = dp4a<SIGNED, false>(x.w, 0x01010101u, sum);
    }
    sum = warp_sum(sum);
    if (lane_id() == 0) sums[(u64)group * rows + row] = sum;
}

#define PQ_SUMS(NAME, SIGNED)                                                                                   \
    PQ_KERNEL __launch_bounds__(256)                                                                            \
        result_sums_##NAME(const pq_gather where, const void *image, int *sums, i64 rows, i64 chunks, i64 step) \
    {                                                                                                           \
        sum_results<SIGNED>(where, image, sums, (u32)rows, (u32)chunks, (u32)step);                            \
    }
PQ_SUMS(i8, true)
PQ_SUMS(u8, false)
