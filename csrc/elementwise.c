/* pq_quantize, pq_dequantize, pq_fake_quantize: checks, the choice of kernel by type, and the walk over pieces. */
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "layout.h"

/* Is this much traffic more than the caches keep, so that results had better go past them? */
static int worth_streaming(size_t bytes) { return bytes > pq_cpu_last_level_cache() / 4 * 3; }

static int two_bytes(pq_type q) { return q == PQ_I16 || q == PQ_U16; }

static int is_float(pq_type type) { return type == PQ_F32 || type == PQ_F16 || type == PQ_BF16 || type == PQ_F64; }

#define QUANTIZE_OF(family)                                                                                     \
    const pq_kernels *k = pq_get_kernels();                                                                     \
    switch (x) {                                                                                                \
    case PQ_F32: return two_bytes(q) ? k->family##_f32_i16 : k->family##_f32_i8;                                \
    case PQ_F16: return two_bytes(q) ? k->family##_f16_i16 : k->family##_f16_i8;                                \
    case PQ_BF16: return two_bytes(q) ? k->family##_bf16_i16 : k->family##_bf16_i8;                             \
    case PQ_F64: return two_bytes(q) ? k->family##_f64_i16 : k->family##_f64_i8;                                \
    default: return NULL;                                                                                       \
    }

pq_quantize_fn *pq_find_quantize(pq_type x, pq_type q) { QUANTIZE_OF(quantize) }
pq_quantize_columns_fn *pq_find_quantize_columns(pq_type x, pq_type q) { QUANTIZE_OF(quantize_columns) }

