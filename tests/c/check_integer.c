/* requantize, pack and unpack. */
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { MOST_BYTES = 64 * 1024 };
static arena inputs, outputs;
static unsigned char data[MOST_BYTES], expected[MOST_BYTES];

static void prepare(void)
{
    if (inputs.base) return;
    inputs = new_arena(MOST_BYTES);
    outputs = new_arena(MOST_BYTES);
}

/* Accumulators at the ends of int32, around powers of two, and around the ties of this multiplier. */
static void put_accumulator(rng *r, size_t i, float multiplier, grid q)
{
    int64_t v = (int64_t)(int32_t)random_bits(r);
    const int64_t sign = random_bits(r) & 1 ? -1 : 1, near = (int64_t)random_below(r, 3) - 1;
    switch (random_below(r, 8)) {
    case 0: v = sign * ((int64_t)1 << random_below(r, 32)) + near; break;
    case 1: v = sign * 2147483648 + near; break;
    case 2: v = near; break;
    case 3:
    case 4:
    case 5: {
        const double tie = (q.qmin + (double)random_below(r, (size_t)(q.qmax - q.qmin) + 1) + 0.5) / (double)multiplier;
        if (tie < 2e9 && tie > -2e9) v = (int64_t)tie + near;
        break;
    }
    default: v >>= random_below(r, 31);
    }
    v = v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v;
    memcpy(data + 4 * i, &(int32_t){(int32_t)v}, 4);
}

static float random_multiplier(rng *r)
{
    if (random_below(r, 3) == 0) return random_scale(r);
    const uint32_t exponent = (uint32_t)(127 - 36 + random_below(r, 70)); /* 2^-36 ... 2^33 */
    const uint32_t fraction = random_below(r, 4) ? (uint32_t)random_bits(r) & 0x7fffff : random_bits(r) & 1 ? 0x7fffff : 0;
    return f32_from_bits(exponent << 23 | fraction);
}

void check_requantize(const comparison *c)
{
    const size_t size = size_of_type(c->out);
    rng r = {8};
    prepare();
    for (size_t n = 0; n <= run_effort.longest + run_effort.grids; n++)
        for (int mode = PQ_REQUANTIZE_FLOAT; mode <= PQ_REQUANTIZE_FIXED_SINGLE; mode++) {
            const size_t length = n <= run_effort.longest ? n : 1000 + n % 64;
            const grid q = random_grid(&r, c->out == PQ_I8 ? 8 : 16);
            const int32_t z = random_zero_point(&r, q);
            const float multiplier = random_multiplier(&r);
            const pq_requantize_mode how = (pq_requantize_mode)mode;
            for (size_t i = 0; i < length; i++) put_accumulator(&r, i, multiplier, q);
            ((pq_requantize_fn *)c->reference)((const int32_t *)(const void *)data, expected, length, multiplier, z,
                                               q.qmin, q.qmax, how);
            for (int side = BEFORE; side < SIDES; side++)
                for (size_t a = 0; a < (length == n ? run_effort.alignments : 1); a++) {
                    const size_t distance = alignment_step(a);
                    here = (position){c, 1, length, length, distance, side, mode, 0, multiplier, q};
                    const int32_t *acc = place_copy(&inputs, data, 4 * length, distance, side);
                    void *to = place_output(&outputs, size * length, distance * 5 % 64, side);
                    ((pq_requantize_fn *)c->function)(acc, to, length, multiplier, z, q.qmin, q.qmax, how);
                    expect_bytes(&outputs, to, expected, size * length);
                }
        }
}

