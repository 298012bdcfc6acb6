/* Contiguous runs of elements, and 16 bytes of them at a time. */
#ifndef PQ_RUNS_CUH
#define PQ_RUNS_CUH

#include "elements.cuh"

template <class T> constexpr int PER_LOAD = 16 / T::SIZE;

template <class T> PQ_DEVICE Words<16> load_vector(const void *x, i64 i)
{
    return load_words<16>((const char *)x + i * T::SIZE);
}

/* How many elements after x[i] the next multiple of 16 bytes is. */
template <class T> PQ_DEVICE i64 loads_begin(const void *x, i64 i)
{
    return (i64)((0 - (u64)x) / T::SIZE - (u64)i & (u64)(PER_LOAD<T> - 1));
}

PQ_DEVICE i64 smaller(i64 a, i64 b) { return a < b ? a : b; }

PQ_DEVICE bool is_aligned(const void *p, u32 bytes) { return ((u64)p & (bytes - 1)) == 0; }

/* Runs of contiguous elements: run r is piece r % per_row of row r / per_row; pieces have `block` elements, the last of
 * a row maybe fewer. */
struct Runs {
    u32 count, per_row;
    i64 row, block;

    __device__ __forceinline__ i64 offset(u32 r) const
    {
        return per_row == 1 ? r * row : r / per_row * row + r % per_row * block;
    }

    __device__ __forceinline__ i64 length(u32 r) const
    {
        return smaller(per_row == 1 ? row : row - r % per_row * block, block);
    }
};

#define RUNS_PARAMETERS i64 count, i64 per_row, i64 row, i64 block
#define RUNS                                                                                                    \
    Runs { (u32)count, (u32)per_row, row, block }

#endif
