/* quantize, dequantize and fake quantize, as runs and as columns. */
#include <stdlib.h>
#include <string.h>

#include "check.h"

/* One call: its data, its parameters and what the scalar code makes of them. Runs have stride == columns. */
typedef struct {
    size_t rows, columns, stride, input_bytes, output_bytes;
    int by_column, has_zero_point;
    grid g;
    float scale[PQ_COLUMNS];
    int32_t zero_point[PQ_COLUMNS];
    unsigned char *input, *expected;
} scene;

enum { MOST_BYTES = 1 << 20, MOST_SCENES = 16 };
static scene scenes[MOST_SCENES];
static arena inputs, outputs, scale_pages, zero_point_pages;

static void prepare(void)
{
    if (inputs.base) return;
    inputs = new_arena(MOST_BYTES);
    outputs = new_arena(MOST_BYTES);
    scale_pages = new_arena(sizeof(float) * PQ_COLUMNS);
    zero_point_pages = new_arena(sizeof(int32_t) * PQ_COLUMNS);
    for (int i = 0; i < MOST_SCENES; i++) {
        scenes[i].input = malloc(MOST_BYTES);
        scenes[i].expected = malloc(MOST_BYTES);
    }
}

static int is_code(pq_type type) { return type >= PQ_I8; }

static void call(const comparison *c, any_fn *function, const scene *s, const void *from, void *to,
                 const float *scale, const int32_t *zero_point, int stream)
{
    const int32_t qmin = s->g.qmin, qmax = s->g.qmax;
    if (s->by_column && is_code(c->in))
        ((pq_dequantize_columns_fn *)function)(from, to, s->rows, s->columns, s->stride, scale, zero_point, stream);
    else if (s->by_column)
        ((pq_quantize_columns_fn *)function)(from, to, s->rows, s->columns, s->stride, scale, zero_point, qmin, qmax, stream);
    else if (is_code(c->in))
        ((pq_dequantize_fn *)function)(from, to, s->rows, s->columns, scale, zero_point, stream);
    else
        ((pq_quantize_fn *)function)(from, to, s->rows, s->columns, scale, zero_point, qmin, qmax, stream);
}

static size_t extent(size_t rows, size_t columns, size_t stride)
{
    return rows && columns ? (rows - 1) * stride + columns : 0;
}

/* The grid that an operation's codes are kept in: 8 or 16 bits; fake quantize keeps none. */
static grid grid_for(const comparison *c, rng *r)
{
    const grid i8 = {-128, 127}, u8 = {0, 255}, i16 = {-32768, 32767}, u16 = {0, 65535};
    if (is_code(c->in)) return c->in == PQ_I8 ? i8 : c->in == PQ_U8 ? u8 : c->in == PQ_I16 ? i16 : u16;
    return random_grid(r, c->out == PQ_I8 ? 8 : 16);
}

static void set_scene(const comparison *c, scene *s, rng *r, size_t rows, size_t columns, size_t stride, int by_column)
{
    const size_t params = by_column ? columns : rows, n = extent(rows, columns, stride);
    const int one_kind = random_bits(r) & 1; /* else a column of an extreme scale sends all to the dividing loop */
    s->rows = rows;
    s->columns = columns;
    s->stride = stride;
    s->by_column = by_column;
    s->input_bytes = n * size_of_type(c->in);
    s->output_bytes = n * size_of_type(c->out);
    s->g = grid_for(c, r);
    for (size_t p = 0; p < params; p++) {
        float scale = random_scale(r);
        while (params > 1 && one_kind && !(scale >= 0x1p-100f && scale <= 0x1p100f)) scale = random_scale(r);
        s->scale[p] = scale;
        s->zero_point[p] = random_zero_point(r, s->g);
    }
    s->has_zero_point = s->g.qmin > 0 || random_below(r, 4) > 0;
    for (size_t i = 0; i < n; i++) {
        const size_t p = by_column ? (i % stride < columns ? i % stride : 0) : i / stride;
        const int32_t z = s->has_zero_point ? s->zero_point[p] : 0;
        put_value(s->input, i, c->in, r, s->scale[p], s->g.qmin - z, s->g.qmax - z);
    }
    memset(s->expected, CANARY, s->output_bytes);
    call(c, c->reference, s, s->input, s->expected, s->scale, s->has_zero_point ? s->zero_point : NULL, 0);
}

static void compare(const scene *s, const unsigned char *got)
{
    if (memcmp(got, s->expected, s->output_bytes) == 0) return;
    size_t i = 0;
    while (got[i] == s->expected[i]) i++;
    fail("differs from scalar", i / (s->output_bytes / extent(s->rows, s->columns, s->stride)));
}

