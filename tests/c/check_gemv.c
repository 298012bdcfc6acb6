/* A few rows times a matrix where it is: against one product at a time, in 64 bits. */
#include "check.h"

#include <string.h>

static int32_t code_of(const unsigned char *p, pq_type type) { return type == PQ_I8 ? (signed char)*p : *p; }

void check_gemv(const comparison *c)
{
    enum { MOST_K = 150, MOST_N = 150, MOST_ROWS = 18, GAP = 7, STRIDE = 192 };
    static unsigned char a[MOST_ROWS * STRIDE], b[(MOST_K + MOST_N) * (MOST_N + MOST_K + GAP)];
    static int32_t before[MOST_ROWS * (MOST_N + 3)], expected[MOST_ROWS * (MOST_N + 3)];
    static const unsigned char extremes[] = {0, 0x7f, 0x80, 0xff};
    static arena as, bs, outputs;
    if (!outputs.base) {
        as = new_arena(sizeof a);
        bs = new_arena(sizeof b);
        outputs = new_arena(sizeof before);
    }
    const int by_row = strcmp(c->op, "gemv_rows_i8_i32") == 0;
    rng r = {31};
    for (size_t round = 0; round < 12 * run_effort.longest; round++) {
        const size_t rows = 1 + random_below(&r, MOST_ROWS), k = 1 + random_below(&r, MOST_K), n = 1 + random_below(&r, MOST_N);
        const size_t c_stride = n + random_below(&r, 4), length = (rows - 1) * c_stride + n;
        const size_t inner = by_row ? n : k, outer = by_row ? k : n, b_stride = inner + random_below(&r, GAP);
        const size_t b_length = (outer - 1) * b_stride + inner, a_stride = (k + 63) / 64 * 64;
        const pq_type a_type = random_bits(&r) & 1 ? PQ_I8 : PQ_U8, b_type = random_bits(&r) & 1 ? PQ_I8 : PQ_U8;
        const int extreme = round % 3 == 0;
        memset(a, 0, sizeof a);
        for (size_t i = 0; i < rows; i++)
            for (size_t d = 0; d < k; d++)
                a[i * a_stride + d] = extreme ? extremes[random_below(&r, 4)] : (unsigned char)random_bits(&r);
        for (size_t i = 0; i < b_length; i++) b[i] = extreme ? extremes[random_below(&r, 4)] : (unsigned char)random_bits(&r);
        for (size_t i = 0; i < length; i++) before[i] = expected[i] = (int32_t)random_bits(&r);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < n; j++) {
                int64_t sum = 0;
                for (size_t d = 0; d < k; d++)
                    sum += (int64_t)code_of(a + i * a_stride + d, a_type) *
                           code_of(b + (by_row ? d * b_stride + j : j * b_stride + d), b_type);
                expected[i * c_stride + j] = (int32_t)((uint32_t)expected[i * c_stride + j] + (uint32_t)sum);
            }
        const int side = round % 2 ? BEFORE : AFTER;
        const size_t distance = alignment_step(round % 64);
        here = (position){c, rows, n, k, distance, side, a_type == PQ_I8, b_type == PQ_I8, 1.0f, {0, 0}};
        const unsigned char *x = place_copy(&as, a, rows * a_stride, distance, side);
        const unsigned char *y = place_copy(&bs, b, b_length, distance, side);
        int32_t *to = place_output(&outputs, 4 * length, distance & ~(size_t)3, side);
        memcpy(to, before, 4 * length);
        ((pq_gemv_fn *)c->function)(x, a_type, a_stride, rows, y, b_type, (ptrdiff_t)b_stride, k, n, to, c_stride);
        if (memcmp(to, expected, 4 * length) != 0) fail("another result", 0);
        if (!margins_intact(&outputs, to, 4 * length)) fail("a write outside", 0);
    }
}