/* Rows with gaps between them, which must stay as they are. */
void check_requantize_columns(const comparison *c)
{
    enum { MOST_COLUMNS = 300 };
    const size_t size = size_of_type(c->out);
    static float multiplier[MOST_COLUMNS];
    static int32_t zero_point[MOST_COLUMNS];
    rng r = {9};
    prepare();
    for (size_t n = 0; n <= run_effort.longest && n <= MOST_COLUMNS; n++)
        for (int mode = PQ_REQUANTIZE_FLOAT; mode <= PQ_REQUANTIZE_FIXED_SINGLE; mode++) {
            const size_t rows = 1 + n % 4, stride = n + n % 3 * 5, length = (rows - 1) * stride + n;
            const grid q = random_grid(&r, c->out == PQ_I8 ? 8 : 16);
            const int32_t *z = n % 5 ? zero_point : NULL;
            for (size_t i = 0; i < n; i++) {
                multiplier[i] = random_multiplier(&r);
                zero_point[i] = random_zero_point(&r, q);
            }
            for (size_t i = 0; i < length; i++) put_accumulator(&r, i, n ? multiplier[i % stride % n] : 1.0f, q);
            memset(expected, CANARY, size * length);
            ((pq_requantize_columns_fn *)c->reference)((const int32_t *)(const void *)data, stride, expected, rows, n, stride,
                                                       multiplier, z, q.qmin, q.qmax, (pq_requantize_mode)mode);
            for (int side = BEFORE; side < SIDES; side++)
                for (size_t a = 0; a < run_effort.alignments / 8 + 1; a++) {
                    const size_t distance = alignment_step(a);
                    here = (position){c, rows, n, stride, distance, side, mode, 0, n ? multiplier[0] : 1.0f, q};
                    const int32_t *acc = place_copy(&inputs, data, 4 * length, distance, side);
                    void *to = place_output(&outputs, size * length, distance * 5 % 64, side);
                    ((pq_requantize_columns_fn *)c->function)(acc, stride, to, rows, n, stride, multiplier, z, q.qmin, q.qmax,
                                                              (pq_requantize_mode)mode);
                    expect_bytes(&outputs, to, expected, size * length);
                }
        }
}

static void fill(rng *r, size_t n)
{
    for (size_t i = 0; i < n; i++) data[i] = (unsigned char)random_bits(r);
}

void check_pack_bits(const comparison *c)
{
    rng r = {9};
    prepare();
    for (size_t k = 0; k <= run_effort.longest + 8; k++)
        for (int bits = 1; bits < 8; bits++) {
            const size_t n = k <= run_effort.longest ? k : 4000 * (k % 4 + 1) + k, bytes = (n * (size_t)bits + 7) / 8;
            const int is_signed = (int)(random_bits(&r) & 1), half = is_signed << (bits - 1);
            for (size_t i = 0; i < n; i++) data[i] = (unsigned char)((int)random_below(&r, (size_t)(half + (1 << bits))) - half);
            if (n && random_below(&r, 3) == 0) data[random_below(&r, n)] = (unsigned char)random_bits(&r); /* may not fit */
            const int bad = ((pq_pack_bits_fn *)c->reference)(data, n, bits, is_signed, expected);
            for (int side = BEFORE; side < SIDES; side++)
                for (size_t a = 0; a < run_effort.alignments; a++) {
                    const size_t distance = alignment_step(a);
                    here = (position){c, 1, n, n, distance, side, is_signed, 0, (float)bits, {0, 0}};
                    const uint8_t *q = place_copy(&inputs, data, n, distance, side);
                    uint8_t *to = place_output(&outputs, bytes, distance * 5 % 64, side);
                    if (!((pq_pack_bits_fn *)c->function)(q, n, bits, is_signed, to) != !bad) fail("another verdict", 0);
                    expect_bytes(&outputs, to, expected, bytes);
                }
        }
}

void check_unpack_bits(const comparison *c)
{
    rng r = {10};
    prepare();
    for (size_t k = 0; k <= run_effort.longest + 8; k++)
        for (int bits = 1; bits < 8; bits++) {
            const size_t n = k <= run_effort.longest ? k : 4096 + k, bytes = (n * (size_t)bits + 7) / 8;
            fill(&r, bytes);
            for (int is_signed = 0; is_signed < 2; is_signed++) {
                ((pq_unpack_bits_fn *)c->reference)(data, n, bits, is_signed, expected);
                for (int side = BEFORE; side < SIDES; side++)
                    for (size_t a = 0; a < run_effort.alignments; a++) {
                        const size_t distance = alignment_step(a);
                        here = (position){c, 1, n, n, distance, side, is_signed, 0, (float)bits, {0, 0}};
                        const uint8_t *packed = place_copy(&inputs, data, bytes, distance, side);
                        uint8_t *to = place_output(&outputs, n, distance * 5 % 64, side);
                        ((pq_unpack_bits_fn *)c->function)(packed, n, bits, is_signed, to);
                        expect_bytes(&outputs, to, expected, n);
                    }
            }
        }
}
