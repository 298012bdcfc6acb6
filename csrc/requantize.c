/* pq_requantize: per tensor or per channel. */
#include "layout.h"

typedef struct {
    const int32_t *acc;
    char *q;
    size_t size;
    const pq_params *params;
    pq_requantize_mode mode;
    pq_requantize_fn *kernel;
} job;

static void requantize_run(const job *j, size_t offset, size_t n, size_t param)
{
    j->kernel(j->acc + offset, j->q + offset * j->size, n, j->params->scale[param],
              j->params->zero_point ? j->params->zero_point[param] : 0, j->params->qmin, j->params->qmax, j->mode);
}

static void requantize_piece(void *context, const pq_piece *p)
{
    const job *j = (const job *)context;
    for (size_t r = 0; r < p->rows; r++) {
        const size_t offset = p->offset + r * p->stride;
        if (p->by_column)
            for (size_t c = 0; c < p->columns; c++) requantize_run(j, offset + c, 1, p->param + c);
        else
            requantize_run(j, offset, p->columns, p->param + r);
    }
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
    job j = {acc, (char *)q, size, params, mode, size == 1 ? k->requantize_i32_i8 : k->requantize_i32_i16};
    pq_walk(layout, 4 + size, PQ_COLUMNS, requantize_piece, &j);
    return PQ_OK;
}
