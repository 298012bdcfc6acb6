#include "layout.h"

#include "parallel.h"

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static size_t blocks_of(const pq_layout *l) { return l->block ? l->axis / l->block + (l->axis % l->block != 0) : 0; }

size_t pq_layout_size(const pq_layout *l) { return l->outer * l->axis * l->inner; }

size_t pq_layout_params(const pq_layout *l)
{
    return l->block ? l->outer * blocks_of(l) * l->inner : l->axis;
}

size_t pq_type_size(pq_type type)
{
    switch (type) {
    case PQ_F64: return 8;
    case PQ_F32:
    case PQ_I32: return 4;
    case PQ_I8:
    case PQ_U8: return 1;
    default: return 2;
    }
}

pq_status pq_check_layout(const pq_layout *l)
{
    size_t n;
    if (l == NULL || __builtin_mul_overflow(l->outer, l->axis, &n) || __builtin_mul_overflow(n, l->inner, &n) ||
        __builtin_mul_overflow(n, (size_t)16, &n))
        return PQ_ERROR_ARGUMENT;
    return PQ_OK;
}

pq_status pq_check_grid(int32_t qmin, int32_t qmax, pq_type q_type)
{
    int32_t low, high;
    switch (q_type) {
    case PQ_I8: low = -128, high = 127; break;
    case PQ_U8: low = 0, high = 255; break;
    case PQ_I16: low = -32768, high = 32767; break;
    case PQ_U16: low = 0, high = 65535; break;
    default: return PQ_ERROR_ARGUMENT;
    }
    return qmin > qmax || qmin < low || qmax > high ? PQ_ERROR_GRID : PQ_OK;
}

pq_status pq_check_params(const pq_layout *layout, const pq_params *p, pq_type q_type)
{
    if (p == NULL || p->scale == NULL) return PQ_ERROR_ARGUMENT;
    const pq_status status = pq_check_grid(p->qmin, p->qmax, q_type);
    if (status != PQ_OK) return status;
    const size_t n = pq_layout_params(layout);
    int bad = 0;
    for (size_t i = 0; i < n; i++) bad |= !(p->scale[i] > 0.0f) | !(p->scale[i] <= 3.402823466e+38f);
    if (bad) return PQ_ERROR_SCALE;
    if (p->zero_point)
        for (size_t i = 0; i < n; i++) bad |= p->zero_point[i] < p->qmin || p->zero_point[i] > p->qmax;
    else
        bad = p->qmin > 0 || p->qmax < 0;
    return bad ? PQ_ERROR_ZERO_POINT : PQ_OK;
}

/* Short rows waste vectors. A layout with few inner elements is read as columns, each scale repeated `repeat`
 * times, where enough rows pay for writing the scales out; few columns are joined, `tile` rows to one. */
pq_expansion pq_expand(const pq_layout *l)
{
    pq_expansion e = {1, 1};
    if (l->block || l->axis == 1) return e;
    if (l->inner > 1 && l->inner < 64 && l->outer >= 8) e.repeat = l->inner;
    const size_t columns = l->axis * e.repeat;
    if ((l->inner == 1 || e.repeat > 1) && columns < 128 && l->outer >= 32) e.tile = 16;
    return e;
}

typedef struct {
    const pq_layout *layout;
    pq_piece_fn fn;
    void *context;
    size_t tasks, widest;
    size_t run, period; /* runs: their length, and after how many the scales start again */
} walk;

/* The part [*begin, *end) of n that is task i's, at multiples of `grain`. */
static void part(size_t n, size_t grain, size_t tasks, size_t i, size_t *begin, size_t *end)
{
    const size_t grains = (n + grain - 1) / grain;
    *begin = smaller(n, grains * i / tasks * grain);
    *end = smaller(n, grains * (i + 1) / tasks * grain);
}

/* Elements [begin, end) of runs of one length. */
static void runs_between(const walk *w, size_t begin, size_t end)
{
    while (begin < end) {
        const size_t run = begin / w->run, within = begin % w->run;
        const size_t whole = within ? 0 : smaller((end - begin) / w->run, w->period - run % w->period);
        pq_piece p = {begin, 1, smaller(w->run - within, end - begin), 0, run % w->period, 0};
        if (whole) {
            p.rows = whole;
            p.columns = w->run;
        }
        p.stride = p.columns;
        w->fn(w->context, &p);
        begin += p.rows * p.columns;
    }
}

static void runs_task(void *context, size_t i)
{
    const walk *w = (const walk *)context;
    const size_t n = pq_layout_size(w->layout);
    size_t begin, end;
    /* Whole runs where there are many; long ones are cut at multiples of a page. */
    part(n, w->run * 8 * w->tasks <= n ? w->run : 4096, w->tasks, i, &begin, &end);
    runs_between(w, begin, end);
}

