/* Products with one to four rows of A whose scales and zero points change in blocks along K, of 32, 64, 128 or another
 * power of two. More rows are for the tiles of gemm_blocks.cuh, which then take fewer instructions for a byte of B. Eight lanes have a column of C and read 128 bytes of its row of B at a time, eight such loads ahead; the
 * lanes of one block add up its dp4a sums, and its float32 term goes to the sum of the column, in the order of K. Zero
 * points are taken into account by each lane for its 16 bytes, so that no sums along K are needed. */
#include "pair.cuh"

static constexpr int ROW_BLOCKS_WARPS = 4, COLUMN_LANES = 8, COLUMN_STEP = 16 * COLUMN_LANES;

template <bool SA, bool SB, int ROWS> struct BlockRows {
    static constexpr int AHEAD = 8, UNROLLED = 4; /* half of them, for the code of a step is long */
    static constexpr int KEPT = ROWS > 1 ? ROWS / 2 : 1; /* rows whose sums a lane keeps: even or odd lanes */

    /* 16 bytes of B, and the parameters of their block. */
    struct Piece {
        uint4 codes;
        float scale;
        u32 zero;
    };

    const pq_gemm &g;
    CodesInMemory left;
    const char *b; /* the column's row of B */
    pq_line b_scale, b_zero, a_scale, a_zero; /* of the column; of the lane's first row, and of the first */
    int n, batch, shift; /* blocks have 1 << shift elements */
    int v[ROWS];
    float sum[KEPT];

    PQ_DEVICE int place(int k0) { return k0 + 16 * (lane_id() % COLUMN_LANES); }
    __device__ __forceinline__ int block_at(int k0) const
    {
        return place(k0) >> shift < g.blocks ? place(k0) >> shift : g.blocks - 1;
    }
    PQ_DEVICE int row(int i) { return ROWS > 1 ? i + lane_id() % 2 * KEPT : 0; }

    __device__ __forceinline__ Piece fetch(int k0) const
    {
        Piece piece = {};
        pq_bits32 scale;
        if (k0 >= g.k) return piece;
        scale.u = b_scale.at(block_at(k0)); /* for lanes past the end too: they finish rows of the last block */
        piece.scale = scale.f;
        if (place(k0) >= g.k || n >= g.n) return piece;
        piece.codes = *(const uint4 *)(b + place(k0));
        if (g.b_zero.given) piece.zero = b_zero.at(block_at(k0));
        return piece;
    }

    __device__ __forceinline__ void multiply(const Piece &piece, int k0)
    {
        const uint4 ones = make_uint4(0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u);
        const bool inside = place(k0) < g.k; /* outside are zeros, and their product with anything will do */
        const int k = inside ? place(k0) : 0, block = k >> shift;
        u32 of_b = 0; /* the sum of the codes of B less their zero point */
        if (g.a_zero.given) {
            const int length = g.depth - k < 16 ? g.depth - k : 16;
            of_b = (u32)dot16<SB, false>(piece.codes, ones, 0) - (u32)length * piece.zero;
        }
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
            if (m >= g.m) break;
            const uint4 x = left.load(m, k);
            v[m] = dot16<SA, SB>(x, piece.codes, v[m]);
            if (g.b_zero.given) v[m] = (int)((u32)v[m] - piece.zero * (u32)dot16<SA, false>(x, ones, 0));
            if (g.a_zero.given) v[m] = (int)((u32)v[m] - a_zero.at(block, m * (int)g.a_zero.step) * of_b);
        }
    }

    /* The blocks that end with these 128 bytes: one, or with fewer lanes each two or four. */
    __device__ __forceinline__ void end(const Piece &piece, int k0)
    {
        const int lane = lane_id(), odd = lane % 2;
        const int lanes = g.block < COLUMN_STEP ? g.block / 16 : COLUMN_LANES;
        if (ROWS == 1) {
            v[0] = (int)((u32)v[0] + (u32)__shfl_xor_sync(0xffffffffu, v[0], 1));
        } else { /* even lanes go on with the first half of the rows, odd ones with the other */
#pragma unroll
            for (int i = 0; i < KEPT; i++) {
                const int given = odd ? v[i] : v[i + KEPT % ROWS], own = odd ? v[i + KEPT % ROWS] : v[i];
                v[i] = (int)((u32)own + (u32)__shfl_xor_sync(0xffffffffu, given, 1));
            }
        }
#pragma unroll
        for (int step = 2; step < COLUMN_LANES; step *= 2) {
            if (step >= lanes) break;
#pragma unroll
            for (int i = 0; i < KEPT; i++) v[i] = (int)((u32)v[i] + (u32)__shfl_xor_sync(0xffffffffu, v[i], step));
        }
        const int block = block_at(k0), first = k0 >> shift;
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            pq_bits32 scale;
            scale.u = a_scale.at(block, row(i) < g.m ? i * (int)g.a_scale.step : 0);
            const float term = (float)v[i] * (scale.f * piece.scale);
            if (lanes == COLUMN_LANES) sum[i] = sum[i] + term;
            for (int j = 0; j < COLUMN_LANES / lanes && lanes < COLUMN_LANES; j++) {
                const float next = __shfl_sync(0xffffffffu, term, lane / COLUMN_LANES * COLUMN_LANES + j * lanes + odd);
                if (first + j < g.blocks) sum[i] = sum[i] + next;
            }
        }
