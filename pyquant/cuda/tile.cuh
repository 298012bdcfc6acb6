/* A tile of an integer product on tensor cores through mma.sync, for sm_75 and up. A block computes BM x BN: a ring of
 * STAGES pieces of A and B, BK bytes along K, flows through shared memory while warps of WM x WN multiply. */
#ifndef PQ_TILE_CUH
#define PQ_TILE_CUH

#include "gemm.cuh"

/* Where 16 bytes of a BK-byte row lie in shared memory. The eight rows that one ldmatrix tile reads are 16-byte
 * columns of the same number; rotating that number by exclusive or with the row puts them into eight different
 * quarters of the banks. Copies write whole rows, which fill 128 bytes in any order. */
template <int BK> PQ_DEVICE int swizzled(int row, int chunk)
{
    return row * BK + 16 * (chunk ^ (row / (128 / BK) & (BK / 16 - 1)));
}

/* One thread's part in bringing ROWS x BK bytes to shared memory, again and again along K: 16 bytes of every STRIDE-th
 * row. They arrive in `stage` after deposit and the wait. */
template <int ROWS, int BK, int THREADS> struct Pieces {
    static constexpr int CHUNKS = BK / 16, STRIDE = THREADS / CHUNKS, COUNT = ROWS / STRIDE;
    static_assert(COUNT * STRIDE == ROWS, "every thread copies as much");
    int row, chunk;
    u32 inside; /* which of the rows the operand has */
#if PQ_ARCH < 800
    uint4 held[COUNT];
#endif

    __device__ __forceinline__ void place(int row0, int rows)
    {
        row = (int)threadIdx.x / CHUNKS;
        chunk = (int)threadIdx.x % CHUNKS;
        inside = 0;
#pragma unroll
        for (int i = 0; i < COUNT; i++) inside |= (u32)(row0 + row + i * STRIDE < rows) << i;
    }
    __device__ __forceinline__ void bring(char *stage, int i, const char *p, bool within)
    {
        const bool present = within && (inside >> i & 1);
#if PQ_ARCH >= 800
        cp_async(stage + swizzled<BK>(row + i * STRIDE, chunk), p, present);
#else
        (void)stage;
        held[i] = present ? *(const uint4 *)p : make_uint4(0, 0, 0, 0);
#endif
    }
    __device__ __forceinline__ void deposit(char *stage)
    {
        (void)stage;
#if PQ_ARCH < 800
#pragma unroll
        for (int i = 0; i < COUNT; i++) *(uint4 *)(stage + swizzled<BK>(row + i * STRIDE, chunk)) = held[i];
#endif
    }
};

/* The rows of a matrix, one pitch after the other. */
template <int ROWS, int BK, int THREADS> struct Fetch : Pieces<ROWS, BK, THREADS> {
    typedef Pieces<ROWS, BK, THREADS> Base;
    const char *source;
    i64 jump; /* bytes from one of the thread's rows to the next */

    PQ_DEVICE Fetch from(const void *operand, i64 pitch, int row0, int rows)
    {
        Fetch f;
        f.place(row0, rows);
        f.source = (const char *)operand + (row0 + f.row) * pitch + 16 * f.chunk;
        f.jump = Base::STRIDE * pitch;
        return f;
    }

    /* Bytes k0 ... k0 + BK of every row, those below `end`. */
    __device__ __forceinline__ void start(char *stage, int k0, int end)
    {
        const bool within = k0 + 16 * this->chunk < end;
#pragma unroll
        for (int i = 0; i < Base::COUNT; i++) this->bring(stage, i, source + i * jump + k0, within);
    }
};

/* Where A comes from, and how results leave: a matrix with contiguous rows, both. */
struct Matrices {
    template <int ROWS, int BK, int THREADS>
    __device__ __forceinline__ Fetch<ROWS, BK, THREADS> left(const pq_gemm &g, int batch, int row0) const
    {
        return Fetch<ROWS, BK, THREADS>::from((const char *)g.a + batch * g.a_batch, g.lda, row0, g.m);
    }
    template <int COLUMNS>
    __device__ __forceinline__ void store(const pq_gemm &g, int *slab, int row0, int column0, int batch) const
    {
        store_slab<COLUMNS>(g, slab, row0, column0, batch);
    }
};

