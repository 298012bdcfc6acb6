/* Two rows of the K-major B times up to eight rows of A: a warp with dp4a, 16 bytes a lane and up to eight such loads of B
 * on the way. Sums along K that a zero point needs and nobody has are taken on the way. */
#ifndef PQ_PAIR_CUH
#define PQ_PAIR_CUH

#include "gemm.cuh"

static constexpr int ROWS_PAIR = 2;

/* Codes of A in memory. Whatever stands for them has these two functions. */
struct CodesInMemory {
    const char *a;
    i64 pitch;

    __device__ __forceinline__ uint4 load(int m, int k) const { return *(const uint4 *)(a + m * pitch + k); }
    __device__ __forceinline__ pq_row row(const pq_gemm &g, int m, int batch) const { return row_of(g, m, batch); }
};

PQ_DEVICE int pairs_of(const pq_gemm &g) { return (g.n + ROWS_PAIR - 1) / ROWS_PAIR; }

/* Of up to eight rows of A and two of B, columns n0 and n0 + 1 of C. */
template <bool SA, bool SB, int ROWS> struct Pair {
    static constexpr int SUMS = ROWS * ROWS_PAIR, VALUES = SUMS + ROWS_PAIR + ROWS; /* products, sums of B, sums of A */
    static constexpr int AHEAD = ROWS > 4 ? 2 : 4; /* loads of each row; for more there are no registers */
    static_assert(VALUES <= 32, "a lane for each value");

    __device__ __forceinline__ static bool sums_a(const pq_gemm &g) { return g.b_zero.given && !g.a_sum.given; }
    __device__ __forceinline__ static bool sums_b(const pq_gemm &g) { return g.a_zero.given && !g.b_sum.given; }

    /* Value `lane` of a part of K, `part` of g.splits. */
    template <class Left>
    __device__ __forceinline__ static int multiply(const pq_gemm &g, const Left &left, int n0, int part, int batch)
    {
        const uint4 ones = make_uint4(0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u);
        const int lane = lane_id();
        const bool sum_a = sums_a(g), sum_b = sums_b(g);
        const char *const b = (const char *)g.b + batch * g.b_batch;
        int v[VALUES] = {};

        for (int k0 = 512 * AHEAD * part; k0 < g.k; k0 += 512 * AHEAD * g.splits) {
            uint4 y[ROWS_PAIR][AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                const int k = k0 + 512 * i + 16 * lane;
#pragma unroll
                for (int j = 0; j < ROWS_PAIR; j++) {
                    const bool inside = k < g.k && n0 + j < g.n;
                    y[j][i] = inside ? *(const uint4 *)(b + (n0 + j) * g.ldb + k) : make_uint4(0, 0, 0, 0);
                    if (sum_b) v[SUMS + j] = dot16<SB, false>(y[j][i], ones, v[SUMS + j]);
                }
            }
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                const int k = k0 + 512 * i + 16 * lane;
#pragma unroll
                for (int m = 0; m < ROWS; m++) {
                    const bool inside = k < g.k && m < g.m;
                    const uint4 x = inside ? left.load(m, k) : make_uint4(0, 0, 0, 0);
#pragma unroll
                    for (int j = 0; j < ROWS_PAIR; j++) {
                        v[m * ROWS_PAIR + j] = dot16<SA, SB>(x, y[j][i], v[m * ROWS_PAIR + j]);
                    }
                    if (sum_a) v[SUMS + ROWS_PAIR + m] = dot16<SA, false>(x, ones, v[SUMS + ROWS_PAIR + m]);
                }
            }
        }

        int mine = 0;
#pragma unroll
        for (int i = 0; i < VALUES; i++) {
            const int sum = warp_sum(v[i]);
            if (lane == i) mine = sum;
        }
        return mine;
    }

    /* From the values of all of K, a lane each, to the results. */
    template <class Left>
    __device__ __forceinline__ static void store(const pq_gemm &g, const Left &left, int mine, int n0, int batch)
    {
        const int lane = lane_id(), m = lane / ROWS_PAIR % ROWS, n = n0 + lane % ROWS_PAIR;
        const int of_b = __shfl_sync(0xffffffffu, mine, SUMS + lane % ROWS_PAIR);
        const int of_a = __shfl_sync(0xffffffffu, mine, SUMS + ROWS_PAIR + m);
        if (lane >= SUMS || m >= g.m || n >= g.n) return;
        pq_column column = column_of(g, n, batch);
        pq_row row = left.row(g, m, batch);
        if (sums_b(g)) column.sum = (u32)of_b;
        if (sums_a(g)) row.sum = row.sum + (u32)of_a;
        const i64 place = batch * g.c_batch + m * g.ldc + n;
        const u32 result = result_of(g, corrected(mine, row, column), row, column, before_of(g, m, n, batch));
        store_result(g.c, place, result, result_size(g.output));
    }
};

/* The values of the warps that share a pair, added up in the first of them. All threads of the block must call. */
template <int WARPS> PQ_DEVICE int with_other_parts(int mine, int splits)
{
    __shared__ int shared[WARPS][32];
    shared[warp_id()][lane_id()] = mine;
    __syncthreads();
    if (warp_id() % splits == 0) {
        for (int i = 1; i < splits; i++) mine = (int)((u32)mine + (u32)shared[warp_id() + i][lane_id()]);
    }
    return mine;
}

#endif
