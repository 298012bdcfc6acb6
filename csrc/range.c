/* pq_range, pq_absmax, pq_find_nonfinite. */
#include "range.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "include/pyquant_semantics.h"
#include "parallel.h"

pq_range_kernels pq_find_range(pq_type type)
{
    const pq_kernels *k = pq_get_kernels();
    pq_range_kernels f32 = {k->range_f32, k->absmax_f32, k->range_columns_f32};
    pq_range_kernels f16 = {k->range_f16, k->absmax_f16, k->range_columns_f16};
    pq_range_kernels bf16 = {k->range_bf16, k->absmax_bf16, k->range_columns_bf16};
    pq_range_kernels f64 = {k->range_f64, k->absmax_f64, k->range_columns_f64};
    return type == PQ_F16 ? f16 : type == PQ_BF16 ? bf16 : type == PQ_F64 ? f64 : f32;
}

static void fold(float *low, float *high, float a, float b)
{
    if (a < *low) *low = a;
    if (b > *high) *high = b;
}

static void clear(float *low, float *high, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        low[i] = INFINITY;
        high[i] = -INFINITY;
    }
}

typedef struct {
    const char *x;
    size_t size;
    pq_range_kernels kernel;
    const pq_layout *layout;
    size_t tasks;
    int absolute; /* only max |x| is wanted: high, with low = -high */
    float *low, *high;
    float *task_low, *task_high; /* results of their own for tasks that share channels */
    int bad;
} job;

static void spoil(job *j) { __atomic_store_n(&j->bad, 1, __ATOMIC_RELAXED); }

static void range_runs(job *j, size_t offset, size_t runs, size_t length, float *low, float *high)
{
    const char *x = j->x + offset * j->size;
    if (!j->absolute) {
        if (j->kernel.range(x, runs, length, low, high)) spoil(j);
        return;
    }
    if (j->kernel.absmax(x, runs, length, high)) spoil(j);
    for (size_t i = 0; i < runs; i++) low[i] = -high[i];
}

/* One scale for all. */
static void span_of_tensor(void *context, size_t task, size_t begin, size_t end)
{
    job *j = (job *)context;
    range_runs(j, begin, 1, end - begin, j->task_low + task, j->task_high + task);
}

/* Channels with inner elements: a task takes some of the channels through all of outer. */
static void channels_task(void *context, size_t i)
{
    enum { BATCH = 64 };
    job *j = (job *)context;
    const pq_layout *l = j->layout;
    float low[BATCH], high[BATCH];
    const size_t first = l->axis * i / j->tasks, last = l->axis * (i + 1) / j->tasks;
    clear(j->low + first, j->high + first, last - first);
    for (size_t o = 0; o < l->outer; o++)
        for (size_t c = first; c < last; c += BATCH) {
            const size_t n = last - c < BATCH ? last - c : BATCH;
            range_runs(j, (o * l->axis + c) * l->inner, n, l->inner, low, high);
            for (size_t k = 0; k < n; k++) fold(j->low + c + k, j->high + c + k, low[k], high[k]);
        }
}

/* Columns: a task takes some of the rows, and the tasks' results are folded afterwards. */
static void columns_task(void *context, size_t i)
{
    job *j = (job *)context;
    const pq_layout *l = j->layout;
    const size_t first = l->outer * i / j->tasks, last = l->outer * (i + 1) / j->tasks;
    float *low = j->task_low + i * l->axis, *high = j->task_high + i * l->axis;
    clear(low, high, l->axis);
    for (size_t c = 0; c < l->axis && first < last; c += PQ_COLUMNS) {
        const size_t n = l->axis - c < PQ_COLUMNS ? l->axis - c : PQ_COLUMNS;
        if (j->kernel.columns(j->x + (first * l->axis + c) * j->size, last - first, n, l->axis, low + c, high + c))
            spoil(j);
    }
}

/* Blocks: every parameter's elements lie in one piece. */
static void block_piece(void *context, const pq_piece *p)
{
    job *j = (job *)context;
    float *low = j->low + p->param, *high = j->high + p->param;
    if (!p->by_column) {
        range_runs(j, p->offset, p->rows, p->columns, low, high);
        return;
    }
    clear(low, high, p->columns);
    if (j->kernel.columns(j->x + p->offset * j->size, p->rows, p->columns, p->stride, low, high)) spoil(j);
}

/* A piece that is cut out of a run would overwrite the rest's result, so blocks longer than a task are done whole. */
static int walks_whole_blocks(const pq_layout *l, size_t bytes)
{
    return l->inner > 1 || l->axis % l->block || l->block * 8 * pq_tasks_for(pq_layout_size(l) * bytes) <= pq_layout_size(l);
}

static void long_blocks_task(void *context, size_t i)
{
    job *j = (job *)context;
    const size_t runs = pq_layout_params(j->layout), first = runs * i / j->tasks, last = runs * (i + 1) / j->tasks;
    range_runs(j, first * j->layout->block, last - first, j->layout->block, j->low + first, j->high + first);
}

static pq_status range_of_columns(job *j)
{
    const size_t n = j->layout->axis;
    j->tasks = j->layout->outer < j->tasks ? 1 : j->tasks;
    j->task_low = (float *)malloc(2 * j->tasks * n * sizeof(float));
    if (j->task_low == NULL) return PQ_ERROR_MEMORY;
    j->task_high = j->task_low + j->tasks * n;
    pq_run(j->tasks, columns_task, j);
    clear(j->low, j->high, n);
    for (size_t i = 0; i < j->tasks * n; i++) fold(j->low + i % n, j->high + i % n, j->task_low[i], j->task_high[i]);
    free(j->task_low);
    return PQ_OK;
}

