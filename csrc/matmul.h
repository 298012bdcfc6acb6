/* The plan of an integer product, and the memory of one thread's part. */
#ifndef PQ_MATMUL_H
#define PQ_MATMUL_H

#include "epilogue.h"
#include "params.h"
#include "product.h"

typedef struct {
    const pq_product *p;
    const pq_gemm_kernels *g;
    size_t a_size, b_size; /* bytes of an element as the tile takes it */
    pq_chunks chunks;
    pq_epilogue epilogue;
    pq_absmax_fn *absmax; /* of float a */
    pq_quantize_fn *quantize;

    pq_type a_code;                     /* the type of a's codes, also where a is float */
    int32_t a_shift, b_shift;           /* what the layout adds to codes and so to zero points */
    int32_t a_zero, b_zero;             /* with it, where all are equal */
    int a_zeros_vary, b_zeros_vary;     /* else */
    int wants_row_sums;
    int wide;                           /* int32 may not hold the accumulators */

    int a_direct;                       /* rows of a are used where they are */
    size_t a_stride, panel_bytes;       /* of a copied row, in elements; of a panel of b */
    size_t block_rows, block_columns;
    size_t tasks, tasks_n;              /* tasks_n of them share the columns */
    int batches_at_once;                /* tasks are batches */
    size_t space_bytes, multipliers;
    int *refused;                       /* set where float a is not finite */
} pq_gemm_job;

/* One thread's memory; only `a` and `a_stride` change. */
typedef struct {
    const char *a;
    size_t a_stride;
    char *copy, *codes, *b;
    int32_t *rows, *sums, *columns, *brackets, *tile;
    int64_t *wide;
    float *scales;
    size_t bytes;
} pq_gemm_space;

/* Fills in all but `wide`, `refused` and the epilogue. */
void pq_plan(pq_gemm_job *j, const pq_product *p);

/* The parts of the memory at `space`, which may be NULL to learn how much it is. */
pq_gemm_space pq_lay_out(const pq_gemm_job *j, char *space);

/* The zero point of a row of a or a column of b, in a block of k. */
int32_t pq_a_zero(const pq_product *p, const pq_chunks *chunks, size_t row, size_t block);
int32_t pq_b_zero(const pq_product *p, size_t column, size_t block);

/* A row of float a to codes, shift added; 0 where it is not finite. *scale is set where the row chooses its own. */
int pq_quantize_row(const pq_gemm_job *j, const char *x, int32_t shift, char *codes, float *scale);

/* few_rows.c: products that read b once, where it is. */
int pq_is_few_rows(const pq_gemm_job *j);
pq_status pq_multiply_few_rows(pq_gemm_job *j);

#endif
