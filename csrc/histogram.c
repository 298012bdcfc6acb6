/* pq_histogram: ranges and counts in one pass over memory.
 *
 * A few thousand elements at a time are in the first-level cache while their range is found, the histogram is widened
 * if they go beyond it, their bins are computed (the kernels of histogram/) and counted. Tasks have histograms of their
 * own; sums of counts do not depend on who counted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "include/pyquant_semantics.h"
#include "parallel.h"
#include "range.h"

enum { LEAST_EXPONENT = -126, CHUNK = 4096, COPIES = 4, COST = 4 /* as the traffic of so many reads */ };

typedef struct {
    const char *x;
    pq_type type;
    size_t size;
    int omit;
    const pq_layout *layout;
    size_t half, bins, tasks;
    pq_range_kernels range;
    pq_bins_fn *kernel, *kernel_f32;
    uint64_t *counts;
    int32_t *exponent;
    float *low, *high;
    pq_status status;
} job;

/* One histogram in the making. Next to its counts there may be four times as many for long runs: neighbouring elements,
 * which often fall into one bin, count in different ones, and need not wait for each other's store. */
typedef struct {
    uint64_t *counts;
    uint32_t *copies;
    size_t pending; /* counted in copies so far */
    int exponent;
    float low, high;
} tally;

static pq_bins_fn *find_bins(pq_type type)
{
    const pq_kernels *k = pq_get_kernels();
    return type == PQ_F16 ? k->bins_f16 : type == PQ_BF16 ? k->bins_bf16 : type == PQ_F64 ? k->bins_f64 : k->bins_f32;
}

static void refuse(job *j, pq_status status) { __atomic_store_n(&j->status, status, __ATOMIC_RELAXED); }

static tally new_tally(const job *j, uint64_t *counts, uint32_t *copies)
{
    memset(counts, 0, j->bins * sizeof *counts);
    if (copies) memset(copies, 0, COPIES * j->bins * sizeof *copies);
    const tally t = {counts, copies, 0, LEAST_EXPONENT, INFINITY, -INFINITY};
    return t;
}

static void flush(const job *j, tally *t)
{
    if (t->pending == 0) return;
    const uint32_t *const a = t->copies, *const b = a + j->bins, *const c = b + j->bins, *const d = c + j->bins;
    for (size_t i = 0; i < j->bins; i++) t->counts[i] += (uint64_t)a[i] + b[i] + c[i] + d[i];
    memset(t->copies, 0, COPIES * j->bins * sizeof *t->copies);
    t->pending = 0;
}

/* In place, as a bin never moves away from zero. */
static void widen(uint64_t *counts, size_t half, int octaves)
{
    const int shift = octaves < 31 ? octaves : 31;
    uint64_t *const up = counts + half + 1, *const down = counts + half - 1;
    if (shift == 0) return;
    for (size_t i = 1; i < half; i++) {
        const uint64_t above = up[i], below = *(down - i);
        up[i] = *(down - i) = 0;
        up[i >> shift] += above;
        *(down - (i >> shift)) += below;
    }
}

static void widen_to(const job *j, tally *t, int exponent)
{
    if (exponent <= t->exponent) return;
    flush(j, t);
    widen(t->counts, j->half, exponent - t->exponent);
    t->exponent = exponent;
}

/* Counting is bound by stores: time to fetch the chunk that comes next. */
static void count(const job *j, tally *t, const int32_t *bin, size_t n, const char *next)
{
    size_t i = 0;
    if (t->copies == NULL) {
        uint64_t *const counts = t->counts + j->half;
        for (; i < n; i++) counts[bin[i]]++;
        return;
    }
    uint32_t *const a = t->copies + j->half, *const b = a + j->bins, *const c = b + j->bins, *const d = c + j->bins;
    for (; i + 8 <= n; i += 8) {
        a[bin[i]]++;
        b[bin[i + 1]]++;
        c[bin[i + 2]]++;
        d[bin[i + 3]]++;
        a[bin[i + 4]]++;
        b[bin[i + 5]]++;
        c[bin[i + 6]]++;
        d[bin[i + 7]]++;
        __builtin_prefetch(next + i * j->size);
    }
    for (; i < n; i++) a[bin[i]]++;
    t->pending += n;
    if (t->pending > (size_t)1 << 31) flush(j, t);
}