static pq_status range_of_tensor(job *j)
{
    enum { MOST = 256 };
    float low[MOST], high[MOST];
    const size_t n = pq_layout_size(j->layout);
    clear(low, high, MOST);
    j->task_low = low;
    j->task_high = high;
    if (j->tasks > MOST) range_runs(j, 0, 1, n, low, high);
    else pq_walk_span(n, j->size, span_of_tensor, j);
    clear(j->low, j->high, 1);
    for (size_t i = 0; i < MOST; i++) fold(j->low, j->high, low[i], high[i]);
    return PQ_OK;
}

pq_status pq_range_of(const void *x, pq_type type, const pq_layout *layout, int absolute, float *low, float *high)
{
    const pq_layout l = pq_simplify(layout);
    const size_t params = pq_layout_params(&l);
    job j = {(const char *)x, pq_type_size(type), pq_find_range(type), &l, 1, absolute, low, high, NULL, NULL, 0};
    pq_status status = PQ_OK;
    j.tasks = pq_tasks_for(pq_layout_size(&l) * j.size);
    if (l.block) {
        if (walks_whole_blocks(&l, j.size)) pq_walk(&l, j.size, PQ_COLUMNS, block_piece, &j);
        else pq_run(j.tasks, long_blocks_task, &j);
    } else if (l.axis == 1) {
        status = range_of_tensor(&j);
    } else if (l.inner == 1) {
        status = range_of_columns(&j);
    } else {
        pq_run(j.tasks, channels_task, &j);
    }
    if (status != PQ_OK) return status;
    if (j.bad) return PQ_ERROR_NONFINITE;
    for (size_t i = 0; i < params; i++) { /* float64 data beyond float32; -0.0 is 0.0 */
        if (!(isfinite(low[i]) && isfinite(high[i]))) return PQ_ERROR_RANGE;
        low[i] += 0.0f;
        high[i] += 0.0f;
        if (absolute) high[i] = -low[i] > high[i] ? -low[i] : high[i]; /* not -0.0 */
    }
    return PQ_OK;
}

double pq_value_at(const void *x, size_t i, pq_type type)
{
    union {
        double d;
        float f;
        uint16_t h;
    } v;
    memcpy(&v, (const char *)x + i * pq_type_size(type), pq_type_size(type));
    switch (type) {
    case PQ_F64: return v.d;
    case PQ_F32: return (double)v.f;
    case PQ_F16: return (double)pq_f16_to_f32(v.h);
    default: return (double)pq_bf16_to_f32(v.h);
    }
}

/* With NaN and infinities passed over: rare, so one element at a time. Nothing left of a channel: 0 ... 0. */
static void range_omitting(const void *x, pq_type type, const pq_layout *l, float *low, float *high)
{
    const size_t params = pq_layout_params(l), blocks = l->block ? params / (l->outer * l->inner) : 0;
    clear(low, high, params);
    for (size_t o = 0, i = 0; o < l->outer; o++)
        for (size_t c = 0; c < l->axis; c++)
            for (size_t k = 0; k < l->inner; k++, i++) {
                const size_t p = l->block ? (o * blocks + c / l->block) * l->inner + k : c;
                const double v = pq_value_at(x, i, type);
                if (isfinite(v)) fold(low + p, high + p, (float)v, (float)v);
            }
    for (size_t p = 0; p < params; p++) {
        if (low[p] > high[p]) low[p] = high[p] = 0.0f;
        low[p] += 0.0f;
        high[p] += 0.0f;
    }
}

static int is_float(pq_type type) { return type == PQ_F32 || type == PQ_F16 || type == PQ_BF16 || type == PQ_F64; }

static pq_status checked_range(const void *x, pq_type type, const pq_layout *layout, int omit, int absolute,
                               float *low, float *high)
{
    pq_status status = pq_check_layout(layout);
    if (status != PQ_OK) return status;
    const size_t n = pq_layout_size(layout), params = pq_layout_params(layout);
    if (!is_float(type) || low == NULL || high == NULL || (x == NULL && n > 0)) return PQ_ERROR_ARGUMENT;
    if (n == 0) {
        for (size_t i = 0; i < params; i++) low[i] = high[i] = 0.0f;
        return PQ_OK;
    }
    status = pq_range_of(x, type, layout, absolute, low, high);
    if (status != PQ_ERROR_NONFINITE || !omit) return status;
    range_omitting(x, type, layout, low, high);
    for (size_t i = 0; i < params; i++) {
        if (!(isfinite(low[i]) && isfinite(high[i]))) return PQ_ERROR_RANGE;
        if (absolute) high[i] = -low[i] > high[i] ? -low[i] : high[i];
    }
    return PQ_OK;
}

pq_status pq_range(const void *x, pq_type type, const pq_layout *layout, int omit_nonfinite, float *low, float *high)
{
    return checked_range(x, type, layout, omit_nonfinite, 0, low, high);
}

pq_status pq_absmax(const void *x, pq_type type, const pq_layout *layout, int omit_nonfinite, float *absmax)
{
    const pq_status bad = pq_check_layout(layout);
    if (bad != PQ_OK) return bad;
    float *const low = (float *)malloc((pq_layout_params(layout) + 1) * sizeof(float));
    if (low == NULL) return PQ_ERROR_MEMORY;
    const pq_status status = checked_range(x, type, layout, omit_nonfinite, 1, low, absmax);
    free(low);
    return status;
}

size_t pq_find_nonfinite(const void *x, pq_type type, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(pq_value_at(x, i, type))) return i;
    return n;
}
