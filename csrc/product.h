/* Matrices in the layout of a tile, and memory for them. */
#ifndef PQ_PRODUCT_H
#define PQ_PRODUCT_H

#include "kernels.h"

enum { PQ_CACHE_LINE = 64 };

static inline size_t pq_smaller(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t pq_larger(size_t a, size_t b) { return a > b ? a : b; }
static inline size_t pq_parts(size_t n, size_t of) { return (n + of - 1) / of; }
static inline size_t pq_round_up(size_t n, size_t to) { return pq_parts(n, to) * to; }

/* One thread's memory is a struct `s` of parts of the memory at `space`, of which `used` bytes are taken: the next part, `count` of
 * a type, on a cache line of its own. Where `space` is NULL, only to learn how much it takes. */
#define PQ_PART(name, type, count)                                  \
    if ((count) != 0) {                                             \
        if (space) s.name = (type *)(void *)(space + used);         \
        used += pq_round_up((count) * sizeof(type), PQ_CACHE_LINE); \
    }

/* k in chunks that are multiplied one after the other: blocks that share a scale, and where these are long as many parts of each as
 * int32 surely holds the sums of. Each takes `padded` k of the layout. */
typedef struct {
    size_t k, block, blocks, length, padded, per_block, count;
} pq_chunks;
pq_chunks pq_split_k(size_t k, size_t block, const pq_gemm_kernels *kernels);

typedef struct {
    size_t block, start, length; /* the block's number; in k */
    int begins, ends;            /* the block */
} pq_chunk;
static inline pq_chunk pq_chunk_at(const pq_chunks *c, size_t i)
{
    const int whole = c->per_block == 1; /* mostly, and divisions are slow */
    const size_t block = whole ? i : i / c->per_block, part = whole ? 0 : i % c->per_block;
    const size_t start = block * c->block + part * c->length, end = pq_smaller((block + 1) * c->block, c->k);
    const size_t length = pq_smaller(c->length, end - start);
    return (pq_chunk){block, start, length, part == 0, start + length == end};
}

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
