/* A piece of an image in the layout of convolutions: channels last, with its padding around it. */
#ifndef PQ_IMAGE_H
#define PQ_IMAGE_H

#include "kernels.h"

typedef struct {
    const pq_images *x;
    const size_t *size;                  /* of the image, three */
    pq_quantize_fn *quantize;            /* of float x, with these four */
    int32_t zero_point, qmin, qmax;
    int is_signed;                       /* codes of float x */
    pq_type to;                          /* PQ_I8, PQ_U8 or PQ_I16 */
    int32_t shift, pad;                  /* is added to codes; stands outside the image */
    size_t first, channels, repeat;      /* `channels` of them from `first` on, each `repeat` times */
    size_t pitch;                        /* elements from pixel to pixel; those after the channels are left alone */
    pq_transpose_fn *transpose;
} pq_image_reader;

/* The box of pixels from `begin` (which may be outside the image) of an image, to out; scratch has the pq_image_scratch
 * bytes of this reader or one of more channels. */
void pq_read_image(const pq_image_reader *r, size_t image, const ptrdiff_t begin[3], const size_t extent[3], void *out,
                   void *scratch);
size_t pq_image_scratch(const pq_image_reader *r);

#endif
