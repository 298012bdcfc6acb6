#include "params.h"

#include <math.h>

#include "include/pyquant_semantics.h"

pq_symmetric pq_symmetric_grid(int32_t qmin, int32_t qmax)
{
    const int32_t zero_point = pq_symmetric_zero_point(qmin, qmax);
    const pq_symmetric s = {(float)(qmax - zero_point), zero_point};
    return s;
}

void pq_symmetric_scales(const float *absmax, size_t n, float divisor, float *scale)
{
    for (size_t i = 0; i < n; i++) scale[i] = pq_symmetric_scale(absmax[i], divisor);
}

pq_status pq_choose_params(const float *alpha, const float *beta, size_t n, pq_scheme scheme, int32_t qmin,
                           int32_t qmax, float *scale, int32_t *zero_point)
{
    if (n == 0) return PQ_OK;
    if (alpha == NULL || beta == NULL || scale == NULL || zero_point == NULL) return PQ_ERROR_ARGUMENT;
    if (scheme != PQ_SYMMETRIC && scheme != PQ_AFFINE) return PQ_ERROR_ARGUMENT;
    const pq_symmetric grid = pq_symmetric_grid(qmin, qmax);
    if (qmin >= qmax || qmin < -32768 || qmax > 65535 || grid.divisor < 1.0f) return PQ_ERROR_GRID;
    for (size_t i = 0; i < n; i++)
        if (!(isfinite(alpha[i]) && isfinite(beta[i]) && alpha[i] <= beta[i])) return PQ_ERROR_NONFINITE;
    for (size_t i = 0; i < n; i++) {
        if (scheme == PQ_AFFINE) {
            pq_affine_params(alpha[i], beta[i], qmin, qmax, scale + i, zero_point + i);
        } else {
            const float absmax = fabsf(alpha[i]) > fabsf(beta[i]) ? fabsf(alpha[i]) : fabsf(beta[i]);
            scale[i] = pq_symmetric_scale(absmax, grid.divisor);
            zero_point[i] = grid.zero_point;
        }
    }
    return PQ_OK;
}
