/* What only sm_90a has: clusters of blocks, barriers in shared memory that count bytes, the copy engine with its tensor
 * maps, and matrix products of a warpgroup out of shared memory. Each has a PTX body and a C++ body, as in mma.cuh.
 *
 * On the host a cluster is one block of the shim, with the threads of both its blocks and a copy of shared memory for
 * each. Copies arrive in any order and as late as a wait allows; a product reads shared memory when it is waited for. */
#ifndef PQ_HOPPER_CUH
#define PQ_HOPPER_CUH

#include "gemm.cuh"

#ifdef PQ_HOST
#include <vector>
#define __cluster_dims__(...)
#define __grid_constant__
#endif

static constexpr int CLUSTER = 2, HOPPER_THREADS = 384;

/* ---- blocks of a cluster ---- */

#ifdef PQ_HOST
static constexpr int HOST_SHARED = 227 << 10;
alignas(1024) static char pq_host_shared[CLUSTER][HOST_SHARED];

PQ_DEVICE int cluster_rank() { return (int)threadIdx.x / HOPPER_THREADS; }
PQ_DEVICE int cluster_number() { return (int)blockIdx.x; }
PQ_DEVICE int cluster_count() { return (int)gridDim.x; }
PQ_DEVICE int thread_of_block() { return (int)threadIdx.x % HOPPER_THREADS; }
PQ_DEVICE char *block_shared() { return pq_host_shared[cluster_rank()]; }
PQ_DEVICE void cluster_sync() { __syncthreads(); }
PQ_DEVICE void block_sync() { __syncthreads(); }
PQ_DEVICE u32 shared_address(const void *p) { return (u32)((const char *)p - block_shared()); }
#else
PQ_DEVICE int cluster_rank()
{
    int rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
PQ_DEVICE int cluster_number() { return (int)blockIdx.x / CLUSTER; }
PQ_DEVICE int cluster_count() { return (int)gridDim.x / CLUSTER; }
PQ_DEVICE int thread_of_block() { return (int)threadIdx.x; }
PQ_DEVICE char *block_shared() /* tiles that the copy engine swizzles begin on multiples of 1024 bytes */
{
    extern __shared__ __align__(1024) char pq_block_shared[];
    return pq_block_shared;
}
/* What a thread of either block wrote before, also to barriers, is seen by all after. */
PQ_DEVICE void cluster_sync()
{
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
PQ_DEVICE void block_sync() { __syncthreads(); }
#endif

/* ---- barriers: a phase ends when `count` arrivals have come and no announced byte is missing ---- */

struct Barrier {
    u64 state;
};

#ifdef PQ_HOST
struct HostBarrier {
    unsigned short count, pending;
    signed bytes : 31;
    unsigned phase : 1;
};
static_assert(sizeof(HostBarrier) == sizeof(Barrier), "in the place of a barrier");

struct HostCopy { /* of the copy engine, on its way */
    const char *from;
    char *to;
    long long rows_left, bytes_left, pitch;
    int rows;
    HostBarrier *barrier;
};
static std::vector<HostCopy> pq_copies_underway;

PQ_DEVICE void settle(HostBarrier *b)
{
    if (b->pending == 0 && b->bytes == 0) {
        b->phase ^= 1;
        b->pending = b->count;
    }
}
PQ_DEVICE u32 swizzled_128(u32 address) { return address ^ (address >> 7 & 7) << 4; }

/* One of the copies that are on their way arrives: rows of 128 bytes, zeros beyond the tensor. */
PQ_DEVICE void arrive_one()
{
    const unsigned which = shim::random_below((unsigned)pq_copies_underway.size());
    const HostCopy copy = pq_copies_underway[which];
    pq_copies_underway[which] = pq_copies_underway.back();
    pq_copies_underway.pop_back();
    char *const base = pq_host_shared[(copy.to - pq_host_shared[0]) / HOST_SHARED];
    const u32 to = (u32)(copy.to - base);
    for (int r = 0; r < copy.rows; r++) {
        for (int i = 0; i < 128; i++) {
            const bool inside = r < copy.rows_left && i < copy.bytes_left;
            base[swizzled_128(to + 128 * (u32)r + (u32)i)] = inside ? copy.from[r * copy.pitch + i] : (char)0;
        }
    }
    copy.barrier->bytes -= 128 * copy.rows;
    settle(copy.barrier);
}

PQ_DEVICE void barrier_init(Barrier *b, int count)
{
    *(HostBarrier *)b = {(unsigned short)count, (unsigned short)count, 0, 0};
}
PQ_DEVICE void barrier_init_done() {}
PQ_DEVICE void barrier_arrive(Barrier *b, int rank)
{
    HostBarrier *const h = (HostBarrier *)(pq_host_shared[rank] + shared_address(b));
    if (h->pending == 0) shim::fail("more arrivals at a barrier than it counts");
    h->pending--;
    settle(h);
}
PQ_DEVICE void barrier_expect(Barrier *b, int bytes)
{
    ((HostBarrier *)b)->bytes += bytes;
    barrier_arrive(b, cluster_rank());
}
PQ_DEVICE void barrier_wait(Barrier *b, int parity)
{
    for (int turns = 0; (int)((HostBarrier *)b)->phase == parity; turns++) {
        if (turns > 100000) shim::fail("a barrier in shared memory is waited for in vain");
        if (!pq_copies_underway.empty() && shim::random_below(4) == 0) arrive_one();
        shim::make_ready(shim::current->number);
        shim::wait();
    }
}
#else
PQ_DEVICE void barrier_init(Barrier *b, int count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count) : "memory");
}
/* Before the copy engine and the other block use them; a cluster_sync follows. */
PQ_DEVICE void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
/* Arrivals and waits are in the order of the block's memory alone, as those of CUTLASS are: what they hand over is read
 * by wgmma and written by the copy engine, both complete by then. In the order of the cluster's memory every piece
 * would cost a fence of the whole device's memory and the first-level cache.
 *
 * One arrival at the barrier that stands in the same place in block `rank`. */
