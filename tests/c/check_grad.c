/* The gradients of fake quantize. Sums that are NaN are equal whatever their payload. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { MOST = 64 * 1024 };
static arena gradients, inputs, results, scale_pages, zero_point_pages, scale_sums, zero_point_sums;
static char g[8 * MOST], x[8 * MOST], expected[8 * MOST];

static void prepare(void)
{
    if (inputs.base) return;
    gradients = new_arena(sizeof g);
    inputs = new_arena(sizeof x);
    results = new_arena(sizeof expected);
    scale_pages = new_arena(sizeof(float) * PQ_COLUMNS);
    zero_point_pages = new_arena(sizeof(int32_t) * PQ_COLUMNS);
    scale_sums = new_arena(sizeof(double) * PQ_COLUMNS);
    zero_point_sums = new_arena(sizeof(double) * PQ_COLUMNS);
}

static void fill(const comparison *c, rng *r, size_t n, float scale, int32_t low, int32_t high, int nasty)
{
    for (size_t i = 0; i < n; i++) {
        put_finite(g, i, c->in, r);
        put_value(x, i, c->in, r, scale, low, high);
        if (nasty && random_below(r, 16) == 0) put_value(g, i, c->in, r, 1.0f, -2, 2);
    }
}

static int same_sums(const double *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i]))) return 0;
    return 1;
}

/* Every element once more; NaN gradients go through with their payload. */
static void compare(const char *dx, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(dx + i * size, expected + i * size, size) != 0) {
            fail("another gradient", i);
            return;
        }
}

static void try_run(const comparison *c, size_t n, float scale, int32_t zero_point, grid q, size_t distance, int side,
                    int in_place)
{
    double want[2], got[2] = {7, 7};
    const size_t size = size_of_type(c->in), bytes = n * size;
    here = (position){c, 1, n, n, distance, side, 0, in_place, scale, q};
    ((pq_fake_quantize_grad_fn *)c->reference)(g, x, expected, n, scale, zero_point, q.qmin, q.qmax, want, want + 1);
    const void *from = place_copy(&inputs, x, bytes, distance, side);
    char *dx = place_output(&results, bytes, (distance * 5) % 64, side);
    const void *upstream = dx;
    if (in_place) memcpy(dx, g, bytes);
    else upstream = place_copy(&gradients, g, bytes, (distance * 3) % 64, side);
    ((pq_fake_quantize_grad_fn *)c->function)(upstream, from, dx, n, scale, zero_point, q.qmin, q.qmax, got, got + 1);
    if (memcmp(dx, expected, bytes) != 0) compare(dx, n, size);
    if (!same_sums(got, want, 2)) fail("another sum", 0);
    if (!margins_intact(&results, dx, bytes)) fail("wrote outside", 0);
}

void check_fake_quantize_grad(const comparison *c)
{
    static const size_t more[] = {511, 1000, PQ_GRAD_CHUNK - 1, PQ_GRAD_CHUNK};
    rng r = {6};
    prepare();
    for (size_t k = 0; k <= run_effort.longest + 4; k++) {
        const size_t n = k <= run_effort.longest ? k : more[k - run_effort.longest - 1];
        for (size_t a = 0; a < run_effort.alignments; a++)
            for (int side = BEFORE; side < SIDES; side++) {
                const grid q = random_grid(&r, 16);
                const int32_t z = random_zero_point(&r, q);
                const float scale = random_scale(&r);
                if (a < run_effort.scenes || a % 8 == 0) fill(c, &r, n, scale, q.qmin - z, q.qmax - z, (int)(a & 1));
                try_run(c, n, scale, z, q, alignment_step(a), side, a % 3 == 0);
            }
    }
}

typedef struct {
    size_t rows, columns, stride;
    grid q;
    int has_zero_point;
    float scale[PQ_COLUMNS];
    int32_t zero_point[PQ_COLUMNS];
    double start[PQ_COLUMNS], dscale[PQ_COLUMNS], dzero_point[PQ_COLUMNS];
} scene;

