#include "image.h"

#include <string.h>

#include "layout.h"
#include "product.h"

enum { CHUNK = 32 * 1024 }; /* bytes of codes on their way: they stay in the first-level cache */

static int is_float(const pq_image_reader *r) { return r->x->type <= PQ_F64; }

/* Rows of the image whose pixels follow each other are fetched together. */
static size_t rows_at_once(const pq_image_reader *r)
{
    const ptrdiff_t *stride = r->x->stride;
    if (r->size[1] < 2 || stride[1] != (ptrdiff_t)r->size[2] * stride[2]) return 1;
    return pq_larger(CHUNK / pq_larger(r->size[2] * r->channels, 1), 1);
}

static size_t codes_at_once(const pq_image_reader *r) { return rows_at_once(r) * r->size[2] * r->channels; }

/* Codes of a chunk, of r->channels or fewer; for float x also those before they are transposed. */
size_t pq_image_scratch(const pq_image_reader *r)
{
    return pq_larger(CHUNK, r->size[2] * r->channels) * (is_float(r) ? 2 : 1);
}

static void quantize(const pq_image_reader *r, const char *x, size_t n, uint8_t *codes)
{
    r->quantize(x, codes, 1, n, r->x->scale, &r->zero_point, r->qmin, r->qmax, 0);
}

/* n pixels at a distance of stride[2] from each other: their codes, channels last, without gaps. */
static void fetch(const pq_image_reader *r, const char *x, size_t n, uint8_t *codes, uint8_t *scratch)
{
    const ptrdiff_t bytes = (ptrdiff_t)pq_type_size(r->x->type), pixel = r->x->stride[2] * bytes;
    const ptrdiff_t channel = r->x->channel_stride * bytes;
    const size_t channels = r->channels;
    if (channel == bytes || channels == 1) {
        const int together = pixel == (ptrdiff_t)channels * bytes;
        const size_t runs = together ? 1 : n, length = together ? n * channels : channels;
        for (size_t i = 0; i < runs; i++) {
            const char *const from = x + (ptrdiff_t)i * pixel;
            if (is_float(r)) quantize(r, from, length, codes + i * length);
            else memcpy(codes + i * length, from, length);
        }
    } else if (pixel == bytes && (is_float(r) || channel > 0)) {
        if (is_float(r)) {
            for (size_t c = 0; c < channels; c++) quantize(r, x + (ptrdiff_t)c * channel, n, scratch + c * n);
            r->transpose(scratch, channels, n, n, codes, channels);
        } else {
            r->transpose((const uint8_t *)x, channels, n, (size_t)channel, codes, channels);
        }
    } else {
        for (size_t i = 0; i < n; i++)
            for (size_t c = 0; c < channels; c++) {
                const char *const from = x + (ptrdiff_t)i * pixel + (ptrdiff_t)c * channel;
                if (is_float(r)) quantize(r, from, 1, codes + i * channels + c);
                else codes[i * channels + c] = *(const uint8_t *)from;
            }
    }
}

/* n elements, all of them the padding. */
static void fill(const pq_image_reader *r, void *out, size_t n)
{
    if (r->to != PQ_I16) {
        memset(out, r->pad, n);
        return;
    }
    int16_t *const to = (int16_t *)out;
    for (size_t i = 0; i < n; i++) to[i] = (int16_t)r->pad;
}

static void shift_bytes(const uint8_t *codes, size_t n, int32_t shift, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) out[i] = (uint8_t)(codes[i] + shift);
}

static void widen(const uint8_t *codes, size_t n, int is_signed, int32_t shift, int16_t *out)
{
    const int16_t add = (int16_t)shift;
    if (is_signed)
        for (size_t i = 0; i < n; i++) out[i] = (int16_t)((int8_t)codes[i] + add);
    else
        for (size_t i = 0; i < n; i++) out[i] = (int16_t)(codes[i] + add);
}

static void widen_repeated(const uint8_t *codes, size_t n, size_t repeat, int is_signed, int32_t shift, int16_t *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < repeat; k++)
            out[i * repeat + k] = (int16_t)((is_signed ? (int8_t)codes[i] : codes[i]) + shift);
}

