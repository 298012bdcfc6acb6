/* Range, parameters and codes in one read: every run has a scale of its own and stays in registers between the two
 * steps, 16 bytes a load and four loads a thread. Per element the size of x is read and that of q written, per run 8
 * bytes. Runs that are not aligned are read again from the caches (dynamic_runs). Those of more than 4096 loads, or not
 * contiguous, are read twice (range_runs or range_columns, range_fold, quantize). */
#include "extremes.cuh"
#include "step.cuh"

enum { LOADS = 4, DYNAMIC_THREADS = 256 };

/* A scale as the codes need it. */
template <class T> struct Coder {
    Step step;

    __device__ __forceinline__ static Coder of(Scale s, int qmin, int qmax)
    {
        const Coder c = {make_step(s.scale, s.zero_point, qmin, qmax)};
        return c;
    }
    __device__ __forceinline__ int code(float x) const { return steps_of(x, step) + step.zero_point; }
};

template <> struct Coder<F64> {
    float scale;
    int zero_point, qmin, qmax;

    __device__ __forceinline__ static Coder of(Scale s, int qmin, int qmax)
    {
        const Coder c = {s.scale, s.zero_point, qmin, qmax};
        return c;
    }
    __device__ __forceinline__ int code(double x) const { return pq_quantize_f64(x, scale, zero_point, qmin, qmax); }
};

/* That of lane `from` of this lane's four. */
PQ_DEVICE Coder<F64> handed(const Coder<F64> &c, int from)
{
    const Coder<F64> d = {__shfl_sync(~0u, c.scale, from, LOADS), __shfl_sync(~0u, c.zero_point, from, LOADS), c.qmin,
                          c.qmax};
    return d;
}

template <class T> PQ_DEVICE Coder<T> handed(const Coder<T> &c, int from)
{
    const Step &s = c.step;
    const Coder<T> d = {{__shfl_sync(~0u, s.unit, from, LOADS), __shfl_sync(~0u, s.scale, from, LOADS),
                         __shfl_sync(~0u, s.inverse, from, LOADS), __shfl_sync(~0u, s.low, from, LOADS),
                         __shfl_sync(~0u, s.high, from, LOADS), __shfl_sync(~0u, s.zero_point, from, LOADS)}};
    return d;
}

struct Target {
    bool affine, wide;
    int qmin, qmax;
    float *scale;
    int *zero_point;
    void *q;

    __device__ __forceinline__ Scale scale_for(Bounds b) const { return scale_of(b, affine, qmin, qmax); }

    __device__ __forceinline__ void keep(u32 run, Scale s) const
    {
        scale[run] = s.scale;
        zero_point[run] = s.zero_point;
    }

    template <class T, class Code>
    __device__ __forceinline__ void write(i64 first, const Words<16> &v, const Coder<T> &coder) const
    {
        Words<PER_LOAD<T> * Code::SIZE> w;
#pragma unroll
        for (int k = 0; k < PER_LOAD<T>; k++) Code::put(w, k, coder.code(T::get(v, k)));
        store_words<PER_LOAD<T> * Code::SIZE>((char *)q + first * Code::SIZE, w);
    }

    /* The codes of the elements from `first` on. */
    template <class T> __device__ __forceinline__ void write(i64 first, const Words<16> &v, const Coder<T> &coder) const
    {
        if (wide) write<T, Code16>(first, v, coder);
        else write<T, Code8>(first, v, coder);
    }
};

/* Aligned runs of up to LOADS * 1024 whole loads: a warp has one, or the whole block. What is beyond the end is 0,
 * which changes no scale. */
template <class T> PQ_DEVICE void dynamic_rows(const void *x, Runs runs, int lanes, const Target &to)
{
    constexpr int V = PER_LOAD<T>;
    const u32 r = blockIdx.x * (blockDim.x / lanes) + threadIdx.x / lanes;
    const int lane = threadIdx.x % lanes;
    const i64 offset = r < runs.count ? runs.offset(r) : 0;
    const int length = r < runs.count ? (int)runs.length(r) : 0;
    Words<16> v[LOADS];
    Extremes<T> extremes;
#pragma unroll
    for (int k = 0; k < LOADS; k++) {
        const int first = (k * lanes + lane) * V;
        v[k] = Words<16>{};
        if (first < length) v[k] = load_vector<T>(x, offset + first);
    }
#pragma unroll
    for (int k = 0; k < LOADS; k++) extremes.see(v[k]);
    const Scale s = to.scale_for(among_group(extremes.bounds(), lanes));
    const Coder<T> coder = Coder<T>::of(s, to.qmin, to.qmax);
#pragma unroll
    for (int k = 0; k < LOADS; k++) {
        const int first = (k * lanes + lane) * V;
        if (first < length) to.write<T>(offset + first, v[k], coder);
    }
    if (r < runs.count && lane == 0) to.keep(r, s);
}