/* The finite ones of n elements, as float32. */
static size_t finite_only(const job *j, const char *x, size_t n, float *kept)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        const double v = pq_value_at(x, i, j->type);
        if (isfinite(v)) kept[found++] = (float)v;
    }
    return found;
}

static void observe_chunk(job *j, tally *t, const char *x, size_t n)
{
    float low, high, kept[CHUNK];
    int32_t bin[CHUNK];
    const char *const next = x + n * j->size;
    pq_bins_fn *kernel = j->kernel;
    if (j->range.range(x, 1, n, &low, &high)) {
        if (!j->omit) {
            refuse(j, PQ_ERROR_NONFINITE);
            return;
        }
        n = finite_only(j, x, n, kept);
        if (n == 0) return;
        x = (const char *)kept;
        kernel = j->kernel_f32;
        pq_find_range(PQ_F32).range(x, 1, n, &low, &high);
    }
    if (!(isfinite(low) && isfinite(high))) { /* float64 beyond float32 */
        refuse(j, PQ_ERROR_RANGE);
        return;
    }
    if (low < t->low) t->low = low;
    if (high > t->high) t->high = high;
    widen_to(j, t, pq_bin_exponent(-low > high ? -low : high, (unsigned)j->half));
    kernel(x, n, ldexpf(1.0f, -t->exponent), bin);
    count(j, t, bin, n, next);
}

static void observe(job *j, tally *t, size_t offset, size_t n)
{
    for (size_t i = 0; i < n; i += CHUNK)
        observe_chunk(j, t, j->x + (offset + i) * j->size, n - i < CHUNK ? n - i : CHUNK);
}

static void deliver(job *j, tally *t, size_t channel)
{
    flush(j, t);
    j->exponent[channel] = t->exponent;
    j->low[channel] = t->low;
    j->high[channel] = t->high;
}

/* Per tensor: every task has a part of it. */
typedef struct {
    job *j;
    tally *tallies;
} spans;

static void span_task(void *context, size_t i)
{
    const spans *s = (const spans *)context;
    const size_t n = pq_layout_size(s->j->layout), first = n * i / s->j->tasks, last = n * (i + 1) / s->j->tasks;
    observe(s->j, s->tallies + i, first, last - first);
    flush(s->j, s->tallies + i);
}

static pq_status of_tensor(job *j)
{
    const size_t n = pq_layout_size(j->layout), copies = n > 8 * j->bins ? COPIES : 0;
    const size_t row = j->bins * (sizeof(uint64_t) + copies * sizeof(uint32_t)) / sizeof(uint64_t) + 1;
    j->tasks = pq_tasks_for(n * j->size * COST);
    if (copies == 0) j->tasks = 1;
    tally *const tallies = (tally *)malloc(j->tasks * sizeof(tally));
    uint64_t *const room = (uint64_t *)malloc(j->tasks * row * sizeof(uint64_t));
    if (tallies != NULL && room != NULL) {
        for (size_t i = 0; i < j->tasks; i++) {
            uint64_t *const counts = room + i * row;
            tallies[i] = new_tally(j, i ? counts : j->counts, copies ? (uint32_t *)(counts + j->bins) : NULL);
        }
        spans s = {j, tallies};
        pq_run(j->tasks, span_task, &s);
        for (size_t i = 1; i < j->tasks; i++) {
            widen_to(j, tallies, tallies[i].exponent);
            widen_to(j, tallies + i, tallies->exponent);
            for (size_t b = 0; b < j->bins; b++) j->counts[b] += tallies[i].counts[b];
            if (tallies[i].low < tallies->low) tallies->low = tallies[i].low;
            if (tallies[i].high > tallies->high) tallies->high = tallies[i].high;
        }
        deliver(j, tallies, 0);
    } else {
        refuse(j, PQ_ERROR_MEMORY);
    }
    free(room);
    free(tallies);
    return j->status;
}

