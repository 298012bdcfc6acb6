/* pq_matmul: the loops around the tiles of an integer product.
 *
 * A tile keeps its sums in registers over all of k (a chunk of it, where k is long), so that y is written once. A block of rows of a, in
 * the tile's layout, stays in the second-level cache while the panels of b stream by; where b is not packed yet a
 * block of its columns is packed into that cache, and the rows stream by. */
#include "matmul.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "layout.h"
#include "operand.h"
#include "parallel.h"

enum { STACK = 48 * 1024 }; /* small products work on the stack */

int32_t pq_a_zero(const pq_product *p, const pq_chunks *chunks, size_t row, size_t block)
{
    const pq_matrix *a = &p->a;
    if (a->zero_point == NULL) return 0;
    return a->zero_point[a->zero_points == 1 ? 0 : a->zero_points == p->m ? row : row * chunks->blocks + block];
}

int32_t pq_b_zero(const pq_product *p, size_t column, size_t block)
{
    const pq_matrix *b = &p->b;
    if (b->zero_point == NULL) return 0;
    return b->zero_point[b->zero_points == 1 ? 0 : b->zero_points == p->n ? column : block * p->n + column];
}

static int is_float(pq_type type) { return type <= PQ_F64; }

static int fits(size_t count, size_t one, size_t blocks, int has_blocks)
{
    return count == 1 || count == one || (has_blocks && count == one * blocks);
}

/* Are the arguments such as pyquant.h says? Sets what follows from them about overflow. */
static pq_status check(const pq_product *p, pq_gemm_job *j)
{
    const pq_type a_type = p->a.type, b_type = p->packed ? p->packed->type : p->b.type;
    const size_t most = (size_t)1 << 40;
    if (b_type != PQ_I8 && b_type != PQ_U8) return PQ_ERROR_ARGUMENT;
    if (!is_float(a_type) && a_type != PQ_I8 && a_type != PQ_U8) return PQ_ERROR_ARGUMENT;
    if (p->k >= most || p->m >= most || p->n >= most) return PQ_ERROR_ARGUMENT;
    if (p->packed) {
        const pq_chunks *c = &p->packed->chunks;
        if (c->k != p->k || p->packed->n != p->n) return PQ_ERROR_ARGUMENT;
        if (c->block != pq_split_k(p->k, p->block, p->packed->kernels).block) return PQ_ERROR_ARGUMENT;
    }
    const int empty = p->m == 0 || p->n == 0 || p->batches == 0;
    if (!empty && p->k != 0 && (p->a.data == NULL || (p->packed == NULL && p->b.data == NULL))) return PQ_ERROR_ARGUMENT;
    if (!empty && p->y.data == NULL) return PQ_ERROR_ARGUMENT;

    const size_t blocks = p->block ? pq_larger(pq_parts(p->k, p->block), 1) : 1;
    const int has_blocks = p->block != 0;
    if (has_blocks && p->y.type != PQ_F32) return PQ_ERROR_ARGUMENT;
    if (p->a.zero_point && !fits(p->a.zero_points, p->m, blocks, has_blocks)) return PQ_ERROR_ARGUMENT;
    if (p->b.zero_point && !fits(p->b.zero_points, p->n, blocks, has_blocks)) return PQ_ERROR_ARGUMENT;
    if (p->a.scale && !fits(p->a.scales, p->m, blocks, has_blocks)) return PQ_ERROR_ARGUMENT;
    if (p->b.scale && !fits(p->b.scales, p->n, blocks, has_blocks)) return PQ_ERROR_ARGUMENT;
    if ((p->a.scale && !pq_scales_are_good(p->a.scale, p->a.scales)) ||
        (p->b.scale && !pq_scales_are_good(p->b.scale, p->b.scales)))
        return PQ_ERROR_SCALE;

    pq_grid a_grid = pq_grid_of(a_type);
    if (is_float(a_type)) {
        if ((p->k > 1 && p->a.column_stride != 1) || (p->a.scale && p->a.scales != 1)) return PQ_ERROR_ARGUMENT;
        const pq_grid narrow = {-127, 127}, given = {p->a_qmin, p->a_qmax};
        a_grid = p->a.scale ? given : narrow;
        if (p->a.scale && pq_check_grid(given.low, given.high, p->a_signed ? PQ_I8 : PQ_U8) != PQ_OK) return PQ_ERROR_GRID;
        if (p->a.zero_point && (!p->a.scale || p->a.zero_points != 1)) return PQ_ERROR_ARGUMENT;
        if (p->y.type == PQ_I32 && !p->a.scale) return PQ_ERROR_ARGUMENT;
    }
    const int32_t a_reach = pq_reach(a_grid, p->a.zero_point, p->a.zero_points);
    const int32_t b_reach = pq_reach(pq_grid_of(b_type), p->b.zero_point, p->b.zero_points);
    if (a_reach < 0 || b_reach < 0) return PQ_ERROR_ZERO_POINT;

    const pq_status status = pq_check_result(&p->y);
    if (status != PQ_OK) return status;

    uint64_t bound = (uint64_t)(p->block ? pq_smaller(p->block, p->k) : p->k) * (uint64_t)a_reach * (uint64_t)b_reach;
    if (p->y.bias && p->y.type != PQ_F32) bound += pq_largest((const int32_t *)p->y.bias, p->n);
    j->wide = bound > INT32_MAX;
    return j->wide && p->y.type == PQ_I32 ? PQ_ERROR_OVERFLOW : PQ_OK;
}

