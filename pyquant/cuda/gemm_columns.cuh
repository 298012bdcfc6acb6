/* Products with one to eight rows of A and a B (K, N) with contiguous rows, which is read where it stands, once; to re-lay
 * it along K takes three times the traffic. A lane has 8 neighbouring columns, or 4 with more than four rows of A; a warp
 * takes 16 rows of these at a time, turns 4 x 4 bytes in its registers, and multiplies with dp4a by words of A that all
 * lanes share. The eight warps of a block, and `splits` blocks, take turns with such steps along K; their sums meet in
 * shared memory and in g.partial. Columns, rows of B and their start are multiples of 8 bytes. Sums along K that a zero
 * point needs are taken on the way. */
#include "gemm.cuh"

template <bool SA, bool SB, int ROWS> struct Strip {
    static constexpr int THREADS = 256, STEP = 16;
    static constexpr int WORDS = ROWS > 4 ? 1 : 2, OWN = 4 * WORDS; /* columns of a lane */
    static constexpr int COLUMNS = 32 * OWN;
    static constexpr int OF_B = ROWS * COLUMNS, OF_A = OF_B + COLUMNS, VALUES = OF_A + ROWS; /* products, sums of B, of A */
    static constexpr int PIECES = (VALUES + 3) / 4;                                          /* of 16 bytes */

    /* Where the sums of column j of a lane are: those of all lanes side by side, in different banks. */
    static __device__ __forceinline__ int place(int m, int j, int lane) { return m * COLUMNS + 32 * j + lane; }

    /* This warp's part of K, added to what the block has. */
    static __device__ __forceinline__ void multiply(const pq_gemm &g, int *sums, int n0, int part, int batch)
    {
        const int lane = lane_id(), n = n0 + OWN * lane, warps = THREADS / 32;
        const bool sum_a = g.b_zero.given, sum_b = g.a_zero.given;
        const char *const a = (const char *)g.a + batch * g.a_batch, *const b = (const char *)g.b + batch * g.b_batch + n;
        int v[ROWS + 1][OWN] = {}, of_a[ROWS] = {};

        for (int k = STEP * (warps * part + warp_id()); k < g.depth; k += STEP * warps * g.splits) {
            Words<OWN> y[STEP];
#pragma unroll
            for (int i = 0; i < STEP; i++) {
                y[i] = Words<OWN>{};
                if (k + i < g.depth && n < g.n) y[i] = load_words<OWN>(b + (k + i) * g.ldb);
            }
#pragma unroll
            for (int i = 0; i < STEP; i += 4) {
#pragma unroll
                for (int w = 0; w < WORDS; w++) {
                    transpose_4x4(y[i].word[w], y[i + 1].word[w], y[i + 2].word[w], y[i + 3].word[w]);
                }
            }
#pragma unroll
            for (int m = 0; m < ROWS; m++) {
                const uint4 x = m < g.m ? *(const uint4 *)(a + m * g.lda + k) : make_uint4(0, 0, 0, 0);
#pragma unroll
                for (int j = 0; j < OWN; j++) v[m][j] = dot<SA>(x, y, j, v[m][j]);
                if (sum_a) of_a[m] = dot16<SA, false>(x, ones(), of_a[m]);
            }
            if (sum_b) {
#pragma unroll
                for (int j = 0; j < OWN; j++) v[ROWS][j] = dot<false>(ones(), y, j, v[ROWS][j]);
            }
        }
#pragma unroll
        for (int m = 0; m <= ROWS; m++) {
            if (m == ROWS && !sum_b) continue;
#pragma unroll
            for (int j = 0; j < OWN; j++) atomicAdd(sums + place(m, j, lane), v[m][j]);
        }
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
            if (sum_a && lane == 0) atomicAdd(sums + OF_A + m, of_a[m]);
        }
    }

    static __device__ __forceinline__ uint4 ones()
    {
        return make_uint4(0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u);
    }

    /* Of 16 bytes along K with those of column j, after turning. */
    template <bool SIGNED>
    static __device__ __forceinline__ int dot(const uint4 &x, const Words<OWN> (&y)[STEP], int j, int c)
    {
        const uint4 column = make_uint4(y[j % 4].word[j / 4], y[4 + j % 4].word[j / 4], y[8 + j % 4].word[j / 4],
                                        y[12 + j % 4].word[j / 4]);
        return dot16<SIGNED, SB>(x, column, c);
    }

    /* Has the block the sums of all that share K with it? */
    static __device__ __forceinline__ bool last_with_all(const pq_gemm &g, int *sums, int strip, int part)
    {
        int4 *const first = g.partial + (i64)strip * g.splits * PIECES;
        for (int i = threadIdx.x; i < PIECES; i += THREADS) first[(i64)part * PIECES + i] = ((const int4 *)sums)[i];
        if (!is_last_part(g, strip)) return false;
        for (int i = threadIdx.x; i < PIECES; i += THREADS) {
            int4 sum = make_int4(0, 0, 0, 0);
            for (int s = 0; s < g.splits; s++) {
                sum = add_parts(sum, load_shared_by_blocks(first + (i64)s * PIECES + i));
            }
            ((int4 *)sums)[i] = sum;
        }
        __syncthreads();
        return true;
    }

    static __device__ __forceinline__ void run(const pq_gemm &g)
    {
        __shared__ int4 shared[PIECES];
        int *const sums = (int *)shared;
        const int strips = (g.n + COLUMNS - 1) / COLUMNS, part = (int)blockIdx.x % g.splits;
        const int strip = (int)blockIdx.x / g.splits, batch = strip / strips, n0 = strip % strips * COLUMNS;
        for (int i = threadIdx.x; i < PIECES; i += THREADS) shared[i] = make_int4(0, 0, 0, 0);
        __syncthreads();
        multiply(g, sums, n0, part, batch);
        __syncthreads();
        if (g.splits > 1 && !last_with_all(g, sums, strip, part)) return;
        const int size = result_size(g.output);
        for (int i = threadIdx.x; i < g.m * COLUMNS; i += THREADS) {
            const int m = i / COLUMNS, own = i % COLUMNS, n = n0 + own;
            if (n >= g.n) continue;
            pq_column column = column_of(g, n, batch);
            pq_row row = row_of(g, m, batch);
            if (g.a_zero.given) column.sum = (u32)sums[place(ROWS, own % OWN, own / OWN)];
            if (g.b_zero.given) row.sum = row.sum + (u32)sums[OF_A + m];
            const int sum = corrected(sums[place(m, own % OWN, own / OWN)], row, column);
            const u32 result = result_of(g, sum, row, column, before_of(g, m, n, batch));
            store_result(g.c, batch * g.c_batch + m * g.ldc + n, result, size);
        }
    }
};

#define PQ_COLUMNS(ROWS)                                                                                       \
    PQ_KERNEL __launch_bounds__(256, 2) gemm_columns_##ROWS(const pq_gemm g)                                    \
    {                                                                                                          \
        Strip<PQ_A_SIGNED, PQ_B_SIGNED, ROWS>::run(g);                                                      \
    }
PQ_COLUMNS(1)
PQ_COLUMNS(2)
PQ_COLUMNS(4)
PQ_COLUMNS(8)
