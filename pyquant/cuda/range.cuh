/* Ranges of float data: what a thread keeps of it, how threads put theirs together, and what a range becomes. Minima
 * and maxima do not depend on the order in which they are taken, so nothing here has one. */
#ifndef PQ_RANGE_CUH
#define PQ_RANGE_CUH

#include "elements.cuh"
#include "runs.cuh"

#define PQ_INFINITY __int_as_float(0x7f800000)
#define PQ_NAN __int_as_float(0x7fffffff)

/* The smallest and largest finite ones seen, rounded to float32 (which is monotone); `poison` is 0 as long as all were
 * finite. x + x * 0 is NaN where x is not finite, and minimum and maximum pass over NaN: four instructions an
 * element. */
template <class T> struct Range {
    float low = PQ_INFINITY, high = -PQ_INFINITY;
    typename T::value poison = 0;

    __device__ __forceinline__ void see(typename T::value x)
    {
        const typename T::value zero = 0, finite = fma(x, zero, x);
        low = fminf(low, (float)finite);
        high = fmaxf(high, (float)finite);
        poison = fma(finite, zero, poison);
    }

    __device__ __forceinline__ void see_vector(const Words<16> &v)
    {
#pragma unroll
        for (int k = 0; k < PER_LOAD<T>; k++) see(T::get(v, k));
    }
};

/* A range that lanes share. */
struct Bounds {
    float low, high;
    bool bad;
};

/* Over `lanes` neighbouring lanes of a warp, a power of two; every one of them gets the result. All lanes of the warp
 * must call. */
PQ_DEVICE Bounds among(Bounds b, int lanes)
{
    for (int apart = lanes / 2; apart > 0; apart /= 2) {
        b.low = fminf(b.low, __shfl_xor_sync(~0u, b.low, apart));
        b.high = fmaxf(b.high, __shfl_xor_sync(~0u, b.high, apart));
    }
    const u32 first = threadIdx.x % 32 & ~(u32)(lanes - 1), votes = __ballot_sync(~0u, b.bad) >> first;
    b.bad = (votes & ~0u >> (32 - lanes)) != 0;
    return b;
}

/* Over the block, of whole warps; every thread gets the result. All threads must call, once in a kernel. */
PQ_DEVICE Bounds among_block(Bounds b)
{
    __shared__ Bounds found[32];
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    b = among(b, 32);
    if (lane == 0) found[warp] = b;
    __syncthreads();
    return among(found[lane < warps ? lane : 0], 32);
}

/* `lanes` as above, or the whole block where it is more than 32. */
PQ_DEVICE Bounds among_group(Bounds b, int lanes) { return lanes > 32 ? among_block(b) : among(b, lanes); }

struct Scale {
    float scale;
    int zero_point;
};

/* Without synchronisation there is no exception: a range that is not finite gives a scale of NaN, and with it codes
 * that dequantize to NaN. */
PQ_DEVICE Scale scale_of(Bounds b, bool affine, int qmin, int qmax)
{
    float scale = PQ_NAN;
    int zero_point = pq_symmetric_zero_point(qmin, qmax);
    if (b.low > b.high) b.low = b.high = 0.0f;
    if (!b.bad && b.low >= -PQ_LARGEST_FLOAT && b.high <= PQ_LARGEST_FLOAT) {
        if (affine) pq_affine_params(b.low, b.high, qmin, qmax, &scale, &zero_point);
        else scale = pq_symmetric_scale(fmaxf(-b.low, b.high), (float)(qmax - zero_point));
    }
    const Scale s = {scale, zero_point};
    return s;
}

#endif
