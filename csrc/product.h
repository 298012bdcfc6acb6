/* Matrices in the layout of a tile, and memory for them. */
#ifndef PQ_PRODUCT_H
#define PQ_PRODUCT_H

#include "kernels.h"

enum { PQ_CACHE_LINE = 64 };

static inline size_t pq_smaller(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t pq_larger(size_t a, size_t b) { return a > b ? a : b; }
static inline size_t pq_parts(size_t n, size_t of) { return (n + of - 1) / of; }
static inline size_t pq_round_up(size_t n, size_t to) { return pq_parts(n, to) * to; }

/* k in chunks that are multiplied one after the other: blocks that share a scale, or as much as int32 surely holds. Each takes `padded`
 * k of the layout. */
typedef struct {
    size_t k, length, padded, count;
} pq_chunks;
pq_chunks pq_split_k(size_t k, size_t block, const pq_gemm_kernels *kernels);
static inline size_t pq_chunk_length(const pq_chunks *c, size_t i) { return pq_smaller(c->length, c->k - i * c->length); }

/* One panel of b: all chunks, each [padded / depth][columns][depth]. */
static inline size_t pq_panel_bytes(const pq_chunks *c, const pq_gemm_kernels *kernels, size_t type_size)
{
    return c->count * c->padded * (size_t)kernels->columns * type_size;
}

struct pq_packed_matrix {
    const pq_gemm_kernels *kernels;
    const char *isa;
    pq_type type; /* of the codes that were packed */
    size_t n;
    pq_chunks chunks;
    size_t panels, panel_bytes;
    int32_t *sums; /* chunk after chunk, a row of panels * columns each */
    char *data;    /* the panels, on a cache line */
    void *memory;
    size_t bytes;
};

#endif