static void try_columns(const comparison *c, const scene *s, size_t n, size_t distance, int side, int in_place)
{
    const size_t size = size_of_type(c->in), bytes = n * size, sums = s->columns * sizeof(double);
    here = (position){c, s->rows, s->columns, s->stride, distance, side, 0, in_place, s->scale[0], s->q};
    const void *from = place_copy(&inputs, x, bytes, distance, side);
    char *dx = place_output(&results, bytes, (distance * 5) % 64, side);
    const void *upstream = dx;
    if (in_place) memcpy(dx, g, bytes);
    else upstream = place_copy(&gradients, g, bytes, (distance * 3) % 64, side);
    double *dscale = place_output(&scale_sums, sums, 0, side);
    double *dzero_point = place_output(&zero_point_sums, sums, 0, side);
    memcpy(dscale, s->start, sums);
    memcpy(dzero_point, s->start, sums);
    const float *scale = place_copy(&scale_pages, s->scale, s->columns * sizeof(float), 0, side);
    const int32_t *zero_point = NULL;
    if (s->has_zero_point)
        zero_point = place_copy(&zero_point_pages, s->zero_point, s->columns * sizeof(int32_t), 0, side);
    ((pq_fake_quantize_grad_columns_fn *)c->function)(upstream, from, dx, s->rows, s->columns, s->stride, scale,
                                                      zero_point, s->q.qmin, s->q.qmax, dscale, dzero_point);
    for (size_t i = 0; in_place && i < n; i++) { /* what lies between the rows stays */
        if (i % s->stride < s->columns) continue;
        if (memcmp(dx + i * size, g + i * size, size) != 0) fail("wrote between the rows", i);
        memcpy(dx + i * size, expected + i * size, size);
    }
    if (memcmp(dx, expected, bytes) != 0) compare(dx, n, size);
    if (!same_sums(dscale, s->dscale, s->columns)) fail("another sum of scale gradients", 0);
    if (!same_sums(dzero_point, s->dzero_point, s->columns)) fail("another sum of zero point gradients", 0);
    if (!margins_intact(&results, dx, bytes) || !margins_intact(&scale_sums, dscale, sums) ||
        !margins_intact(&zero_point_sums, dzero_point, sums))
        fail("wrote outside", 0);
}

void check_fake_quantize_grad_columns(const comparison *c)
{
    static scene s;
    static const size_t all_rows[] = {1, 0, 2, 8, 9, 17};
    rng r = {7};
    prepare();
    for (size_t k = 0; k <= run_effort.longest + 1; k++) {
        s.columns = k <= run_effort.longest ? k : PQ_COLUMNS;
        s.rows = all_rows[k % 6];
        s.stride = s.columns + (k % 4 == 1 ? 7 : 0);
        s.q = random_grid(&r, 16);
        s.has_zero_point = random_below(&r, 4) > 0;
        const size_t n = s.rows && s.columns ? (s.rows - 1) * s.stride + s.columns : 0;
        for (size_t i = 0; i < s.columns; i++) {
            s.scale[i] = random_scale(&r);
            s.zero_point[i] = random_zero_point(&r, s.q);
            s.start[i] = s.dscale[i] = s.dzero_point[i] = (double)i - 3.5;
        }
        fill(c, &r, n, s.scale[0], s.q.qmin, s.q.qmax, (int)(k & 1));
        memset(expected, CANARY, n * size_of_type(c->in));
        ((pq_fake_quantize_grad_columns_fn *)c->reference)(g, x, expected, s.rows, s.columns, s.stride, s.scale,
                                                           s.has_zero_point ? s.zero_point : NULL, s.q.qmin, s.q.qmax,
                                                           s.dscale, s.dzero_point);
        for (int side = BEFORE; side < SIDES; side++)
            for (size_t a = 0; a < run_effort.alignments; a += 1 + k % 7) try_columns(c, &s, n, alignment_step(a), side, a % 3 == 0);
    }
}