/* Aligned runs of up to 32 whole loads: `lanes` threads, 4 to 32, have one load each of LOADS runs at a time. The
 * formulas, as long as the codes of a load, are computed by one lane in four for one of the runs, and handed to the
 * others. */
template <class T> PQ_DEVICE void dynamic_blocks(const void *x, Runs runs, int lanes, const Target &to)
{
    constexpr int V = PER_LOAD<T>;
    const u32 side = 32 / lanes, warps = blockDim.x / 32, self = threadIdx.x % 32;
    const int lane = self % lanes, mine = self % LOADS;
    const u32 base = (blockIdx.x * warps + threadIdx.x / 32) * side * LOADS;
    Words<16> v[LOADS];
    i64 place[LOADS];
    Bounds b = {0.0f, 0.0f, false};
#pragma unroll
    for (int k = 0; k < LOADS; k++) {
        const u32 r = base + k * side + self / lanes;
        place[k] = -1;
        if (r < runs.count && lane * V < runs.length(r)) place[k] = runs.offset(r) + lane * V;
        v[k] = Words<16>{};
        if (place[k] >= 0) v[k] = load_vector<T>(x, place[k]);
    }
#pragma unroll
    for (int k = 0; k < LOADS; k++) {
        Extremes<T> extremes;
        extremes.see(v[k]);
        const Bounds shared = among(extremes.bounds(), lanes);
        if (mine == k) b = shared;
    }
    const Scale s = to.scale_for(b);
    const Coder<T> coder = Coder<T>::of(s, to.qmin, to.qmax);
    const u32 own = base + mine * side + self / lanes;
    if (lane < LOADS && own < runs.count) to.keep(own, s);
#pragma unroll
    for (int k = 0; k < LOADS; k++) {
        const Coder<T> its = handed(coder, k);
        if (place[k] >= 0) to.write<T>(place[k], v[k], its);
    }
}

/* Any runs, element by element. */
template <class T> PQ_DEVICE void dynamic_runs(const void *x, Runs runs, int lanes, const Target &to)
{
    const u32 r = blockIdx.x * (blockDim.x / lanes) + threadIdx.x / lanes;
    const int lane = threadIdx.x % lanes;
    const i64 offset = r < runs.count ? runs.offset(r) : 0, length = r < runs.count ? runs.length(r) : 0;
    Range<T> range;
#pragma unroll 4
    for (i64 i = lane; i < length; i += lanes) range.see(T::load(x, offset + i));
    const Bounds b = {range.low, range.high, range.poison != 0};
    const Scale s = to.scale_for(among_group(b, lanes));
    const Coder<T> coder = Coder<T>::of(s, to.qmin, to.qmax);
#pragma unroll 4
    for (i64 i = lane; i < length; i += lanes) {
        const int code = coder.code(T::load(x, offset + i));
        if (to.wide) Code16::store(to.q, offset + i, code);
        else Code8::store(to.q, offset + i, code);
    }
    if (r < runs.count && lane == 0) to.keep(r, s);
}

#define DYNAMIC_KERNEL(kernel, T, name, threads)                                                                \
    PQ_KERNEL __launch_bounds__(threads)                                                                        \
        kernel##_##name(const void *x, RUNS_PARAMETERS, i64 lanes, i64 affine, i64 qmin, i64 qmax, i64 wide,    \
                        float *scale, int *zero_point, void *q)                                                 \
    {                                                                                                           \
        const Target to = {affine != 0, wide != 0, (int)qmin, (int)qmax, scale, zero_point, q};                 \
        kernel<T>(x, RUNS, (int)lanes, to);                                                                     \
    }
#define DYNAMIC(name, T)                                                                                        \
    DYNAMIC_KERNEL(dynamic_rows, T, name, 1024)                                                                 \
    DYNAMIC_KERNEL(dynamic_blocks, T, name, DYNAMIC_THREADS)                                                    \
    DYNAMIC_KERNEL(dynamic_runs, T, name, DYNAMIC_THREADS)
DYNAMIC(f32, F32)
DYNAMIC(f16, F16)
DYNAMIC(bf16, BF16)
DYNAMIC(f64, F64)
