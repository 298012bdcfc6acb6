/* The specification of a tile: one product and one addition at a time. */
#define ISA scalar
#define ROWS 4
#define COLUMNS 8
#define DEPTH 1
#define PQ_A PQ_I16
#define PQ_B PQ_I16
typedef short a_t, b_t;
#include "copy.inc"

static void tile(const void *a, size_t a_stride, const void *b, size_t groups, int n_rows, const int32_t *row,
                 const int32_t *column, int32_t *c, size_t c_stride, int accumulate)
{
    for (int r = 0; r < n_rows; r++) {
        const a_t *const from = (const a_t *)a + (size_t)r * a_stride;
        int32_t *const to = c + (size_t)r * c_stride;
        for (size_t j = 0; j < COLUMNS; j++) {
            uint32_t sum = accumulate ? (uint32_t)to[j] : 0;
            for (size_t i = 0; i < groups; i++) sum += (uint32_t)((int32_t)from[i] * ((const b_t *)b)[i * COLUMNS + j]);
            sum += (row ? (uint32_t)row[r] : 0) + (column ? (uint32_t)column[j] : 0);
            to[j] = (int32_t)sum;
        }
    }
}

static const pq_gemm_kernels kernels = {ROWS,         COLUMNS,      DEPTH, PQ_A, PQ_B, tile,
                                        pack_b_plain, copy_a_plain, NULL,  NULL, 2};
const pq_gemm_kernels *pq_gemm_scalar(void) { return &kernels; }
