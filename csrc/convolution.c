/* pq_convolve: checks, how the work is cut up, and what both ways of computing share. */
#include "convolution.h"

#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "layout.h"
#include "operand.h"
#include "parallel.h"

enum {
    MOST_PIXELS = 96,       /* results finished together: their accumulators stay in the first-level cache */
    DEPTHWISE_COLUMNS = PQ_TILE_COLUMNS,
    PRODUCTS_A_BYTE = 8,    /* products that take as long as a byte of memory traffic, for parallel.c */
    DEPTHWISE_PRODUCTS = 2,
    SLACK = 256             /* bytes that may be read or written past the end of a row */
};
#define MOST_ELEMENTS ((size_t)1 << 40)

size_t pq_convolution_size(const pq_convolution_shape *s, int i)
{
    const size_t all = s->size[i] + s->before[i] + s->after[i], seen = s->dilation[i] * (s->kernel[i] - 1) + 1;
    return all < seen ? 0 : (all - seen) / s->stride[i] + 1;
}

static int multiplied(size_t *n, size_t by) { return !__builtin_mul_overflow(*n, by, n) && *n < MOST_ELEMENTS; }

/* Every number that is computed from a shape later on is far from overflowing. */
pq_status pq_check_shape(const pq_convolution_shape *s)
{
    if (s == NULL || s->groups == 0) return PQ_ERROR_ARGUMENT;
    if (s->channels % s->groups != 0 || s->outputs % s->groups != 0) return PQ_ERROR_ARGUMENT;
    size_t x = pq_larger(s->images, 1), y = x, w = 1, sides = 1;
    int good = multiplied(&x, pq_larger(s->channels, 1)) && multiplied(&y, pq_larger(s->outputs, 1)) &&
               multiplied(&w, pq_larger(s->channels / s->groups, 1)) && multiplied(&sides, 1);
    for (int i = 0; i < 3 && good; i++) {
        const size_t numbers[] = {s->size[i], s->kernel[i], s->stride[i], s->dilation[i], s->before[i], s->after[i]};
        for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++) good &= numbers[k] < (size_t)1 << 30;
        if (!good || s->kernel[i] == 0 || s->stride[i] == 0 || s->dilation[i] == 0) return PQ_ERROR_ARGUMENT;
        size_t reach = s->dilation[i];
        good = multiplied(&reach, s->kernel[i]) && multiplied(&x, s->size[i] + s->before[i] + s->after[i]) &&
               multiplied(&w, s->kernel[i]) && multiplied(&y, pq_larger(pq_convolution_size(s, i), 1));
    }
    good = good && multiplied(&w, pq_larger(s->outputs, 1));
    return good ? PQ_OK : PQ_ERROR_ARGUMENT;
}

static pq_status check_operands(const pq_convolution *v, const pq_packed_convolution *w, pq_conv_job *j)
{
    const pq_convolution_shape *s = &v->shape;
    const int is_float = v->x.type <= PQ_F64;
    if (!is_float && v->x.type != PQ_I8 && v->x.type != PQ_U8) return PQ_ERROR_ARGUMENT;
    if (w->groups != s->groups || w->channels * w->groups != s->channels || w->outputs * w->groups != s->outputs ||
        memcmp(w->kernel, s->kernel, sizeof w->kernel) != 0)
        return PQ_ERROR_ARGUMENT;
    if ((v->x.zero_point && v->x.zero_points != 1) || (v->x.scale && v->x.scales != 1)) return PQ_ERROR_ARGUMENT;
    if (v->w.zero_point && v->w.zero_points != 1 && v->w.zero_points != s->outputs) return PQ_ERROR_ARGUMENT;
    if (v->w.scale && v->w.scales != 1 && v->w.scales != s->outputs) return PQ_ERROR_ARGUMENT;
    if (v->x.scale && !pq_scales_are_good(v->x.scale, 1)) return PQ_ERROR_SCALE;
    if (v->w.scale && !pq_scales_are_good(v->w.scale, v->w.scales)) return PQ_ERROR_SCALE;
    pq_grid x_grid = pq_grid_of(v->x.type);
    if (is_float) {
        if (v->x.scale == NULL) return PQ_ERROR_ARGUMENT;
        x_grid = (pq_grid){v->x_qmin, v->x_qmax};
        if (pq_check_grid(x_grid.low, x_grid.high, v->x_signed ? PQ_I8 : PQ_U8) != PQ_OK) return PQ_ERROR_GRID;
    }
    const int32_t x_reach = pq_reach(x_grid, v->x.zero_point, v->x.zero_points);
    const int32_t w_reach = pq_reach(pq_grid_of(w->type), v->w.zero_point, v->w.zero_points);
    if (x_reach < 0 || w_reach < 0) return PQ_ERROR_ZERO_POINT;
    const pq_status status = pq_check_result(&v->y);
    if (status != PQ_OK) return status;
    uint64_t bound = (uint64_t)pq_convolution_k(s) * (uint64_t)x_reach * (uint64_t)w_reach;
    if (v->y.bias && v->y.type != PQ_F32) bound += pq_largest((const int32_t *)v->y.bias, s->outputs);
    j->wide = bound > INT32_MAX;
    return j->wide && v->y.type == PQ_I32 ? PQ_ERROR_OVERFLOW : PQ_OK;
}

