/* gemm: the tile and the two copies of every variant, against what kernels.h says of them, one element at a time. The
 * scalar variant is checked in the same way: nothing here calls it. */
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { MOST_K = 70000, MOST_BYTES = 8 << 20, LAYOUTS = 10 };
static arena sources, a_place, b_place, c_place, out_place, row_place, column_place, sums_place;
static const pq_gemm_kernels *kernels;
static comparison part;
static int entered;

static void prepare(const comparison *c)
{
    part = *c;
    kernels = ((pq_gemm_fn *)c->function)();
    if (sources.base) return;
    arena *const large[] = {&sources, &a_place, &b_place, &out_place}, *const small[] = {&c_place, &row_place,
                                                                                         &column_place, &sums_place};
    for (size_t i = 0; i < 4; i++) *large[i] = new_arena(MOST_BYTES), *small[i] = new_arena(1 << 16);
}

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

static int32_t lowest(pq_type type) { return type == PQ_U8 ? 0 : -128; }
static int32_t highest(pq_type type) { return type == PQ_I8 ? 127 : 255; }

static int32_t get(const void *array, size_t i, pq_type type)
{
    int16_t wide;
    if (type == PQ_I8) return ((const int8_t *)array)[i];
    if (type == PQ_U8) return ((const uint8_t *)array)[i];
    memcpy(&wide, (const char *)array + 2 * i, 2);
    return wide;
}

/* Codes of one or two bytes: anything, or only the ends, or only one of them. */
enum { ANY, BOTH_ENDS, LOWEST, HIGHEST, KINDS };
static void fill(void *array, size_t n, pq_type type, size_t kind, rng *r)
{
    const int32_t low = lowest(type), high = highest(type);
    for (size_t i = 0; i < n; i++) {
        int32_t code = kind == LOWEST ? low : high;
        if (kind == ANY) code = low + (int32_t)random_below(r, (size_t)(high - low) + 1);
        if (kind == BOTH_ENDS) code = random_below(r, 2) ? low : high;
        if (type == PQ_I16) memcpy((char *)array + 2 * i, &(int16_t){(int16_t)code}, 2);
        else ((uint8_t *)array)[i] = (uint8_t)code;
    }
}

static void *place_random(const arena *at, size_t bytes, size_t unit, int side, rng *r)
{
    return place(at, bytes, alignment_step(random_below(r, run_effort.alignments)) / unit * unit, side);
}

static void check_one_tile(int n_rows, size_t groups, size_t kind_a, size_t kind_b, size_t choices, int side, rng *r)
{
    const size_t rows = (size_t)n_rows, columns = (size_t)kernels->columns, depth = (size_t)kernels->depth,
                 k = groups * depth;
    const size_t a_stride = k + (choices & 8 ? random_below(r, 70) : 0),
                 c_stride = columns + (choices & 16 ? random_below(r, 20) : 0);
    const size_t a_size = size_of_type(kernels->a), b_size = size_of_type(kernels->b);
    const size_t a_count = (rows - 1) * a_stride + k, b_count = k * columns, c_count = (rows - 1) * c_stride + columns;
    const int accumulate = (int)(choices & 1);
    void *const a = place_random(&a_place, a_count * a_size, a_size, side, r);
    void *const b = place_random(&b_place, b_count * b_size, b_size, side, r);
    int32_t *const row = choices & 2 ? place_random(&row_place, rows * 4, 4, side, r) : NULL;
    int32_t *const column = choices & 4 ? place_random(&column_place, columns * 4, 4, side, r) : NULL;
    int32_t *const c = place_output(&c_place, c_count * 4, alignment_step(random_below(r, 16)) / 4 * 4, side);
    int32_t *const expected = malloc(c_count * 4);
    fill(a, a_count, kernels->a, kind_a, r);
    fill(b, b_count, kernels->b, kind_b, r);
    for (size_t i = 0; row && i < rows; i++) row[i] = (int32_t)random_bits(r);
    for (size_t i = 0; column && i < columns; i++) column[i] = (int32_t)random_bits(r);
    for (size_t i = 0; i < c_count; i++) c[i] = (int32_t)random_bits(r);
    memcpy(expected, c, c_count * 4);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) {
            int64_t sum = accumulate ? expected[i * c_stride + j] : 0;
            for (size_t g = 0; g < groups; g++)
                for (size_t d = 0; d < depth; d++)
                    sum += (int64_t)get(a, i * a_stride + g * depth + d, kernels->a) *
                           get(b, (g * columns + j) * depth + d, kernels->b);
            sum += (row ? row[i] : 0) + (int64_t)(column ? column[j] : 0);
            expected[i * c_stride + j] = (int32_t)(uint32_t)(uint64_t)sum;
        }
    here = (position){&part, rows, k, a_stride, c_stride, side, accumulate, (int)choices, 0, {0, 0}};
    if (!entered && kernels->enter) kernels->enter();
    kernels->tile(a, a_stride, b, groups, n_rows, row, column, c, c_stride, accumulate);
    entered = random_below(r, 4) != 0; /* a thread's piece of work is some tiles */
    if (!entered && kernels->leave) kernels->leave();
    for (size_t i = 0; i < c_count; i++)
        if (c[i] != expected[i]) {
            fail("the sum of products differs", i);
            break;
        }
    if (!margins_intact(&c_place, c, c_count * 4)) fail("wrote outside", 0);
    free(expected);
}