#pragma unroll
        for (int m = 0; m < ROWS; m++) v[m] = 0;
    }

    __device__ __forceinline__ void run()
    {
        Piece pieces[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) pieces[i] = fetch(COLUMN_STEP * i);
#pragma unroll
        for (int m = 0; m < ROWS; m++) v[m] = 0;
#pragma unroll
        for (int i = 0; i < KEPT; i++) sum[i] = -0.0f; /* plus x is x */
#pragma unroll 1
        for (int k0 = 0; k0 < g.k; k0 += COLUMN_STEP * UNROLLED) {
#pragma unroll
            for (int i = 0; i < UNROLLED; i++) {
                const int k = k0 + COLUMN_STEP * i, after = k + COLUMN_STEP;
                if (k >= g.k) break;
                multiply(pieces[i], k);
                if ((after & (g.block - 1)) == 0 || g.block < COLUMN_STEP || after >= g.k) end(pieces[i], k);
                pieces[i] = pieces[i + UNROLLED];
                pieces[i + UNROLLED] = fetch(k + COLUMN_STEP * AHEAD);
            }
        }
        if (lane_id() % COLUMN_LANES > 1 || n >= g.n) return;
        const pq_column column = column_of(g, n, batch);
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            if (row(i) >= g.m || (ROWS == 1 && lane_id() % 2)) break;
            const i64 place = batch * g.c_batch + row(i) * g.ldc + n;
            store_result(g.c, place, real_result(g, sum[i], column), result_size(g.output));
        }
    }
};

template <bool SA, bool SB, int ROWS> PQ_DEVICE void multiply_rows_in_blocks(const pq_gemm &g)
{
    typedef BlockRows<SA, SB, ROWS> Rows;
    const int columns = 32 / COLUMN_LANES * ROW_BLOCKS_WARPS, blocks = (g.n + columns - 1) / columns;
    const int batch = (int)blockIdx.x / blocks;
    const int n = (int)blockIdx.x % blocks * columns + (int)threadIdx.x / COLUMN_LANES;
    const CodesInMemory left = {(const char *)g.a + batch * g.a_batch, g.lda};
    const char *const b = (const char *)g.b + batch * g.b_batch + n * g.ldb;
    const int column = n < g.n ? n : g.n - 1, row = Rows::row(0) < g.m ? Rows::row(0) : 0;
    int shift = 5;
    while (1 << shift < g.block) shift++;
    Rows rows = {g, left, b,
                 pq_line::of(g.b_scale, g.b_scale_block, column, batch), pq_line::of(g.b_zero, g.b_zero_block, column, batch),
                 pq_line::of(g.a_scale, g.a_scale_block, row, batch), pq_line::of(g.a_zero, g.a_zero_block, 0, batch),
                 n, batch, shift, {}, {}};
    rows.run();
}

#define PQ_ROWS(ROWS)                                                                                          \
    PQ_KERNEL __launch_bounds__(32 * ROW_BLOCKS_WARPS, 3) gemm_rows_blocks_##ROWS(const pq_gemm g)              \
    {                                                                                                          \
        multiply_rows_in_blocks<PQ_A_SIGNED, PQ_B_SIGNED, ROWS>(g);                                            \
    }
PQ_ROWS(1)
PQ_ROWS(2)
PQ_ROWS(4)
