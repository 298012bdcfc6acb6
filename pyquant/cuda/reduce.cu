/* Smallest and largest values: one read of the data, and 8 bytes written per parameter and split. Where there are few
 * parameters, the data of each are split among blocks (blockIdx.y), which take `share` runs, elements or rows, and
 * `range_fold` puts the splits together. */
#include "range.cuh"

enum { RANGE_THREADS = 256, RANGE_FLIGHT = 4 /* loads that a thread has under way */ };

/* What is left of a range. */
enum Outcome {
    RAW,       /* low to `first`, high to `second`; infinity and -infinity where nothing was seen */
    MINMAX,    /* the same with 0 and 0 there */
    ABSMAX,    /* the larger of -low and high to `first` */
    SYMMETRIC, /* range_fold and choose_params: the scale to `first`, the zero point (int) to `second` */
    AFFINE
};

/* Bad data are NaN in both bounds; data beyond float32 are infinite there. + 0.0f: a bound of -0.0 is 0.0. */
PQ_DEVICE void deliver(Bounds b, int outcome, i64 place, float *first, void *second)
{
    if (b.low > b.high && outcome != RAW) b.low = b.high = 0.0f;
    if (b.bad) b.low = b.high = PQ_NAN;
    if (outcome == ABSMAX) {
        first[place] = b.bad ? PQ_NAN : fmaxf(-b.low, b.high) + 0.0f;
    } else {
        first[place] = b.low + 0.0f;
        ((float *)second)[place] = b.high + 0.0f;
    }
}

PQ_DEVICE void deliver_params(Bounds b, int outcome, int qmin, int qmax, i64 place, float *first, void *second)
{
    const Scale s = scale_of(b, outcome == AFFINE, qmin, qmax);
    first[place] = s.scale;
    ((int *)second)[place] = s.zero_point;
}

/* Elements begin ... end of x, by thread `lane` of `lanes`: up to the first multiple of 16 bytes and after the last one
 * by one. */
template <class T> PQ_DEVICE void see_span(Range<T> &range, const void *x, i64 begin, i64 end, int lane, int lanes)
{
    constexpr int V = PER_LOAD<T>;
    const i64 n = end < begin ? 0 : end - begin, head = smaller(loads_begin<T>(x, begin), n);
    const i64 loads = (n - head) / V, body = begin + head, tail = body + loads * V;
    for (i64 i = begin + lane; i < body; i += lanes) range.see(T::load(x, i));
    for (i64 i = tail + lane; i < end; i += lanes) range.see(T::load(x, i));
    i64 i = lane;
    for (; i + (RANGE_FLIGHT - 1) * lanes < loads; i += RANGE_FLIGHT * lanes) {
        Words<16> v[RANGE_FLIGHT];
#pragma unroll
        for (int k = 0; k < RANGE_FLIGHT; k++) v[k] = load_vector<T>(x, body + (i + k * lanes) * V);
#pragma unroll
        for (int k = 0; k < RANGE_FLIGHT; k++) range.see_vector(v[k]);
    }
    for (; i < loads; i += lanes) range.see_vector(load_vector<T>(x, body + i * V));
}

/* Of runs. Parameter p has `repeat` runs, `stride` elements apart: a channel has one in every outer index. `lanes`
 * neighbouring threads share one, a power of two up to 32, or the whole block. */
template <class T>
PQ_DEVICE void range_runs(const void *x, Runs runs, i64 repeat, i64 stride, i64 share, int lanes, bool omit,
                          int outcome, float *first, void *second)
{
    const u32 p = blockIdx.x * (blockDim.x / lanes) + threadIdx.x / lanes;
    const i64 from = blockIdx.y * share;
    const int lane = threadIdx.x % lanes;
    Range<T> range;
    if (p < runs.count) {
        const bool whole = repeat > 1; /* runs */
        const i64 offset = runs.offset(p), length = runs.length(p), to = smaller(from + share, whole ? repeat : length);
        for (i64 o = whole ? from : 0; o < (whole ? to : 1); o++) {
            const i64 start = offset + o * stride;
            see_span<T>(range, x, start + (whole ? 0 : from), start + (whole ? length : to), lane, lanes);
        }
    }
    const Bounds mine = {range.low, range.high, range.poison != 0 && !omit}, b = among_group(mine, lanes);
    if (p < runs.count && lane == 0) deliver(b, outcome, (i64)blockIdx.y * runs.count + p, first, second);
}

/* Of columns: unit u is a matrix of up to `block` rows (Runs in units of a row) with `columns` columns, and has a
 * parameter a column. A block takes `across` loads of columns side by side, and its other threads other rows; a thread
 * keeps PER_LOAD columns: those of its load, or, where rows are not aligned, each `across` to the right of the last, so
 * that neighbours read neighbours. */