int pq_quantize_row(const pq_gemm_job *j, const char *x, int32_t shift, char *codes, float *scale)
{
    const pq_product *p = j->p;
    const int given = p->a.scale != NULL;
    const int32_t zero = (p->a.zero_point ? *p->a.zero_point : 0) + shift;
    const int32_t qmin = (given ? p->a_qmin : -127) + shift, qmax = (given ? p->a_qmax : 127) + shift;
    float by = given ? *p->a.scale : 1.0f;
    if (p->k != 0 && !given) {
        float absmax;
        if (j->absmax(x, 1, p->k, &absmax) != 0 || !(absmax <= 3.402823466e+38f)) return 0;
        pq_symmetric_scales(&absmax, 1, 127.0f, &by);
    }
    if (!given) *scale = by;
    if (p->k != 0) j->quantize(x, codes, 1, p->k, &by, &zero, qmin, qmax, 0);
    return 1;
}

/* Rows of float a: quantized one by one, into the layout where that is one byte wide, else by way of a row of codes. */
static int quantize_rows(const pq_gemm_job *j, const char *a, size_t m0, size_t rows, char *out, size_t out_stride,
                         int32_t *sums, const pq_gemm_space *s)
{
    const pq_product *p = j->p;
    const int direct = j->a_size == 1 && sums == NULL && j->chunks.count == 1;
    const size_t bytes = pq_type_size(p->a.type);
    for (size_t r = 0; r < rows; r++) {
        const char *const x = a + (ptrdiff_t)(m0 + r) * p->a.row_stride * (ptrdiff_t)bytes;
        char *const row = out + r * out_stride * j->a_size;
        char *const codes = direct ? row : s->codes;
        if (!pq_quantize_row(j, x, direct ? j->a_shift : 0, codes, s->scales ? s->scales + r : NULL)) return 0;
        if (direct)
            memset(row + p->k, 0, j->chunks.padded - p->k);
        else
            for (size_t c = 0; c < j->chunks.count; c++) {
                const pq_chunk chunk = pq_chunk_at(&j->chunks, c);
                j->g->copy_a(codes + chunk.start, j->a_code, 0, 1, 1, chunk.length,
                             row + c * j->chunks.padded * j->a_size, out_stride, sums ? sums + c * j->block_rows + r : NULL);
            }
    }
    return 1;
}

/* Rows m0 ... of a in the tile's layout, and what each adds to its accumulators. */
static int fetch_rows(const pq_gemm_job *j, const char *a, size_t m0, size_t rows, pq_gemm_space *s)
{
    const pq_product *p = j->p;
    int32_t *const sums = j->wants_row_sums ? s->rows : NULL;
    s->a = s->copy;
    s->a_stride = j->a_stride;
    if (is_float(p->a.type)) {
        if (!quantize_rows(j, a, m0, rows, s->copy, j->a_stride, sums, s)) return 0;
    } else if (j->a_direct) {
        s->a = a + (ptrdiff_t)m0 * p->a.row_stride;
        s->a_stride = (size_t)p->a.row_stride;
    } else {
        for (size_t c = 0; c < j->chunks.count; c++) {
            const pq_chunk chunk = pq_chunk_at(&j->chunks, c);
            j->g->copy_a(a + (ptrdiff_t)m0 * p->a.row_stride + (ptrdiff_t)chunk.start * p->a.column_stride, p->a.type,
                         p->a.row_stride, p->a.column_stride, rows, chunk.length,
                         s->copy + c * j->chunks.padded * j->a_size, j->a_stride, sums ? sums + c * j->block_rows : NULL);
        }
    }
    if (sums && !j->b_zeros_vary) /* -b_zero * sum, less what the columns do not know of a row's own zero point */
        for (size_t c = 0; c < j->chunks.count; c++)
            for (size_t r = 0; r < rows; r++) {
                int32_t *const v = sums + c * j->block_rows + r;
                *v = (int32_t)(0u - (uint32_t)j->b_zero * (uint32_t)*v);
            }
    return 1;
}

