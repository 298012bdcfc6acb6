/* The plan of a convolution, shared by its two ways of computing: as products of tiles, and channel by channel. */
#ifndef PQ_CONVOLUTION_H
#define PQ_CONVOLUTION_H

#include "epilogue.h"
#include "image.h"
#include "product.h"

struct pq_packed_convolution {
    size_t channels, outputs, groups, kernel[3]; /* channels and outputs of one group */
    pq_type type;
    const char *isa;
    pq_packed_matrix **matrix; /* of each group: (kernel, channels) by outputs; or NULL, and then */
    uint8_t *codes;            /* [kernel][all outputs], for depthwise convolution */
    size_t bytes;
};

/* What one thread does at a time: a band of rows of one image, for one group and some of its outputs. */
typedef struct {
    size_t image, group, part;
    size_t first[2], count[2]; /* of the result's planes and rows; count[0] is 1 where not all rows are there */
} pq_conv_unit;

typedef struct {
    const pq_convolution *v;
    const pq_packed_convolution *w;
    size_t out[3];
    pq_image_reader reader; /* but for `first` */
    pq_epilogue epilogue;
    size_t columns_at_once; /* of the result, that are finished together */
    size_t extent[3];       /* of what a unit reads */

    size_t *offset;         /* from where a result begins to the runs of `run` elements that it sees */
    size_t runs, run;

    /* as products of tiles */
    const pq_gemm_kernels *g;
    pq_chunks chunks;
    size_t a_size, a_stride, block;
    int32_t w_shift, w_zero;  /* w_zero with the shift, where all are equal */
    int w_zeros_vary, wide;
    int direct;               /* a row of the product is where the image was read to */

    /* depthwise */
    pq_depthwise_fn *depthwise;
    int16_t *taps;            /* [part of 64 channels][run][64] */
    int32_t *start;

    size_t images, groups, parts, bands[2];
    size_t units, tasks, space_bytes;
    char *space;
} pq_conv_job;

/* One thread's memory. */
typedef struct {
    char *image, *scratch, *rows, *codes;
    int32_t *acc, *sums;
    int64_t *wide;
    size_t bytes;
} pq_conv_space;
pq_conv_space pq_lay_out_convolution(const pq_conv_job *j, char *space);

/* Reads what the unit sees of some channels of x to s->image. */
void pq_read_unit(const pq_conv_job *j, const pq_conv_unit *u, size_t first_channel, size_t channels,
                  const pq_conv_space *s);

/* Where in it the unit's i-th result begins, in elements; counted in C order. */
static inline size_t pq_place_of(const pq_conv_job *j, const pq_conv_unit *u, size_t i)
{
    const size_t *stride = j->v->shape.stride, row = i / j->out[2];
    const size_t plane = row / u->count[1] * stride[0], line = row % u->count[1] * stride[1];
    return ((plane * j->extent[1] + line) * j->extent[2] + i % j->out[2] * stride[2]) * j->reader.pitch;
}

/* Accumulators of `pixels` pixels of an image from `first` on and of columns from output n0 on, to y. */
void pq_finish_pixels(const pq_conv_job *j, const pq_conv_space *s, const int32_t *acc, size_t stride, size_t image,
                      size_t first, size_t pixels, size_t n0, size_t columns);

void pq_convolve_tiles(const pq_conv_job *j, const pq_conv_unit *u, const pq_conv_space *s);
void pq_convolve_depthwise(const pq_conv_job *j, const pq_conv_unit *u, const pq_conv_space *s);

/* The whole number of products in one accumulator. */
size_t pq_convolution_k(const pq_convolution_shape *shape);
pq_status pq_check_shape(const pq_convolution_shape *shape);

#endif
