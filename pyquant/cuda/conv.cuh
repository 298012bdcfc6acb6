/* What the kernels of convolutions share: where the pixels lie that one result is made of.
 *
 * An image is laid with channels last and its padding around it: bytes (image, d, h, w, channel), each pixel a whole
 * number of chunks of 16 bytes. Row m of the matrix A is the pixel of the result with that number, and along K run the
 * elements of the kernel, each with its channels: the chunk for (m, k) is the sum of a place for m and a place for
 * k, and nothing asks where the image ends. */
#ifndef PQ_CONV_CUH
#define PQ_CONV_CUH

#include "gemm.cuh"

/* A number below 2^31 in a mixed radix, and what a step of each digit is worth, the lowest digit first; the last one has
 * no bound. pyquant/_cuda_convolution.py has the same layout. */
struct Odometer {
    u32 bound[3];
    Divisor by[3];
    u32 worth[4];
};

PQ_DEVICE u32 read_odometer(const Odometer &o, u32 n)
{
    u32 sum = 0;
#pragma unroll
    for (int i = 0; i < 3; i++) {
        const u32 rest = n / o.by[i];
        sum += (n - rest * o.bound[i]) * o.worth[i];
        n = rest;
    }
    return sum + n * o.worth[3];
}

/* Places in chunks, of results (w, h, d, image) and along K (chunk of channels, w, h, d). */
struct pq_gather {
    Odometer result, kernel;
    u32 first; /* chunk of K that a launch begins with */
    u32 pixels; /* results of one channel of one image */
    Divisor by_pixels;
    i64 image; /* elements from image to image, where the result has channels first; g.ldc are those from channel to
                  channel then */
};

#endif