/* How much of a dimension `count` results see. */
static size_t seen_by(const pq_convolution_shape *s, int i, size_t count)
{
    return (count - 1) * s->stride[i] + (s->kernel[i] - 1) * s->dilation[i] + 1;
}

void pq_read_unit(const pq_conv_job *j, const pq_conv_unit *u, size_t first_channel, size_t channels,
                  const pq_conv_space *space)
{
    const pq_convolution_shape *s = &j->v->shape;
    ptrdiff_t begin[3];
    for (int i = 0; i < 3; i++)
        begin[i] = (ptrdiff_t)((i < 2 ? u->first[i] : 0) * s->stride[i]) - (ptrdiff_t)s->before[i];
    pq_image_reader reader = j->reader;
    reader.first = first_channel;
    reader.channels = channels;
    pq_read_image(&reader, u->image, begin, j->extent, space->image, space->scratch);
}

void pq_finish_pixels(const pq_conv_job *j, const pq_conv_space *s, const int32_t *acc, size_t stride, size_t image,
                      size_t first, size_t pixels, size_t n0, size_t columns)
{
    const pq_result *const y = &j->v->y;
    const pq_epilogue *const e = &j->epilogue;
    char *const to = (char *)y->data + ((ptrdiff_t)image * j->v->y_image_stride + (ptrdiff_t)first * y->row_stride +
                                        (ptrdiff_t)n0 * y->column_stride) * (ptrdiff_t)e->size;
    const pq_sums sums = {acc, s->wide, stride};
    if (y->column_stride == 1 && y->row_stride >= 0) {
        pq_end_tile(e, sums, 0, n0, pixels, columns, to);
    } else if (y->type == PQ_I32) {
        pq_scatter_tile(acc, stride, 4, pixels, columns, to, y->row_stride, y->column_stride);
    } else { /* finished with channels last, then turned round */
        pq_epilogue last = *e;
        last.y.row_stride = (ptrdiff_t)columns;
        last.y.column_stride = 1;
        pq_end_tile(&last, sums, 0, n0, pixels, columns, s->codes);
        if (e->size == 1 && y->row_stride == 1 && y->column_stride > 0)
            j->reader.transpose((const uint8_t *)s->codes, pixels, columns, columns, (uint8_t *)to,
                                (size_t)y->column_stride);
        else
            pq_scatter_tile(s->codes, columns, e->size, pixels, columns, to, y->row_stride, y->column_stride);
    }
}

/* Cuts [0, n) into parts; the i-th. */
static void part(size_t n, size_t parts, size_t i, size_t *first, size_t *count)
{
    *first = n * i / parts;
    *count = n * (i + 1) / parts - *first;
}

static pq_conv_unit unit_of(const pq_conv_job *j, size_t i)
{
    pq_conv_unit u;
    u.group = i % j->groups, i /= j->groups;
    part(j->out[1], j->bands[1], i % j->bands[1], &u.first[1], &u.count[1]), i /= j->bands[1];
    part(j->out[0], j->bands[0], i % j->bands[0], &u.first[0], &u.count[0]), i /= j->bands[0];
    u.image = i % j->images, i /= j->images;
    u.part = i;
    return u;
}