/* Channels with inner elements: a task takes some of the channels through all of outer. */
static void channels_task(void *context, size_t i)
{
    job *j = (job *)context;
    const pq_layout *l = j->layout;
    const size_t first = l->axis * i / j->tasks, last = l->axis * (i + 1) / j->tasks;
    uint32_t *copies = NULL;
    if (l->inner * l->outer > 8 * j->bins) {
        copies = (uint32_t *)malloc(COPIES * j->bins * sizeof(uint32_t));
        if (copies == NULL) {
            refuse(j, PQ_ERROR_MEMORY);
            return;
        }
    }
    for (size_t c = first; c < last; c++) {
        tally t = new_tally(j, j->counts + c * j->bins, copies);
        for (size_t o = 0; o < l->outer; o++) observe(j, &t, (o * l->axis + c) * l->inner, l->inner);
        deliver(j, &t, c);
    }
    free(copies);
}

/* Channels on the last axis: some columns of some rows at a time become runs. */
enum { COLUMNS = 16, ROWS = 256 };

static void gather(const job *j, size_t row, size_t rows, size_t column, size_t columns, char *runs)
{
    const size_t stride = j->layout->axis * j->size, size = j->size;
    const char *from = j->x + row * stride + column * size;
    for (size_t r = 0; r < rows; r++, from += stride)
        for (size_t c = 0; c < columns; c++) {
            char *const to = runs + (c * ROWS + r) * size;
            if (size == 4) memcpy(to, from + 4 * c, 4);
            else if (size == 2) memcpy(to, from + 2 * c, 2);
            else memcpy(to, from + 8 * c, 8);
        }
}

static void columns_task(void *context, size_t i)
{
    job *j = (job *)context;
    const pq_layout *l = j->layout;
    char runs[COLUMNS * ROWS * sizeof(double)];
    const size_t first = l->axis * i / j->tasks, last = l->axis * (i + 1) / j->tasks;
    for (size_t c = first; c < last; c += COLUMNS) {
        const size_t columns = last - c < COLUMNS ? last - c : COLUMNS;
        tally tallies[COLUMNS];
        for (size_t k = 0; k < columns; k++) tallies[k] = new_tally(j, j->counts + (c + k) * j->bins, NULL);
        for (size_t r = 0; r < l->outer; r += ROWS) {
            const size_t rows = l->outer - r < ROWS ? l->outer - r : ROWS;
            gather(j, r, rows, c, columns, runs);
            for (size_t k = 0; k < columns; k++) observe_chunk(j, tallies + k, runs + k * ROWS * j->size, rows);
        }
        for (size_t k = 0; k < columns; k++) deliver(j, tallies + k, c + k);
    }
}

static void nothing(job *j, size_t params)
{
    for (size_t i = 0; i < params; i++) {
        tally t = new_tally(j, j->counts + i * j->bins, NULL);
        deliver(j, &t, i);
    }
}

pq_status pq_histogram(const void *x, pq_type type, const pq_layout *layout, int omit_nonfinite, size_t half,
                       uint64_t *counts, int32_t *exponent, float *low, float *high)
{
    const pq_status status = pq_check_layout(layout);
    if (status != PQ_OK) return status;
    const size_t n = pq_layout_size(layout), params = pq_layout_params(layout);
    if ((unsigned)type > PQ_F64 || layout->block || half < 16 || half > 1u << 24 || (half & (half - 1)))
        return PQ_ERROR_ARGUMENT;
    if (counts == NULL || exponent == NULL || low == NULL || high == NULL || (x == NULL && n > 0))
        return PQ_ERROR_ARGUMENT;
    const pq_layout l = n ? pq_simplify(layout) : *layout;
    job j = {(const char *)x, type, pq_type_size(type), omit_nonfinite, &l, half, 2 * half + 1, 1, pq_find_range(type),
             find_bins(type), find_bins(PQ_F32), counts, exponent, low, high, PQ_OK};
    if (n == 0) {
        nothing(&j, params);
    } else if (l.axis == 1) {
        return of_tensor(&j);
    } else {
        j.tasks = pq_tasks_for(n * j.size * COST);
        j.tasks = j.tasks < l.axis ? j.tasks : l.axis;
        pq_run(j.tasks, l.inner == 1 ? columns_task : channels_task, &j);
    }
    return j.status;
}
