/* From a layout to calls of the kernels, on all threads. */
#ifndef PQ_LAYOUT_H
#define PQ_LAYOUT_H

#include "kernels.h"

/* A part of the array that one kernel call handles: rows x columns elements from `offset`, `stride` apart; the
 * first scale is `param`. by_column: one scale a column; else one a row, stride == columns. */
typedef struct {
    size_t offset, rows, columns, stride, param;
    int by_column;
} pq_piece;

typedef void (*pq_piece_fn)(void *context, const pq_piece *piece);

/* The same scales for the same elements in the plainest terms: one channel is a tensor, blocks of one are channels. */
pq_layout pq_simplify(const pq_layout *layout);

/* Calls fn for pieces that cover the array, those by column at most `widest` columns wide; `bytes` is what one element
 * costs in memory traffic. */
void pq_walk(const pq_layout *layout, size_t bytes, size_t widest, pq_piece_fn fn, void *context);

/* All of an array without layout: task number and the elements [begin, end) of it. */
typedef void (*pq_span_fn)(void *context, size_t task, size_t begin, size_t end);
void pq_walk_span(size_t n, size_t bytes, pq_span_fn fn, void *context);

/* How many consecutive scales make one row of columns of this layout, and is it worth repeating them so that rows
 * are longer? See layout.c. */
typedef struct {
    size_t repeat; /* each scale this often: inner elements become columns */
    size_t tile;   /* the whole row this often: rows are joined */
} pq_expansion;
pq_expansion pq_expand(const pq_layout *layout);

size_t pq_type_size(pq_type type);

/* Is the layout's product free of overflow and its block sane? */
pq_status pq_check_layout(const pq_layout *layout);

/* Scales positive and finite, zero points on a grid that fits the type. */
pq_status pq_check_params(const pq_layout *layout, const pq_params *params, pq_type q_type);
pq_status pq_check_grid(int32_t qmin, int32_t qmax, pq_type q_type);

/* The kernel of a per-type family, or NULL where the types do not make one. */
pq_quantize_fn *pq_find_quantize(pq_type x, pq_type q);
pq_quantize_columns_fn *pq_find_quantize_columns(pq_type x, pq_type q);

#endif