static void column_tiles(const walk *w, size_t offset, size_t rows, size_t begin, size_t end, size_t columns,
                         size_t param)
{
    for (size_t c = begin; c < end; c += smaller(w->widest, end - c)) {
        const pq_piece p = {offset + c, rows, smaller(w->widest, end - c), columns, param + c, 1};
        w->fn(w->context, &p);
    }
}

/* Per channel on the last axis: the rows of one matrix. */
static void columns_task(void *context, size_t i)
{
    const walk *w = (const walk *)context;
    const size_t rows = w->layout->outer, columns = w->layout->axis;
    size_t begin, end;
    if (rows >= 16 * w->tasks) {
        part(rows, 8, w->tasks, i, &begin, &end);
        if (begin < end) column_tiles(w, begin * columns, end - begin, 0, columns, columns, 0);
    } else {
        part(columns, 64, w->tasks, i, &begin, &end);
        column_tiles(w, 0, rows, begin, end, columns, 0);
    }
}

/* Blocks along an axis that is not the last: each is a matrix of its own, block rows by inner columns. */
static void block_columns_task(void *context, size_t i)
{
    const walk *w = (const walk *)context;
    const pq_layout *l = w->layout;
    const size_t blocks = blocks_of(l), units = l->outer * blocks;
    const int by_unit = units >= 4 * w->tasks;
    size_t first = 0, last = units, begin = 0, end = l->inner;
    if (by_unit) part(units, 1, w->tasks, i, &first, &last);
    else part(l->inner, 64, w->tasks, i, &begin, &end);
    for (size_t u = first; u < last; u++) {
        const size_t row = u / blocks * l->axis + u % blocks * l->block;
        const size_t rows = smaller(l->block, l->axis - u % blocks * l->block);
        column_tiles(w, row * l->inner, rows, begin, end, l->inner, u * l->inner);
    }
}

/* Blocks along the last axis with a shorter last one. */
static void ragged_rows_task(void *context, size_t i)
{
    const walk *w = (const walk *)context;
    const pq_layout *l = w->layout;
    const size_t blocks = blocks_of(l), rest = l->axis % l->block;
    size_t begin, end, first = 0, last = blocks;
    /* Whole rows where there are enough, else every row's blocks are shared out. */
    const int by_row = l->outer >= 4 * w->tasks;
    begin = 0, end = l->outer;
    if (by_row) part(l->outer, 1, w->tasks, i, &begin, &end);
    else part(blocks, 1, w->tasks, i, &first, &last);
    for (size_t o = begin; o < end; o++) {
        const size_t full = smaller(last, blocks - 1);
        if (full > first) {
            const pq_piece p = {o * l->axis + first * l->block, full - first, l->block, l->block, o * blocks + first, 0};
            w->fn(w->context, &p);
        }
        if (last == blocks && first < last) {
            const pq_piece p = {(o + 1) * l->axis - rest, 1, rest, rest, (o + 1) * blocks - 1, 0};
            w->fn(w->context, &p);
        }
    }
}

pq_layout pq_simplify(const pq_layout *l)
{
    const size_t n = pq_layout_size(l);
    if (l->block == 0 && l->axis == 1) return (pq_layout){1, 1, n, 0};
    if (l->block == 1) return (pq_layout){1, n, 1, 0};
    return *l;
}

void pq_walk(const pq_layout *layout, size_t bytes, size_t widest, pq_piece_fn fn, void *context)
{
    const pq_layout simple = pq_simplify(layout), *l = &simple;
    const size_t n = pq_layout_size(l);
    walk w = {l, fn, context, pq_tasks_for(n * bytes), widest, l->inner, l->axis};
    pq_task task = runs_task;
    if (n == 0) return;
    if (l->block && l->inner > 1) {
        task = block_columns_task;
    } else if (l->block && l->axis % l->block) {
        task = ragged_rows_task;
    } else if (l->block) {
        w.run = l->block;
        w.period = n / l->block;
    } else if (l->inner == 1 && l->axis > 1) {
        task = columns_task;
    }
    pq_run(w.tasks, task, &w);
}

typedef struct {
    size_t n, tasks;
    pq_span_fn fn;
    void *context;
} span;

static void span_task(void *context, size_t i)
{
    const span *s = (const span *)context;
    size_t begin, end;
    part(s->n, 4096, s->tasks, i, &begin, &end);
    if (begin < end) s->fn(s->context, i, begin, end);
}

void pq_walk_span(size_t n, size_t bytes, pq_span_fn fn, void *context)
{
    span s = {n, pq_tasks_for(n * bytes), fn, context};
    pq_run(s.tasks, span_task, &s);
}
