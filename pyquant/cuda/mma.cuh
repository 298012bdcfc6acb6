/* The matrix primitives of the GPU, one function each: a PTX body, and under PQ_HOST a C++ body that means the same,
 * so that tests run the kernels without a device. C++ bodies are slow and literal; copies that are asynchronous on the
 * device happen at their wait on the host, as late as the device may do them. */
#ifndef PQ_MMA_CUH
#define PQ_MMA_CUH

#include "primitives.cuh"

#ifdef PQ_HOST
#include <deque>
#ifndef PQ_ARCH
#define PQ_ARCH 800
#endif
#else
#define PQ_ARCH __CUDA_ARCH__
#endif

PQ_DEVICE int lane_id() { return (int)(threadIdx.x & 31); }
PQ_DEVICE int warp_id() { return (int)(threadIdx.x >> 5); }

#ifdef PQ_HOST
PQ_DEVICE int code_of(u32 word, int byte, bool is_signed)
{
    const u32 u = word >> (8 * byte) & 0xffu;
    return is_signed ? (int)(signed char)u : (int)u;
}
#else
PQ_DEVICE u32 shared_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }
#endif

/* sum of four byte products + c, modulo 2^32 */
template <bool SA, bool SB> PQ_DEVICE int dp4a(u32 a, u32 b, int c)
{
    int d;
#ifdef PQ_HOST
    u32 sum = (u32)c;
    for (int i = 0; i < 4; i++) sum += (u32)(code_of(a, i, SA) * code_of(b, i, SB));
    d = (int)sum;
#else
    if (SA && SB) asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    if (SA && !SB) asm("dp4a.s32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    if (!SA && SB) asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    if (!SA && !SB) asm("dp4a.u32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
#endif
    return d;
}

/* The same of 16 bytes. */
template <bool SA, bool SB> PQ_DEVICE int dot16(const uint4 &a, const uint4 &b, int c)
{
    c = dp4a<SA, SB>(a.x, b.x, c);
    c = dp4a<SA, SB>(a.y, b.y, c);
    c = dp4a<SA, SB>(a.z, b.z, c);
    return dp4a<SA, SB>(a.w, b.w, c);
}

/* Four 8x8 tiles of 16-bit pairs, which are 8 rows of 16 bytes: lane i names row i % 8 of tile i / 8, and receives in
 * r[j] the bytes 4 * (lane % 4) ... + 3 of row lane / 4 of tile j. */
PQ_DEVICE void ldmatrix_x4(u32 (&r)[4], const void *row)
{
#ifdef PQ_HOST
    const shim::Exchange<const void *> rows(~0u, row);
    for (int j = 0; j < 4; j++) {
        const char *source = (const char *)rows[(unsigned)(8 * j + lane_id() / 4)];
        memcpy(&r[j], source + 4 * (lane_id() % 4), 4);
    }
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

/* c += A B for A (16, 32), B (32, 8), modulo 2^32. With g = lane / 4, t = lane % 4 and words of four bytes along k:
 * a = A[g][4t], A[g + 8][4t], A[g][16 + 4t], A[g + 8][16 + 4t]; b = B[4t][g], B[16 + 4t][g];
 * c = C[g][2t], C[g][2t + 1], C[g + 8][2t], C[g + 8][2t + 1]. */
#ifdef PQ_HOST
template <bool SA, bool SB> PQ_DEVICE void mma_16x8x32(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1)
{
    struct Words {
        u32 a[4], b[2];
    };
    const shim::Exchange<Words> all(~0u, Words{{a[0], a[1], a[2], a[3]}, {b0, b1}});
    const int g = lane_id() / 4, t = lane_id() % 4;
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 4; k++) {
            const Words &row = all[(unsigned)(4 * g + k)], &column = all[(unsigned)(4 * (2 * t + i % 2) + k)];
            c[i] = dp4a<SA, SB>(row.a[i / 2], column.b[0], c[i]);
            c[i] = dp4a<SA, SB>(row.a[i / 2 + 2], column.b[1], c[i]);
        }
    }
}
#elif PQ_ARCH >= 800
#define PQ_MMA(ta, tb)                                                                                         \
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32." ta "." tb                                            \
                 ".s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                        \
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])                                              \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
template <bool SA, bool SB> PQ_DEVICE void mma_16x8x32(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1)
{
    if (SA && SB) PQ_MMA("s8", "s8");
    if (SA && !SB) PQ_MMA("s8", "u8");
    if (!SA && SB) PQ_MMA("u8", "s8");
    if (!SA && !SB) PQ_MMA("u8", "u8");
}
#undef PQ_MMA
#else /* Turing has m8n8k16, whose operands are single words of the above: four of them make one */
#define PQ_MMA(ta, tb)                                                                                         \
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32." ta "." tb ".s32 {%0, %1}, {%2}, {%3}, {%0, %1};"      \
                 : "+r"(c0), "+r"(c1)                                                                          \
                 : "r"(a), "r"(b))
