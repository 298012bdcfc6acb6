/* A right operand prepared once: pq_pack_matrix. */
#define _GNU_SOURCE /* madvise */
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "layout.h"
#include "parallel.h"
#include "product.h"

/* The longest sum of products of which int32 is sure: 2^15 * 255 * 255 < 2^31. Half of it is as good, and easier on the cache.
 * Parts of a block are of about the same length, a multiple of what a few rows are multiplied by at a time. */
enum { LONGEST_CHUNK = 1 << 14 };

pq_chunks pq_split_k(size_t k, size_t block, const pq_gemm_kernels *kernels)
{
    pq_chunks c = {.k = k, .block = pq_larger(block ? pq_smaller(block, k) : k, 1)};
    c.blocks = pq_larger(pq_parts(k, c.block), 1);
    c.per_block = pq_parts(c.block, LONGEST_CHUNK);
    c.length = c.per_block == 1 ? c.block : pq_round_up(pq_parts(c.block, c.per_block), PQ_GEMV_DEPTH);
    c.padded = pq_round_up(pq_smaller(c.length, k), (size_t)kernels->depth);
    c.count = pq_larger(k / c.block * c.per_block + pq_parts(k % c.block, c.length), 1);
    return c;
}

/* Large matrices on huge pages: fewer address translations while they stream by. */
static void *huge_alloc(size_t bytes)
{
    enum { HUGE_PAGE = 2 << 20 };
    void *memory = NULL;
    const size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : PQ_CACHE_LINE;
    if (posix_memalign(&memory, alignment, bytes) != 0) return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (bytes >= HUGE_PAGE) (void)madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}

static pq_packed_matrix *new_packed(size_t k, size_t n, size_t block, pq_type type)
{
    pq_packed_matrix *p = (pq_packed_matrix *)calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    const pq_gemm_kernels *g = pq_get_kernels()->gemm();
    const size_t columns = (size_t)g->columns;
    p->kernels = g;
    p->isa = pq_gemm_isa();
    p->type = type;
    p->n = n;
    p->chunks = pq_split_k(k, block, g);
    p->panels = pq_parts(n, columns);
    p->panel_bytes = pq_panel_bytes(&p->chunks, g, pq_type_size(g->b));
    const size_t data = pq_round_up(p->panels * p->panel_bytes, PQ_CACHE_LINE);
    const size_t sums = p->chunks.count * p->panels * columns * sizeof *p->sums;
    p->bytes = pq_larger(data + sums, 1);
    p->memory = huge_alloc(p->bytes);
    if (p->memory == NULL) {
        free(p);
        return NULL;
    }
    p->data = (char *)p->memory;
    p->sums = (int32_t *)(void *)(p->data + data);
    return p;
}

typedef struct {
    const pq_matrix *b;
    pq_packed_matrix *packed;
    size_t tasks;
} packing;

static void pack_some(void *context, size_t task)
{
    const packing *j = (const packing *)context;
    const pq_packed_matrix *p = j->packed;
    const pq_gemm_kernels *g = p->kernels;
    const size_t columns = (size_t)g->columns, size = pq_type_size(g->b);
    const size_t first = p->panels * task / j->tasks, last = p->panels * (task + 1) / j->tasks;
    if (first == last) return;
    const size_t n0 = first * columns, n = pq_smaller(last * columns, p->n) - n0;
    const char *const b = (const char *)j->b->data + (ptrdiff_t)n0 * j->b->column_stride;
    for (size_t c = 0; c < p->chunks.count; c++) {
        const pq_chunk chunk = pq_chunk_at(&p->chunks, c);
        g->pack_b(b + (ptrdiff_t)chunk.start * j->b->row_stride, p->type, j->b->row_stride, j->b->column_stride,
                  chunk.length, n, p->data + first * p->panel_bytes + c * p->chunks.padded * columns * size,
                  p->panel_bytes, p->sums + c * p->panels * columns + n0);
    }
}

pq_status pq_pack_matrix(const pq_matrix *b, size_t k, size_t n, size_t block, pq_packed_matrix **packed)
{
    if (b == NULL || packed == NULL || (b->type != PQ_I8 && b->type != PQ_U8)) return PQ_ERROR_ARGUMENT;
    if (b->data == NULL && k != 0 && n != 0) return PQ_ERROR_ARGUMENT;
    const size_t most = (size_t)1 << 40;
    if (k >= most || n >= most || (k != 0 && n >= most / k)) return PQ_ERROR_ARGUMENT;
    pq_packed_matrix *p = new_packed(k, n, block, b->type);
    if (p == NULL) return PQ_ERROR_MEMORY;
    packing j = {b, p, pq_smaller(pq_tasks_for(3 * k * n), pq_larger(p->panels, 1))};
    pq_run(j.tasks, pack_some, &j);
    *packed = p;
    return PQ_OK;
}

void pq_free_packed_matrix(pq_packed_matrix *packed)
{
    if (packed == NULL) return;
    free(packed->memory);
    free(packed);
}

pq_status pq_unpack_matrix(const pq_packed_matrix *p, void *b)
{
    if (p == NULL || (b == NULL && p->n * p->chunks.k != 0)) return PQ_ERROR_ARGUMENT;
    const pq_gemm_kernels *g = p->kernels;
    const size_t columns = (size_t)g->columns, depth = (size_t)g->depth, size = pq_type_size(g->b);
    const int32_t shift = pq_gemm_shift(p->type, g->b);
    for (size_t c = 0; c < p->chunks.count; c++) {
        const pq_chunk chunk = pq_chunk_at(&p->chunks, c);
        for (size_t i = 0; i < chunk.length; i++) {
            const size_t at = c * p->chunks.padded + i;
            uint8_t *const to = (uint8_t *)b + (chunk.start + i) * p->n;
            for (size_t n = 0; n < p->n; n++) {
                const char *const from = p->data + n / columns * p->panel_bytes +
                                         (at / depth * columns * depth + n % columns * depth + at % depth) * size;
                int16_t wide = 0;
                if (size == 2) memcpy(&wide, from, 2);
                const int32_t code = size == 2 ? wide : g->b == PQ_U8 ? *(const uint8_t *)from : *(const int8_t *)from;
                to[n] = (uint8_t)(code - shift);
            }
        }
    }
    return PQ_OK;
}

size_t pq_packed_matrix_bytes(const pq_packed_matrix *packed) { return packed ? packed->bytes : 0; }
const char *pq_packed_matrix_isa(const pq_packed_matrix *packed) { return packed ? packed->isa : NULL; }
