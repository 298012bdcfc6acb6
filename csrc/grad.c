/* pq_fake_quantize_grad: sums in a fixed order, so that neither threads nor instruction sets change a bit. */
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "parallel.h"

typedef struct {
    const char *g, *x;
    char *dx;
    size_t size;
    pq_fake_quantize_grad_fn *run;
    pq_fake_quantize_grad_columns_fn *columns;
    const pq_layout *layout;
    const pq_params *params;
    double *dscale, *dzero_point;
    double *chunks; /* per tensor: the sums of each chunk, added up at the end */
    size_t tasks;
} job;

static int32_t zero_point_of(const job *j, size_t param)
{
    return j->params->zero_point ? j->params->zero_point[param] : 0;
}

static void one_chunk(const job *j, size_t offset, size_t n, size_t param, double *ds, double *dz)
{
    const size_t at = offset * j->size;
    j->run(j->g + at, j->x + at, j->dx + at, n, j->params->scale[param], zero_point_of(j, param), j->params->qmin,
           j->params->qmax, ds, dz);
}

/* A run of any length: its chunks in order. */
static void one_run(const job *j, size_t offset, size_t n, size_t param)
{
    for (size_t i = 0; i < n; i += PQ_GRAD_CHUNK) {
        double ds, dz;
        one_chunk(j, offset + i, n - i < PQ_GRAD_CHUNK ? n - i : PQ_GRAD_CHUNK, param, &ds, &dz);
        j->dscale[param] += ds;
        j->dzero_point[param] += dz;
    }
}

static void columns(const job *j, size_t offset, size_t rows, size_t n, size_t stride, size_t param)
{
    const pq_params *p = j->params;
    const size_t at = offset * j->size;
    j->columns(j->g + at, j->x + at, j->dx + at, rows, n, stride, p->scale + param,
               p->zero_point ? p->zero_point + param : NULL, p->qmin, p->qmax, j->dscale + param,
               j->dzero_point + param);
}

static void tensor_task(void *context, size_t i)
{
    const job *j = (const job *)context;
    const size_t n = pq_layout_size(j->layout), chunks = (n + PQ_GRAD_CHUNK - 1) / PQ_GRAD_CHUNK;
    for (size_t c = chunks * i / j->tasks; c < chunks * (i + 1) / j->tasks; c++) {
        const size_t offset = c * PQ_GRAD_CHUNK, rest = n - offset;
        one_chunk(j, offset, rest < PQ_GRAD_CHUNK ? rest : PQ_GRAD_CHUNK, 0, j->chunks + 2 * c, j->chunks + 2 * c + 1);
    }
}

/* A task takes some of the channels through all of outer. */
static void channels_task(void *context, size_t i)
{
    const job *j = (const job *)context;
    const pq_layout *l = j->layout;
    const size_t first = l->axis * i / j->tasks, last = l->axis * (i + 1) / j->tasks;
    if (l->inner == 1) {
        if (first < last) columns(j, first, l->outer, last - first, l->axis, first);
        return;
    }
    for (size_t o = 0; o < l->outer; o++)
        for (size_t c = first; c < last; c++) one_run(j, (o * l->axis + c) * l->inner, l->inner, c);
}

static void blocks_task(void *context, size_t i)
{
    const job *j = (const job *)context;
    const pq_layout *l = j->layout;
    const size_t blocks = l->axis / l->block + (l->axis % l->block != 0), units = l->outer * blocks;
    for (size_t u = units * i / j->tasks; u < units * (i + 1) / j->tasks; u++) {
        const size_t within = u % blocks * l->block, rest = l->axis - within;
        const size_t rows = rest < l->block ? rest : l->block, offset = (u / blocks * l->axis + within) * l->inner;
        if (l->inner == 1) one_run(j, offset, rows, u);
        else columns(j, offset, rows, l->inner, l->inner, u * l->inner);
    }
}

/* The chunks' sums in lanes and pairs, as the elements of a chunk are: many threads of a GPU can do it. */
static double add_chunks(const double *sums, size_t chunks)
{
    double lanes[PQ_GRAD_LANES] = {0};
    for (size_t c = 0; c < chunks; c++) lanes[c % PQ_GRAD_LANES] += sums[2 * c];
    for (size_t half = PQ_GRAD_LANES / 2; half > 0; half /= 2)
        for (size_t k = 0; k < half; k++) lanes[k] += lanes[k + half];
    return lanes[0];
}

static pq_status grad_of_tensor(job *j)
{
    const size_t chunks = (pq_layout_size(j->layout) + PQ_GRAD_CHUNK - 1) / PQ_GRAD_CHUNK;
    j->chunks = (double *)malloc(2 * chunks * sizeof(double));
    if (j->chunks == NULL) return PQ_ERROR_MEMORY;
    pq_run(j->tasks, tensor_task, j);
    *j->dscale = add_chunks(j->chunks, chunks);
    *j->dzero_point = add_chunks(j->chunks + 1, chunks);
    free(j->chunks);
    return PQ_OK;
}

pq_status pq_fake_quantize_grad(const void *g, const void *x, pq_type type, void *dx, double *dscale,
                                double *dzero_point, const pq_layout *layout, const pq_params *params)
{
    const pq_kernels *k = pq_get_kernels();
    pq_status status = type == PQ_F32 || type == PQ_F64 ? pq_check_layout(layout) : PQ_ERROR_ARGUMENT;
    if (status == PQ_OK) status = pq_check_params(layout, params, params && params->qmin < 0 ? PQ_I16 : PQ_U16);
    if (status != PQ_OK) return status;
    const pq_layout l = pq_simplify(layout);
    const size_t n = pq_layout_size(&l), count = pq_layout_params(&l);
    if (dscale == NULL || dzero_point == NULL || (n > 0 && (g == NULL || x == NULL || dx == NULL)))
        return PQ_ERROR_ARGUMENT;
    memset(dscale, 0, count * sizeof *dscale);
    memset(dzero_point, 0, count * sizeof *dzero_point);
    if (n == 0) return PQ_OK;
    job j = {(const char *)g, (const char *)x, (char *)dx, pq_type_size(type), k->fake_quantize_grad_f32,
             k->fake_quantize_grad_columns_f32, &l, params, dscale, dzero_point, NULL,
             pq_tasks_for(n * 3 * pq_type_size(type))};
    if (type == PQ_F64) {
        j.run = k->fake_quantize_grad_f64;
        j.columns = k->fake_quantize_grad_columns_f64;
    }
    if (l.block) pq_run(j.tasks, blocks_task, &j);
    else if (l.axis == 1) return grad_of_tensor(&j);
    else pq_run(j.tasks, channels_task, &j);
    return PQ_OK;
}
