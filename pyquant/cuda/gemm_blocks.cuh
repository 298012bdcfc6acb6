/* Products whose scales and zero points change in blocks along K, multiples of 32, on the tiles of tile.cuh. At the
 * end of a block its int32 sums are corrected, scaled, and added to float32 sums that stay in registers: in the order of
 * K, as the CPU adds them. So no two blocks of threads can share K. */
#include "tile.cuh"

/* A warp's sums, in the places of its accumulators. Parameters come to shared memory, from where every lane takes those
 * of its rows and columns: each thread brings those of one row or column of the tile. */
template <int BM, int BN, int WM, int WN, int BK> struct BlockSums {
    static constexpr bool ORDERED = true;
    static constexpr int MT = WM / 16, NT = WN / 8, WARPS_N = BN / WN, LINES = BM + BN;
    static_assert(LINES <= 32 * (BM / WM) * WARPS_N, "a thread for every row and column");
    static constexpr int BEGIN = BK / 32; /* at most so many blocks begin in a piece of K */
    /* One that is read in a piece is overwritten two pieces later at the soonest: blocks have 32 elements and more, and
     * seven of them lie between. */
    static constexpr int RING = 2 * BEGIN;
    struct Parameters {
        float scale[RING][LINES];
        u32 zero[RING][LINES], sum[RING][LINES];
    };
    typedef int (&Accumulators)[MT][NT][4];

    pq_line scale, zero, sum_along_k; /* of the thread's own row or column */
    u32 held[BEGIN][3];
    int asked, arrived; /* blocks whose parameters are on the way, and those that are in shared memory */
    int row, column;    /* of the tile, the lane's first ones */
    int block, steps;   /* which block of K is in the accumulators, and how many steps of 32 it has to go */
    float sum[MT][NT][4];

    PQ_DEVICE Parameters &parameters()
    {
        __shared__ Parameters memory;
        return memory;
    }

    PQ_DEVICE BlockSums from(const pq_gemm &g, int row0, int column0, int batch)
    {
        BlockSums s;
        const int own = (int)threadIdx.x, m = row0 + own, n = column0 + own - BM;
        const int i = own < BM ? (m < g.m ? m : g.m - 1) : n < g.n ? n : g.n - 1;
        s.scale = own < BM ? pq_line::of(g.a_scale, g.a_scale_block, i, batch)
                           : pq_line::of(g.b_scale, g.b_scale_block, i, batch);
        s.zero = own < BM ? pq_line::of(g.a_zero, g.a_zero_block, i, batch)
                          : pq_line::of(g.b_zero, g.b_zero_block, i, batch);
        s.sum_along_k = own < BM ? pq_line::of(g.a_sum, g.a_sum_block, i, batch)
                                 : pq_line::of(g.b_sum, g.b_sum_block, i, batch);
        s.asked = s.arrived = s.block = 0;
        s.row = warp_id() / WARPS_N * WM + lane_id() / 4;
        s.column = BM + warp_id() % WARPS_N * WN + lane_id() % 4 * 2;
        s.steps = g.block / 32;
#pragma unroll
        for (int j = 0; j < MT * NT * 4; j++) s.sum[j / 4 / NT][j / 4 % NT][j % 4] = -0.0f; /* plus x is x */
        return s;
    }

    /* The blocks that begin in the piece at k0. */
    __device__ __forceinline__ void start(const pq_gemm &g, int k0)
    {
        const bool zeros = g.a_zero.given || g.b_zero.given;
#pragma unroll
        for (int i = 0; i < BEGIN; i++) {
            const int next = arrived + i;
            if (next >= g.blocks || next * g.block >= k0 + BK) break;
            asked = next + 1;
            if (threadIdx.x >= LINES) continue;
            held[i][0] = scale.at(next);
            if (!zeros) continue;
            held[i][1] = zero.at(next);
            held[i][2] = sum_along_k.at(next);
        }
    }
    __device__ __forceinline__ void deposit(const pq_gemm &g)
    {
        Parameters &to = parameters();
        const int own = (int)threadIdx.x;
#pragma unroll
        for (int i = 0; i < BEGIN; i++) {
            const int next = arrived + i;
            if (next >= asked) break;
            if (own >= LINES) continue;
            pq_bits32 bits;
            bits.u = held[i][0];
            to.scale[next % RING][own] = bits.f;
            if (!g.a_zero.given && !g.b_zero.given) continue;
            const int left = g.depth - next * g.block, length = left < g.block ? left : g.block;
            to.zero[next % RING][own] = held[i][1];
            to.sum[next % RING][own] = held[i][2] - (own < BM ? (u32)length * held[i][1] : 0);
        }
        arrived = asked;
    }

    /* 32 more of K are in the accumulators. Zeros follow the end of K. */
    __device__ __forceinline__ void after_step(const pq_gemm &g, Accumulators acc)
    {
        if (--steps == 0 && block < g.blocks) end(g, acc);
    }

    /* The end of a block: as `corrected` and `result_of` of gemm.cuh have it. */
    __device__ __forceinline__ void end(const pq_gemm &g, Accumulators acc)
    {
        const Parameters &of = parameters();
        const int slot = block % RING;
        if (g.a_zero.given) subtract(acc, of.zero[slot] + row, of.sum[slot] + column);
        if (g.b_zero.given) subtract(acc, of.sum[slot] + row, of.zero[slot] + column);
#pragma unroll
        for (int i = 0; i < 2 * MT; i++) {
#pragma unroll
            for (int j = 0; j < 2 * NT; j++) {
                const float scale = of.scale[slot][row + 8 * i] * of.scale[slot][column + 8 * (j / 2) + j % 2];
                int &x = acc[i / 2][j / 2][2 * (i % 2) + j % 2];
                float &to = sum[i / 2][j / 2][2 * (i % 2) + j % 2];
                to = to + (float)x * scale;
                x = 0;
            }
        }
        block++;
        steps = g.block / 32;
    }

    /* acc -= of_row of_column */
    __device__ __forceinline__ static void subtract(Accumulators acc, const u32 *of_row, const u32 *of_column)
    {
#pragma unroll
        for (int i = 0; i < 2 * MT; i++) {
#pragma unroll
            for (int j = 0; j < 2 * NT; j++) {
                int &x = acc[i / 2][j / 2][2 * (i % 2) + j % 2];
                x = (int)((u32)x - of_row[8 * i] * of_column[8 * (j / 2) + j % 2]);
            }
        }
    }

    /* A last block that is shorter; and then the sums' bits are in the accumulators. */
    __device__ __forceinline__ void finish(const pq_gemm &g, Accumulators acc)
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

/* The narrow one is for products that read more than they compute: its 32 columns make enough blocks to read with. Warps
 * of the largest are as wide as registers allow that hold every sum twice. */
#define PQ_BLOCKS_TILE(BM, BN, WM, WN, BK, STAGES, BLOCKS)                                                     \
    PQ_KERNEL __launch_bounds__(32 * (BM / WM) * (BN / WN), BLOCKS) gemm_blocks_##BM##x##BN(const pq_gemm g)    \
    {                                                                                                          \
        PQ_DYNAMIC_SHARED(char, shared);                                                                       \
        Tile<PQ_A_SIGNED, PQ_B_SIGNED, BM, BN, WM, WN, BK, STAGES, BlockSums>::run(g, shared, RealMatrices()); \
    }
#ifdef PQ_A_SIGNED
PQ_BLOCKS_TILE(16, 32, 16, 16, 128, 6, 4)
PQ_BLOCKS_TILE(64, 64, 32, 32, 128, 2, PQ_ARCH >= 800 ? 3 : 1)
PQ_BLOCKS_TILE(128, 128, 64, 32, 64, 3, 1)
#endif
