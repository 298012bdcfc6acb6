/* A convolution as a product: a row of the left operand is what one result sees of x, gathered for a block of
 * results at a time, the right operand is the packed weights. */
#include <string.h>

#include "convolution.h"
#include "layout.h"

/* A run of n bytes. Short ones are copied 16 bytes at a time, past their end: there is room, and what is overwritten
 * comes later. */
static inline void copy_run(char *to, const char *from, size_t n)
{
    if (n > 192) {
        memcpy(to, from, n);
        return;
    }
    for (size_t i = 0; i < n; i += 16) memcpy(to + i, from + i, 16);
}

static void gather(const pq_conv_job *j, const pq_conv_unit *u, const pq_conv_space *s, size_t first, size_t pixels)
{
    const size_t size = j->a_size, run = j->run * size;
    const size_t *const offset = j->offset;
    for (size_t p = 0; p < pixels; p++) {
        const char *const from = s->image + pq_place_of(j, u, first + p) * size;
        char *to = s->rows + p * j->a_stride * size;
        for (size_t i = 0; i < j->runs; i++, to += run) copy_run(to, from + offset[i] * size, run);
    }
}

static uint32_t sum_of(const void *a, pq_type type, size_t n)
{
    uint32_t sum = 0;
    if (type == PQ_U8)
        for (size_t i = 0; i < n; i++) sum += ((const uint8_t *)a)[i];
    else if (type == PQ_I8)
        for (size_t i = 0; i < n; i++) sum += 0u + (uint32_t)((const int8_t *)a)[i]; /* 0u: or GCC 12 warns */
    else
        for (size_t i = 0; i < n; i++) sum += 0u + (uint32_t)((const int16_t *)a)[i];
    return sum;
}

static int32_t w_zero(const pq_conv_job *j, size_t output)
{
    const pq_images *w = &j->v->w;
    return (w->zero_point ? w->zero_point[w->zero_points == 1 ? 0 : output] : 0) + j->w_shift;
}

/* What a chunk of k adds to the accumulators of its columns: -x_zero * (sum - length * w_zero), and the bias. */
static void column_terms(const pq_conv_job *j, const pq_packed_matrix *m, size_t n0, size_t columns, size_t chunk,
                         size_t output, int32_t *out)
{
    const size_t width = (size_t)j->g->columns;
    const int32_t *const sums = m->sums + chunk * m->panels * width + n0;
    const uint32_t length = (uint32_t)pq_chunk_at(&j->chunks, chunk).length;
    const pq_result *const y = &j->v->y;
    const int32_t *const bias =
        y->bias && y->type != PQ_F32 && !j->wide && chunk == 0 ? (const int32_t *)y->bias + output : NULL;
    for (size_t i = 0; i < columns; i++)
        out[i] = (int32_t)((bias ? (uint32_t)bias[i] : 0u) -
                           (uint32_t)j->reader.pad * ((uint32_t)sums[i] - length * (uint32_t)w_zero(j, output + i)));
    memset(out + columns, 0, (width - columns) * sizeof *out);
}

/* The accumulators of a block of results and one panel of columns, the first of them `output`. */
static void multiply(const pq_conv_job *j, const pq_conv_space *s, const char *a, size_t a_stride, size_t pixels,
                     const pq_packed_matrix *m, size_t n0, size_t columns, size_t output)
{
    const size_t width = (size_t)j->g->columns, rows = (size_t)j->g->rows, b_size = pq_type_size(j->g->b);
    const char *const panel = m->data + n0 / width * m->panel_bytes;
    const size_t tiles = pq_parts(pixels, rows);
    int32_t column[PQ_TILE_COLUMNS];
    for (size_t c = 0; c < j->chunks.count; c++) {
        const size_t done = c * j->chunks.padded;
        const size_t groups = pq_parts(pq_chunk_at(&j->chunks, c).length, (size_t)j->g->depth);
        column_terms(j, m, n0, columns, c, output, column);
        const int32_t *const row = s->sums && !j->w_zeros_vary ? s->sums + c * j->block : NULL;
        for (size_t t = 0; t < tiles; t++) { /* shared out evenly: 16 are 8 and 8, not 12 and 4 */
            const size_t r = pixels * t / tiles, some = pixels * (t + 1) / tiles - r;
            j->g->tile(a + (r * a_stride + done) * j->a_size, a_stride, panel + done * width * b_size, groups,
                       (int)some, row ? row + r : NULL, column, s->acc + r * width, width, c > 0 && !j->wide);
        }
        if (j->w_zeros_vary)
            for (size_t r = 0; r < pixels; r++) {
                const uint32_t sum = (uint32_t)s->sums[c * j->block + r];
                for (size_t i = 0; i < columns; i++) {
                    int32_t *const acc = s->acc + r * width + i;
                    *acc = (int32_t)((uint32_t)*acc - (uint32_t)w_zero(j, output + i) * sum);
                }
            }
        if (s->wide) pq_widen_tile(s->acc, width, pixels, columns, c > 0, s->wide);
    }
}

/* The sums of the rows, or what they add to their accumulators where all columns have one zero point. */
static void row_terms(const pq_conv_job *j, const pq_conv_space *s, const char *a, size_t a_stride, size_t pixels)
{
    for (size_t c = 0; c < j->chunks.count; c++)
        for (size_t p = 0; p < pixels; p++) {
            const uint32_t sum = sum_of(a + (p * a_stride + c * j->chunks.padded) * j->a_size, j->g->a,
                                        pq_chunk_at(&j->chunks, c).length);
            s->sums[c * j->block + p] = (int32_t)(j->w_zeros_vary ? sum : 0u - (uint32_t)j->w_zero * sum);
        }
}

void pq_convolve_tiles(const pq_conv_job *j, const pq_conv_unit *u, const pq_conv_space *s)
{
    const pq_packed_matrix *const m = j->w->matrix[u->group];
    const size_t width = (size_t)j->g->columns, outputs = j->w->outputs, pixels = u->count[0] * u->count[1] * j->out[2];
    const size_t begin = m->panels * u->part / j->parts * width;
    const size_t end = pq_smaller(m->panels * (u->part + 1) / j->parts * width, outputs);
    const size_t blocks = pq_parts(pixels, j->block), rows = (size_t)j->g->rows;
    const size_t block = pq_smaller(pq_round_up(pq_parts(pixels, blocks), rows), j->block);
    const size_t first_pixel = (u->first[0] * j->out[1] + u->first[1]) * j->out[2];
    pq_read_unit(j, u, u->group * j->w->channels, j->w->channels, s);
    for (size_t p = 0; p < pixels; p += block) {
        const size_t some = pq_smaller(block, pixels - p);
        const char *a = s->rows;
        size_t a_stride = j->a_stride;
        if (j->direct) {
            a = s->image + pq_place_of(j, u, p) * j->a_size;
            a_stride = j->v->shape.stride[2] * j->reader.pitch;
        } else {
            gather(j, u, s, p, some);
        }
        if (s->sums) row_terms(j, s, a, a_stride, some);
        for (size_t n = begin; n < end; n += width) {
            const size_t columns = pq_smaller(width, end - n), output = u->group * outputs + n;
            multiply(j, s, a, a_stride, some, m, n, columns, output);
            pq_finish_pixels(j, s, s->acc, width, u->image, first_pixel + p, some, output, columns);
        }
    }
}