/* Bands of planes and rows whose part of x stays in the second-level cache, and enough units for all threads. */
static void plan_units(pq_conv_job *j, size_t work)
{
    const pq_convolution_shape *s = &j->v->shape;
    const size_t cache = pq_cpu_second_level_cache() / 4;
    const size_t pixel = pq_larger(j->reader.pitch * pq_type_size(j->reader.to), 1);
    const size_t row = seen_by(s, 2, j->out[2]) * pixel, plane = seen_by(s, 1, j->out[1]) * row;
    size_t at_once[2] = {1, 1};
    const int split = seen_by(s, 0, 1) * plane > cache; /* planes into bands of rows, else bands of planes */
    const size_t fit = cache / (split ? row : plane), least = seen_by(s, split, 1);
    if (fit > least) at_once[split] = pq_smaller((fit - least) / s->stride[split] + 1, j->out[split]);
    if (!split) at_once[1] = j->out[1];
    for (int i = 0; i < 2; i++) j->bands[i] = pq_parts(j->out[i], at_once[i]);

    const size_t threads = pq_tasks_for(work), units = j->images * j->groups * j->parts * j->bands[0] * j->bands[1];
    if (units < 4 * threads && units % threads != 0) {
        const size_t rows = j->out[0] == 1 ? pq_round_up(j->bands[1], threads) : 0;
        const size_t panels = j->w->matrix ? j->w->matrix[0]->panels : 0;
        const int enough = rows != 0 && rows <= j->out[1];
        if (panels >= threads && !(enough && j->out[1] * j->out[2] / rows >= MOST_PIXELS)) j->parts = threads;
        else if (enough) j->bands[1] = rows;
    }
    j->units = j->images * j->groups * j->bands[0] * j->bands[1] * j->parts;
    j->tasks = pq_smaller(threads, j->units);
    for (int i = 0; i < 3; i++) j->extent[i] = seen_by(s, i, i == 2 ? j->out[2] : pq_parts(j->out[i], j->bands[i]));
}

static void plan_tiles(pq_conv_job *j)
{
    const pq_convolution *v = j->v;
    const pq_convolution_shape *s = &v->shape;
    const pq_packed_matrix *m = j->w->matrix[0];
    const size_t line = PQ_CACHE_LINE, cache = pq_cpu_second_level_cache() / 4;
    j->g = m->kernels;
    j->chunks = m->chunks;
    j->a_size = pq_type_size(j->g->a);
    j->w_shift = pq_gemm_shift(j->w->type, j->g->b);
    j->w_zero = (v->w.zero_point ? *v->w.zero_point : 0) + j->w_shift;
    for (size_t i = 1; v->w.zero_point && i < v->w.zero_points; i++)
        j->w_zeros_vary |= v->w.zero_point[i] != *v->w.zero_point;
    const pq_type codes = v->x.type <= PQ_F64 ? (v->x_signed ? PQ_I8 : PQ_U8) : v->x.type;
    j->reader.to = j->g->a;
    j->reader.shift = pq_gemm_shift(codes, j->g->a);
    j->reader.pad = (v->x.zero_point ? *v->x.zero_point : 0) + j->reader.shift;
    j->reader.repeat = 1;
    j->reader.channels = j->reader.pitch = j->w->channels;
    const size_t rows_of_kernel = s->kernel[0] * s->kernel[1];
    const int joined = s->dilation[2] == 1 || s->kernel[2] == 1;
    j->runs = rows_of_kernel * (joined ? 1 : s->kernel[2]);
    j->run = (joined ? s->kernel[2] : 1) * j->w->channels;
    if (j->runs == 1 && s->kernel[2] == 1 && j->w->channels % 2048 == 0) j->reader.pitch += line; /* see a_stride */
    j->groups = s->groups;
    j->parts = 1;
    plan_units(j, s->images * j->out[0] * j->out[1] * j->out[2] * s->outputs / PRODUCTS_A_BYTE * pq_convolution_k(s));
    const int one_row = j->out[0] * j->out[1] == 1;
    const int even = j->out[0] == 1 && s->stride[1] * j->extent[2] == s->stride[2] * j->out[2];
    j->direct = j->runs == 1 && (one_row || even);
    /* Rows a cache line apart from a multiple of all powers of two: they would otherwise share the caches' sets. */
    const size_t bytes = j->chunks.count * j->chunks.padded * j->a_size;
    j->a_stride = (bytes <= line ? pq_round_up(bytes, 16) : (pq_parts(bytes, line) | 1) * line) / j->a_size;
    const size_t most = j->direct ? MOST_PIXELS : pq_smaller(cache / (j->a_stride * j->a_size + 1), MOST_PIXELS);
    const size_t rows = (size_t)j->g->rows;
    j->block = pq_larger(most / rows, 1) * rows;
    j->columns_at_once = (size_t)j->g->columns;
}