#define DEQUANTIZE_OF(family, out)                                                                              \
    (q == PQ_I8    ? k->family##_i8_##out                                                                       \
     : q == PQ_U8  ? k->family##_u8_##out                                                                       \
     : q == PQ_I16 ? k->family##_i16_##out                                                                      \
                   : k->family##_u16_##out)

static pq_dequantize_fn *find_dequantize(pq_type q, pq_type x)
{
    const pq_kernels *k = pq_get_kernels();
    return x == PQ_F16    ? DEQUANTIZE_OF(dequantize, f16)
           : x == PQ_BF16 ? DEQUANTIZE_OF(dequantize, bf16)
                          : DEQUANTIZE_OF(dequantize, f32);
}

static pq_dequantize_columns_fn *find_dequantize_columns(pq_type q, pq_type x)
{
    const pq_kernels *k = pq_get_kernels();
    return x == PQ_F16    ? DEQUANTIZE_OF(dequantize_columns, f16)
           : x == PQ_BF16 ? DEQUANTIZE_OF(dequantize_columns, bf16)
                          : DEQUANTIZE_OF(dequantize_columns, f32);
}

typedef struct {
    const char *from;
    char *to;
    size_t from_size, to_size;
    pq_params params;
    int stream;
    union {
        struct {
            pq_quantize_fn *runs;
            pq_quantize_columns_fn *columns;
        } quantize; /* and fake quantize, whose kernels have the same type */
        struct {
            pq_dequantize_fn *runs;
            pq_dequantize_columns_fn *columns;
        } dequantize;
    } kernel;
    pq_type code; /* how fake quantize of float64 keeps its codes */
} job;

static const int32_t *zero_points(const job *j, size_t param)
{
    return j->params.zero_point ? j->params.zero_point + param : NULL;
}

static void quantize_piece(void *context, const pq_piece *p)
{
    const job *j = (const job *)context;
    const void *x = j->from + p->offset * j->from_size;
    void *q = j->to + p->offset * j->to_size;
    const float *scale = j->params.scale + p->param;
    const int32_t *zero_point = zero_points(j, p->param), qmin = j->params.qmin, qmax = j->params.qmax;
    if (p->by_column)
        j->kernel.quantize.columns(x, q, p->rows, p->columns, p->stride, scale, zero_point, qmin, qmax,
                                   j->stream);
    else
        j->kernel.quantize.runs(x, q, p->rows, p->columns, scale, zero_point, qmin, qmax, j->stream);
}

static void dequantize_piece(void *context, const pq_piece *p)
{
    const job *j = (const job *)context;
    const void *q = j->from + p->offset * j->from_size;
    void *x = j->to + p->offset * j->to_size;
    const float *scale = j->params.scale + p->param;
    const int32_t *zero_point = zero_points(j, p->param);
    if (p->by_column) j->kernel.dequantize.columns(q, x, p->rows, p->columns, p->stride, scale, zero_point,
                                                  j->stream);
    else j->kernel.dequantize.runs(q, x, p->rows, p->columns, scale, zero_point, j->stream);
}

/* float64 results are float32 results widened, a row of PQ_COLUMNS at a time in a buffer. */
typedef void (*row_fn)(const job *j, const void *from, double *to, size_t n, const float *scale,
                       const int32_t *zero_point, int by_column);

static void each_row(const job *j, const pq_piece *p, row_fn row)
{
    for (size_t r = 0; r < p->rows; r++)
        for (size_t c = 0; c < p->columns; c += PQ_COLUMNS) {
            const size_t n = p->columns - c < PQ_COLUMNS ? p->columns - c : PQ_COLUMNS;
            const size_t i = p->offset + r * p->stride + c, param = p->param + (p->by_column ? c : r);
            row(j, j->from + i * j->from_size, (double *)(void *)j->to + i, n, j->params.scale + param,
                zero_points(j, param), p->by_column);
        }
}

static void dequantize_row_f64(const job *j, const void *q, double *x, size_t n, const float *scale,
                               const int32_t *zero_point, int by_column)
{
    float row[PQ_COLUMNS];
    if (by_column) j->kernel.dequantize.columns(q, row, 1, n, n, scale, zero_point, 0);
    else j->kernel.dequantize.runs(q, row, 1, n, scale, zero_point, 0);
    for (size_t i = 0; i < n; i++) x[i] = (double)row[i];
}

static void dequantize_piece_f64(void *context, const pq_piece *p)
{
    each_row((const job *)context, p, dequantize_row_f64);
}

static void fake_quantize_row_f64(const job *j, const void *x, double *y, size_t n, const float *scale,
                                  const int32_t *zero_point, int by_column)
{
    int16_t code[PQ_COLUMNS];
    float row[PQ_COLUMNS];
    const pq_params *k = &j->params;
    if (by_column) {
        j->kernel.quantize.columns(x, code, 1, n, n, scale, zero_point, k->qmin, k->qmax, 0);
        find_dequantize_columns(j->code, PQ_F32)(code, row, 1, n, n, scale, zero_point, 0);
    } else {
        j->kernel.quantize.runs(x, code, 1, n, scale, zero_point, k->qmin, k->qmax, 0);
        find_dequantize(j->code, PQ_F32)(code, row, 1, n, scale, zero_point, 0);
    }
    for (size_t i = 0; i < n; i++) y[i] = (double)row[i];
}

static void fake_quantize_piece_f64(void *context, const pq_piece *p)
{
    each_row((const job *)context, p, fake_quantize_row_f64);
}

/* Walks the layout, or one with the scales written out (see pq_expand) and what is left over of its rows. */
static pq_status walk(const pq_layout *layout, job *j, size_t widest, pq_piece_fn piece)
{
    const size_t bytes = j->from_size + j->to_size, n = pq_layout_size(layout);
    const pq_expansion e = pq_expand(layout);
    j->stream = worth_streaming(n * bytes);
    if (e.repeat == 1 && e.tile == 1) {
        pq_walk(layout, bytes, widest, piece, j);
        return PQ_OK;
    }
    const size_t row = layout->axis * e.repeat, columns = row * e.tile;
    float *const scale = (float *)malloc(columns * (sizeof(float) + sizeof(int32_t)));
    if (scale == NULL) return PQ_ERROR_MEMORY;
    int32_t *const zero_point = (int32_t *)(void *)(scale + columns);
    for (size_t i = 0; i < columns; i++) {
        const size_t c = i % row / e.repeat;
        scale[i] = j->params.scale[c];
        zero_point[i] = j->params.zero_point ? j->params.zero_point[c] : 0;
    }
    j->params.scale = scale;
    j->params.zero_point = zero_point;
    const pq_layout joined = {layout->outer / e.tile, columns, 1, 0}, rest = {layout->outer % e.tile, row, 1, 0};
    const size_t done = pq_layout_size(&joined);
    pq_walk(&joined, bytes, widest, piece, j);
    j->from += done * j->from_size;
    j->to += done * j->to_size;
    pq_walk(&rest, bytes, widest, piece, j);
    free(scale);
    return PQ_OK;
}

pq_status pq_quantize(const void *x, pq_type x_type, void *q, pq_type q_type, const pq_layout *layout,
                      const pq_params *params)
{
    pq_status status = pq_check_layout(layout);
    if (status == PQ_OK) status = pq_check_params(layout, params, q_type);
    if (status != PQ_OK) return status;
    if (!is_float(x_type)) return PQ_ERROR_ARGUMENT;
    if (pq_layout_size(layout) == 0) return PQ_OK;
    if (x == NULL || q == NULL) return PQ_ERROR_ARGUMENT;
    job j = {(const char *)x, (char *)q, pq_type_size(x_type), pq_type_size(q_type), *params, 0, {{NULL, NULL}}, q_type};
    j.kernel.quantize.runs = pq_find_quantize(x_type, q_type);
    j.kernel.quantize.columns = pq_find_quantize_columns(x_type, q_type);
    return walk(layout, &j, PQ_COLUMNS, quantize_piece);
}

pq_status pq_dequantize(const void *q, pq_type q_type, void *x, pq_type x_type, const pq_layout *layout,
                        const pq_params *params)
{
    if (params == NULL || !is_float(x_type)) return PQ_ERROR_ARGUMENT;
    pq_params checked = *params;
    checked.qmin = q_type == PQ_I8 ? -128 : q_type == PQ_I16 ? -32768 : 0;
    checked.qmax = q_type == PQ_I8 ? 127 : q_type == PQ_I16 ? 32767 : q_type == PQ_U8 ? 255 : 65535;
    pq_status status = pq_check_layout(layout);
    if (status == PQ_OK) status = pq_check_params(layout, &checked, q_type);
    if (status != PQ_OK) return status;
    if (pq_layout_size(layout) == 0) return PQ_OK;
    if (x == NULL || q == NULL) return PQ_ERROR_ARGUMENT;
    job j = {(const char *)q, (char *)x, pq_type_size(q_type), pq_type_size(x_type), checked, 0, {{NULL, NULL}}, q_type};
    j.kernel.dequantize.runs = find_dequantize(q_type, x_type);
    j.kernel.dequantize.columns = find_dequantize_columns(q_type, x_type);
    return walk(layout, &j, SIZE_MAX, x_type == PQ_F64 ? dequantize_piece_f64 : dequantize_piece);
}

pq_status pq_fake_quantize(const void *x, pq_type type, void *y, const pq_layout *layout, const pq_params *params)
{
    if (params == NULL || !is_float(type)) return PQ_ERROR_ARGUMENT;
    const pq_type code = params->qmin < 0 ? PQ_I16 : PQ_U16;
    pq_status status = pq_check_layout(layout);
    if (status == PQ_OK) status = pq_check_params(layout, params, code);
    if (status != PQ_OK) return status;
    if (pq_layout_size(layout) == 0) return PQ_OK;
    if (x == NULL || y == NULL) return PQ_ERROR_ARGUMENT;
    const pq_kernels *k = pq_get_kernels();
    const size_t size = pq_type_size(type);
    job j = {(const char *)x, (char *)y, size, size, *params, 0, {{NULL, NULL}}, code};
    switch (type) {
    case PQ_F32:
        j.kernel.quantize.runs = k->fake_quantize_f32;
        j.kernel.quantize.columns = k->fake_quantize_columns_f32;
        break;
    case PQ_F16:
        j.kernel.quantize.runs = k->fake_quantize_f16;
        j.kernel.quantize.columns = k->fake_quantize_columns_f16;
        break;
    case PQ_BF16:
        j.kernel.quantize.runs = k->fake_quantize_bf16;
        j.kernel.quantize.columns = k->fake_quantize_columns_bf16;
        break;
    default:
        j.kernel.quantize.runs = pq_find_quantize(PQ_F64, code);
        j.kernel.quantize.columns = pq_find_quantize_columns(PQ_F64, code);
        return walk(layout, &j, PQ_COLUMNS, fake_quantize_piece_f64);
    }
    return walk(layout, &j, PQ_COLUMNS, quantize_piece);
}
