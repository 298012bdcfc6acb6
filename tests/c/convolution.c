/* pq_convolve against the definition, one product at a time: random shapes, layouts, zero points and results, every operand and the
 * result right beside pages that nobody may touch, under every instruction set and on 1, 2 and 5 threads.
 *
 *   convolution [how many shapes]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

effort run_effort = {64, 64, 1, 1, 0};

enum { MOST_BYTES = 1 << 20 };
static arena x_place, w_place, y_place, bias_place;

typedef struct {
    pq_convolution v;
    size_t out[3], pixels, k, y_count;
    int32_t x_zero, w_zero[64];
    float w_scale[64], x_scale;
    int channels_last;
} problem;

static int32_t code_at(const void *data, pq_type type, ptrdiff_t at)
{
    return type == PQ_I8 ? ((const int8_t *)data)[at] : ((const uint8_t *)data)[at];
}

static int64_t one_sum(const problem *p, size_t image, size_t o, const size_t at[3])
{
    const pq_convolution_shape *s = &p->v.shape;
    const size_t channels = s->channels / s->groups, group = o / (s->outputs / s->groups);
    int64_t sum = p->v.y.bias && p->v.y.type != PQ_F32 ? ((const int32_t *)p->v.y.bias)[o] : 0;
    size_t i[3];
    for (i[0] = 0; i[0] < s->kernel[0]; i[0]++)
        for (i[1] = 0; i[1] < s->kernel[1]; i[1]++)
            for (i[2] = 0; i[2] < s->kernel[2]; i[2]++) {
                ptrdiff_t from = (ptrdiff_t)image * p->v.x.image_stride, w = (ptrdiff_t)o * p->v.w.image_stride;
                int inside = 1;
                for (int d = 0; d < 3; d++) {
                    const ptrdiff_t place = (ptrdiff_t)(at[d] * s->stride[d] + i[d] * s->dilation[d]) - (ptrdiff_t)s->before[d];
                    inside &= place >= 0 && place < (ptrdiff_t)s->size[d];
                    from += place * p->v.x.stride[d];
                    w += (ptrdiff_t)i[d] * p->v.w.stride[d];
                }
                for (size_t c = 0; c < channels && inside; c++)
                    sum += (int64_t)(code_at(p->v.x.data, p->v.x.type, from + (ptrdiff_t)(group * channels + c) * p->v.x.channel_stride) - p->x_zero) *
                           (code_at(p->v.w.data, p->v.w.type, w + (ptrdiff_t)c * p->v.w.channel_stride) -
                            p->w_zero[p->v.w.zero_points == 1 ? 0 : o]);
            }
    return sum;
}

static int right(const problem *p, size_t image, size_t o, size_t pixel, const void *got)
{
    const size_t at[3] = {pixel / p->out[2] / p->out[1], pixel / p->out[2] % p->out[1], pixel % p->out[2]};
    const int32_t sum = (int32_t)one_sum(p, image, o, at);
    const float scale = p->x_scale * p->w_scale[p->v.w.scales == 1 ? 0 : o];
    const pq_params params = {&scale, &p->v.y.zero_point, p->v.y.qmin, p->v.y.qmax};
    const pq_layout one = {1, 1, 1, 0};
    if (p->v.y.type == PQ_I32) return memcmp(got, &sum, 4) == 0;
    if (p->v.y.type == PQ_F32) {
        float y = (float)sum * scale;
        if (p->v.y.bias) y = y + ((const float *)p->v.y.bias)[o];
        y = y < p->v.y.low ? p->v.y.low : y > p->v.y.high ? p->v.y.high : y;
        return memcmp(got, &y, 4) == 0;
    }
    const float multiplier = scale / p->v.y.scale;
    pq_params to = params;
    to.scale = &multiplier;
    int16_t code = 0;
    pq_requantize(&sum, &code, p->v.y.type, &one, &to, p->v.y.mode);
    return memcmp(got, &code, size_of_type(p->v.y.type)) == 0;
}

static void random_shape(problem *p, rng *r)
{
    pq_convolution_shape *s = &p->v.shape;
    const int dimensions = 1 + (int)random_below(r, 3), alone = random_below(r, 3) == 0;
    s->images = 1 + random_below(r, 2);
    s->groups = alone ? 2 + random_below(r, 10) : 1 + random_below(r, 2);
    s->channels = s->groups * (alone ? 1 : 1 + random_below(r, 9));
    s->outputs = s->groups * (1 + random_below(r, alone ? 5 : 20));
    p->pixels = p->k = 1;
    for (int d = 0; d < 3; d++) {
        const int there = d >= 3 - dimensions;
        s->kernel[d] = there ? 1 + random_below(r, 3) : 1;
        s->stride[d] = there ? 1 + random_below(r, 3) : 1;
        s->dilation[d] = there ? 1 + random_below(r, 2) : 1;
        s->before[d] = there ? random_below(r, 3) : 0;
        s->after[d] = there ? random_below(r, 3) : 0;
        s->size[d] = there ? s->dilation[d] * (s->kernel[d] - 1) + 1 + random_below(r, 8) : 1;
        p->out[d] = pq_convolution_size(s, d);
        p->pixels *= p->out[d];
        p->k *= s->kernel[d];
    }
    p->k *= s->channels / s->groups;
}

/* Strides of an array (images, channels, ...), channels last or not. */
static size_t arrange(pq_images *a, size_t images, size_t channels, const size_t size[3], int last)
{
    a->channel_stride = last ? 1 : (ptrdiff_t)(size[0] * size[1] * size[2]);
    a->stride[2] = last ? (ptrdiff_t)channels : 1;
    a->stride[1] = (ptrdiff_t)size[2] * a->stride[2];
    a->stride[0] = (ptrdiff_t)size[1] * a->stride[1];
    a->image_stride = (ptrdiff_t)(channels * size[0] * size[1] * size[2]);
    return images * (size_t)a->image_stride;
}