/* What each column of a panel adds to its accumulators in a chunk: -a_zero * (sum - length * b_zero), and the bias. Where zero points
 * vary along the rows it is that bracket instead, for correct() to multiply. */
static void column_terms(const pq_gemm_job *j, size_t n0, size_t columns, const pq_chunk *chunk, const int32_t *sums,
                         int32_t *out, int32_t *bracket)
{
    const pq_product *p = j->p;
    const int32_t *const bias =
        p->y.bias && p->y.type != PQ_F32 && !j->wide && chunk->start == 0 ? (const int32_t *)p->y.bias + n0 : NULL;
    for (size_t i = 0; i < columns; i++) {
        const int32_t zero = j->b_zeros_vary ? pq_b_zero(p, n0 + i, chunk->block) + j->b_shift : j->b_zero;
        const uint32_t inside = (uint32_t)sums[i] - (uint32_t)chunk->length * (uint32_t)zero;
        if (bracket) bracket[i] = (int32_t)inside;
        out[i] = (int32_t)((j->a_zeros_vary ? 0u : 0u - (uint32_t)j->a_zero * inside) + (bias ? (uint32_t)bias[i] : 0u));
    }
    memset(out + columns, 0, ((size_t)j->g->columns - columns) * sizeof *out);
}

/* Zero points that vary along the rows of a or the columns of b: products of a row's and a column's number. */
static void correct(const pq_gemm_job *j, int32_t *acc, size_t stride, size_t m0, size_t rows, size_t n0, size_t columns,
                    size_t block, const int32_t *bracket, const int32_t *row_sums)
{
    const pq_product *p = j->p;
    for (size_t r = 0; r < rows; r++) {
        const uint32_t za = j->a_zeros_vary ? (uint32_t)(pq_a_zero(p, &j->chunks, m0 + r, block) + j->a_shift) : 0;
        const uint32_t sum = j->b_zeros_vary ? (uint32_t)row_sums[r] : 0;
        for (size_t i = 0; i < columns; i++) {
            const uint32_t zb = j->b_zeros_vary ? (uint32_t)(pq_b_zero(p, n0 + i, block) + j->b_shift) : 0;
            acc[r * stride + i] = (int32_t)((uint32_t)acc[r * stride + i] - za * (uint32_t)bracket[i] - zb * sum);
        }
    }
}

/* The scales of a tile in a block of k. */
static const float *a_scales(const pq_gemm_job *j, const pq_gemm_space *s, size_t m0, size_t r0, size_t rows,
                             size_t block, float *own, size_t *step)
{
    const pq_product *p = j->p;
    static const float one = 1.0f;
    *step = 0;
    if (is_float(p->a.type) && p->a.scale == NULL) {
        *step = 1;
        return s->scales + r0;
    }
    if (p->a.scale == NULL) return &one;
    if (p->a.scales == 1) return p->a.scale;
    *step = 1;
    if (p->a.scales == p->m) return p->a.scale + m0 + r0;
    for (size_t r = 0; r < rows; r++) own[r] = p->a.scale[(m0 + r0 + r) * j->chunks.blocks + block];
    return own;
}

static const float *b_scales(const pq_gemm_job *j, size_t n0, size_t block, size_t *step)
{
    const pq_product *p = j->p;
    static const float one = 1.0f;
    *step = p->b.scale && p->b.scales != 1;
    if (p->b.scale == NULL) return &one;
    if (p->b.scales == 1) return p->b.scale;
    return p->b.scale + (p->b.scales == p->n ? 0 : block * p->n) + n0;
}

