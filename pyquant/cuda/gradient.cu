/* Gradients of fake quantize, their sums in float64 and in the order that csrc/kernels.h and grad.c give them, which
 * this keeps to the bit. Per element g and x are read once, and dx is written. */
#include "runs.cuh"
#include "step.cuh"

enum { CHUNK = 4096, LANES = 16, GRAD_THREADS = 128 };

PQ_DEVICE pq_grad_f32_t gradient(float g, float x, float scale, float low, float high)
{
    return pq_grad_f32(g, x, scale, low, high);
}

PQ_DEVICE pq_grad_f64_t gradient(double g, double x, float scale, double low, double high)
{
    return pq_grad_f64(g, x, scale, low, high);
}

/* One scale, as the gradient needs it. */
template <class T> struct Slope {
    typedef typename T::value real;
    float scale;
    real low, high;

    PQ_DEVICE Slope of(const Params &params, i64 i, int qmin, int qmax)
    {
        const int zero_point = Params::zero_point_at(params, i);
        const Slope s = {Params::scale_at(params, i), (real)(qmin - zero_point), (real)(qmax - zero_point)};
        return s;
    }
};

/* A chunk is added up in 16 lanes, element i in lane i % 16. A thread has PER of them, which are 16 bytes of every 16
 * elements, and WIDTH threads have them all. */
template <class T> struct Sums {
    typedef typename T::value real;
    static constexpr int PER = PER_LOAD<T>, WIDTH = LANES / PER;
    double scale[PER] = {}, zero_point[PER] = {};

    __device__ __forceinline__ real add(int k, real g, real x, const Slope<T> &slope)
    {
        const auto d = gradient(g, x, slope.scale, slope.low, slope.high);
        scale[k] += (double)d.scale;
        zero_point[k] += (double)d.zero_point;
        return d.x;
    }

    /* Then lanes 8, 4, 2, 1 apart are added: the first pairs are in different threads, the last in one. All lanes of
     * the warp must call; the first of WIDTH has the sum. */
    PQ_DEVICE double total(double (&sum)[PER])
    {
#pragma unroll
        for (int apart = WIDTH / 2; apart > 0; apart /= 2)
#pragma unroll
            for (int k = 0; k < PER; k++) sum[k] += __shfl_down_sync(~0u, sum[k], apart, WIDTH);
#pragma unroll
        for (int apart = PER / 2; apart > 0; apart /= 2)
#pragma unroll
            for (int k = 0; k < apart; k++) sum[k] += sum[k + apart];
        return sum[0];
    }
};

/* Elements begin ... begin + n of a chunk, of which thread `thread` has PER in 16. */
template <class T>
PQ_DEVICE void grad_chunk(const void *g, const void *x, void *dx, i64 begin, int n, int thread, bool direct,
                          const Slope<T> &slope, Sums<T> &sums)
{
    constexpr int PER = Sums<T>::PER, FLIGHT = 16 / T::SIZE; /* pairs of loads under way */
    const i64 mine = begin + thread * PER;
    int i = 0;
    if (direct) {
#pragma unroll 1
        for (; i + FLIGHT * LANES <= n; i += FLIGHT * LANES) {
            Words<16> gs[FLIGHT], xs[FLIGHT], out;
#pragma unroll
            for (int f = 0; f < FLIGHT; f++) {
                gs[f] = load_vector<T>(g, mine + i + f * LANES);
                xs[f] = load_vector<T>(x, mine + i + f * LANES);
            }
#pragma unroll
            for (int f = 0; f < FLIGHT; f++) {
#pragma unroll
                for (int k = 0; k < PER; k++) T::put(out, k, sums.add(k, T::get(gs[f], k), T::get(xs[f], k), slope));
                store_words<16>((char *)dx + (mine + i + f * LANES) * T::SIZE, out);
            }
        }
    }
#pragma unroll 1
    for (; i < n; i += LANES) {
#pragma unroll
        for (int k = 0; k < PER; k++) {
            const i64 e = mine + i + k;
            if (e < begin + n) T::store(dx, e, sums.add(k, T::load(g, e), T::load(x, e), slope));
        }
    }
}

/* Runs, whose parameter is r % params. Chunk c of run r has its sums at partial[2 * (r * chunks + c)], scale first.
 * `direct`: all runs begin at multiples of 16 bytes. */
template <class T>
PQ_DEVICE void grad_runs(const void *g, const void *x, void *dx, Runs runs, u32 params, u32 chunks, bool direct,
                         const Params &scales, int qmin, int qmax, double *partial)
{
    constexpr int WIDTH = Sums<T>::WIDTH, GROUPS = GRAD_THREADS / WIDTH;
    const int thread = threadIdx.x % WIDTH;
    const u32 items = runs.count * chunks, item = blockIdx.x * GROUPS + threadIdx.x / WIDTH;
    Sums<T> sums;
    if (item < items) {
        const u32 r = item / chunks;
        const i64 before = (i64)(item - r * chunks) * CHUNK, left = runs.length(r) - before;
        const Slope<T> slope = Slope<T>::of(scales, r % params, qmin, qmax);
        const int n = left < 0 ? 0 : left < CHUNK ? (int)left : CHUNK;
        grad_chunk<T>(g, x, dx, runs.offset(r) + before, n, thread, direct, slope, sums);
    }
    const double scale = Sums<T>::total(sums.scale), zero_point = Sums<T>::total(sums.zero_point);
    if (item < items && thread == 0) {
        partial[2 * (i64)item] = scale;
        partial[2 * (i64)item + 1] = zero_point;
    }
}

/* Per channel and block: the chunks' sums of a parameter in order, partial[2 * ((o * params + p) * chunks + c)] from
 * o to o, one thread for each of the two. */
