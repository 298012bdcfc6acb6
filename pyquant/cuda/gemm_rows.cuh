/* Products with one to eight rows of A: the time is that of reading B, once. A warp multiplies two rows of the K-major
 * B by all rows of A with dp4a, 16 bytes a lane and up to eight such loads of B on the way; `splits` warps of a block share
 * a pair when there are too few pairs to fill the device. A comes from the first-level cache. Sums along K that a zero
 * point needs and nobody has are taken on the way. */
#include "gemm.cuh"

static constexpr int ROWS_WARPS = 8, ROWS_PAIR = 2;

template <bool SA, bool SB> PQ_DEVICE int dot16(const uint4 &a, const uint4 &b, int c)
{
    c = dp4a<SA, SB>(a.x, b.x, c);
    c = dp4a<SA, SB>(a.y, b.y, c);
    c = dp4a<SA, SB>(a.z, b.z, c);
    return dp4a<SA, SB>(a.w, b.w, c);
}

template <bool SA, bool SB, int ROWS> PQ_DEVICE void multiply_rows(const pq_gemm &g)
{
    constexpr int SUMS = ROWS * ROWS_PAIR, VALUES = SUMS + ROWS_PAIR + ROWS; /* products, sums of B, sums of A */
    constexpr int AHEAD = ROWS > 4 ? 2 : 4; /* loads of each row; for more there are no registers */
    static_assert(VALUES <= 32, "a lane for each value");
    __shared__ int shared[ROWS_WARPS][32];
    const uint4 ones = make_uint4(0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u);
    const int lane = lane_id(), part = warp_id() % g.splits, pair = warp_id() / g.splits;
    const int pairs = (g.n + ROWS_PAIR - 1) / ROWS_PAIR, per_block = ROWS_WARPS / g.splits;
    const int blocks = (pairs + per_block - 1) / per_block, batch = (int)blockIdx.x / blocks;
    const int n0 = ((int)blockIdx.x % blocks * per_block + pair) * ROWS_PAIR;
    const bool sum_a = g.b_zero.given && !g.a_sum.given, sum_b = g.a_zero.given && !g.b_sum.given;
    const char *const a = (const char *)g.a + batch * g.a_batch, *const b = (const char *)g.b + batch * g.b_batch;
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
                const uint4 x = inside ? *(const uint4 *)(a + m * g.lda + k) : make_uint4(0, 0, 0, 0);
#pragma unroll
                for (int j = 0; j < ROWS_PAIR; j++) {
                    v[m * ROWS_PAIR + j] = dot16<SA, SB>(x, y[j][i], v[m * ROWS_PAIR + j]);
                }
                if (sum_a) v[SUMS + ROWS_PAIR + m] = dot16<SA, false>(x, ones, v[SUMS + ROWS_PAIR + m]);
            }
        }
    }

    int mine = 0; /* value `lane`, of the whole warp and then of the warps that share the pair */
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
        const int sum = warp_sum(v[i]);
        if (lane == i) mine = sum;
    }
    shared[warp_id()][lane] = mine;
    __syncthreads();
    if (part != 0) return;
    for (int i = 1; i < g.splits; i++) mine = (int)((u32)mine + (u32)shared[warp_id() + i][lane]);

    const int m = lane / ROWS_PAIR % ROWS, n = n0 + lane % ROWS_PAIR;
    const int of_b = __shfl_sync(0xffffffffu, mine, SUMS + lane % ROWS_PAIR);
    const int of_a = __shfl_sync(0xffffffffu, mine, SUMS + ROWS_PAIR + m);
    if (lane >= SUMS || m >= g.m || n >= g.n) return;
    pq_column column = column_of(g, n, batch);
    pq_row row = row_of(g, m, batch);
    if (sum_b) column.sum = (u32)of_b;
    if (sum_a) row.sum = row.sum + (u32)of_a;
    const i64 place = batch * g.c_batch + m * g.ldc + n;
    const u32 result = result_of(g, corrected(mine, row, column), row, column, before_of(g, m, n, batch));
    store_result(g.c, place, result, result_size(g.output));
}

#ifdef PQ_A_SIGNED
#define PQ_ROWS(ROWS)                                                                                          \
    PQ_KERNEL __launch_bounds__(32 * ROWS_WARPS, ROWS > 4 ? 1 : 2) gemm_rows_##ROWS(const pq_gemm g)            \
    {                                                                                                          \
        multiply_rows<PQ_A_SIGNED, PQ_B_SIGNED, ROWS>(g);                                                      \
    }
PQ_ROWS(1)
PQ_ROWS(2)
PQ_ROWS(4)
PQ_ROWS(8)
#endif