static void check_tiles(rng *r)
{
    part.op = "gemm tile";
    const size_t most = run_effort.longest / 2 / (size_t)kernels->depth + 20;
    for (int n_rows = 1; n_rows <= kernels->rows; n_rows++) {
        for (size_t groups = 0; groups <= most; groups += 1 + random_below(r, 8 / run_effort.scenes + 1))
            for (size_t choices = 0; choices < 32; choices += 1 + random_below(r, 4))
                check_one_tile(n_rows, groups, random_below(r, KINDS), random_below(r, KINDS), choices,
                               (int)random_below(r, SIDES), r);
        for (size_t kinds = 0; kinds < KINDS * KINDS; kinds++)
            check_one_tile(n_rows, 512 / (size_t)kernels->depth + kinds, kinds / KINDS, kinds % KINDS, kinds * 7 % 32,
                           kinds & 1, r);
    }
    check_one_tile(kernels->rows, MOST_K / (size_t)kernels->depth, HIGHEST, HIGHEST, 6, AFTER, r); /* past 2^32 */
    check_one_tile(1, MOST_K / (size_t)kernels->depth, LOWEST, LOWEST, 7, AFTER, r);
    if (entered && kernels->leave) kernels->leave();
    entered = 0;
}

/* A matrix of codes between guard pages, however its rows and columns lie. */
typedef struct {
    const uint8_t *first;
    pq_type type;
    ptrdiff_t row_stride, column_stride;
    size_t rows, columns;
} matrix;

static matrix random_matrix(size_t rows, size_t columns, size_t layout, int side, rng *r)
{
    const ptrdiff_t m = (ptrdiff_t)rows, n = (ptrdiff_t)columns, gap = 1 + (ptrdiff_t)random_below(r, 70);
    const ptrdiff_t strides[LAYOUTS][2] = {
        {n, 1},  {n + gap, 1}, {1, m},  {1, m + gap},     {-n - gap, 1}, /* rows upwards: the last one comes first */
        {1, -m}, {-n, -1},     {-1, m}, {3 * n + gap, 3}, {layout & random_bits(r) & 1 ? 0 : 1, 0}, /* broadcast */
    };
    matrix x = {NULL, random_below(r, 2) ? PQ_I8 : PQ_U8, strides[layout][0], strides[layout][1], rows, columns};
    size_t bytes = 0;
    ptrdiff_t start = 0;
    if (rows && columns) {
        const ptrdiff_t down = (m - 1) * x.row_stride, across = (n - 1) * x.column_stride;
        start = (down < 0 ? -down : 0) + (across < 0 ? -across : 0);
        bytes = 1 + (size_t)labs(down) + (size_t)labs(across);
    }
    uint8_t *const memory = place_random(&sources, bytes, 1, side, r);
    fill(memory, bytes, x.type, random_below(r, 3) ? ANY : random_below(r, KINDS), r);
    x.first = memory + start;
    return x;
}

static int32_t element(const matrix *x, size_t row, size_t column, pq_type to)
{
    const int32_t code =
        get(x->first + (ptrdiff_t)row * x->row_stride + (ptrdiff_t)column * x->column_stride, 0, x->type);
    if (to == PQ_I16 || to == x->type) return code;
    return to == PQ_U8 ? code + 128 : code - 128;
}

static int is_gap(const void *array, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        if (((const unsigned char *)array)[i] != CANARY) return 0;
    return 1;
}

