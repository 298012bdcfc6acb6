/* Kernels that wait for each other, right ones and ones with a barrier taken out; for tests/test_cuda_shim.py. */
#include "primitives.cuh"

/* The sum of every block of 256, by halves in shared memory. */
#define SUM_BLOCKS(NAME, FIRST, AGAIN)                                                                          \
    PQ_KERNEL NAME(const int *x, int *sums)                                                                     \
    {                                                                                                           \
        __shared__ int part[256];                                                                               \
        part[threadIdx.x] = x[blockIdx.x * 256 + threadIdx.x];                                                  \
        FIRST;                                                                                                  \
        for (unsigned half = 128; half; half /= 2) {                                                            \
            if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];                              \
            AGAIN;                                                                                              \
        }                                                                                                       \
        if (threadIdx.x == 0) sums[blockIdx.x] = part[0];                                                       \
    }
SUM_BLOCKS(sum_blocks, __syncthreads(), __syncthreads())
SUM_BLOCKS(sum_blocks_without_first, (void)0, __syncthreads())
SUM_BLOCKS(sum_blocks_without_again, __syncthreads(), (void)0)

/* A row goes round: each thread writes, all read what another wrote, and write again. */
#define ROTATE(NAME, WRITTEN, READ)                                                                             \
    PQ_KERNEL NAME(int *x, i64 times)                                                                           \
    {                                                                                                           \
        PQ_DYNAMIC_SHARED(int, row);                                                                            \
        int mine = x[threadIdx.x];                                                                              \
        for (i64 i = 0; i < times; i++) {                                                                       \
            row[threadIdx.x] = mine;                                                                            \
            WRITTEN;                                                                                            \
            mine = row[(threadIdx.x + 1) % blockDim.x];                                                         \
            READ;                                                                                               \
        }                                                                                                       \
        x[threadIdx.x] = mine;                                                                                  \
    }
ROTATE(rotate, __syncthreads(), __syncthreads())
ROTATE(rotate_without_written, (void)0, __syncthreads())
ROTATE(rotate_without_read, __syncthreads(), (void)0)

/* The same within a warp. */
#define ROTATE_WARP(NAME, WRITTEN, READ) ROTATE(NAME, WRITTEN, READ)
ROTATE_WARP(rotate_warp, __syncwarp(), __syncwarp())
ROTATE_WARP(rotate_warp_without_written, (void)0, __syncwarp())

PQ_KERNEL warp(const int *x, int *y)
{
    const int v = x[threadIdx.x], lane = threadIdx.x % 32;
    int *out = y + threadIdx.x * 12;
    out[0] = __shfl_sync(0xffffffffu, v, 5);
    out[1] = __shfl_xor_sync(0xffffffffu, v, 3);
    out[2] = __shfl_down_sync(0xffffffffu, v, 7u);
    out[3] = __shfl_up_sync(0xffffffffu, v, 9u);
    out[4] = __shfl_sync(0xffffffffu, v, lane + 1, 8);
    out[5] = (int)__ballot_sync(0xffffffffu, v & 1);
    out[6] = __any_sync(0xffffffffu, v == 77);
    out[7] = __all_sync(0xffffffffu, v < 1000);
    out[8] = __reduce_add_sync(0xffffffffu, v);
    out[9] = __reduce_max_sync(0xffffffffu, v);
    /* Halves of a warp that go their own ways. */
    if (lane < 16) out[10] = __reduce_min_sync(0x0000ffffu, v);
    else out[10] = __shfl_xor_sync(0xffff0000u, __shfl_xor_sync(0xffff0000u, v, 1), 2);
    __syncwarp();
    out[11] = __syncthreads_count(v & 1);
}

PQ_KERNEL total(const int *x, int *sum, unsigned *arrived, int *ends)
{
    __shared__ bool last;
    atomicAdd(sum, x[blockIdx.x * blockDim.x + threadIdx.x]);
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        last = atomicInc(arrived, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last) atomicMax(ends + threadIdx.x, *sum);
}

struct Operands {
    int a[4], b[2];
};

PQ_KERNEL mix(int *y)
{
    const int lane = threadIdx.x % 32;
    int sum = 0;
    Operands mine;
    for (int i = 0; i < 4; i++) mine.a[i] = lane * 10 + i;
    for (int i = 0; i < 2; i++) mine.b[i] = (int)threadIdx.x + i;
    for (int round = 0; round < 3; round++) {
        const shim::Exchange<Operands> all(0xffffffffu, mine);
        for (int other = 0; other < 32; other++)
            sum = (int)((unsigned)sum + (unsigned)all[other].a[3] * (unsigned)all[other].b[1]);
        mine.b[1] = (int)((unsigned)mine.b[1] + (unsigned)sum);
    }
    y[threadIdx.x] = sum;
}

PQ_KERNEL half_a_warp(int *x)
{
    if (threadIdx.x % 32 < 16) __syncwarp();
    else __syncthreads();
    x[threadIdx.x] = 1;
}

PQ_KERNEL two_masks(int *x) { x[threadIdx.x] = __shfl_sync(threadIdx.x % 32 < 16 ? 0xffffffffu : 0xffff0000u, 1, 20); }

PQ_KERNEL a_lane_that_left(int *x)
{
    if (threadIdx.x != 3) x[threadIdx.x] = (int)__ballot_sync(0xffffffffu, 1);
}

PQ_KERNEL not_in_its_mask(int *x) { x[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 2); }

PQ_KERNEL reverse(u8 *y)
{
    PQ_DYNAMIC_SHARED(u8, s);
    for (u32 i = threadIdx.x; i < 100000; i += blockDim.x) s[i] = (u8)(i * 7);
    __syncthreads();
    for (u32 i = threadIdx.x; i < 100000; i += blockDim.x) y[i] = s[99999 - i];
}