PQ_DEVICE void barrier_arrive(Barrier *b, int rank)
{
    asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(shared_address(b)),
                 "r"(rank)
                 : "memory");
}
/* One arrival, and so many bytes more to come in this phase. */
PQ_DEVICE void barrier_expect(Barrier *b, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
                 : "memory");
}
/* Until the phase of this parity has ended; the one before the first has parity 1. */
PQ_DEVICE void barrier_wait(Barrier *b, int parity)
{
    asm volatile("{\n.reg .pred done;\nagain:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n}" ::"r"(shared_address(b)),
                 "r"(parity)
                 : "memory");
}
#endif

/* ---- the copy engine ---- */

/* A tensor of bytes (batches, rows, k) and a box of it, 128 bytes of so many rows. */
#ifdef PQ_HOST
struct alignas(64) TensorMap { /* tests fill it */
    const char *data;
    long long k, rows, batches, pitch, batch_pitch;
    int box_rows;
    char unused[76];
};
#else
struct alignas(64) TensorMap {
    u64 opaque[16];
};
#endif
static_assert(sizeof(TensorMap) == 128, "what cuTensorMapEncodeTiled fills");

/* The box at (batch, row, k), zeros where the tensor has none, to shared memory, with 16-byte columns exclusive-ored by
 * the row modulo 8; the barrier is told. */
#ifdef PQ_HOST
PQ_DEVICE void copy_box(int rank, void *to, const TensorMap *map, int k, int row, int batch, Barrier *barrier)
{
    pq_copies_underway.push_back({map->data + batch * map->batch_pitch + row * map->pitch + k,
                                  pq_host_shared[rank] + shared_address(to), map->rows - row, map->k - k, map->pitch,
                                  map->box_rows, (HostBarrier *)(pq_host_shared[rank] + shared_address(barrier))});
}
#endif
PQ_DEVICE void load_box(void *to, const TensorMap *map, int k, int row, int batch, Barrier *barrier)
{
#ifdef PQ_HOST
    copy_box(cluster_rank(), to, map, k, row, batch, barrier);
#else
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(to)),
                 "l"(map), "r"(k), "r"(row), "r"(batch), "r"(shared_address(barrier))
                 : "memory");
#endif
}
/* The same to both blocks, whose barriers in this place are told. */
PQ_DEVICE void load_box_for_both(void *to, const TensorMap *map, int k, int row, int batch, Barrier *barrier)
{
#ifdef PQ_HOST
    for (int rank = 0; rank < CLUSTER; rank++) copy_box(rank, to, map, k, row, batch, barrier);
#else
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
                 " [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(shared_address(to)),
                 "l"(map), "r"(k), "r"(row), "r"(batch), "r"(shared_address(barrier)), "h"((u16)((1 << CLUSTER) - 1))
                 : "memory");
#endif
}

PQ_DEVICE void prefetch_map(const TensorMap *map)
{
#ifdef PQ_HOST
    (void)map;
#else
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#endif
}

/* ---- products of a warpgroup ---- */

/* Describes an operand to wgmma: rows of 128 bytes along K, swizzled as load_box does, eight of them every 1024 bytes. A
 * step of 32 bytes along K is one of 32 in the address: the hardware swizzles the sum. */
