/* A few rows times a matrix that is not packed: packing would read it, write it and read it again. */
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "matmul.h"
#include "parallel.h"

enum {
    BLOCK = 4096,      /* columns whose sums wait for the end of k together */
    WORTH = 32 << 10   /* codes of b: fewer are in the first-level cache after packing */
};

int pq_is_few_rows(const pq_gemm_job *j)
{
    const pq_product *p = j->p;
    return p->packed == NULL && p->block == 0 && p->m <= (size_t)j->g->few_rows &&
           p->k * p->n >= WORTH &&
           (p->b.column_stride == 1 || p->b.row_stride == 1);
}

/* The rows of a, shared by all tasks, and a row of ones where the sums of the columns of b are wanted. */
typedef struct {
    pq_gemm_job *j;
    pq_gemv_fn *gemv;
    ptrdiff_t b_stride;
    const char *b;
    char *y;
    uint8_t *codes;
    size_t stride, rows; /* of codes: with the row of ones */
    size_t chunks;       /* of k; 1 where int32 holds the sums of all of it */
    int32_t *sums;       /* of the rows of a in each chunk */
    size_t tasks, space_bytes;
    char *space; /* sums of products, a block of columns for each task */
} few;

static pq_chunk chunk_at(const few *w, size_t i)
{
    const pq_chunk all = {0, 0, w->j->p->k, 1, 1};
    return w->chunks == 1 ? all : pq_chunk_at(&w->j->chunks, i);
}

static int is_zero(const int32_t *x, size_t n)
{
    int32_t any = 0;
    if (x)
        for (size_t i = 0; i < n; i++) any |= x[i];
    return any == 0;
}

/* acc[r][i] - a_zero[r] * (column_sum[i] - length * b_zero[i]) - b_zero[i] * row_sum[r] + bias[i], where there are any. */
static void add_terms(const few *w, int32_t *acc, size_t n0, size_t columns, size_t length, const int32_t *row_sums)
{
    const pq_gemm_job *j = w->j;
    const pq_product *p = j->p;
    const int32_t *const bias = p->y.bias && p->y.type != PQ_F32 && !j->wide ? (const int32_t *)p->y.bias + n0 : NULL;
    const int has_a = w->rows > p->m, has_b = !is_zero(p->b.zero_point, p->b.zero_points);
    const int32_t *const column_sums = acc + p->m * BLOCK;
    for (size_t r = 0; r < p->m; r++) {
        int32_t *const to = acc + r * BLOCK;
        const uint32_t za = has_a ? (uint32_t)pq_a_zero(p, &j->chunks, r, 0) : 0;
        const uint32_t rest = (uint32_t)row_sums[r] - za * (uint32_t)length;
        if (has_a)
            for (size_t i = 0; i < columns; i++) to[i] = (int32_t)((uint32_t)to[i] - za * (uint32_t)column_sums[i]);
        if (has_b)
            for (size_t i = 0; i < columns; i++)
                to[i] = (int32_t)((uint32_t)to[i] - rest * (uint32_t)pq_b_zero(p, n0 + i, 0));
        if (bias)
            for (size_t i = 0; i < columns; i++) to[i] = (int32_t)((uint32_t)to[i] + (uint32_t)bias[i]);
    }
}

static void some_columns(void *context, size_t task)
{
    const few *w = (const few *)context;
    const pq_gemm_job *j = w->j;
    const pq_product *p = j->p;
    const size_t pieces = pq_parts(p->n, PQ_TILE_COLUMNS), size = pq_type_size(p->y.type);
    const size_t first = pieces * task / w->tasks * PQ_TILE_COLUMNS;
    const size_t last = pq_smaller(pieces * (task + 1) / w->tasks * PQ_TILE_COLUMNS, p->n);
    int64_t *const wide = j->wide ? (int64_t *)(void *)(w->space + task * w->space_bytes) : NULL;
    int32_t *const acc = (int32_t *)(void *)(w->space + task * w->space_bytes + (wide ? p->m * BLOCK * sizeof *wide : 0));
    for (size_t n0 = first; n0 < last; n0 += BLOCK) {
        const size_t columns = pq_smaller(BLOCK, last - n0);
        for (size_t c = 0; c < w->chunks; c++) {
            const pq_chunk chunk = chunk_at(w, c);
            const uint8_t *const b = (const uint8_t *)w->b + (ptrdiff_t)chunk.start * p->b.row_stride;
            for (size_t r = 0; r < w->rows; r++) memset(acc + r * BLOCK, 0, columns * sizeof *acc);
            w->gemv(w->codes + chunk.start, j->a_code, w->stride, w->rows, b + (ptrdiff_t)n0 * p->b.column_stride,
                    p->b.type, w->b_stride, chunk.length, columns, acc, BLOCK);
            add_terms(w, acc, n0, columns, chunk.length, w->sums + c * p->m);
            if (wide) pq_widen_tile(acc, BLOCK, p->m, columns, c > 0, wide);
        }
        for (size_t i = 0; i < columns; i += PQ_TILE_COLUMNS) {
            const pq_sums sums = {acc + i, wide ? wide + i : NULL, BLOCK};
            pq_end_tile(&j->epilogue, sums, 0, n0 + i, p->m, pq_smaller(PQ_TILE_COLUMNS, columns - i),
                        w->y + (ptrdiff_t)(n0 + i) * p->y.column_stride * (ptrdiff_t)size);
        }
    }
}