/* n pixels of codes to out, as elements of its type. */
static void put(const pq_image_reader *r, const uint8_t *codes, size_t n, void *out)
{
    const int is_signed = is_float(r) ? r->is_signed : r->x->type == PQ_I8;
    const size_t channels = r->channels, together = r->pitch == channels && r->repeat == 1 ? n : 1;
    for (size_t i = 0; i < n; i += together) {
        const uint8_t *const from = codes + i * channels;
        if (r->to != PQ_I16) {
            uint8_t *const to = (uint8_t *)out + i * r->pitch;
            if (r->shift != 0) shift_bytes(from, together * channels, r->shift, to);
            else if (to != from) memcpy(to, from, together * channels);
        } else {
            int16_t *const to = (int16_t *)out + i * r->pitch;
            if (r->repeat == 1) widen(from, together * channels, is_signed, r->shift, to);
            else widen_repeated(from, channels, r->repeat, is_signed, r->shift, to);
        }
    }
}

/* The rows of one plane. Whole rows of bytes are fetched to where they belong, all of them at once. */
static void read_plane(const pq_image_reader *r, const char *plane, const ptrdiff_t begin[3], const size_t extent[3],
                       char *out, uint8_t *scratch)
{
    const ptrdiff_t height = (ptrdiff_t)r->size[1], width = (ptrdiff_t)r->size[2];
    const ptrdiff_t end = begin[2] + (ptrdiff_t)extent[2];
    const ptrdiff_t left = begin[2] < 0 ? 0 : begin[2], right = end > width ? width : end;
    const size_t inside = right > left ? (size_t)(right - left) : 0;
    const size_t before = inside ? (size_t)(left - begin[2]) : 0, after = extent[2] - before - inside;
    const int in_place = before + after == 0 && r->to != PQ_I16 && r->pitch == r->channels;
    const size_t pixel = r->pitch * pq_type_size(r->to), chunk = left == 0 && right == width ? rows_at_once(r) : 1;
    const size_t most = in_place && !is_float(r) && chunk > 1 ? extent[1] : chunk;
    const ptrdiff_t bytes = (ptrdiff_t)pq_type_size(r->x->type);
    for (size_t h = 0; h < extent[1];) {
        const ptrdiff_t row = begin[1] + (ptrdiff_t)h;
        char *to = out + h * extent[2] * pixel;
        if (row < 0 || row >= height || inside == 0) {
            fill(r, to, extent[2] * r->pitch);
            h++;
            continue;
        }
        const size_t rows = pq_smaller(pq_smaller(extent[1] - h, (size_t)(height - row)), most);
        const char *const from = plane + (row * r->x->stride[1] + left * r->x->stride[2]) * bytes;
        uint8_t *const codes = in_place ? (uint8_t *)to : scratch;
        fetch(r, from, rows * inside, codes, scratch + codes_at_once(r));
        if (before + after == 0) {
            put(r, codes, rows * inside, to);
        } else {
            for (size_t i = 0; i < rows; i++, to += extent[2] * pixel) {
                fill(r, to, before * r->pitch);
                put(r, scratch + i * inside * r->channels, inside, to + before * pixel);
                fill(r, to + (before + inside) * pixel, after * r->pitch);
            }
        }
        h += rows;
    }
}

void pq_read_image(const pq_image_reader *r, size_t image, const ptrdiff_t begin[3], const size_t extent[3], void *out,
                   void *scratch)
{
    const size_t plane_bytes = extent[1] * extent[2] * r->pitch * pq_type_size(r->to);
    const ptrdiff_t bytes = (ptrdiff_t)pq_type_size(r->x->type);
    for (size_t d = 0; d < extent[0]; d++) {
        const ptrdiff_t depth = begin[0] + (ptrdiff_t)d;
        char *const to = (char *)out + d * plane_bytes;
        if (depth < 0 || depth >= (ptrdiff_t)r->size[0]) {
            fill(r, to, extent[1] * extent[2] * r->pitch);
            continue;
        }
        const char *const plane =
            (const char *)r->x->data + ((ptrdiff_t)image * r->x->image_stride + depth * r->x->stride[0] +
                                        (ptrdiff_t)r->first * r->x->channel_stride) * bytes;
        read_plane(r, plane, begin, extent, to, (uint8_t *)scratch);
    }
}