static unsigned char *random_bytes(rng *r, const arena *at, size_t n, int side)
{
    unsigned char *const data = place(at, n, 0, side);
    for (size_t i = 0; i < n; i++) data[i] = (unsigned char)random_bits(r);
    return data;
}

static void new_problem(problem *p, rng *r)
{
    static const pq_type types[] = {PQ_I32, PQ_F32, PQ_I8, PQ_U8, PQ_I16};
    memset(p, 0, sizeof *p);
    random_shape(p, r);
    pq_convolution *v = &p->v;
    const pq_convolution_shape *s = &v->shape;
    const int side = (int)random_below(r, SIDES);
    p->channels_last = (int)random_below(r, 2);
    v->x.type = random_below(r, 2) ? PQ_I8 : PQ_U8;
    v->w.type = random_below(r, 2) ? PQ_I8 : PQ_U8;
    v->x.data = random_bytes(r, &x_place, arrange(&v->x, s->images, s->channels, s->size, p->channels_last), side);
    v->w.data = random_bytes(r, &w_place, arrange(&v->w, s->outputs, s->channels / s->groups, s->kernel, 0), side);
    p->x_zero = (v->x.type == PQ_I8 ? -128 : 0) + (int32_t)random_below(r, 256);
    v->x.zero_point = &p->x_zero, v->x.zero_points = 1;
    v->w.zero_point = p->w_zero, v->w.zero_points = random_below(r, 2) ? 1 : s->outputs;
    v->w.scale = p->w_scale, v->w.scales = random_below(r, 2) ? 1 : s->outputs;
    v->x.scale = &p->x_scale, v->x.scales = 1;
    p->x_scale = 0.02f;
    for (size_t o = 0; o < s->outputs; o++) {
        p->w_zero[o] = random_below(r, 3) ? (v->w.type == PQ_I8 ? -128 : 0) + (int32_t)random_below(r, 256) : 0;
        p->w_scale[o] = 0.001f + 1e-5f * (float)random_below(r, 1000);
    }
    pq_result *y = &v->y;
    y->type = types[random_below(r, sizeof types / sizeof types[0])];
    y->row_stride = p->channels_last ? (ptrdiff_t)s->outputs : 1;
    y->column_stride = p->channels_last ? 1 : (ptrdiff_t)p->pixels;
    v->y_image_stride = (ptrdiff_t)(s->outputs * p->pixels);
    p->y_count = s->images * s->outputs * p->pixels;
    y->low = -3.0f, y->high = random_below(r, 2) ? 3.0f : 1e30f;
    y->scale = 0.1f;
    y->zero_point = 5, y->qmin = 0, y->qmax = 127;
    y->mode = (pq_requantize_mode)random_below(r, 3);
    if (random_below(r, 2)) {
        unsigned char *const bias = place(&bias_place, 4 * s->outputs, 0, side);
        for (size_t o = 0; o < s->outputs; o++) {
            const int32_t code = (int32_t)random_below(r, 20000) - 10000;
            const float real = (float)code * 1e-4f;
            memcpy(bias + 4 * o, y->type == PQ_F32 ? (const void *)&real : (const void *)&code, 4);
        }
        y->bias = bias;
    }
}