/* What becomes of a warp's accumulators on their way along K: nothing here, they are whole sums at the end. In
 * gemm_blocks.cuh blocks of K are turned into real numbers, with parameters that come as the operands do: asked for with
 * `start` for the piece of K that begins at k0, and there for all after `deposit` and a barrier. */
template <int BM, int BN, int WM, int WN, int BK> struct WholeSums {
    static constexpr bool ORDERED = false; /* or may blocks share K? */
    typedef int (&Accumulators)[WM / 16][WN / 8][4];

    PQ_DEVICE WholeSums from(const pq_gemm &, int, int, int) { return {}; }
    __device__ __forceinline__ void start(const pq_gemm &, int) {}
    __device__ __forceinline__ void deposit(const pq_gemm &) {}
    __device__ __forceinline__ void after_step(const pq_gemm &, Accumulators) {}
    __device__ __forceinline__ void finish(const pq_gemm &, Accumulators) {}
};

template <bool SA, bool SB, int BM, int BN, int WM, int WN, int BK, int PIPELINE,
          template <int, int, int, int, int> class SUMS = WholeSums>
struct Tile {
    static constexpr int WARPS_N = BN / WN, THREADS = 32 * (BM / WM) * WARPS_N, MT = WM / 16, NT = WN / 8;
    static constexpr int STAGES = PQ_ARCH >= 800 ? PIPELINE : 2; /* without cp.async the registers are the third */
    static constexpr int STAGE = (BM + BN) * BK, SLAB = WN < 64 ? WN : 64;
    static constexpr int SHARED = STAGES * STAGE;
    static_assert(THREADS / 32 * Slab<SLAB>::WORDS * 4 <= SHARED, "the epilogue fits where the ring was");

    typedef SUMS<BM, BN, WM, WN, BK> Sums;

    static __device__ __forceinline__ void multiply(const pq_gemm &g, int (&acc)[MT][NT][4], Sums &sums, const char *a,
                                                    const char *b)
    {
        const int lane = lane_id(), row = warp_id() / WARPS_N * WM + lane % 16;
        const int column = warp_id() % WARPS_N * WN + lane % 8 + lane / 16 * 8;
#pragma unroll
        for (int k = 0; k < BK / 32; k++) {
            u32 x[MT][4], y[NT / 2][4];
#pragma unroll
            for (int i = 0; i < MT; i++) ldmatrix_x4(x[i], a + swizzled<BK>(row + 16 * i, 2 * k + lane / 16));
#pragma unroll
            for (int j = 0; j < NT / 2; j++) {
                ldmatrix_x4(y[j], b + swizzled<BK>(column + 16 * j, 2 * k + lane / 8 % 2));
            }
#pragma unroll
            for (int i = 0; i < MT; i++) {
#pragma unroll
                for (int j = 0; j < NT; j++) {
                    mma_16x8x32<SA, SB>(acc[i][j], x[i], y[j / 2][2 * (j % 2)], y[j / 2][2 * (j % 2) + 1]);
                }
            }
            sums.after_step(g, acc);
        }
    }

    /* Has the block the sums of all that share K with it? */
    static __device__ __forceinline__ bool last_with_all(const pq_gemm &g, int (&acc)[MT][NT][4], int tile, int split)
    {
        int4 *const first = g.partial + (i64)tile * g.splits * (MT * NT * THREADS) + threadIdx.x;
        int4 *own = first + (i64)split * (MT * NT * THREADS);
#pragma unroll
        for (int i = 0; i < MT * NT; i++) {
            const int *c = acc[i / NT][i % NT];
            own[i * THREADS] = make_int4(c[0], c[1], c[2], c[3]);
        }
        if (!is_last_part(g, tile)) return false;
        for (int s = 0; s < g.splits; s++) {
            if (s == split) continue;
            const int4 *other = first + (i64)s * (MT * NT * THREADS);
#pragma unroll
            for (int i = 0; i < MT * NT; i++) {
                int *c = acc[i / NT][i % NT];
                const int4 sum =
                    add_parts(make_int4(c[0], c[1], c[2], c[3]), load_shared_by_blocks(other + i * THREADS));
                c[0] = sum.x, c[1] = sum.y, c[2] = sum.z, c[3] = sum.w;
            }
        }
        return true;
    }