static void try_at(const comparison *c, const scene *s, size_t distance, int side, int stream, int in_place)
{
    const size_t params = s->by_column ? s->columns : s->rows;
    /* Input and output misalign differently. */
    const size_t out_distance = distance == 0 || in_place ? distance : (distance * 5 + s->columns) % 64;
    here = (position){c, s->rows, s->columns, s->stride, distance, side, stream, in_place, s->scale[0], s->g};
    const float *scale = place_copy(&scale_pages, s->scale, params * sizeof(float), 0, side);
    const int32_t *zero_point = NULL;
    if (s->has_zero_point)
        zero_point = place_copy(&zero_point_pages, s->zero_point, params * sizeof(int32_t), 0, side);
    if (in_place) {
        /* Between the rows lies input here, and it must stay. */
        unsigned char *both = place_output(&outputs, s->output_bytes, distance, side);
        memcpy(both, s->input, s->input_bytes);
        call(c, c->function, s, both, both, scale, zero_point, stream);
        const size_t size = size_of_type(c->out);
        for (size_t i = 0; i < extent(s->rows, s->columns, s->stride); i++) {
            const int gap = i % s->stride >= s->columns;
            if (memcmp(both + i * size, (gap ? s->input : s->expected) + i * size, size) != 0) {
                fail("differs from scalar", i);
                break;
            }
        }
        if (!margins_intact(&outputs, both, s->output_bytes)) fail("wrote outside", 0);
        return;
    }
    const void *from = place_copy(&inputs, s->input, s->input_bytes, distance, side);
    void *to = place_output(&outputs, s->output_bytes, out_distance, side);
    call(c, c->function, s, from, to, scale, zero_point, stream);
    compare(s, to);
    if (!margins_intact(&outputs, to, s->output_bytes)) fail("wrote outside", 0);
}

static int may_work_in_place(const comparison *c) { return size_of_type(c->in) == size_of_type(c->out); }

/* Every scene flush with both guard pages, with and without streaming; then the misalignments. */
static void try_everywhere(const comparison *c, size_t scene_count)
{
    for (int side = BEFORE; side < SIDES; side++) {
        for (size_t i = 0; i < scene_count; i++) {
            try_at(c, &scenes[i], 0, side, 0, 0);
            try_at(c, &scenes[i], 0, side, 1, 0);
            if (may_work_in_place(c)) try_at(c, &scenes[i], 0, side, (int)(i & 1), 1);
        }
        for (size_t a = 1; a < run_effort.alignments; a++) {
            const scene *s = &scenes[a % scene_count];
            try_at(c, s, alignment_step(a), side, (int)(a / scene_count & 1), 0);
            if (may_work_in_place(c) && a % 4 == 0) try_at(c, s, alignment_step(a), side, (int)(a & 1), 1);
        }
    }
}

static void all_lengths(const comparison *c)
{
    rng r = {1};
    for (size_t n = 0; n <= run_effort.longest; n++) {
        for (size_t i = 0; i < run_effort.scenes; i++) set_scene(c, &scenes[i], &r, 1, n, n, 0);
        try_everywhere(c, run_effort.scenes);
    }
}

/* Many scales, grids and zero points on data long enough for the unrolled loops, and the sums of several runs. */
static void many_parameters(const comparison *c)
{
    rng r = {2};
    for (size_t i = 0; i < run_effort.grids; i++) {
        set_scene(c, scenes, &r, 1, 1000 + i % 64, 1000 + i % 64, 0);
        try_at(c, scenes, i % 64, (int)(i & 1), (int)(i >> 1 & 1), 0);
    }
    static const size_t runs[] = {1, 2, 3, 17, 100}, lengths[] = {1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 48, 64, 65, 100, 129, 131, 200};
    for (size_t k = 0; k < sizeof runs / sizeof runs[0]; k++)
        for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
            set_scene(c, scenes, &r, runs[k], lengths[l], lengths[l], 0);
            set_scene(c, scenes + 1, &r, runs[k], lengths[l], lengths[l], 0);
            const effort all = run_effort;
            run_effort.alignments = all.alignments / 4;
            try_everywhere(c, 2);
            run_effort = all;
        }
}

static void runs(const comparison *c)
{
    prepare();
    all_lengths(c);
    many_parameters(c);
}

/* All widths up to four blocks, then some up to the most there is; strides with gaps. */
static void columns(const comparison *c)
{
    static const size_t rows[] = {0, 1, 2, 7, 8, 9, 17}, wide[] = {300, 511, 512, 515, 1000, 1023, PQ_COLUMNS};
    rng r = {3};
    prepare();
    const effort all = run_effort;
    for (size_t w = 0; w <= all.longest + sizeof wide / sizeof wide[0]; w++) {
        const size_t columns = w <= all.longest ? w : wide[w - all.longest - 1];
        const size_t strides[] = {columns, columns + 1, columns + 13, 2 * columns};
        run_effort.alignments = columns < 70 ? all.alignments / 2 : all.alignments / 8;
        for (size_t k = 0; k < 3; k++)
            set_scene(c, &scenes[k], &r, rows[(w + 2 * k) % 7] + (k == 0 && w > all.longest), columns, strides[(w + k) % 4], 1);
        try_everywhere(c, 3);
    }
    run_effort = all;
}

void check_quantize(const comparison *c) { runs(c); }
void check_dequantize(const comparison *c) { runs(c); }
void check_fake_quantize(const comparison *c) { runs(c); }
void check_quantize_columns(const comparison *c) { columns(c); }
void check_dequantize_columns(const comparison *c) { columns(c); }
void check_fake_quantize_columns(const comparison *c) { columns(c); }