template <bool SA, bool SB> PQ_DEVICE void mma_8x8x16(int &c0, int &c1, u32 a, u32 b)
{
    if (SA && SB) PQ_MMA("s8", "s8");
    if (SA && !SB) PQ_MMA("s8", "u8");
    if (!SA && SB) PQ_MMA("u8", "s8");
    if (!SA && !SB) PQ_MMA("u8", "u8");
}
#undef PQ_MMA
template <bool SA, bool SB> PQ_DEVICE void mma_16x8x32(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1)
{
    mma_8x8x16<SA, SB>(c[0], c[1], a[0], b0);
    mma_8x8x16<SA, SB>(c[2], c[3], a[1], b0);
    mma_8x8x16<SA, SB>(c[0], c[1], a[2], b1);
    mma_8x8x16<SA, SB>(c[2], c[3], a[3], b1);
}
#endif

/* cp.async: 16 bytes from global to shared memory past the registers, or 16 zeros without a look at the source.
 * cp_async_wait<N> waits for all groups but the last N of this thread. */
#ifdef PQ_HOST
struct pq_copy {
    void *to;
    const void *from;
    bool present;
};
static std::deque<std::vector<pq_copy>> pq_copies[1024]; /* per thread; its last group is open */
static u32 pq_waits[1024];

PQ_DEVICE void cp_async(void *to, const void *from, bool present)
{
    std::deque<std::vector<pq_copy>> &groups = pq_copies[threadIdx.x];
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({to, from, present});
}
PQ_DEVICE void cp_async_commit()
{
    std::deque<std::vector<pq_copy>> &groups = pq_copies[threadIdx.x];
    if (groups.empty()) groups.emplace_back();
    groups.emplace_back();
}
template <int PENDING> PQ_DEVICE void cp_async_wait()
{
    std::deque<std::vector<pq_copy>> &groups = pq_copies[threadIdx.x];
    /* Memory answers some warps later than others. */
    for (u32 turns = ((u32)warp_id() + pq_waits[threadIdx.x]++) % 4; turns; turns--) {
        shim::make_ready(shim::current->number);
        shim::wait();
    }
    while (groups.size() > (size_t)PENDING + 1) {
        for (const pq_copy &copy : groups.front()) {
            if (copy.present) memcpy(copy.to, copy.from, 16);
            else memset(copy.to, 0, 16);
        }
        groups.pop_front();
    }
}
#elif PQ_ARCH >= 800
PQ_DEVICE void cp_async(void *to, const void *from, bool present)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(present ? 16 : 0)
                 : "memory");
}
PQ_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> PQ_DEVICE void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
#endif

/* The sum of what the 32 lanes hold, in all of them. */
PQ_DEVICE int warp_sum(int x)
{
#if !defined(PQ_HOST) && PQ_ARCH >= 800
    return __reduce_add_sync(0xffffffffu, x);
#else
    u32 sum = (u32)x;
    for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    return (int)sum;
#endif
}

/* Four rows of four bytes become the four columns. */
PQ_DEVICE void transpose_4x4(u32 &row0, u32 &row1, u32 &row2, u32 &row3)
{
    const u32 low01 = __byte_perm(row0, row1, 0x5140), high01 = __byte_perm(row0, row1, 0x7362);
    const u32 low23 = __byte_perm(row2, row3, 0x5140), high23 = __byte_perm(row2, row3, 0x7362);
    row0 = __byte_perm(low01, low23, 0x5410);
    row1 = __byte_perm(low01, low23, 0x7632);
    row2 = __byte_perm(high01, high23, 0x5410);
    row3 = __byte_perm(high01, high23, 0x7632);
}

/* Ask for 128 bytes, which come to the second-level cache. */
PQ_DEVICE void prefetch_l2(const void *p)
{
#ifdef PQ_HOST
    (void)p;
#else
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
#endif
}

/* What another block wrote: from the second-level cache, past this multiprocessor's own. */
PQ_DEVICE int4 load_shared_by_blocks(const int4 *p)
{
#ifdef PQ_HOST
    return *p;
#else
    return __ldcg(p);
#endif
}

#endif