    template <class WHERE> static __device__ __forceinline__ void run(const pq_gemm &g, char *shared, const WHERE &where)
    {
        const int tiles_m = (g.m + BM - 1) / BM, tiles_n = (g.n + BN - 1) / BN, tiles = tiles_m * tiles_n;
        const int split = (int)blockIdx.x % g.splits, number = (int)blockIdx.x / g.splits;
        const int batch = number / tiles;
        const int2 tile = tile_position(number % tiles, tiles_m, tiles_n);
        const int row0 = tile.x * BM, column0 = tile.y * BN;

        /* this block's part of K, in pieces of BK */
        const int pieces = (g.k + BK - 1) / BK;
        const int first = (int)((i64)pieces * split / g.splits);
        const int count = (int)((i64)pieces * (split + 1) / g.splits) - first;
        auto a = where.template left<BM, BK, THREADS>(g, batch, row0);
        Fetch<BN, BK, THREADS> b =
            Fetch<BN, BK, THREADS>::from((const char *)g.b + batch * g.b_batch, g.ldb, column0, g.n);
        Sums sums = Sums::from(g, row0, column0, batch);
        int acc[MT][NT][4] = {};

        for (int s = 0; s < STAGES - 1; s++) {
            char *stage = shared + s * STAGE;
            const int end = s < count ? g.k : 0;
            a.start(stage, (first + s) * BK, end);
            b.start(stage + BM * BK, (first + s) * BK, end);
#if PQ_ARCH >= 800
            cp_async_commit();
#endif
            a.deposit(stage);
            b.deposit(stage + BM * BK);
        }
        sums.start(g, 0);
        sums.deposit(g);
        int reading = 0, writing = STAGES - 1;
        for (int i = 0; i < count; i++) {
#if PQ_ARCH >= 800
            cp_async_wait<STAGES - 2>();
#endif
            __syncthreads(); /* the piece is there for all, and all are done with the stage that is filled next */
            char *stage = shared + writing * STAGE;
            const int next = i + STAGES - 1, end = next < count ? g.k : 0;
            a.start(stage, (first + next) * BK, end);
            b.start(stage + BM * BK, (first + next) * BK, end);
#if PQ_ARCH >= 800
            cp_async_commit();
#endif
            sums.start(g, (first + i + 1) * BK);
            multiply(g, acc, sums, shared + reading * STAGE, shared + reading * STAGE + BM * BK);
            a.deposit(stage);
            b.deposit(stage + BM * BK);
            sums.deposit(g);
            reading = reading + 1 == STAGES ? 0 : reading + 1;
            writing = writing + 1 == STAGES ? 0 : writing + 1;
        }
#if PQ_ARCH >= 800
        cp_async_wait<0>(); /* zeros that nobody reads may be on their way; they must not arrive when the block has gone */
#endif
        if constexpr (!Sums::ORDERED) {
            if (g.splits > 1 && !last_with_all(g, acc, number, split)) return;
        }
        sums.finish(g, acc);

        __syncthreads(); /* the ring is free */
        int *slab = (int *)shared + warp_id() * Slab<SLAB>::WORDS;
        const int row = row0 + warp_id() / WARPS_N * WM, column = column0 + warp_id() % WARPS_N * WN;
#pragma unroll 1 /* so that the code of the epilogue stands there once; the registers are still named by constants */
        for (int s = 0; s < MT * (WN / SLAB); s++) {
#pragma unroll
            for (int i = 0; i < MT * (WN / SLAB); i++) {
                if (i == s) fill_slab<SLAB>(slab, &acc[i / (WN / SLAB)][i % (WN / SLAB) * (SLAB / 8)]);
            }
            where.template store<SLAB>(g, slab, row + s / (WN / SLAB) * 16, column + s % (WN / SLAB) * SLAB, batch);
        }
    }
};

#endif