static void plan_depthwise(pq_conv_job *j)
{
    const pq_convolution *v = j->v;
    const pq_convolution_shape *s = &v->shape;
    j->reader.to = PQ_I16;
    j->reader.shift = v->x.zero_point ? -*v->x.zero_point : 0;
    j->reader.pad = 0;
    j->reader.repeat = j->w->outputs;
    j->columns_at_once = DEPTHWISE_COLUMNS / j->w->outputs * j->w->outputs;
    j->reader.channels = pq_smaller(j->columns_at_once, s->outputs) / j->w->outputs;
    j->reader.pitch = pq_round_up(pq_smaller(j->columns_at_once, s->outputs), PQ_DEPTHWISE_CHANNELS);
    j->groups = 1;
    j->parts = pq_parts(s->outputs, j->columns_at_once);
    j->runs = s->kernel[0] * s->kernel[1] * s->kernel[2];
    plan_units(j, s->images * j->out[0] * j->out[1] * j->out[2] * s->outputs / DEPTHWISE_PRODUCTS * j->runs);
    j->block = pq_larger(MOST_PIXELS / j->out[2], 1) * j->out[2];
    j->depthwise = pq_get_kernels()->depthwise_i16;
}

/* One part's weights without their zero points, and what its sums start with. */
static void prepare_part(const pq_conv_job *j, size_t part)
{
    const pq_convolution *v = j->v;
    const size_t n = v->shape.outputs, pitch = j->reader.pitch, first = part * j->columns_at_once;
    const size_t columns = pq_smaller(j->columns_at_once, n - first);
    int16_t zero[DEPTHWISE_COLUMNS] = {0};
    for (size_t i = 0; i < columns && v->w.zero_point; i++)
        zero[i] = (int16_t)v->w.zero_point[v->w.zero_points == 1 ? 0 : first + i];
    for (size_t t = 0; t < j->runs; t++) {
        const uint8_t *const codes = j->w->codes + t * n + first;
        int16_t *const to = j->taps + (part * j->runs + t) * pitch;
        memset(to, 0, pitch * sizeof *to);
        if (j->w->type == PQ_I8)
            for (size_t i = 0; i < columns; i++) to[i] = (int16_t)((int8_t)codes[i] - zero[i]);
        else
            for (size_t i = 0; i < columns; i++) to[i] = (int16_t)(codes[i] - zero[i]);
    }
    int32_t *const start = j->start + part * pitch;
    memset(start, 0, pitch * sizeof *start);
    if (v->y.bias && v->y.type != PQ_F32 && !j->wide)
        memcpy(start, (const int32_t *)v->y.bias + first, columns * sizeof *start);
}

pq_conv_space pq_lay_out_convolution(const pq_conv_job *j, char *space)
{
    const size_t tiles = j->w->matrix != NULL, width = tiles ? j->columns_at_once : j->reader.pitch;
    const size_t wants_sums = tiles && (j->w_zeros_vary || j->w_zero != 0);
    pq_conv_space s = {0};
    size_t used = 0;
    PQ_PART(acc, int32_t, j->block * width)
    PQ_PART(wide, int64_t, j->wide ? j->block * width : 0)
    PQ_PART(sums, int32_t, wants_sums ? j->chunks.count * j->block : 0)
    PQ_PART(codes, char, j->block * width * sizeof(float))
    PQ_PART(rows, char, tiles && !j->direct ? j->block * j->a_stride * j->a_size + SLACK : 0)
    PQ_PART(scratch, char, pq_image_scratch(&j->reader) + SLACK)
    PQ_PART(image, char, j->extent[0] * j->extent[1] * j->extent[2] * j->reader.pitch * pq_type_size(j->reader.to) + SLACK)
    s.bytes = used;
    return s;
}

/* What a result sees: a row of the kernel is one run where its elements are next to each other. */
static void find_runs(pq_conv_job *j)
{
    const pq_convolution_shape *s = &j->v->shape;
    const size_t rows = s->kernel[0] * s->kernel[1], each = j->runs / rows; /* runs a row */
    for (size_t i = 0; i < j->runs; i++) {
        const size_t row = i / each, d = row / s->kernel[1] * s->dilation[0], h = row % s->kernel[1] * s->dilation[1];
        j->offset[i] = ((d * j->extent[1] + h) * j->extent[2] + i % each * s->dilation[2]) * j->reader.pitch;
    }
}

