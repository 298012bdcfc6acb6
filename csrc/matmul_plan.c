/* How an integer product is cut up: for the caches, for the threads, and into one thread's memory. */
#include "cpu.h"
#include "layout.h"
#include "matmul.h"
#include "parallel.h"

enum {
    STREAMING_BLOCK = 8 << 20, /* of rows that stream by while packed columns stay: what may wait in the last cache */
    SMALL_PANELS = 16 << 10,   /* panels of b that stay in the first-level cache together */
    FEWEST_ROWS = 96,          /* that a panel from memory must serve, whatever the cache: reading it is then hidden */
    MOST_ROWS = 512,
    PRODUCTS_A_BYTE = 8        /* products that take as long as a byte of memory traffic, for parallel.c */
};

static int vary(const int32_t *x, size_t n)
{
    int32_t differs = 0;
    if (x)
        for (size_t i = 1; i < n; i++) differs |= x[i] ^ x[0];
    return differs != 0;
}

/* Rows a cache line apart from a multiple of all powers of two: they would otherwise share the sets of the caches. */
static size_t row_stride(size_t k, size_t size)
{
    const size_t lines = pq_parts(k * size, PQ_CACHE_LINE);
    return k * size <= PQ_CACHE_LINE ? k : (lines | 1) * PQ_CACHE_LINE / size;
}

static void plan_zero_points(pq_gemm_job *j, pq_type b_code)
{
    const pq_product *p = j->p;
    j->a_shift = pq_gemm_shift(j->a_code, j->g->a);
    j->b_shift = pq_gemm_shift(b_code, j->g->b);
    j->a_zeros_vary = vary(p->a.zero_point, p->a.zero_points);
    j->b_zeros_vary = vary(p->b.zero_point, p->b.zero_points);
    j->a_zero = (p->a.zero_point ? *p->a.zero_point : 0) + j->a_shift;
    j->b_zero = (p->b.zero_point ? *p->b.zero_point : 0) + j->b_shift;
    j->wants_row_sums = j->b_zeros_vary || j->b_zero != 0;
}

/* Threads over rows, columns or both, so that the slowest task is short. A task multiplies its tiles, but also copies its rows and reads or packs its
 * columns, which the tasks beside and below it do as well. */
static void plan_tasks(pq_gemm_job *j)
{
    const pq_product *p = j->p;
    const size_t width = (size_t)j->g->columns, panels = pq_parts(p->n, width);
    const size_t one = pq_larger(p->m * p->n / PRODUCTS_A_BYTE, p->packed ? p->n : p->m + p->n) * p->k;
    const size_t all = one * p->batches, threads = pq_tasks_for(all);
    j->batches_at_once = p->batches > 1 && p->batches >= threads;
    j->tasks = j->tasks_n = 1;
    if (j->batches_at_once) {
        j->tasks = threads;
        return;
    }
    const size_t most = pq_tasks_for(one);
    size_t best = 0;
    for (size_t t = 1; t <= most; t++) {
        if (most % t != 0) continue; /* t tasks along the columns */
        const size_t rows = pq_parts(p->m, most / t), columns = pq_parts(panels, t) * width;
        const size_t cost = rows * columns / 64 + rows / 8 + columns / (p->packed ? 16 : 4);
        if (best == 0 || cost < best) {
            best = cost;
            j->tasks = most;
            j->tasks_n = t;
        }
    }
}

static void plan_blocks(pq_gemm_job *j)
{
    const pq_product *p = j->p;
    const size_t cache = pq_cpu_second_level_cache() / 2, width = (size_t)j->g->columns;
    const size_t row_bytes = pq_larger(j->a_stride * j->a_size, 1), rows = pq_parts(p->m, j->tasks / j->tasks_n);
    const size_t panel = pq_larger(j->panel_bytes, 1), panels = pq_parts(p->n, width);
    size_t block, together;
    if (p->packed) {
        block = pq_larger(pq_smaller(cache / row_bytes, MOST_ROWS), FEWEST_ROWS);
        together = SMALL_PANELS / panel;
    } else {
        block = j->a_direct ? rows : pq_larger(STREAMING_BLOCK / row_bytes, FEWEST_ROWS);
        together = cache / panel;
    }
    j->block_rows = pq_smaller(pq_round_up(pq_smaller(block, rows), (size_t)j->g->rows), rows);
    j->block_columns = pq_smaller(pq_larger(together, 1), panels) * width;
}

void pq_plan(pq_gemm_job *j, const pq_product *p)
{
    const pq_kernels *k = pq_get_kernels();
    const int is_float = p->a.type <= PQ_F64;
    j->p = p;
    j->g = p->packed ? p->packed->kernels : k->gemm();
    j->a_size = pq_type_size(j->g->a);
    j->b_size = pq_type_size(j->g->b);
    j->chunks = p->packed ? p->packed->chunks : pq_split_k(p->k, p->block, j->g);
    j->panel_bytes = pq_panel_bytes(&j->chunks, j->g, j->b_size);
    j->a_stride = row_stride(j->chunks.count * j->chunks.padded, j->a_size);
    j->a_code = !is_float ? p->a.type : p->a.scale && !p->a_signed ? PQ_U8 : PQ_I8;
    plan_zero_points(j, p->packed ? p->packed->type : p->b.type);
    j->a_direct = p->a.type == j->g->a && !j->wants_row_sums && p->a.column_stride == 1 && p->a.row_stride >= (ptrdiff_t)p->k &&
                  p->a.row_stride % 1024 != 0 && p->k % (size_t)j->g->depth == 0 && j->chunks.count == 1;
    j->absmax = p->a.type == PQ_F16 ? k->absmax_f16 : p->a.type == PQ_BF16 ? k->absmax_bf16
                : p->a.type == PQ_F64 ? k->absmax_f64 : k->absmax_f32;
    j->quantize = is_float ? pq_find_quantize(p->a.type, PQ_I8) : NULL;
    j->multipliers = p->y.type != PQ_F32 && p->y.type != PQ_I32 && (p->a.scale == NULL || p->a.scales == 1) && !(is_float && p->a.scale == NULL) ? p->n : 0;
    plan_tasks(j);
    plan_blocks(j);
    j->space_bytes = pq_lay_out(j, NULL).bytes;
}

pq_gemm_space pq_lay_out(const pq_gemm_job *j, char *space)
{
    const size_t rows = j->block_rows, width = (size_t)j->g->columns, panels = pq_parts(j->block_columns, width);
    const size_t chunks = j->chunks.count, tile = (size_t)j->g->rows * width;
    const int varies = j->a_zeros_vary || j->b_zeros_vary, is_float = j->p->a.type <= PQ_F64;
    pq_gemm_space s = {0};
    size_t used = 0;
    PQ_PART(tile, int32_t, tile)
    PQ_PART(wide, int64_t, j->wide ? tile : 0)
    PQ_PART(rows, int32_t, j->wants_row_sums ? rows * chunks : 0)
    PQ_PART(scales, float, is_float && j->p->a.scale == NULL ? rows : 0)
    PQ_PART(columns, int32_t, panels * chunks * width)
    PQ_PART(brackets, int32_t, varies ? panels * chunks * width : 0)
    PQ_PART(sums, int32_t, j->p->packed ? 0 : panels * width)
    PQ_PART(codes, char, is_float ? j->p->k + 1 : 0)
    PQ_PART(copy, char, j->a_direct ? 0 : rows * j->a_stride * j->a_size)
    PQ_PART(b, char, j->p->packed ? 0 : panels * j->panel_bytes)
    s.bytes = used;
    return s;
}