PQ_KERNEL __launch_bounds__(GRAD_THREADS)
    grad_sums(const double *partial, i64 outer, i64 params, i64 chunks, double *dscale, double *dzero_point)
{
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= 2 * params) return;
    double sum = 0.0;
    for (i64 o = 0; o < outer; o++)
#pragma unroll 8
        for (i64 c = 0; c < chunks; c++) sum += partial[2 * ((o * params + i / 2) * chunks + c) + i % 2];
    (i % 2 ? dzero_point : dscale)[i / 2] = sum;
}

/* Per tensor: the chunks' sums in 16 lanes and pairs again, one block. All fetch, and the first warp adds; the next are
 * under way meanwhile. */
PQ_KERNEL __launch_bounds__(1024) grad_total(const double *partial, i64 chunks, double *dscale, double *dzero_point)
{
    enum { EACH = 4, TILE = EACH * 1024 };
    __shared__ double tile[TILE];
    double next[EACH], sum = 0.0;
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        const i64 at = k * 1024 + threadIdx.x;
        next[k] = at < 2 * chunks ? partial[at] : 0.0;
    }
    for (i64 first = 0; first < 2 * chunks; first += TILE) {
        __syncthreads(); /* the last tile has been added */
#pragma unroll
        for (int k = 0; k < EACH; k++) tile[k * 1024 + threadIdx.x] = next[k];
        __syncthreads();
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            const i64 at = first + TILE + k * 1024 + threadIdx.x;
            next[k] = at < 2 * chunks ? partial[at] : 0.0;
        }
        if (threadIdx.x < 2 * LANES) {
            const int n = 2 * chunks - first < TILE ? (int)(2 * chunks - first) : TILE;
#pragma unroll 8
            for (int i = threadIdx.x; i < n; i += 2 * LANES) sum += tile[i];
        }
    }
    if (threadIdx.x >= 2 * LANES) return;
#pragma unroll
    for (int apart = LANES; apart > 1; apart /= 2) sum += __shfl_down_sync(~0u, sum, apart);
    if (threadIdx.x == 0) *dscale = sum;
    if (threadIdx.x == 1) *dzero_point = sum;
}

/* Columns: unit u is a matrix of up to `block` rows (Runs in units of a row), and has a parameter a column, whose
 * elements are added one after the other. A block has 32 columns: eight warps take eighths of a tile of rows, two of
 * them add what all have computed, and the next tile is under way meanwhile. */
template <class T>
PQ_DEVICE void grad_columns(const void *g, const void *x, void *dx, Runs units, i64 columns, u32 tiles,
                            const Params &scales, int qmin, int qmax, double *dscale, double *dzero_point)
{
    typedef typename T::value real;
    enum { EACH = 32 / T::SIZE, ROWS = 8 * EACH };
    __shared__ real by_scale[ROWS][32], by_zero_point[ROWS][32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const u32 unit = blockIdx.x / tiles;
    const i64 column = (i64)(blockIdx.x % tiles) * 32 + lane, height = units.length(unit), p = unit * columns + column;
    const i64 corner = units.offset(unit) * columns + column;
    const bool here = column < columns;
    const Slope<T> slope = Slope<T>::of(scales, here ? p : 0, qmin, qmax);
    real gs[EACH], xs[EACH];
    double sum = 0.0;
    const auto fetch = [&](i64 top) {
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            const i64 row = top + warp * EACH + k;
            if (!here || row >= height) continue;
            gs[k] = T::load(g, corner + row * columns);
            xs[k] = T::load(x, corner + row * columns);
        }
    };
    fetch(0);
    for (i64 top = 0; top < height; top += ROWS) {
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            const i64 row = top + warp * EACH + k;
            if (!here || row >= height) continue;
            const auto d = gradient(gs[k], xs[k], slope.scale, slope.low, slope.high);
            T::store(dx, corner + row * columns, d.x);
            by_scale[warp * EACH + k][lane] = d.scale;
            by_zero_point[warp * EACH + k][lane] = d.zero_point;
        }
        __syncthreads();
        fetch(top + ROWS);
        if (warp < 2 && here) {
            const int n = height - top < ROWS ? (int)(height - top) : ROWS;
            const real(*const terms)[32] = warp ? by_zero_point : by_scale;
#pragma unroll 8
            for (int r = 0; r < n; r++) sum += (double)terms[r][lane];
        }
        __syncthreads();
    }
    if (warp < 2 && here) (warp ? dzero_point : dscale)[p] = sum;
}

#define GRADIENT(name, T)                                                                                       \
    PQ_KERNEL __launch_bounds__(GRAD_THREADS)                                                                   \
        grad_runs_##name(const void *g, const void *x, void *dx, RUNS_PARAMETERS, i64 params, i64 chunks,       \
                         i64 direct, PARAMS_PARAMETERS, i64 qmin, i64 qmax, double *partial)                    \
    {                                                                                                           \
        grad_runs<T>(g, x, dx, RUNS, (u32)params, (u32)chunks, direct != 0, PARAMS, (int)qmin, (int)qmax,       \
                     partial);                                                                                  \
    }                                                                                                           \
    PQ_KERNEL __launch_bounds__(256)                                                                            \
        grad_columns_##name(const void *g, const void *x, void *dx, RUNS_PARAMETERS, i64 columns, i64 tiles,    \
                            PARAMS_PARAMETERS, i64 qmin, i64 qmax, double *dscale, double *dzero_point)         \
    {                                                                                                           \
        grad_columns<T>(g, x, dx, RUNS, columns, (u32)tiles, PARAMS, (int)qmin, (int)qmax, dscale,              \
                        dzero_point);                                                                           \
    }
GRADIENT(f32, F32)
GRADIENT(f64, F64)