template <class T>
PQ_DEVICE void range_columns(const void *x, Runs units, i64 columns, u32 tiles, i64 share, int across, bool omit,
                             int outcome, float *first, void *second)
{
    constexpr int V = PER_LOAD<T>;
    __shared__ float lows[RANGE_THREADS * V], highs[RANGE_THREADS * V];
    const int rows = blockDim.x / across, row = threadIdx.x / across, at = threadIdx.x % across, width = across * V;
    const bool direct = columns % V == 0 && is_aligned(x, 16);
    const u32 unit = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    const i64 begin = blockIdx.y * share, end = smaller(begin + share, units.length(unit));
    const i64 left = (i64)tile * width, right = smaller(columns - left, width);
    const i64 corner = units.offset(unit) * columns + left;
    Range<T> range[V];
    i64 r = begin + row;
    if (!direct) {
        for (; r < end; r += rows)
#pragma unroll
            for (int j = 0; j < V; j++)
                if (at + j * across < right) range[j].see(T::load(x, corner + r * columns + at + j * across));
    } else if (at * V < right) {
        const i64 mine = corner + at * V;
        for (; r + (RANGE_FLIGHT - 1) * rows < end; r += RANGE_FLIGHT * rows) {
            Words<16> v[RANGE_FLIGHT];
#pragma unroll
            for (int k = 0; k < RANGE_FLIGHT; k++) v[k] = load_vector<T>(x, mine + (r + k * rows) * columns);
#pragma unroll
            for (int k = 0; k < RANGE_FLIGHT; k++)
#pragma unroll
                for (int j = 0; j < V; j++) range[j].see(T::get(v[k], j));
        }
        for (; r < end; r += rows) {
            const Words<16> v = load_vector<T>(x, mine + r * columns);
#pragma unroll
            for (int j = 0; j < V; j++) range[j].see(T::get(v, j));
        }
    }
#pragma unroll
    for (int j = 0; j < V; j++) {
        const int place = row * width + (direct ? at * V + j : at + j * across);
        lows[place] = range[j].poison != 0 && !omit ? PQ_NAN : range[j].low;
        highs[place] = range[j].high;
    }
    __syncthreads();
    for (int c = threadIdx.x; c < right; c += blockDim.x) {
        Bounds b = {PQ_INFINITY, -PQ_INFINITY, false};
        for (int i = 0; i < rows; i++) {
            const float low = lows[i * width + c];
            b.bad |= low != low;
            b.low = fminf(b.low, low);
            b.high = fmaxf(b.high, highs[i * width + c]);
        }
        deliver(b, outcome, ((i64)blockIdx.y * units.count + unit) * columns + left + c, first, second);
    }
}

/* Parameter p has the partial ranges (s * params + p) * inner + i for s < splits, i < inner; `lanes` threads fold them.
 * Eight bytes read each. */
PQ_KERNEL __launch_bounds__(RANGE_THREADS)
    range_fold(const float *lows, const float *highs, i64 splits, i64 params, i64 inner, i64 lanes, i64 outcome,
               i64 qmin, i64 qmax, float *first, void *second)
{
    const u32 lane = threadIdx.x % (u32)lanes;
    const i64 p = (i64)blockIdx.x * (blockDim.x / (u32)lanes) + threadIdx.x / (u32)lanes;
    Bounds b = {PQ_INFINITY, -PQ_INFINITY, false};
    if (p < params) {
        for (u32 k = lane; k < (u32)(splits * inner); k += (u32)lanes) {
            const i64 at = (k / (u32)inner * params + p) * inner + k % (u32)inner;
            b.bad |= lows[at] != lows[at];
            b.low = fminf(b.low, lows[at]);
            b.high = fmaxf(b.high, highs[at]);
        }
    }
    b = among_group(b, (int)lanes);
    if (p >= params || lane != 0) return;
    if (outcome >= SYMMETRIC) deliver_params(b, (int)outcome, (int)qmin, (int)qmax, p, first, second);
    else deliver(b, (int)outcome, p, first, second);
}

/* Of ranges that are there already: 8 bytes read and 8 written each. */
PQ_KERNEL __launch_bounds__(RANGE_THREADS)
    choose_params(const float *alpha, const float *beta, i64 n, i64 outcome, i64 qmin, i64 qmax, float *scale,
                  int *zero_point)
{
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const Bounds b = {alpha[i], beta[i], !(alpha[i] <= beta[i])};
    deliver_params(b, (int)outcome, (int)qmin, (int)qmax, i, scale, zero_point);
}

#define RANGES(name, T)                                                                                         \
    PQ_KERNEL __launch_bounds__(RANGE_THREADS)                                                                  \
        range_runs_##name(const void *x, RUNS_PARAMETERS, i64 repeat, i64 stride, i64 share, i64 lanes,         \
                          i64 omit, i64 outcome, float *first, void *second)                                    \
    {                                                                                                           \
        range_runs<T>(x, RUNS, repeat, stride, share, (int)lanes, omit != 0, (int)outcome, first, second);      \
    }                                                                                                           \
    PQ_KERNEL __launch_bounds__(RANGE_THREADS)                                                                  \
        range_columns_##name(const void *x, RUNS_PARAMETERS, i64 columns, i64 tiles, i64 share, i64 across,     \
                             i64 omit, i64 outcome, float *first, void *second)                                 \
    {                                                                                                           \
        range_columns<T>(x, RUNS, columns, (u32)tiles, share, (int)across, omit != 0, (int)outcome, first,      \
                         second);                                                                               \
    }
RANGES(f32, F32)
RANGES(f16, F16)
RANGES(bf16, BF16)
RANGES(f64, F64)
