/* What becomes of a tile of accumulators: the end of every integer product and convolution. */
#ifndef PQ_EPILOGUE_H
#define PQ_EPILOGUE_H

#include "kernels.h"

enum { PQ_TILE_COLUMNS = 64, PQ_TILE_ROWS = 32 }; /* the most that a pq_gemm_kernels has */

typedef struct {
    pq_result y;
    size_t size; /* bytes of an element of y */
    const float *a_scale, *b_scale;
    size_t a_step, b_step;   /* 0: one scale for all rows or columns, else 1 */
    const float *multiplier; /* n of them, where all rows share a scale and y is on a grid */
    pq_product_f32_fn *product_f32;
    pq_requantize_columns_fn *requantize;
} pq_epilogue;

/* The scales of y, which must be checked already, and n of them for `multiplier` where y is on a grid. */
void pq_start_epilogue(pq_epilogue *e, const pq_result *y, const float *a_scale, size_t a_step, const float *b_scale,
                       size_t b_step, size_t n, float *multiplier);

/* The accumulators of a tile, bias included where that is of int32; or in `wide`, unless NULL, those that int32 may not
 * hold, and without the bias. */
typedef struct {
    const int32_t *acc;
    const int64_t *wide;
    size_t stride;
} pq_sums;

/* wide = (add ? wide : 0) + acc */
void pq_widen_tile(const int32_t *acc, size_t stride, size_t rows, size_t columns, int add, int64_t *wide);

/* Rows from m0 on and columns from n0 on, the first of them to go to y. For PQ_F32 `add` is that of pq_product_f32_fn,
 * and the bias and the clip come with the `last` of the tiles that are added up. */
void pq_end_tile(const pq_epilogue *e, pq_sums sums, size_t m0, size_t n0, size_t rows, size_t columns, char *y);
void pq_end_tile_f32(const pq_epilogue *e, pq_sums sums, const float *a_scale, size_t a_step, const float *b_scale,
                     size_t b_step, size_t n0, size_t rows, size_t columns, float *y, size_t y_stride, int add, int last);

/* A tile without gaps to where its rows and columns belong. */
void pq_scatter_tile(const void *from, size_t from_stride, size_t size, size_t rows, size_t columns, char *to,
                     ptrdiff_t row_stride, ptrdiff_t column_stride);

#endif