static void check_one(problem *p, int packed, int side)
{
    const size_t size = size_of_type(p->v.y.type), bytes = p->y_count * size;
    pq_packed_convolution *weights = NULL;
    problem q = *p;
    q.v.y.data = place_output(&y_place, bytes, 0, side);
    if (packed) {
        if (pq_pack_convolution(&p->v.shape, &p->v.w, &weights) != PQ_OK) fail("packing was refused", 0);
        q.v.packed = weights;
        q.v.w.data = NULL;
    }
    const pq_status status = pq_convolve(&q.v);
    if (status != PQ_OK) fail(pq_status_string(status), 0);
    pq_free_packed_convolution(weights);
    q.v.w.data = p->v.w.data;
    for (size_t image = 0; image < p->v.shape.images; image++)
        for (size_t o = 0; o < p->v.shape.outputs; o++)
            for (size_t i = 0; i < p->pixels; i++) {
                const ptrdiff_t at = (ptrdiff_t)image * p->v.y_image_stride + (ptrdiff_t)i * p->v.y.row_stride +
                                     (ptrdiff_t)o * p->v.y.column_stride;
                if (!right(&q, image, o, i, (const char *)q.v.y.data + at * (ptrdiff_t)size)) {
                    fail("differs from the definition", (size_t)at);
                    return;
                }
            }
    if (!margins_intact(&y_place, q.v.y.data, bytes)) fail("wrote outside", 0);
}

int main(int argc, char **argv)
{
    static const int threads[] = {1, 2, 5};
    const size_t shapes = argc > 1 ? (size_t)atol(argv[1]) : 300;
    x_place = new_arena(MOST_BYTES), w_place = new_arena(MOST_BYTES), y_place = new_arena(MOST_BYTES);
    bias_place = new_arena(1 << 16);
    report_touched_guards();
    for (size_t i = 0; pq_isa_name(i); i++) {
        if (!pq_isa_usable(pq_isa_name(i))) continue;
        pq_set_isa(pq_isa_name(i));
        comparison c = {"convolve", pq_isa_name(i), NULL, NULL, PQ_I8, PQ_I8};
        rng r = {21};
        for (size_t n = 0; n < shapes; n++) {
            problem p;
            new_problem(&p, &r);
            pq_set_num_threads(threads[n % 3]);
            here = (position){&c, p.pixels, p.v.shape.outputs, p.k, n, 0, 0, 0, 1.0f, {0, 0}};
            check_one(&p, (int)(n & 1), (int)(n >> 1 & 1));
        }
        printf("%s: %zu shapes\n", pq_isa_name(i), shapes);
        pq_set_isa(NULL);
    }
    printf(failures ? "%lu FAILURES\n" : "all equal\n", failures);
    return failures != 0;
}
