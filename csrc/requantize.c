/* pq_requantize: per tensor or per channel. */
#include "layout.h"

typedef struct {
    const int32_t *acc;
    char *q;
    size_t size;
    const pq_params *params;
    pq_requantize_mode mode;
    pq_requantize_fn *run;
    pq_requantize_columns_fn *columns;
} job;

static void requantize_piece(void *context, const pq_piece *p)
{
    const job *j = (const job *)context;
    const pq_params *k = j->params;
    const float *multiplier = k->scale + p->param;
    const int32_t *zero_point = k->zero_point ? k->zero_point + p->param : NULL;
    const int32_t *acc = j->acc + p->offset;
    char *q = j->q + p->offset * j->size;
    if (p->by_column)
        j->columns(acc, p->stride, q, p->rows, p->columns, p->stride, multiplier, zero_point, k->qmin, k->qmax,
                   j->mode);
    else
        for (size_t r = 0; r < p->rows; r++)
            j->run(acc + r * p->stride, q + r * p->stride * j->size, p->columns, multiplier[r],
                   zero_point ? zero_point[r] : 0, k->qmin, k->qmax, j->mode);
}

pq_status pq_requantize(const int32_t *acc, void *q, pq_type q_type, const pq_layout *layout, const pq_params *params,
                        pq_requantize_mode mode)
{
    pq_status status = pq_check_layout(layout);
    if (status == PQ_OK) status = pq_check_params(layout, params, q_type);
    if (status != PQ_OK) return status;
    if ((unsigned)mode > PQ_REQUANTIZE_FIXED_SINGLE) return PQ_ERROR_ARGUMENT;
    if (pq_layout_size(layout) == 0) return PQ_OK;
    if (acc == NULL || q == NULL) return PQ_ERROR_ARGUMENT;
    const pq_kernels *k = pq_get_kernels();
    const size_t size = pq_type_size(q_type);
    job j = {acc, (char *)q, size, params, mode, k->requantize_i32_i8, k->requantize_columns_i32_i8};
    if (size == 2) {
        j.run = k->requantize_i32_i16;
        j.columns = k->requantize_columns_i32_i16;
    }
    pq_walk(layout, 4 + size, PQ_COLUMNS, requantize_piece, &j);
    return PQ_OK;
}
