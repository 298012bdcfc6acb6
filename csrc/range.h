/* Ranges per parameter, shared by pq_range and pq_dynamic_quantize. */
#ifndef PQ_RANGE_H
#define PQ_RANGE_H

#include "layout.h"

typedef struct {
    pq_range_fn *range;
    pq_absmax_fn *absmax;
    pq_range_columns_fn *columns;
} pq_range_kernels;

/* The kernels of a float type. */
pq_range_kernels pq_find_range(pq_type type);

/* low and high per parameter of a non-empty array; PQ_ERROR_NONFINITE as soon as something is not finite. */
pq_status pq_range_of(const void *x, pq_type type, const pq_layout *layout, int absolute, float *low, float *high);

/* Element i as a double. */
double pq_value_at(const void *x, size_t i, pq_type type);

#endif
