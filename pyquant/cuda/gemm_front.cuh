/* Products with one to eight rows of floats, which every block quantizes for itself: the launch of a kernel for that, and
 * the wait for it, would take about as long as the product.
 *
 * There is one block of 16 warps for each multiprocessor. Its warps read the rows of A once, at most eight loads of 16
 * bytes a lane, which stay in registers between the range and the codes; the codes go to shared memory, and the block then
 * takes pairs of rows of B in turn, as pair.cuh has it. Meanwhile memory is asked for each warp's first pair.
 *
 * Why eight loads: they are up to 64 KB of floats that every multiprocessor takes from the second-level cache, at some 40
 * bytes a nanosecond in 1.6 us; the launch that is saved costs 2 to 3 us. Twice as much would gain nothing. (Counted, not
 * measured.)
 *
 * The codes are the ones that dynamic.cu and quantize.cu write: by the same functions. Those of unsigned grids lie 128
 * lower here, with their zero point, so that A is always signed. */
#include "extremes.cuh"
#include "pair.cuh"
#include "step.cuh"

static constexpr int FRONT_WARPS = 16, FRONT_LOADS = 8;

/* How floats become codes. */
struct pq_front {
    int type;    /* PQ_OUT_F32, PQ_OUT_F16 or PQ_OUT_BF16 */
    int dynamic; /* symmetric with a scale for every row; or by the scale and zero point of the description */
    int qmin, qmax, lowered; /* the grid, and how much lower than the operand's it is */
};

/* Codes of A in shared memory. */
struct CodesInShared {
    const char *codes;
    const float *scales;
    int pitch, zero;

    __device__ __forceinline__ uint4 load(int m, int k) const { return *(const uint4 *)(codes + m * pitch + k); }
    __device__ __forceinline__ pq_row row(const pq_gemm &g, int m, int) const
    {
        const pq_row row = {(u32)zero, 0u - (u32)g.depth * (u32)zero, scales[m]};
        return row;
    }
};

/* 16 bytes of a row of `depth` elements from element `first` on; zeros beyond it. */
template <class T> PQ_DEVICE Words<16> load_of_row(const char *x, int first, int depth, bool aligned)
{
    Words<16> v = {};
    if (aligned && first + PER_LOAD<T> <= depth) {
        const uint4 u = *(const uint4 *)(x + first * T::SIZE); /* other blocks read it too: no load_words */
        v.word[0] = u.x, v.word[1] = u.y, v.word[2] = u.z, v.word[3] = u.w;
        return v;
    }
#pragma unroll
    for (int i = 0; i < PER_LOAD<T>; i++) {
        if (first + i >= depth) continue;
        if (T::SIZE == 4) v.word[i] = ((const u32 *)x)[first + i];
        else v.word[i / 2] |= (u32)((const u16 *)x)[first + i] << (16 * (i % 2));
    }
    return v;
}

/* All rows of A to shared memory. All threads of the block must call. */
template <class T>
PQ_DEVICE void quantize_rows(const pq_gemm &g, const pq_front &how, int zero, char *codes, float *scales)
{
    constexpr int V = PER_LOAD<T>;
    __shared__ Bounds found[FRONT_WARPS];
    const int warps = FRONT_WARPS / g.m, row = warp_id() / warps; /* that share a row */
    const int lanes = 32 * warps, lane = (int)threadIdx.x - row * lanes;
    const int depth = row < g.m ? g.depth : 0;
    const char *const x = (const char *)g.a + row * g.lda;
    const bool aligned = is_aligned(x, 16);
    Words<16> v[FRONT_LOADS];
    Scale s = {float_at(g.a_scale, 0, 0), zero};
#pragma unroll
    for (int i = 0; i < FRONT_LOADS; i++) v[i] = load_of_row<T>(x, (i * lanes + lane) * V, depth, aligned);
    if (how.dynamic) {
        Extremes<T> extremes;
#pragma unroll
        for (int i = 0; i < FRONT_LOADS; i++) extremes.see(v[i]);
        const Bounds own = among(extremes.bounds(), 32);
        if (lane_id() == 0) found[warp_id()] = own;
        __syncthreads();
        const int place = row * warps + (lane_id() < warps ? lane_id() : 0);
        s = scale_of(among(found[place < FRONT_WARPS ? place : 0], 32), false, how.qmin, how.qmax);
    }
    if (row >= g.m) return;
    const Step step = make_step(s.scale, s.zero_point, how.qmin, how.qmax);
#pragma unroll
    for (int i = 0; i < FRONT_LOADS; i++) {
        const int first = (i * lanes + lane) * V;
        Words<V> w;
        if (first >= g.k) break;
#pragma unroll
        for (int j = 0; j < V; j++) {
            const int code = steps_of(T::get(v[i], j), step) + step.zero_point;
            Code8::put(w, j, first + j < depth ? code : 0);
        }
        store_words<V>(codes + row * g.k + first, w);
    }
    if (lane == 0) scales[row] = s.scale;
}