static void one_task(void *context, size_t task)
{
    const pq_conv_job *j = (const pq_conv_job *)context;
    const pq_conv_space s = pq_lay_out_convolution(j, j->space + task * j->space_bytes);
    const size_t first = j->units * task / j->tasks, last = j->units * (task + 1) / j->tasks;
    if (j->g && j->g->enter) j->g->enter();
    for (size_t i = first; i < last; i++) {
        const pq_conv_unit u = unit_of(j, i);
        if (j->w->matrix) pq_convolve_tiles(j, &u, &s);
        else pq_convolve_depthwise(j, &u, &s);
    }
    if (j->g && j->g->leave) j->g->leave();
}

static pq_status run(const pq_convolution *v, const pq_packed_convolution *w)
{
    const pq_convolution_shape *s = &v->shape;
    const pq_kernels *k = pq_get_kernels();
    const int is_float = v->x.type <= PQ_F64;
    pq_conv_job j = {.v = v, .w = w, .images = s->images};
    pq_status status = check_operands(v, w, &j);
    if (status != PQ_OK) return status;
    for (int i = 0; i < 3; i++) j.out[i] = pq_convolution_size(s, i);
    if (s->images * s->outputs * j.out[0] * j.out[1] * j.out[2] == 0) return PQ_OK;
    if (v->y.data == NULL || (v->x.data == NULL && s->channels * s->size[0] * s->size[1] * s->size[2] != 0))
        return PQ_ERROR_ARGUMENT;
    j.reader.x = &v->x;
    j.reader.size = s->size;
    j.reader.quantize = is_float ? pq_find_quantize(v->x.type, PQ_I8) : NULL;
    j.reader.zero_point = v->x.zero_point ? *v->x.zero_point : 0;
    j.reader.qmin = v->x_qmin;
    j.reader.qmax = v->x_qmax;
    j.reader.is_signed = v->x_signed;
    j.reader.transpose = k->transpose_i8;
    if (w->matrix) plan_tiles(&j);
    else plan_depthwise(&j);
    j.space_bytes = pq_lay_out_convolution(&j, NULL).bytes;

    const int requantizes = v->y.type != PQ_F32 && v->y.type != PQ_I32;
    const size_t multipliers = requantizes ? pq_round_up(s->outputs * sizeof(float), PQ_CACHE_LINE) : 0;
    const size_t offsets = pq_round_up(j.runs * sizeof(size_t), PQ_CACHE_LINE);
    const size_t taps = w->matrix ? 0 : pq_round_up(j.parts * j.runs * j.reader.pitch * sizeof(int16_t), PQ_CACHE_LINE);
    const size_t starts = w->matrix ? 0 : j.parts * j.reader.pitch * sizeof(int32_t);
    const size_t spaces = j.tasks * j.space_bytes;
    char *const memory = (char *)malloc(PQ_CACHE_LINE + spaces + multipliers + offsets + taps + starts);
    if (memory == NULL) return PQ_ERROR_MEMORY;
    j.space = memory + (0 - (uintptr_t)memory) % PQ_CACHE_LINE;
    float *const multiplier = multipliers ? (float *)(void *)(j.space + spaces) : NULL;
    j.offset = (size_t *)(void *)(j.space + spaces + multipliers);
    j.taps = (int16_t *)(void *)(j.space + spaces + multipliers + offsets);
    j.start = (int32_t *)(void *)(j.space + spaces + multipliers + offsets + taps);
    pq_start_epilogue(&j.epilogue, &v->y, v->x.scale, 0, v->w.scale, v->w.scales != 1, s->outputs, multiplier);
    status = multiplier && !pq_scales_are_good(multiplier, s->outputs) ? PQ_ERROR_SCALE : PQ_OK;
    if (status == PQ_OK) {
        find_runs(&j);
        for (size_t i = 0; i < j.parts && !w->matrix; i++) prepare_part(&j, i);
        pq_run(j.tasks, one_task, &j);
    }
    free(memory);
    return status;
}

pq_status pq_convolve(const pq_convolution *v)
{
    if (v == NULL) return PQ_ERROR_ARGUMENT;
    pq_status status = pq_check_shape(&v->shape);
    if (status != PQ_OK) return status;
    const pq_packed_convolution *w = v->packed;
    pq_packed_convolution *own = NULL;
    if (w == NULL) {
        status = pq_pack_convolution(&v->shape, &v->w, &own);
        if (status != PQ_OK) return status;
        w = own;
    }
    status = run(v, w);
    pq_free_packed_convolution(own);
    return status;
}
