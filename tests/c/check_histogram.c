/* bins: finite values whose bins an int holds, at scales that underflow and scales that do not. */
#include <math.h>
#include <string.h>

#include "check.h"

enum { MOST_BYTES = 1 << 16 };
static arena inputs, outputs;
static unsigned char data[MOST_BYTES];

static void try_bins(const comparison *c, size_t n, float inverse_width, const int32_t *want, size_t distance, int side)
{
    here = (position){c, 1, n, n, distance, side, 0, 0, 1.0f / inverse_width, {0, 0}};
    const void *x = place_copy(&inputs, data, n * size_of_type(c->in), distance, side);
    int32_t *bin = place_output(&outputs, n * sizeof *bin, 0, side);
    ((pq_bins_fn *)c->function)(x, n, inverse_width, bin);
    for (size_t i = 0; i < n; i++)
        if (bin[i] != want[i]) {
            fail("another bin", i);
            break;
        }
    if (!margins_intact(&outputs, bin, n * sizeof *bin)) fail("wrote outside", 0);
}

void check_bins(const comparison *c)
{
    static int32_t want[1 << 10];
    static const int exponents[] = {11, 0, -117, 3};
    rng r = {6};
    if (!inputs.base) {
        inputs = new_arena(MOST_BYTES);
        outputs = new_arena(MOST_BYTES);
    }
    for (size_t length = 0; length <= run_effort.longest; length++)
        for (size_t k = 0; k < sizeof exponents / sizeof exponents[0]; k++) {
            const float inverse_width = ldexpf(1.0f, exponents[k]);
            for (size_t i = 0; i < length; i++) put_finite(data, i, c->in, &r);
            ((pq_bins_fn *)c->reference)(data, length, inverse_width, want);
            for (int side = BEFORE; side < SIDES; side++) {
                try_bins(c, length, inverse_width, want, 0, side);
                for (size_t a = 1 + k; a < run_effort.alignments; a += 8)
                    try_bins(c, length, inverse_width, want, alignment_step(a), side);
            }
        }
}