PQ_DEVICE u64 operand(const void *p)
{
    return (u64)(shared_address(p) >> 4 & 0x3fff) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

template <int REGISTERS> PQ_DEVICE void more_registers()
{
#ifndef PQ_HOST
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
#endif
}
template <int REGISTERS> PQ_DEVICE void fewer_registers()
{
#ifndef PQ_HOST
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
#endif
}

/* c += A B, modulo 2^32, for A (64, 32), B (256, 32) along K: warp w of the four has the rows from
 * 16 w, and c[j] is columns 8 j ... + 7 of them as in mma_16x8x32. It runs on its own; wgmma_wait<N> waits for all groups
 * but the last N. */
#ifdef PQ_HOST
struct HostProduct {
    int (*c)[4];
    u64 a, b;
    bool a_signed, b_signed;
};
static std::deque<std::vector<HostProduct>> pq_products[CLUSTER * HOPPER_THREADS]; /* per thread; the last is open */

PQ_DEVICE u32 operand_word(u64 description, int row, int k)
{
    const u32 start = (u32)(description & 0x3fff) << 4, stride = (u32)(description >> 32 & 0x3fff) << 4;
    u32 word;
    if (description >> 62 != 1) shim::fail("an operand is not described as swizzled over 128 bytes");
    const u32 place = start + (u32)(row / 8) * stride + (u32)(row % 8) * 128 + (u32)k;
    memcpy(&word, block_shared() + swizzled_128(place), 4);
    return word;
}
template <bool SA, bool SB> PQ_DEVICE void multiply_now(const HostProduct &p)
{
    const int row = warp_id() % 4 * 16 + lane_id() / 4, column = 2 * (lane_id() % 4);
    u32 a[2][8], b[8];
    for (int i = 0; i < 16; i++) a[i / 8][i % 8] = operand_word(p.a, row + 8 * (i / 8), 4 * (i % 8));
    for (int i = 0; i < 64; i++) {
        const int n = 8 * (i / 2) + column + i % 2;
        for (int k = 0; k < 8; k++) b[k] = operand_word(p.b, n, 4 * k);
        for (int j = 0; j < 2; j++) {
            int &c = p.c[i / 2][2 * j + i % 2];
            for (int k = 0; k < 8; k++) c = dp4a<SA, SB>(a[j][k], b[k], c);
        }
    }
}
PQ_DEVICE void wgmma_fence() {}
PQ_DEVICE void wgmma_commit() { pq_products[threadIdx.x].emplace_back(); }
template <int PENDING> PQ_DEVICE void wgmma_wait()
{
    std::deque<std::vector<HostProduct>> &groups = pq_products[threadIdx.x];
    while (groups.size() > (size_t)PENDING + 1) {
        for (const HostProduct &p : groups.front()) {
            if (p.a_signed) p.b_signed ? multiply_now<true, true>(p) : multiply_now<true, false>(p);
            else p.b_signed ? multiply_now<false, true>(p) : multiply_now<false, false>(p);
        }
        groups.pop_front();
    }
    __syncwarp(); /* the instruction is the whole warp's */
}
template <bool SA, bool SB> PQ_DEVICE void wgmma_64x256x32(int (&c)[32][4], u64 a, u64 b)
{
    std::deque<std::vector<HostProduct>> &groups = pq_products[threadIdx.x];
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({c, a, b, SA, SB});
}
#else
PQ_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
PQ_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING> PQ_DEVICE void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#define PQ_REGISTERS_4(j) "+r"(c[j][0]), "+r"(c[j][1]), "+r"(c[j][2]), "+r"(c[j][3])
#define PQ_REGISTERS_16(j) PQ_REGISTERS_4(j), PQ_REGISTERS_4(j + 1), PQ_REGISTERS_4(j + 2), PQ_REGISTERS_4(j + 3)
#define PQ_WGMMA(ta, tb) \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                                         \
                 "wgmma.mma_async.sync.aligned.m64n256k32.s32." ta "." tb " {"                                      \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                           \
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                 \
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                 \
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "                 \
                 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                 \
                 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                 \
                 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "     \
                 "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, %128, %129, p;\n}" \
                 : PQ_REGISTERS_16(0), PQ_REGISTERS_16(4), PQ_REGISTERS_16(8), PQ_REGISTERS_16(12),                 \
                   PQ_REGISTERS_16(16), PQ_REGISTERS_16(20), PQ_REGISTERS_16(24), PQ_REGISTERS_16(28)               \
                 : "l"(a), "l"(b))
template <bool SA, bool SB> PQ_DEVICE void wgmma_64x256x32(int (&c)[32][4], u64 a, u64 b)
{
    if (SA && SB) PQ_WGMMA("s8", "s8");
    if (SA && !SB) PQ_WGMMA("s8", "u8");
    if (!SA && SB) PQ_WGMMA("u8", "s8");
    if (!SA && !SB) PQ_WGMMA("u8", "u8");
}
#undef PQ_WGMMA
#undef PQ_REGISTERS_16
#undef PQ_REGISTERS_4
#endif

#endif