/* One tile: rows r0 ... of the block that starts at m0, and the panel at n0. */
static void one_tile(const pq_gemm_job *j, pq_gemm_space *s, char *y, size_t m0, size_t r0, size_t rows, size_t n0,
                     size_t columns, const char *panel, const int32_t *column, const int32_t *bracket)
{
    const pq_product *p = j->p;
    const pq_gemm_kernels *g = j->g;
    const size_t width = (size_t)g->columns, chunks = j->chunks.count, size = pq_type_size(p->y.type);
    char *const to =
        y + ((ptrdiff_t)(m0 + r0) * p->y.row_stride + (ptrdiff_t)n0 * p->y.column_stride) * (ptrdiff_t)size;
    const int vary = j->a_zeros_vary || j->b_zeros_vary;
    const int in_place = p->y.type == PQ_I32 && p->y.column_stride == 1 && p->y.row_stride >= 0 && columns == width && !vary;
    int32_t *const acc = in_place ? (int32_t *)(void *)to : s->tile;
    const size_t acc_stride = in_place ? (size_t)p->y.row_stride : width;
    const int own_scales = p->block != 0 || (is_float(p->a.type) && p->a.scale == NULL);
    float blocks[PQ_TILE_ROWS * PQ_TILE_COLUMNS], row_scales[PQ_TILE_ROWS];
    const int y_direct = p->y.column_stride == 1 && p->y.row_stride >= 0;
    float *const f32 = y_direct ? (float *)(void *)to : blocks;
    const size_t f32_stride = y_direct ? (size_t)p->y.row_stride : PQ_TILE_COLUMNS;
    int64_t *const wide = s->wide;
    const pq_sums sums = {acc, wide, acc_stride};

    for (size_t c = 0; c < chunks; c++) {
        const pq_chunk chunk = pq_chunk_at(&j->chunks, c);
        const size_t depth_done = c * j->chunks.padded, groups = pq_parts(chunk.length, (size_t)g->depth);
        const int32_t *const row = j->wants_row_sums && !j->b_zeros_vary ? s->rows + c * j->block_rows + r0 : NULL;
        g->tile(s->a + (r0 * s->a_stride + depth_done) * j->a_size, s->a_stride, panel + depth_done * width * j->b_size,
                groups, (int)rows, row, column + c * width, acc, acc_stride, !chunk.begins && !wide);
        if (vary)
            correct(j, acc, acc_stride, m0 + r0, rows, n0, columns, chunk.block, bracket + c * width,
                    j->b_zeros_vary ? s->rows + c * j->block_rows + r0 : NULL);
        if (wide) pq_widen_tile(acc, width, rows, columns, !chunk.begins, wide);
        if (p->block && chunk.ends) {
            size_t a_step, b_step;
            const float *const sa = a_scales(j, s, m0, r0, rows, chunk.block, row_scales, &a_step);
            const float *const sb = b_scales(j, n0, chunk.block, &b_step);
            pq_end_tile_f32(&j->epilogue, sums, sa, a_step, sb, b_step, n0, rows, columns, f32, f32_stride,
                            chunk.block > 0, c + 1 == chunks);
        }
    }
    if (p->block) {
        if (!y_direct) pq_scatter_tile(f32, f32_stride, 4, rows, columns, to, p->y.row_stride, p->y.column_stride);
        return;
    }
    if (in_place) return;
    pq_epilogue own = j->epilogue;
    size_t first = m0 + r0;
    if (own_scales) { /* the rows' scales are those of the workspace, which starts with the block */
        own.a_scale = s->scales + r0;
        own.a_step = 1;
        first = 0;
    }
    pq_end_tile(&own, sums, first, n0, rows, columns, to);
}

