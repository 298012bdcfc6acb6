/* Symmetric scales in bulk; the formulas are those of pyquant_semantics.h. */
#ifndef PQ_PARAMS_H
#define PQ_PARAMS_H

#include "include/pyquant.h"

/* The divisor and zero point of symmetric parameters on a grid. */
typedef struct {
    float divisor;
    int32_t zero_point;
} pq_symmetric;
pq_symmetric pq_symmetric_grid(int32_t qmin, int32_t qmax);

/* n scales from largest absolute values; all of them finite. */
void pq_symmetric_scales(const float *absmax, size_t n, float divisor, float *scale);

#endif
