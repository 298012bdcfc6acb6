/* Products whose scales and zero points change in blocks along K, multiples of 32, on the tiles of tile.cuh. At the
 * end of a block its int32 sums are corrected, scaled, and added to float32 sums that stay in registers: in the order of
 * K, as the CPU adds them. So no two blocks of threads can share K. */
#include "tile.cuh"

/* The parameters of one block of K. */
PQ_DEVICE pq_vector of_block(const pq_vector &all, i64 step, int block)
{
    pq_vector one = all;
    one.data = (const u32 *)all.data + block * step;
    return one;
}

/* A warp's sums, in the places of its accumulators: those of row g and g + 8 of every 16, columns 2t and 2t + 1 of every 8
 * for g = lane / 4, t = lane % 4. */
template <int MT, int NT> struct BlockSums {
    static constexpr bool ORDERED = true;
    int row, column, batch; /* the lane's first ones */
    int block, steps;       /* which block of K is in the accumulators, and how many steps of 32 it has to go */
    float sum[MT][NT][4];
    float a_scale[MT][2], b_scale[NT][2]; /* of that block; they come while it is multiplied */
    u32 a_zero[MT][2], a_sum[MT][2], b_zero[NT][2], b_sum[NT][2];

    PQ_DEVICE BlockSums from(const pq_gemm &g, int row0, int column0, int batch)
    {
        BlockSums sums;
        sums.row = row0 + lane_id() / 4;
        sums.column = column0 + lane_id() % 4 * 2;
        sums.batch = batch;
#pragma unroll
        for (int i = 0; i < MT * NT * 4; i++) sums.sum[i / 4 / NT][i / 4 % NT][i % 4] = -0.0f; /* plus x is x */
        sums.begin(g, 0);
        return sums;
    }

    __device__ __forceinline__ void begin(const pq_gemm &g, int next)
    {
        block = next;
        steps = g.block / 32;
        if (block >= g.blocks) return;
        const int first = block * g.block, length = g.depth - first < g.block ? g.depth - first : g.block;
        const pq_vector a_scales = of_block(g.a_scale, g.a_scale_block, block);
        const pq_vector a_zeros = of_block(g.a_zero, g.a_zero_block, block);
        const pq_vector a_sums = of_block(g.a_sum, g.a_sum_block, block);
        const pq_vector b_scales = of_block(g.b_scale, g.b_scale_block, block);
        const pq_vector b_zeros = of_block(g.b_zero, g.b_zero_block, block);
        const pq_vector b_sums = of_block(g.b_sum, g.b_sum_block, block);
#pragma unroll
        for (int i = 0; i < 2 * MT; i++) {
            const int m = row + 8 * i < g.m ? row + 8 * i : g.m - 1;
            a_scale[i / 2][i % 2] = float_at(a_scales, m, batch);
            if (g.a_zero.given) a_zero[i / 2][i % 2] = bits_at(a_zeros, m, batch);
            if (g.b_zero.given) {
                const u32 zero = g.a_zero.given ? a_zero[i / 2][i % 2] : 0;
                a_sum[i / 2][i % 2] = bits_at(a_sums, m, batch) - (u32)length * zero;
            }
        }
#pragma unroll
        for (int j = 0; j < 2 * NT; j++) {
            const int place = column + 8 * (j / 2) + j % 2, n = place < g.n ? place : g.n - 1;
            b_scale[j / 2][j % 2] = float_at(b_scales, n, batch);
            if (g.b_zero.given) b_zero[j / 2][j % 2] = bits_at(b_zeros, n, batch);
            if (g.a_zero.given) b_sum[j / 2][j % 2] = bits_at(b_sums, n, batch);
        }
    }

    __device__ __forceinline__ void end(const pq_gemm &g, int (&acc)[MT][NT][4])
    {
#pragma unroll
        for (int i = 0; i < MT * NT * 4; i++) {
            const int m = i / 4 / NT, n = i / 4 % NT, lower = i % 4 / 2, right = i % 2;
            u32 x = (u32)acc[m][n][i % 4];
            if (g.a_zero.given) x -= a_zero[m][lower] * b_sum[n][right];
            if (g.b_zero.given) x -= b_zero[n][right] * a_sum[m][lower];
            const float scale = a_scale[m][lower] * b_scale[n][right];
            sum[m][n][i % 4] = sum[m][n][i % 4] + (float)(int)x * scale;
            acc[m][n][i % 4] = 0;
        }
        begin(g, block + 1);
    }

    /* 32 more of K are in the accumulators. Zeros follow the end of K. */
    __device__ __forceinline__ void after_step(const pq_gemm &g, int (&acc)[MT][NT][4])
    {
        if (--steps == 0 && block < g.blocks) end(g, acc);
    }

    /* A last block that is shorter; and then the sums' bits are in the accumulators. */
    __device__ __forceinline__ void finish(const pq_gemm &g, int (&acc)[MT][NT][4])
    {
        if (block < g.blocks) end(g, acc);
#pragma unroll
        for (int i = 0; i < MT * NT * 4; i++) {
            pq_bits32 bits;
            bits.f = sum[i / 4 / NT][i / 4 % NT][i % 4];
            acc[i / 4 / NT][i / 4 % NT][i % 4] = (int)bits.u;
        }
    }
};

/* A matrix whose slabs have the bits of float sums. */
struct RealMatrices : Matrices {
    template <int COLUMNS>
    __device__ __forceinline__ void store(const pq_gemm &g, int *slab, int row0, int column0, int batch) const
    {
        store_slab<COLUMNS, true>(g, slab, row0, column0, batch);
    }
};

/* The narrow one is for products that read more than they compute: its 32 columns make enough blocks to read with. The
 * other is as wide as registers allow that hold every sum twice. */
#define PQ_BLOCKS_TILE(BM, BN, WM, WN, BK, STAGES, BLOCKS)                                                     \
    PQ_KERNEL __launch_bounds__(32 * (BM / WM) * (BN / WN), BLOCKS) gemm_blocks_##BM##x##BN(const pq_gemm g)    \
    {                                                                                                          \
        PQ_DYNAMIC_SHARED(char, shared);                                                                       \
        Tile<PQ_A_SIGNED, PQ_B_SIGNED, BM, BN, WM, WN, BK, STAGES, BlockSums>::run(g, shared, RealMatrices()); \
    }
#ifdef PQ_A_SIGNED
PQ_BLOCKS_TILE(16, 32, 16, 16, 128, 6, 4)
PQ_BLOCKS_TILE(64, 64, 32, 32, 128, 3, PQ_ARCH >= 800 ? 3 : 2)
#endif