static void check_one_pack_b(size_t k, size_t n, size_t layout, int side, rng *r)
{
    const size_t columns = (size_t)kernels->columns, depth = (size_t)kernels->depth, size = size_of_type(kernels->b);
    const size_t groups = (k + depth - 1) / depth, panels = (n + columns - 1) / columns,
                 panel = groups * depth * columns * size;
    const size_t stride = panel + (random_below(r, 2) ? 0 : size * random_below(r, 100)),
                 bytes = panels ? (panels - 1) * stride + panel : 0;
    const matrix x = random_matrix(k, n, layout, side, r);
    char *const out = place_output(&out_place, bytes, alignment_step(random_below(r, 64)) / size * size, side);
    int32_t *const sums =
        place_output(&sums_place, 4 * panels * columns, alignment_step(random_below(r, 16)) / 4 * 4, side);
    here = (position){&part, k, n, (size_t)x.row_stride, (size_t)x.column_stride, side, x.type, (int)layout, 0, {0, 0}};
    kernels->pack_b(x.first, x.type, x.row_stride, x.column_stride, k, n, out, stride, sums);
    for (size_t j = 0; j < panels * columns; j++) {
        const char *const from = out + j / columns * stride;
        int64_t sum = 0;
        for (size_t i = 0; i < groups * depth; i++) {
            const int32_t code = i < k && j < n ? element(&x, i, j, kernels->b) : 0;
            sum += code;
            if (get(from, (i / depth * columns + j % columns) * depth + i % depth, kernels->b) != code) {
                fail("another code, of column", j);
                return;
            }
        }
        if (sums[j] != sum) fail("another sum, of column", j);
    }
    for (size_t p = 0; p + 1 < panels; p++)
        if (!is_gap(out, p * stride + panel, (p + 1) * stride)) fail("wrote between panels", p);
    if (!margins_intact(&out_place, out, bytes) || !margins_intact(&sums_place, sums, 4 * panels * columns))
        fail("wrote outside", 0);
}

static void check_one_copy_a(size_t rows, size_t k, size_t layout, int side, rng *r)
{
    const size_t depth = (size_t)kernels->depth, size = size_of_type(kernels->a), filled = round_up(k, depth);
    const size_t stride = filled + (random_below(r, 2) ? 0 : random_below(r, 100)),
                 bytes = rows ? ((rows - 1) * stride + filled) * size : 0;
    const matrix x = random_matrix(rows, k, layout, side, r);
    char *const out = place_output(&out_place, bytes, alignment_step(random_below(r, 64)) / size * size, side);
    int32_t *const sums = random_below(r, 3)
                              ? place_output(&sums_place, 4 * rows, alignment_step(random_below(r, 16)) / 4 * 4, side)
                              : NULL;
    here =
        (position){&part, rows, k, (size_t)x.row_stride, (size_t)x.column_stride, side, x.type, (int)layout, 0, {0, 0}};
    kernels->copy_a(x.first, x.type, x.row_stride, x.column_stride, rows, k, out, stride, sums);
    for (size_t i = 0; i < rows; i++) {
        int64_t sum = 0;
        for (size_t j = 0; j < filled; j++) {
            const int32_t code = j < k ? element(&x, i, j, kernels->a) : 0;
            sum += code;
            if (get(out, i * stride + j, kernels->a) != code) {
                fail("another code, of row", i);
                return;
            }
        }
        if (sums && sums[i] != sum) fail("another sum, of row", i);
        if (i + 1 < rows && !is_gap(out, (i * stride + filled) * size, (i + 1) * stride * size))
            fail("wrote between rows", i);
    }
    if (!margins_intact(&out_place, out, bytes) || (sums && !margins_intact(&sums_place, sums, 4 * rows)))
        fail("wrote outside", 0);
}

/* Every number of rows with some of columns, and the other way round. */
static void check_copies(const char *name, void (*check_one)(size_t, size_t, size_t, int, rng *), rng *r)
{
    part.op = name;
    for (size_t layout = 0; layout < LAYOUTS; layout++) {
        for (size_t i = 0; i <= run_effort.longest / 2 + 10; i++)
            for (size_t again = 0; again < run_effort.scenes; again++) {
                check_one(i, random_below(r, 150), layout, (int)random_below(r, SIDES), r);
                check_one(random_below(r, 150), i, layout, (int)random_below(r, SIDES), r);
            }
        for (size_t again = 0; again < run_effort.scenes; again++) { /* sums that need all their bits */
            check_one(3000 + random_below(r, 200), random_below(r, 20), layout, (int)random_below(r, SIDES), r);
            check_one(random_below(r, 20), 3000 + random_below(r, 200), layout, (int)random_below(r, SIDES), r);
        }
    }
}

void check_gemm(const comparison *c)
{
    rng r = {11};
    prepare(c);
    check_tiles(&r);
    check_copies("gemm pack_b", check_one_pack_b, &r);
    check_copies("gemm copy_a", check_one_copy_a, &r);
}
