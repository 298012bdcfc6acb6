/* Convolutions whose groups have one channel: nothing to multiply matrices for. Channels are worked on next to each
 * other, in parts of columns_at_once outputs; codes and weights have their zero points taken away and are int16. */
#include "convolution.h"

void pq_convolve_depthwise(const pq_conv_job *j, const pq_conv_unit *u, const pq_conv_space *s)
{
    const pq_convolution_shape *shape = &j->v->shape;
    const size_t part = j->columns_at_once, repeat = j->reader.repeat, pitch = j->reader.pitch;
    const size_t n0 = u->part * part, columns = pq_smaller(part, shape->outputs - n0);
    const int16_t *const w = j->taps + u->part * j->runs * pitch;
    const int32_t *const start = j->start + u->part * pitch;
    const size_t channels = pq_round_up(columns, PQ_DEPTHWISE_CHANNELS), width = j->out[2];
    const size_t rows = u->count[0] * u->count[1], at_once = j->block / width;
    pq_read_unit(j, u, n0 / repeat, columns / repeat, s);
    const int16_t *const image = (const int16_t *)(const void *)s->image;
    for (size_t r = 0; r < rows; r += at_once) {
        const size_t some = pq_smaller(at_once, rows - r);
        for (size_t i = 0; i < some; i++) {
            const int16_t *const from = image + pq_place_of(j, u, (r + i) * width);
            int32_t *const acc = s->acc + i * width * pitch;
            for (size_t t = 0; t < j->runs; t += PQ_DEPTHWISE_TAPS)
                j->depthwise(from, shape->stride[2] * pitch, j->offset + t, pq_smaller(j->runs - t, PQ_DEPTHWISE_TAPS),
                             w + t * pitch, pitch, width, channels, t == 0 ? start : NULL, acc, pitch);
        }
        if (s->wide) pq_widen_tile(s->acc, pitch, some * width, columns, 0, s->wide);
        const size_t first = (u->first[0] * j->out[1] + u->first[1] + r) * width;
        pq_finish_pixels(j, s, s->acc, pitch, u->image, first, some * width, n0, columns);
    }
}
