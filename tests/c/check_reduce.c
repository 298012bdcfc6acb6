/* range, absmax and range_columns. Their floats count only where they say that all is finite. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { MOST_BYTES = 1 << 20 };
static arena inputs, lows, highs;
static unsigned char *data;

static void prepare(void)
{
    if (inputs.base) return;
    inputs = new_arena(MOST_BYTES);
    lows = new_arena(sizeof(float) * PQ_COLUMNS);
    highs = new_arena(sizeof(float) * PQ_COLUMNS);
    data = malloc(MOST_BYTES);
}

static void fill_finite(const comparison *c, rng *r, size_t n)
{
    for (size_t i = 0; i < n; i++) put_finite(data, i, c->in, r);
}

/* NaN and infinities at random, so few that often there is one alone. */
static void spoil(const comparison *c, rng *r, size_t n, size_t count)
{
    for (size_t k = 0; k < count && n; k++) put_value(data, random_below(r, n), c->in, r, 1.0f, -2, 2);
}

static int same(const float *a, const float *b, size_t n)
{
    return n == 0 || memcmp(a, b, n * sizeof(float)) == 0;
}

typedef struct {
    size_t runs, length;
    int absolute, bad;
    float low[PQ_COLUMNS], high[PQ_COLUMNS];
} extremes;

static int call_runs(any_fn *function, const extremes *e, const void *x, float *low, float *high)
{
    if (e->absolute) return ((pq_absmax_fn *)function)(x, e->runs, e->length, high);
    return ((pq_range_fn *)function)(x, e->runs, e->length, low, high);
}

static void try_runs(const comparison *c, const extremes *e, size_t distance, int side)
{
    const size_t n = e->runs * e->length, out = e->runs * sizeof(float);
    here = (position){c, e->runs, e->length, e->length, distance, side, 0, 0, 0.0f, {0, 0}};
    const void *x = place_copy(&inputs, data, n * size_of_type(c->in), distance, side);
    float *low = place_output(&lows, e->absolute ? 0 : out, 0, side), *high = place_output(&highs, out, 0, side);
    const int bad = call_runs(c->function, e, x, low, high);
    if (!bad != !e->bad) fail(e->bad ? "passed over NaN or infinity" : "saw NaN or infinity where none is", 0);
    if (!bad && !same(high, e->high, e->runs)) fail("another maximum", 0);
    if (!bad && !e->absolute && !same(low, e->low, e->runs)) fail("another minimum", 0);
    if (!margins_intact(&lows, low, e->absolute ? 0 : out) || !margins_intact(&highs, high, out))
        fail("wrote outside", 0);
}

static void runs(const comparison *c, int absolute)
{
    static extremes e;
    static const size_t counts[] = {1, 0, 2, 3, 17};
    rng r = {4};
    prepare();
    for (size_t length = 1; length <= run_effort.longest; length++)
        for (size_t k = 0; k < 2 + run_effort.scenes; k++) {
            e.runs = k < 5 ? counts[k] : 1;
            e.length = length;
            e.absolute = absolute;
            fill_finite(c, &r, e.runs * length);
            if (k % 2 && k != 1) spoil(c, &r, e.runs * length, k == 3 ? 1 : random_below(&r, 3));
            e.bad = call_runs(c->reference, &e, data, e.low, e.high);
            for (int side = BEFORE; side < SIDES; side++) {
                try_runs(c, &e, 0, side);
                for (size_t a = 1 + k % 4; a < run_effort.alignments; a += 4) try_runs(c, &e, alignment_step(a), side);
            }
        }
}

void check_range(const comparison *c) { runs(c, 0); }
void check_absmax(const comparison *c) { runs(c, 1); }

/* Which zero is kept, -0.0 or 0.0, is not the kernel's business: pq_range turns it into 0.0. */
static void only_plain_zeros(float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) v[i] += 0.0f;
}

static void try_columns(const comparison *c, const extremes *want, const float *start_low, const float *start_high,
                        size_t rows, size_t columns, size_t stride, size_t distance, int side)
{
    const size_t n = rows && columns ? (rows - 1) * stride + columns : 0, out = columns * sizeof(float);
    here = (position){c, rows, columns, stride, distance, side, 0, 0, 0.0f, {0, 0}};
    const void *x = place_copy(&inputs, data, n * size_of_type(c->in), distance, side);
    float *low = place_output(&lows, out, 0, side), *high = place_output(&highs, out, 0, side);
    memcpy(low, start_low, out);
    memcpy(high, start_high, out);
    const int bad = ((pq_range_columns_fn *)c->function)(x, rows, columns, stride, low, high);
    only_plain_zeros(low, columns);
    only_plain_zeros(high, columns);
    if (!bad != !want->bad) fail(want->bad ? "passed over NaN or infinity" : "saw NaN or infinity where none is", 0);
    if (!bad && !same(low, want->low, columns)) fail("another minimum", 0);
    if (!bad && !same(high, want->high, columns)) fail("another maximum", 0);
    if (!margins_intact(&lows, low, out) || !margins_intact(&highs, high, out)) fail("wrote outside", 0);
}

void check_range_columns(const comparison *c)
{
    static extremes want;
    static float low[PQ_COLUMNS], high[PQ_COLUMNS];
    static const size_t all_rows[] = {1, 0, 2, 8, 9, 17}, wide[] = {300, 512, 515, 1023, PQ_COLUMNS};
    rng r = {5};
    prepare();
    for (size_t w = 0; w <= run_effort.longest + sizeof wide / sizeof wide[0]; w++)
        for (size_t k = 0; k < 6; k++) {
            const size_t columns = w <= run_effort.longest ? w : wide[w - run_effort.longest - 1];
            const size_t rows = all_rows[(k + w) % 6], stride = columns + (k % 3 == 0 ? 0 : k * 5);
            const size_t n = rows && columns ? (rows - 1) * stride + columns : 0;
            fill_finite(c, &r, n);
            if (k % 3 == 2) spoil(c, &r, n, 1 + random_below(&r, 2));
            for (size_t i = 0; i < columns; i++) {
                low[i] = i % 3 ? INFINITY : -0.25f;
                high[i] = i % 3 ? -INFINITY : 0.25f;
            }
            memcpy(want.low, low, sizeof low);
            memcpy(want.high, high, sizeof high);
            want.bad = ((pq_range_columns_fn *)c->reference)(data, rows, columns, stride, want.low, want.high);
            only_plain_zeros(want.low, columns);
            only_plain_zeros(want.high, columns);
            for (int side = BEFORE; side < SIDES; side++) {
                try_columns(c, &want, low, high, rows, columns, stride, 0, side);
                for (size_t a = 1 + k; a < run_effort.alignments; a += 12)
                    try_columns(c, &want, low, high, rows, columns, stride, alignment_step(a), side);
            }
        }
}
