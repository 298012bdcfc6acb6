/* pq_dynamic_quantize: range, parameters and quantize in one call. */
#include <stdlib.h>
#include <string.h>

#include "include/pyquant_semantics.h"
#include "layout.h"
#include "parallel.h"
#include "params.h"
#include "range.h"

/* Where every scale has one run of its own (per row, per block), a task takes a few runs at a time through all three
 * steps while they are in the first-level cache. */
typedef struct {
    const char *x;
    char *q;
    size_t x_size, q_size, runs, length, tasks;
    pq_scheme scheme;
    int32_t qmin, qmax;
    float *scale;
    int32_t *zero_point;
    pq_range_kernels range;
    pq_quantize_fn *quantize;
    int bad;
} job;

enum { BATCH = 64, BATCH_BYTES = 16 * 1024 };

static void one_batch(job *j, size_t first, size_t runs)
{
    const void *x = j->x + first * j->length * j->x_size;
    void *q = j->q + first * j->length * j->q_size;
    float *scale = j->scale + first, low[BATCH], high[BATCH];
    int32_t *zero_point = j->zero_point + first;
    const pq_symmetric grid = pq_symmetric_grid(j->qmin, j->qmax);
    const int32_t *used = zero_point;
    int bad;
    if (j->scheme == PQ_SYMMETRIC) {
        bad = j->range.absmax(x, runs, j->length, high);
        for (size_t i = 0; i < runs; i++) bad |= !(high[i] <= 3.402823466e+38f); /* float64 beyond float32 */
    } else {
        bad = j->range.range(x, runs, j->length, low, high);
        for (size_t i = 0; i < runs; i++) bad |= !(low[i] >= -3.402823466e+38f && high[i] <= 3.402823466e+38f);
    }
    if (bad) {
        __atomic_store_n(&j->bad, 1, __ATOMIC_RELAXED);
        return;
    }
    if (j->scheme == PQ_SYMMETRIC) {
        pq_symmetric_scales(high, runs, grid.divisor, scale);
        for (size_t i = 0; i < runs; i++) zero_point[i] = grid.zero_point;
        if (grid.zero_point == 0) used = NULL;
    } else {
        for (size_t i = 0; i < runs; i++)
            pq_affine_params(low[i], high[i], j->qmin, j->qmax, scale + i, zero_point + i);
    }
    j->quantize(x, q, runs, j->length, scale, used, j->qmin, j->qmax, 0);
}

static void runs_task(void *context, size_t i)
{
    job *j = (job *)context;
    const size_t first = j->runs * i / j->tasks, last = j->runs * (i + 1) / j->tasks;
    size_t batch = BATCH_BYTES / (j->length * j->x_size);
    batch = batch < 1 ? 1 : batch > BATCH ? BATCH : batch;
    for (size_t r = first; r < last; r += batch) one_batch(j, r, last - r < batch ? last - r : batch);
}

/* Runs of one scale each, short enough to stay in cache, and enough of them for all threads? */
static int one_run_each(const pq_layout *l, size_t x_size, size_t *runs, size_t *length)
{
    const size_t longest = 512 * 1024;
    if (l->block && (l->inner > 1 || l->axis % l->block)) return 0;
    if (!l->block && (l->outer > 1 || l->inner == 1)) return 0;
    *length = l->block ? l->block : l->inner;
    *runs = pq_layout_size(l) / *length;
    return *length * x_size <= longest && (*runs > 1 || pq_tasks_for(*length * x_size) == 1);
}

/* The range of everything first, then all of it again. */
static pq_status two_passes(job *j, const pq_layout *l, pq_type x_type, pq_type q_type)
{
    enum { FEW = 16 };
    float few[2 * FEW];
    const size_t n = pq_layout_params(l);
    float *const low = n <= FEW ? few : (float *)malloc(2 * n * sizeof(float)), *const high = low + n;
    if (low == NULL) return PQ_ERROR_MEMORY;
    pq_status status = PQ_OK;
    if (pq_layout_size(l) == 0) memset(low, 0, 2 * n * sizeof(float));
    else status = pq_range_of(j->x, x_type, l, j->scheme == PQ_SYMMETRIC, low, high);
    if (status == PQ_OK)
        status = pq_choose_params(low, high, n, j->scheme, j->qmin, j->qmax, j->scale, j->zero_point);
    if (low != few) free(low);
    if (status != PQ_OK) return status;
    const pq_params p = {j->scale, j->zero_point, j->qmin, j->qmax};
    return pq_quantize(j->x, x_type, j->q, q_type, l, &p);
}

pq_status pq_dynamic_quantize(const void *x, pq_type x_type, void *q, pq_type q_type, const pq_layout *layout,
                              pq_scheme scheme, int32_t qmin, int32_t qmax, float *scale, int32_t *zero_point)
{
    pq_status status = pq_check_layout(layout);
    if (status == PQ_OK) status = pq_check_grid(qmin, qmax, q_type);
    if (status != PQ_OK) return status;
    if (scale == NULL || zero_point == NULL || qmin == qmax) return PQ_ERROR_ARGUMENT;
    if (pq_find_quantize(x_type, q_type) == NULL) return PQ_ERROR_ARGUMENT;
    if (scheme != PQ_SYMMETRIC && scheme != PQ_AFFINE) return PQ_ERROR_ARGUMENT;
    if (pq_symmetric_grid(qmin, qmax).divisor < 1.0f) return PQ_ERROR_GRID;
    const pq_layout l = pq_simplify(layout);
    const size_t n = pq_layout_size(&l);
    job j = {(const char *)x, (char *)q, pq_type_size(x_type), pq_type_size(q_type), 0, 0, 1, scheme, qmin, qmax,
             scale, zero_point, pq_find_range(x_type), pq_find_quantize(x_type, q_type), 0};
    if (n > 0 && (x == NULL || q == NULL)) return PQ_ERROR_ARGUMENT;
    if (n > 0 && one_run_each(&l, j.x_size, &j.runs, &j.length)) {
        j.tasks = pq_tasks_for(n * (2 * j.x_size + j.q_size));
        pq_run(j.tasks, runs_task, &j);
        if (!j.bad) return PQ_OK;
        return pq_find_nonfinite(x, x_type, n) < n ? PQ_ERROR_NONFINITE : PQ_ERROR_RANGE;
    }
    return two_passes(&j, &l, x_type, q_type);
}
