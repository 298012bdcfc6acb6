/* Integer products on Hopper (sm_90a). A cluster of two blocks computes 256 x 256: each block its 128 rows of A, and both
 * the same 256 columns of B, of which each fetches half and sends it to both. In a block one thread of the first
 * warpgroup keeps a ring of STAGES pieces, 128 bytes along K, filled by the copy engine; the other two warpgroups
 * multiply 64 rows each, and write the result while the ring fills with the next tile. Clusters stay and take one tile
 * after the other. */
#include "hopper.cuh"

static constexpr int HOPPER_M = 128, HOPPER_N = 256, HOPPER_K = 128, STAGES = 4;
static constexpr int A_BYTES = HOPPER_M * HOPPER_K, B_BYTES = HOPPER_N * HOPPER_K, CONSUMER_WARPS = 8;

/* Shared memory of a block. */
struct HopperShared {
    char a[STAGES][A_BYTES];
    char b[STAGES][B_BYTES];
    int slab[CONSUMER_WARPS][Slab<32>::WORDS];
    Barrier full[STAGES], empty[STAGES];
};

/* A place in the ring: the stage, and the parity of the phase in which it is filled. Consumers wait for `full` with this
 * parity; the producer for `empty` with the other, which passes at once the first time round. */
struct Ring {
    int stage, parity;
    PQ_DEVICE Ring start()
    {
        Ring r;
        r.stage = 0;
        r.parity = 0;
        return r;
    }
    __device__ __forceinline__ void advance()
    {
        stage++;
        if (stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/* The tiles of a cluster: every cluster_count-th one. x and y are the row and column of the pair's first element. */
struct Tiles {
    int number, step, per_batch, rows, columns, all;
    PQ_DEVICE Tiles of(const pq_gemm &g, int first, int step)
    {
        Tiles t;
        t.rows = (g.m + CLUSTER * HOPPER_M - 1) / (CLUSTER * HOPPER_M);
        t.columns = (g.n + HOPPER_N - 1) / HOPPER_N;
        t.per_batch = t.rows * t.columns;
        t.all = t.per_batch * g.batches;
        t.number = first;
        t.step = step;
        return t;
    }
    __device__ __forceinline__ bool more() const { return number < all; }
    __device__ __forceinline__ void next() { number += step; }
    __device__ __forceinline__ int batch() const { return number / per_batch; }
    __device__ __forceinline__ int2 place() const
    {
        int2 tile = tile_position(number % per_batch, rows, columns);
        tile.x *= CLUSTER * HOPPER_M;
        tile.y *= HOPPER_N;
        return tile;
    }
};

PQ_DEVICE void produce(const pq_gemm &g, const TensorMap *map_a, const TensorMap *map_b, HopperShared *shared)
{
    const int rank = cluster_rank(), pieces = (g.k + HOPPER_K - 1) / HOPPER_K;
    Ring ring = Ring::start();
    for (Tiles t = Tiles::of(g, cluster_number(), cluster_count()); t.more(); t.next()) {
        const int2 place = t.place();
        const int batch_a = g.a_batch ? t.batch() : 0, batch_b = g.b_batch ? t.batch() : 0;
#pragma unroll 1
        for (int i = 0; i < pieces; i++, ring.advance()) {
            Barrier *full = &shared->full[ring.stage];
            barrier_wait(&shared->empty[ring.stage], ring.parity ^ 1);
            barrier_expect(full, A_BYTES + B_BYTES);
            load_box(shared->a[ring.stage], map_a, HOPPER_K * i, place.x + HOPPER_M * rank, batch_a, full);
            load_box_for_both(shared->b[ring.stage] + B_BYTES / CLUSTER * rank, map_b, HOPPER_K * i,
                              place.y + HOPPER_N / CLUSTER * rank, batch_b, full);
        }
    }
}

/* Results of 32 bits without zero points or others to add to go straight from the registers to where they belong: the
 * matrix units stand still until the last store is on its way, and by the slab a tile would take some 6000 clocks to
 * leave, a tenth of what a product with K = 8192 takes (counted, not measured). A lane has two neighbours in each
 * 8-column piece of two rows; four lanes store 32 bytes. */
PQ_DEVICE bool is_plain(const pq_gemm &g, int column0)
{
    const bool aligned = (((u64)g.c | (u64)(g.ldc * 4) | (u64)(g.c_batch * 4)) & 7) == 0;
    const bool given = g.a_zero.given || g.b_zero.given || g.before;
    return result_size(g.output) == 4 && !given && aligned && column0 + HOPPER_N <= g.n;
}

/* Values of columns first, first + 1, ...: read where each has its own. */
struct Columns {
    const u32 *values;
    u32 one;
    bool each;
    PQ_DEVICE Columns of(const pq_vector &v, int first, int batch)
    {
        Columns c;
        c.one = bits_at(v, first, batch);
        c.each = v.data && v.step;
        c.values = (const u32 *)v.data + first + batch * v.batch;
        return c;
    }
    __device__ __forceinline__ u32 at(int i) const { return each ? values[i] : one; }
};

PQ_DEVICE int added(int a, u32 b) { return (int)((u32)a + b); }

PQ_DEVICE void store_plain(const pq_gemm &g, const int (&acc)[HOPPER_N / 8][4], int row0, int column0, int batch)
{
    const int upper = row0 + lane_id() / 4, lower = upper + 8, first = column0 + 2 * (lane_id() % 4);
    const bool has_upper = upper < g.m, has_lower = lower < g.m, biased = g.bias.given;
    const Columns bias = Columns::of(g.bias, first, batch), scale = Columns::of(g.b_scale, first, batch);
    int2 *const to_upper = (int2 *)((int *)g.c + batch * g.c_batch + upper * g.ldc + first);
    int2 *const to_lower = (int2 *)((int *)to_upper + 8 * g.ldc);
    if (g.output == PQ_OUT_I32) {
#pragma unroll
        for (int j = 0; j < HOPPER_N / 8; j++) {
            const u32 b0 = bias.at(8 * j), b1 = bias.at(8 * j + 1);
            const int *c = acc[j];
            if (has_upper) to_upper[4 * j] = make_int2(added(c[0], b0), added(c[1], b1));
            if (has_lower) to_lower[4 * j] = make_int2(added(c[2], b0), added(c[3], b1));
        }
        return;
    }
    const float of_row[2] = {float_at(g.a_scale, has_upper ? upper : 0, batch),
                             float_at(g.a_scale, has_lower ? lower : 0, batch)};
#pragma unroll
    for (int j = 0; j < HOPPER_N / 8; j++) {
        const u32 b[2] = {bias.at(8 * j), bias.at(8 * j + 1)}, s[2] = {scale.at(8 * j), scale.at(8 * j + 1)};
        int y[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float x = (float)acc[j][i] * (of_row[i / 2] * __uint_as_float(s[i % 2]));
            x = biased ? x + __uint_as_float(b[i % 2]) : x;
            x = x < g.low ? g.low : x;
            x = x > g.high ? g.high : x;
            y[i] = (int)__float_as_uint(x);
        }
        if (has_upper) to_upper[4 * j] = make_int2(y[0], y[1]);
        if (has_lower) to_lower[4 * j] = make_int2(y[2], y[3]);
    }
}

template <bool SA, bool SB> PQ_DEVICE void consume(const pq_gemm &g, HopperShared *shared)
{
    const int warp = thread_of_block() / 32 - 4, group = warp / 4, lane = lane_id(), rank = cluster_rank();
    const int pieces = (g.k + HOPPER_K - 1) / HOPPER_K;
    Ring ring = Ring::start();
    for (Tiles t = Tiles::of(g, cluster_number(), cluster_count()); t.more(); t.next()) {
        const int2 place = t.place();
        int acc[HOPPER_N / 8][4] = {}, before = 0; /* zeros, for compilers that serialise products without them */
#pragma unroll 1
        for (int i = 0; i < pieces; i++, ring.advance()) {
            barrier_wait(&shared->full[ring.stage], ring.parity);
            const u64 a = operand(shared->a[ring.stage] + group * (A_BYTES / 2)), b = operand(shared->b[ring.stage]);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < HOPPER_K / 32; k++) {
                wgmma_64x256x32<SA, SB>(acc, a + k * (32 >> 4), b + k * (32 >> 4));
            }
            wgmma_commit();
            /* While these run those of the piece before have ended, and both blocks may fill its stage. */
            wgmma_wait<1>();
            if (i > 0 && lane < CLUSTER) barrier_arrive(&shared->empty[before], lane);
            before = ring.stage;
        }
        wgmma_wait<0>();
        if (lane < CLUSTER) barrier_arrive(&shared->empty[before], lane);

        const int row = place.x + HOPPER_M * rank + 16 * warp;
        if (is_plain(g, place.y)) {
            store_plain(g, acc, row, place.y, t.batch());
            continue;
        }
        int *slab = shared->slab[warp];
#pragma unroll 1
        for (int s = 0; s < HOPPER_N / 32; s++) {
#pragma unroll
            for (int i = 0; i < HOPPER_N / 32; i++) {
                if (i == s) fill_slab<32>(slab, &acc[4 * i]);
            }
            store_slab<32>(g, slab, row, place.y + 32 * s, t.batch());
        }
    }
}

#ifdef PQ_A_SIGNED
/* The grid is of whole clusters, as many as fit the device at once. The sizes of shared memory and of the boxes are in
 * pyquant/_cuda_gemm_plan.py and _cuda_tensor_map.py too. */
PQ_KERNEL __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(HOPPER_THREADS, 1)
    gemm_128x256_sm_90a(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b,
                        const pq_gemm g)
{
    HopperShared *shared = (HopperShared *)block_shared();
    if (thread_of_block() == 0) {
        prefetch_map(&map_a);
        prefetch_map(&map_b);
        for (int i = 0; i < STAGES; i++) {
            barrier_init(&shared->full[i], 1); /* the producer, with the bytes it expects */
            barrier_init(&shared->empty[i], CLUSTER * CONSUMER_WARPS);
        }
        barrier_init_done();
    }
    cluster_sync();
    /* Each role ends with the sync itself: a block must not leave while the other may still write to it. */
    if (thread_of_block() < 128) {
        fewer_registers<40>();
        if (thread_of_block() == 0) produce(g, &map_a, &map_b, shared);
        cluster_sync();
    } else {
        more_registers<232>();
        consume<PQ_A_SIGNED, PQ_B_SIGNED>(g, shared);
        cluster_sync();
    }
}
#endif
