/* Products whose sums int32 does not hold, for floats and codes: the parts of K, each of which fits, are added up in
 * 64 bits, and then meet the epilogue. */
#include "gemm.cuh"

/* sums += part, or sums = part for the first one. */
PQ_KERNEL __launch_bounds__(256) add_part(i64 *sums, const int *part, i64 n, i64 first)
{
    const i64 i = blockIdx.x * 256LL + threadIdx.x;
    if (i < n) sums[i] = (first ? 0 : sums[i]) + part[i];
}

/* sums (batches, m, n), which are corrected for zero points, to the result; a thread an element. */
PQ_KERNEL __launch_bounds__(256) finish(const i64 *sums, const pq_gemm g)
{
    const i64 i = blockIdx.x * 256LL + threadIdx.x, line = i / g.n;
    const int n = (int)(i % g.n), m = (int)(line % g.m), batch = (int)(line / g.m);
    if (batch >= g.batches) return;
    const pq_row row = row_of(g, m, batch);
    const u32 result = result_of(g, sums[i], row, column_of(g, n, batch), before_of(g, m, n, batch));
    store_result(g.c, batch * g.c_batch + m * g.ldc + n, result, result_size(g.output));
}