/* The codes of the rows of a and their sums; 0 where float a is not finite. */
static int fetch(const few *w, const char *a, float *scales)
{
    const pq_gemm_job *j = w->j;
    const pq_product *p = j->p;
    const ptrdiff_t bytes = (ptrdiff_t)pq_type_size(p->a.type);
    for (size_t r = 0; r < p->m; r++) {
        uint8_t *const to = w->codes + r * w->stride;
        const char *const from = a + (ptrdiff_t)r * p->a.row_stride * bytes;
        if (p->a.type <= PQ_F64) {
            if (!pq_quantize_row(j, from, 0, (char *)to, scales + r)) return 0;
        } else if (p->a.column_stride == 1) {
            memcpy(to, from, p->k);
        } else {
            for (size_t i = 0; i < p->k; i++) to[i] = (uint8_t)from[(ptrdiff_t)i * p->a.column_stride];
        }
        memset(to + p->k, 0, w->stride - p->k);
        for (size_t c = 0; c < w->chunks; c++) {
            const pq_chunk chunk = chunk_at(w, c);
            uint32_t sum = 0;
            for (size_t i = 0; i < chunk.length; i++) {
                const int32_t code = j->a_code == PQ_I8 ? (int8_t)to[chunk.start + i] : to[chunk.start + i];
                sum += (uint32_t)code;
            }
            w->sums[c * p->m + r] = (int32_t)sum;
        }
    }
    if (w->rows > p->m) {
        memset(w->codes + p->m * w->stride, 1, p->k);
        memset(w->codes + p->m * w->stride + p->k, 0, w->stride - p->k);
    }
    return 1;
}

pq_status pq_multiply_few_rows(pq_gemm_job *j)
{
    const pq_product *p = j->p;
    const pq_kernels *k = pq_get_kernels();
    const int by_row = p->b.column_stride == 1;
    few w = {.j = j,
             .gemv = by_row ? k->gemv_rows_i8_i32 : k->gemv_columns_i8_i32,
             .b_stride = by_row ? p->b.row_stride : p->b.column_stride,
             .stride = pq_round_up(p->k, PQ_GEMV_DEPTH),
             .rows = p->m + !is_zero(p->a.zero_point, p->a.zero_points),
             .chunks = j->wide ? j->chunks.count : 1};
    w.tasks = pq_smaller(pq_tasks_for(p->k * p->n), pq_parts(p->n, PQ_TILE_COLUMNS));
    w.space_bytes = BLOCK * (w.rows * sizeof(int32_t) + (j->wide ? p->m * sizeof(int64_t) : 0));
    const size_t codes = pq_round_up(w.rows * w.stride, PQ_CACHE_LINE);
    const size_t row_sums = pq_round_up(w.chunks * p->m * sizeof(int32_t), PQ_CACHE_LINE);
    const size_t row_scales = pq_round_up(p->m * sizeof(float), PQ_CACHE_LINE);
    const size_t sums = w.tasks * w.space_bytes;
    char *const memory = (char *)malloc(codes + row_sums + row_scales + sums + j->multipliers * sizeof(float) + PQ_CACHE_LINE);
    if (memory == NULL) return PQ_ERROR_MEMORY;
    char *const space = memory + (0 - (uintptr_t)memory) % PQ_CACHE_LINE;
    w.codes = (uint8_t *)space;
    w.sums = (int32_t *)(void *)(space + codes);
    float *const scales = (float *)(void *)(space + codes + row_sums);
    w.space = space + codes + row_sums + row_scales;
    float *const multiplier = (float *)(void *)(w.space + sums);

    const int own_scales = p->a.type <= PQ_F64 && p->a.scale == NULL;
    pq_start_epilogue(&j->epilogue, &p->y, own_scales ? scales : p->a.scale, own_scales || p->a.scales != 1, p->b.scale,
                      p->b.scales != 1, p->n, j->multipliers ? multiplier : NULL);
    pq_status status = PQ_OK;
    for (size_t i = 0; i < p->batches && status == PQ_OK; i++) {
        const ptrdiff_t a_size = (ptrdiff_t)pq_type_size(p->a.type), y_size = (ptrdiff_t)pq_type_size(p->y.type);
        w.b = (const char *)p->b.data + (p->b_offset ? p->b_offset[i] : 0);
        w.y = (char *)p->y.data + (p->y_offset ? p->y_offset[i] : 0) * y_size;
        if (fetch(&w, (const char *)p->a.data + (p->a_offset ? p->a_offset[i] : 0) * a_size, scales))
            pq_run(w.tasks, some_columns, &w);
        else
            status = PQ_ERROR_NONFINITE;
    }
    free(memory);
    return status;
}
