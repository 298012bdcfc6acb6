/* The specification: one product and one addition at a time. */
#define ISA scalar
#include "../kernels.h"
#include "../simd/inline.h"

void pq_depthwise_i16_scalar(const int16_t *a, size_t a_stride, const size_t *offset, size_t taps, const int16_t *w,
                             size_t w_stride, size_t pixels, size_t channels, const int32_t *start, int32_t *c,
                             size_t c_stride)
{
    for (size_t p = 0; p < pixels; p++)
        for (size_t j = 0; j < channels; j++) {
            uint32_t sum = (uint32_t)(start ? start[j] : c[p * c_stride + j]);
            for (size_t i = 0; i < taps; i++)
                sum += (uint32_t)((int32_t)a[p * a_stride + offset[i] + j] * w[i * w_stride + j]);
            c[p * c_stride + j] = (int32_t)sum;
        }
}