/* Rows [m0, m1) and columns [n0, n1) of one product, by one thread. */
static void multiply(const pq_gemm_job *j, size_t batch, size_t m0, size_t m1, size_t n0, size_t n1, char *space)
{
    const pq_product *p = j->p;
    const pq_gemm_kernels *g = j->g;
    const size_t width = (size_t)g->columns;
    const char *const a = (const char *)p->a.data +
                          (p->a_offset ? p->a_offset[batch] : 0) * (ptrdiff_t)pq_type_size(p->a.type);
    const char *const b = p->packed ? NULL : (const char *)p->b.data + (p->b_offset ? p->b_offset[batch] : 0);
    char *const y = (char *)p->y.data + (p->y_offset ? p->y_offset[batch] : 0) * (ptrdiff_t)pq_type_size(p->y.type);
    pq_gemm_space s = pq_lay_out(j, space);
    for (size_t m = m0; m < m1; m += j->block_rows) {
        const size_t rows = pq_smaller(j->block_rows, m1 - m), tiles = pq_parts(rows, (size_t)g->rows);
        if (!fetch_rows(j, a, m, rows, &s)) {
            __atomic_store_n(j->refused, 1, __ATOMIC_RELAXED);
            return;
        }
        for (size_t n = n0; n < n1; n += j->block_columns) {
            const size_t columns = pq_smaller(j->block_columns, n1 - n), panels = pq_parts(columns, width);
            const char *panel = p->packed ? p->packed->data + n / width * j->panel_bytes : s.b;
            for (size_t c = 0; c < j->chunks.count; c++) {
                const pq_chunk chunk = pq_chunk_at(&j->chunks, c);
                const int32_t *sums = p->packed ? p->packed->sums + c * p->packed->panels * width + n : s.sums;
                if (!p->packed)
                    g->pack_b(b + (ptrdiff_t)chunk.start * p->b.row_stride + (ptrdiff_t)n * p->b.column_stride, p->b.type,
                              p->b.row_stride, p->b.column_stride, chunk.length, columns,
                              s.b + c * j->chunks.padded * width * j->b_size, j->panel_bytes, s.sums);
                for (size_t i = 0; i < panels; i++) {
                    const size_t at = (i * j->chunks.count + c) * width;
                    column_terms(j, n + i * width, pq_smaller(width, columns - i * width), &chunk, sums + i * width,
                                 s.columns + at, s.brackets ? s.brackets + at : NULL);
                }
            }
            for (size_t t = 0; t < tiles; t++) { /* rows are shared out evenly: 16 are 8 and 8, not 12 and 4 */
                const size_t r0 = rows * t / tiles, r1 = rows * (t + 1) / tiles;
                for (size_t i = 0; i < panels; i++) {
                    const size_t at = i * j->chunks.count * width;
                    one_tile(j, &s, y, m, r0, r1 - r0, n + i * width, pq_smaller(width, columns - i * width),
                             panel + i * j->panel_bytes, s.columns + at, s.brackets ? s.brackets + at : NULL);
                }
            }
        }
    }
}

typedef struct {
    const pq_gemm_job *job;
    size_t batch, batches; /* the first, and how many are shared out */
    char *space;
} crew;

static void one_task(void *context, size_t task)
{
    const crew *w = (const crew *)context;
    const pq_gemm_job *j = w->job;
    const pq_product *p = j->p;
    char *const space = w->space + task * j->space_bytes;
    if (j->g->enter) j->g->enter();
    if (w->batches > 1) {
        const size_t first = w->batches * task / j->tasks, last = w->batches * (task + 1) / j->tasks;
        for (size_t i = first; i < last; i++) multiply(j, i, 0, p->m, 0, p->n, space);
    } else {
        const size_t width = (size_t)j->g->columns, panels = pq_parts(p->n, width);
        const size_t i = task / j->tasks_n, k = task % j->tasks_n, tasks_m = j->tasks / j->tasks_n;
        const size_t n0 = panels * k / j->tasks_n * width, n1 = pq_smaller(panels * (k + 1) / j->tasks_n * width, p->n);
        const size_t m0 = p->m * i / tasks_m, m1 = p->m * (i + 1) / tasks_m;
        if (m0 < m1 && n0 < n1) multiply(j, w->batch, m0, m1, n0, n1, space);
    }
    if (j->g->leave) j->g->leave();
}

pq_status pq_matmul(const pq_product *p)
{
    if (p == NULL) return PQ_ERROR_ARGUMENT;
    pq_gemm_job j;
    const pq_status status = check(p, &j);
    if (status != PQ_OK) return status;
    if (p->m == 0 || p->n == 0 || p->batches == 0) return PQ_OK;
    int refused = 0;
    j.refused = &refused;
    pq_plan(&j, p);
    if (pq_is_few_rows(&j)) return pq_multiply_few_rows(&j);

    const size_t bytes = j.tasks * j.space_bytes + j.multipliers * sizeof(float) + PQ_CACHE_LINE;
    char small[STACK];
    char *const memory = bytes <= sizeof small ? small : (char *)malloc(bytes);
    if (memory == NULL) return PQ_ERROR_MEMORY;
    char *const space = memory + (0 - (uintptr_t)memory) % PQ_CACHE_LINE;
    float *const multiplier = (float *)(void *)(space + j.tasks * j.space_bytes);
    pq_start_epilogue(&j.epilogue, &p->y, p->a.scale, p->a.scales != 1, p->b.scale, p->b.scales != 1, p->n,
                      j.multipliers ? multiplier : NULL);
    crew w = {&j, 0, p->batches, space};
    if (j.batches_at_once) {
        pq_run(j.tasks, one_task, &w);
    } else {
        w.batches = 1;
        for (w.batch = 0; w.batch < p->batches; w.batch++) pq_run(j.tasks, one_task, &w);
    }
    if (memory != small) free(memory);
    return refused ? PQ_ERROR_NONFINITE : PQ_OK;
}