/* All pairs of this block, of which `of_warp` is the first of this warp. */
template <bool SB, int ROWS> PQ_DEVICE void multiply_pairs(const pq_gemm &g, const CodesInShared &left, int of_warp, int part)
{
    typedef Pair<true, SB, ROWS> Values;
    const int pairs = pairs_of(g), blocks = (int)gridDim.x, at_a_time = FRONT_WARPS / g.splits;
    for (int first = (int)blockIdx.x; first < pairs; first += at_a_time * blocks) {
        const int n0 = (first - (int)blockIdx.x + of_warp) * ROWS_PAIR;
        int mine = n0 < g.n ? Values::multiply(g, left, n0, part, 0) : 0;
        if (g.splits > 1) {
            mine = with_other_parts<FRONT_WARPS>(mine, g.splits);
            __syncthreads(); /* they have been read, and may be written again */
        }
        if (part == 0) Values::store(g, left, mine, n0, 0);
    }
}

/* The registers are those of eight rows, of which there are enough for the one block of a multiprocessor. */
PQ_KERNEL __launch_bounds__(32 * FRONT_WARPS, 1)
    gemm_front(const pq_gemm g, i64 type, i64 dynamic, i64 qmin, i64 qmax, i64 lowered)
{
    __shared__ float scales[8];
    PQ_DYNAMIC_SHARED(char, codes);
    const pq_front how = {(int)type, (int)dynamic, (int)qmin, (int)qmax, (int)lowered};
    const int zero = (int)bits_at(g.a_zero, 0, 0) - how.lowered;
    const CodesInShared left = {codes, scales, g.k, zero};
    /* Neighbouring pairs are those of different blocks, so that all have as many, give or take one. */
    const int part = warp_id() % g.splits, of_warp = warp_id() / g.splits * (int)gridDim.x + (int)blockIdx.x;
#pragma unroll
    for (int j = 0; j < ROWS_PAIR; j++) {
        const int n = of_warp * ROWS_PAIR + j;
        for (int k = 128 * (32 * part + lane_id()); n < g.n && k < g.k; k += 4096 * g.splits) {
            prefetch_l2((const char *)g.b + n * g.ldb + k);
        }
    }
    if (how.type == PQ_OUT_F32) quantize_rows<F32>(g, how, zero, codes, scales);
    else if (how.type == PQ_OUT_F16) quantize_rows<F16>(g, how, zero, codes, scales);
    else quantize_rows<BF16>(g, how, zero, codes, scales);
    __syncthreads();

    if (g.m == 1) multiply_pairs<PQ_B_SIGNED, 1>(g, left, of_warp, part);
    else if (g.m == 2) multiply_pairs<PQ_B_SIGNED, 2>(g, left, of_warp, part);
    else if (g.m <= 4) multiply_pairs<PQ_B_SIGNED, 4>(g, left, of_warp, part);
    else multiply_pairs<PQ_B_SIGNED, 8>(g, left, of_warp, part);
}
