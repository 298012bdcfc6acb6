/* Weights prepared once: pq_pack_convolution. */
#include <stdlib.h>
#include <string.h>

#include "convolution.h"

enum {
    FEW_OUTPUTS = 4,         /* for each single channel, up to which products of tiles would be mostly empty */
    MOST_TAPS = 1 << 14      /* int32 holds the sum of so many products */
};

static size_t taps_of(const size_t kernel[3]) { return kernel[0] * kernel[1] * kernel[2]; }

size_t pq_convolution_k(const pq_convolution_shape *s) { return taps_of(s->kernel) * (s->channels / s->groups); }

/* (kernel, channels) of each output in one group, in this order. */
static void reorder(const pq_images *w, const pq_packed_convolution *p, size_t group, uint8_t *codes)
{
    for (size_t n = 0; n < p->outputs; n++)
        for (size_t d = 0; d < p->kernel[0]; d++)
            for (size_t h = 0; h < p->kernel[1]; h++)
                for (size_t i = 0; i < p->kernel[2]; i++) {
                    const ptrdiff_t place = (ptrdiff_t)(group * p->outputs + n) * w->image_stride +
                                            (ptrdiff_t)d * w->stride[0] + (ptrdiff_t)h * w->stride[1] +
                                            (ptrdiff_t)i * w->stride[2];
                    const uint8_t *from = (const uint8_t *)w->data + place;
                    for (size_t c = 0; c < p->channels; c++, from += w->channel_stride) *codes++ = *from;
                }
}

static pq_status pack_groups(pq_packed_convolution *p, const pq_images *w)
{
    const size_t k = taps_of(p->kernel) * p->channels;
    uint8_t *const codes = (uint8_t *)malloc(p->outputs * k + 1);
    p->matrix = (pq_packed_matrix **)calloc(p->groups, sizeof *p->matrix);
    pq_status status = codes && p->matrix ? PQ_OK : PQ_ERROR_MEMORY;
    for (size_t g = 0; g < p->groups && status == PQ_OK; g++) {
        reorder(w, p, g, codes);
        const pq_matrix b = {codes, p->type, 1, (ptrdiff_t)k, NULL, 0, NULL, 0};
        status = pq_pack_matrix(&b, k, p->outputs, 0, &p->matrix[g]);
        if (status == PQ_OK) p->bytes += p->matrix[g]->bytes;
    }
    free(codes);
    return status;
}

/* Channels next to each other, as they are multiplied. */
static pq_status pack_depthwise(pq_packed_convolution *p, const pq_images *w)
{
    const size_t n = p->groups * p->outputs, taps = taps_of(p->kernel);
    p->codes = (uint8_t *)malloc(n * taps + 1);
    if (p->codes == NULL) return PQ_ERROR_MEMORY;
    p->bytes += n * taps;
    uint8_t *to = p->codes;
    for (size_t d = 0; d < p->kernel[0]; d++)
        for (size_t h = 0; h < p->kernel[1]; h++)
            for (size_t i = 0; i < p->kernel[2]; i++)
                for (size_t o = 0; o < n; o++)
                    *to++ = ((const uint8_t *)w->data)[(ptrdiff_t)o * w->image_stride + (ptrdiff_t)d * w->stride[0] +
                                                       (ptrdiff_t)h * w->stride[1] + (ptrdiff_t)i * w->stride[2]];
    return PQ_OK;
}

pq_status pq_pack_convolution(const pq_convolution_shape *shape, const pq_images *w, pq_packed_convolution **packed)
{
    if (shape == NULL || w == NULL || packed == NULL) return PQ_ERROR_ARGUMENT;
    if (w->type != PQ_I8 && w->type != PQ_U8) return PQ_ERROR_ARGUMENT;
    pq_status status = pq_check_shape(shape);
    if (status != PQ_OK) return status;
    if (w->data == NULL && shape->outputs * pq_convolution_k(shape) != 0) return PQ_ERROR_ARGUMENT;
    pq_packed_convolution *const p = (pq_packed_convolution *)calloc(1, sizeof *p);
    if (p == NULL) return PQ_ERROR_MEMORY;
    p->groups = shape->groups;
    p->channels = shape->channels / shape->groups;
    p->outputs = shape->outputs / shape->groups;
    memcpy(p->kernel, shape->kernel, sizeof p->kernel);
    p->type = w->type;
    p->isa = pq_gemm_isa();
    const int alone = p->groups > 1 && p->channels == 1;
    const int depthwise = alone && p->outputs <= FEW_OUTPUTS && taps_of(p->kernel) <= MOST_TAPS;
    status = depthwise ? pack_depthwise(p, w) : pack_groups(p, w);
    if (status != PQ_OK) {
        pq_free_packed_convolution(p);
        return status;
    }
    *packed = p;
    return PQ_OK;
}

void pq_free_packed_convolution(pq_packed_convolution *packed)
{
    if (packed == NULL) return;
    if (packed->matrix)
        for (size_t g = 0; g < packed->groups; g++) pq_free_packed_matrix(packed->matrix[g]);
    free(packed->matrix);
    free(packed->codes);
    free(packed);
}

size_t pq_packed_convolution_bytes(const pq_packed_convolution *packed) { return packed ? packed->bytes : 0; }
const char *pq_packed_convolution_isa(const pq_packed_convolution *packed) { return packed ? packed->isa : NULL; }
