/* Counts of a histogram whose range is known (range_runs or range_columns): the second read of the data. Counts are
 * integers, so their sums do not depend on who counted. */
#include "runs.cuh"

enum { HISTOGRAM_THREADS = 256, HISTOGRAM_FLIGHT = 2 };

/* The counters of a channel: those of the `window` bins nearest to zero on either side in shared memory, where there is
 * a window (not negative), the others in the result. */
struct Counter {
    u64 *counts; /* of bin 0 */
    u32 *near;   /* of bin 0 */
    int window;
    float inverse_width;

    template <class value> __device__ __forceinline__ void count(value x) const
    {
        if (!(x - x == 0)) return; /* not finite: passed over, or refused with the range */
        const int bin = pq_bin((float)x, inverse_width);
        if (bin <= window && -bin <= window) atomicAdd(near + bin, 1u);
        else atomicAdd(counts + bin, 1ull);
    }
};

/* The exponent for what the range found. 2^-exponent is a normal number. A range that is not finite has no counts that
 * could be used; nothing is counted then, as bins could lie outside. */
PQ_DEVICE bool exponent_of(float low, float high, i64 half, int *exponent)
{
    const float most = fmaxf(-low, high);
    *exponent = pq_bin_exponent(most > 0.0f ? most : 0.0f, (u32)half); /* not -infinity (nothing seen), not -0.0 */
    return most <= PQ_LARGEST_FLOAT && -low <= PQ_LARGEST_FLOAT && low == low;
}

PQ_DEVICE float inverse_width(int exponent) { return __int_as_float((127 - exponent) << 23); }

/* Channel blockIdx.x has `repeat` runs of `length` elements, `stride` apart; blockIdx.y takes `share` of the runs, or
 * of the elements where there is one run: fewer than 2^32 elements. */
template <class T>
PQ_DEVICE void histogram_runs(const void *x, i64 length, i64 repeat, i64 stride, i64 share, int half, int window,
                              const float *low, const float *high, u64 *counts, int *exponents)
{
    constexpr int V = PER_LOAD<T>;
    PQ_DYNAMIC_SHARED(u32, near);
    const u32 c = blockIdx.x, bins = 2 * window + 1;
    int exponent;
    const bool sound = exponent_of(low[c], high[c], half, &exponent);
    if (blockIdx.y == 0 && threadIdx.x == 0) exponents[c] = exponent;
    if (!sound) return;
    u64 *const zeros = counts + (i64)c * (2 * half + 1) + half;
    const Counter counter = {zeros, near + window, window, inverse_width(exponent)};
    for (u32 b = threadIdx.x; b < bins; b += HISTOGRAM_THREADS) near[b] = 0;
    __syncthreads();
    const bool whole = repeat > 1; /* runs */
    const i64 from = blockIdx.y * share, to = smaller(from + share, whole ? repeat : length);
    for (i64 o = whole ? from : 0; o < (whole ? to : 1); o++) {
        const i64 start = c * length + o * stride, begin = whole ? start : start + from;
        const i64 end = whole ? start + length : start + to, n = end < begin ? 0 : end - begin;
        const i64 head = smaller(loads_begin<T>(x, begin), n), loads = (n - head) / V;
        const i64 body = begin + head, tail = body + loads * V;
        for (i64 i = begin + threadIdx.x; i < body; i += HISTOGRAM_THREADS) counter.count(T::load(x, i));
        for (i64 i = tail + threadIdx.x; i < end; i += HISTOGRAM_THREADS) counter.count(T::load(x, i));
        for (i64 i = threadIdx.x; i < loads; i += HISTOGRAM_FLIGHT * HISTOGRAM_THREADS) {
            Words<16> v[HISTOGRAM_FLIGHT];
#pragma unroll
            for (int k = 0; k < HISTOGRAM_FLIGHT; k++)
                if (i + k * HISTOGRAM_THREADS < loads) v[k] = load_vector<T>(x, body + (i + k * HISTOGRAM_THREADS) * V);
#pragma unroll
            for (int k = 0; k < HISTOGRAM_FLIGHT; k++)
                if (i + k * HISTOGRAM_THREADS < loads)
#pragma unroll
                    for (int j = 0; j < V; j++) counter.count(T::get(v[k], j));
        }
    }
    __syncthreads();
    for (u32 b = threadIdx.x; b < bins; b += HISTOGRAM_THREADS)
        if (near[b]) atomicAdd(zeros + (int)b - window, (u64)near[b]);
}

/* Short channels and columns: all counts in memory. Element i is of channel i / inner % channels. */
template <class T>
PQ_DEVICE void histogram_elements(const void *x, i64 n, i64 inner, u32 channels, int half, const float *low,
                                  const float *high, u64 *counts, int *exponents)
{
    const i64 first = (i64)blockIdx.x * HISTOGRAM_THREADS + threadIdx.x, step = (i64)gridDim.x * HISTOGRAM_THREADS;
    int exponent;
    for (i64 c = first; c < channels; c += step) {
        exponent_of(low[c], high[c], half, &exponent);
        exponents[c] = exponent;
    }
    for (i64 i = first; i < n; i += step) {
        const u32 c = (u32)(i / inner % channels);
        if (!exponent_of(low[c], high[c], half, &exponent)) continue;
        const Counter counter = {counts + (i64)c * (2 * half + 1) + half, nullptr, -1, inverse_width(exponent)};
        counter.count(T::load(x, i));
    }
}

#define HISTOGRAM(name, T)                                                                                      \
    PQ_KERNEL __launch_bounds__(HISTOGRAM_THREADS)                                                              \
        histogram_runs_##name(const void *x, i64 length, i64 repeat, i64 stride, i64 share, i64 half,           \
                              i64 window, const float *low, const float *high, u64 *counts, int *exponents)     \
    {                                                                                                           \
        histogram_runs<T>(x, length, repeat, stride, share, (int)half, (int)window, low, high, counts,          \
                          exponents);                                                                           \
    }                                                                                                           \
    PQ_KERNEL __launch_bounds__(HISTOGRAM_THREADS)                                                              \
        histogram_elements_##name(const void *x, i64 n, i64 inner, i64 channels, i64 half, const float *low,    \
                                  const float *high, u64 *counts, int *exponents)                               \
    {                                                                                                           \
        histogram_elements<T>(x, n, inner, (u32)channels, (int)half, low, high, counts, exponents);             \
    }
HISTOGRAM(f32, F32)
HISTOGRAM(f16, F16)
HISTOGRAM(bf16, BF16)
HISTOGRAM(f64, F64)
