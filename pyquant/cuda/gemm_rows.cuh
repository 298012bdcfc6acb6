/* Products with one to eight rows of A: the time is that of reading B, once. A warp multiplies two rows of B by all rows of
 * A, which come from the first-level cache; `splits` warps of a block share a pair when there are too few pairs to fill the
 * device. */
#include "pair.cuh"

static constexpr int ROWS_WARPS = 8;

template <bool SA, bool SB, int ROWS> PQ_DEVICE void multiply_rows(const pq_gemm &g)
{
    typedef Pair<SA, SB, ROWS> Values;
    const int part = warp_id() % g.splits, per_block = ROWS_WARPS / g.splits;
    const int blocks = (pairs_of(g) + per_block - 1) / per_block, batch = (int)blockIdx.x / blocks;
    const int n0 = ((int)blockIdx.x % blocks * per_block + warp_id() / g.splits) * ROWS_PAIR;
    const CodesInMemory left = {(const char *)g.a + batch * g.a_batch, g.lda};
    const int mine = with_other_parts<ROWS_WARPS>(Values::multiply(g, left, n0, part, batch), g.splits);
    if (part == 0) Values::store(g, left, mine, n0, batch);
}

#define PQ_ROWS(ROWS)                                                                                          \
    PQ_KERNEL __launch_bounds__(32 * ROWS_WARPS, ROWS > 4 ? 1 : 2) gemm_rows_##ROWS(const pq_gemm g)            \
    {                                                                                                          \
        multiply_rows<PQ_A_SIGNED, PQ_B_SIGNED, ROWS>(g);                                                      \
    }
PQ_ROWS(1)
PQ_ROWS(2)
PQ_ROWS(4)
PQ_ROWS(8)
