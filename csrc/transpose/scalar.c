#define ISA scalar
#include "../kernels.h"
#include "../simd/inline.h"
#include "plain.inc"

void pq_transpose_i8_scalar(const uint8_t *from, size_t rows, size_t columns, size_t from_stride, uint8_t *to,
                            size_t to_stride)
{
    transpose_plain(from, rows, columns, from_stride, to, to_stride);
}
