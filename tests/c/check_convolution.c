/* What convolutions are made of: turning bytes round, and channel by channel. */
#include <string.h>

#include "check.h"

enum { MOST_BYTES = 1 << 18 };
static arena inputs, weights, starts, outputs;
static unsigned char data[MOST_BYTES], other[MOST_BYTES], first[MOST_BYTES], expected[MOST_BYTES];

static void prepare(void)
{
    if (inputs.base) return;
    arena *const all[] = {&inputs, &weights, &starts, &outputs};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) *all[i] = new_arena(MOST_BYTES);
}

/* All shapes up to some squares, with gaps between rows on both sides, which must stay as they are. */
void check_transpose(const comparison *c)
{
    const size_t longest = run_effort.longest < 140 ? 40 : 70;
    rng r = {11};
    prepare();
    for (size_t rows = 1; rows <= longest; rows++)
        for (size_t columns = 1; columns <= longest; columns++) {
            const size_t from_stride = columns + rows % 3 * 7, to_stride = rows + columns % 3 * 5;
            const size_t read = (rows - 1) * from_stride + columns, written = (columns - 1) * to_stride + rows;
            for (size_t i = 0; i < read; i++) data[i] = (unsigned char)random_bits(&r);
            memset(expected, CANARY, written);
            ((pq_transpose_fn *)c->reference)(data, rows, columns, from_stride, expected, to_stride);
            for (int side = BEFORE; side < SIDES; side++) {
                const size_t distance = alignment_step(random_below(&r, run_effort.alignments));
                here = (position){c, rows, columns, from_stride, distance, side, 0, 0, 1.0f, {0, 0}};
                const uint8_t *from = place_copy(&inputs, data, read, distance, side);
                uint8_t *to = place_output(&outputs, written, distance * 5 % 64, side);
                ((pq_transpose_fn *)c->function)(from, rows, columns, from_stride, to, to_stride);
                expect_bytes(&outputs, to, expected, written);
            }
        }
}

static void fill(rng *r, unsigned char *to, size_t n, int extreme)
{
    for (size_t i = 0; i < n; i++) {
        int16_t v = (int16_t)((int)random_below(r, 511) - 255);
        if (extreme) v = random_below(r, 2) ? 255 : -255;
        memcpy(to + 2 * i, &v, 2);
    }
}

/* Every number of taps and pixels, rows of x that overlap as those of a convolution do, sums that go on from others. */
void check_depthwise(const comparison *c)
{
    enum { CHANNELS = 2 * PQ_DEPTHWISE_CHANNELS };
    rng r = {12};
    prepare();
    for (size_t taps = 1; taps <= PQ_DEPTHWISE_TAPS; taps++)
        for (size_t pixels = 1; pixels <= 11; pixels++) {
            const size_t channels = PQ_DEPTHWISE_CHANNELS * (1 + pixels % 2), pitch = channels + random_below(&r, 2) * 9;
            const size_t a_stride = pitch * (1 + random_below(&r, 2)), w_stride = channels + random_below(&r, 2) * 5;
            const size_t c_stride = channels + random_below(&r, 2) * 3, start_from = random_below(&r, 2);
            size_t offset[PQ_DEPTHWISE_TAPS], last = 0;
            for (size_t i = 0; i < taps; i++) {
                offset[i] = random_below(&r, 24) * pitch;
                last = offset[i] > last ? offset[i] : last;
            }
            const size_t read = last + (pixels - 1) * a_stride + channels, used = (taps - 1) * w_stride + channels;
            const size_t written = (pixels - 1) * c_stride + channels;
            const int extreme = random_below(&r, 3) == 0;
            fill(&r, data, read, extreme);
            fill(&r, other, used, extreme);
            for (size_t i = 0; i < CHANNELS * sizeof(int32_t); i++) first[i] = (unsigned char)random_bits(&r);
            memset(expected, CANARY, written * sizeof(int32_t));
            ((pq_depthwise_fn *)c->reference)((const int16_t *)(const void *)data, a_stride, offset, taps,
                                              (const int16_t *)(const void *)other, w_stride, pixels, channels,
                                              start_from ? (const int32_t *)(const void *)first : NULL,
                                              (int32_t *)(void *)expected, c_stride);
            for (int side = BEFORE; side < SIDES; side++) {
                const size_t distance = alignment_step(random_below(&r, run_effort.alignments));
                here = (position){c, pixels, channels, a_stride, distance, side, (int)taps, 0, 1.0f, {0, 0}};
                const int16_t *a = place_copy(&inputs, data, 2 * read, distance / 2 * 2, side);
                const int16_t *w = place_copy(&weights, other, 2 * used, distance * 3 % 64 / 2 * 2, side);
                const int32_t *start = start_from ? place_copy(&starts, first, 4 * channels, distance / 4 * 4, side) : NULL;
                int32_t *to = place_output(&outputs, 4 * written, distance * 5 % 64 / 4 * 4, side);
                ((pq_depthwise_fn *)c->function)(a, a_stride, offset, taps, w, w_stride, pixels, channels, start, to, c_stride);
                expect_bytes(&outputs, to, expected, 4 * written);
            }
        }
}
