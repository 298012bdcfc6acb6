/* The float32 end of an integer product: rows and columns with scales of their own or without, bias, clip, sums of blocks. */
#include "check.h"

#include <math.h>
#include <string.h>

void check_product_f32(const comparison *c)
{
    enum { MOST_COLUMNS = 200, MOST_ROWS = 5, MOST = MOST_ROWS * (MOST_COLUMNS + 16) };
    static int32_t acc[MOST];
    static float a_scale[MOST_ROWS], b_scale[MOST_COLUMNS], bias[MOST_COLUMNS], before[MOST], expected[MOST];
    static arena accs, scales, biases, outputs;
    if (!outputs.base) {
        accs = new_arena(sizeof acc);
        scales = new_arena(sizeof b_scale);
        biases = new_arena(sizeof bias);
        outputs = new_arena(sizeof before);
    }
    rng r = {21};
    for (size_t n = 1; n <= run_effort.longest && n <= MOST_COLUMNS; n++)
        for (unsigned kind = 0; kind < 16; kind++) {
            const size_t rows = 1 + n % MOST_ROWS, acc_stride = n + n % 3 * 5, stride = n + n % 4 * 3;
            const size_t acc_length = (rows - 1) * acc_stride + n, length = (rows - 1) * stride + n;
            const size_t a_step = kind & 1, b_step = kind >> 1 & 1;
            const int add = kind >> 2 & 1;
            const float low = kind & 1 ? -INFINITY : 0.0f, high = kind & 2 ? INFINITY : 6.0f;
            for (size_t i = 0; i < acc_length; i++)
                acc[i] = (int32_t)((uint32_t)random_bits(&r) >> (random_bits(&r) & 31)) * (random_bits(&r) & 1 ? 1 : -1);
            for (size_t i = 0; i < MOST_ROWS; i++) a_scale[i] = random_scale(&r);
            for (size_t i = 0; i < n; i++) {
                b_scale[i] = random_scale(&r);
                bias[i] = (float)(int32_t)random_bits(&r) * 0x1p-28f;
            }
            for (size_t i = 0; i < length; i++) before[i] = expected[i] = (float)(int32_t)random_bits(&r) * 0x1p-28f;
            ((pq_product_f32_fn *)c->reference)(acc, acc_stride, expected, stride, rows, n, a_scale, a_step, b_scale, b_step,
                                                kind & 8 ? bias : NULL, low, high, add);
            for (int side = BEFORE; side < SIDES; side++) {
                const size_t distance = alignment_step((n + kind) % 64) & ~(size_t)3;
                here = (position){c, rows, n, stride, distance, side, (int)kind, 0, a_scale[0], {0, 0}};
                const int32_t *from = place_copy(&accs, acc, 4 * acc_length, distance, side);
                const float *b = place_copy(&scales, b_scale, 4 * (b_step ? n : 1), distance, side);
                const float *bias_at = place_copy(&biases, bias, 4 * n, distance, side);
                float *to = place_output(&outputs, 4 * length, distance, side);
                memcpy(to, before, 4 * length);
                ((pq_product_f32_fn *)c->function)(from, acc_stride, to, stride, rows, n, a_scale, a_step, b, b_step,
                                                   kind & 8 ? bias_at : NULL, low, high, add);
                for (size_t i = 0; i < length; i++)
                    if (memcmp(to + i, expected + i, 4) != 0) {
                        fail("another result", i);
                        break;
                    }
                if (!margins_intact(&outputs, to, 4 * length)) fail("a write outside", 0);
            }
        }
}
