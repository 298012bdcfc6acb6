#include "params.h"

#include <float.h>
#include <math.h>

#include "include/pyquant_semantics.h"

/* A signed b-bit grid, full or narrow, ends at 2^(b-1) - 1 and has its zero at 0; an unsigned one ends at 2^b - 1 and
 * has it at 2^(b-1). Either way the divisor is 2^(b-1) - 1. */
pq_symmetric pq_symmetric_grid(int32_t qmin, int32_t qmax)
{
    const int32_t zero_point = qmin < 0 ? 0 : (qmax + 1) / 2;
    const pq_symmetric s = {(float)(qmax - zero_point), zero_point};
    return s;
}

void pq_symmetric_scales(const float *absmax, size_t n, float divisor, float *scale)
{
    for (size_t i = 0; i < n; i++) {
        const float s = absmax[i] / divisor;
        scale[i] = absmax[i] == 0.0f ? 1.0f : s < FLT_MIN ? FLT_MIN : s;
    }
}

static int32_t clamp_zero_point(double z, int32_t qmin, int32_t qmax)
{
    z = z < qmin ? qmin : z > qmax ? qmax : z;
    return (int32_t)pq_rint_f64(z);
}

void pq_affine_params(float alpha, float beta, int32_t qmin, int32_t qmax, float *scale, int32_t *zero_point)
{
    const float low = alpha < 0.0f ? alpha : 0.0f, high = beta > 0.0f ? beta : 0.0f;
    const float width = high - low;
    float s = width / (float)(qmax - qmin);
    if (low == high) {
        s = 1.0f;
    } else if (width > FLT_MAX) { /* all of it in float64, rounded at the end */
        const double wide = ((double)high - (double)low) / (double)(qmax - qmin);
        *scale = (float)wide;
        *zero_point = clamp_zero_point((double)qmin - (double)low / wide, qmin, qmax);
        return;
    } else if (s < FLT_MIN) {
        s = FLT_MIN;
    }
    *scale = s;
    *zero_point = clamp_zero_point((double)((float)qmin - low / s), qmin, qmax);
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
            pq_symmetric_scales(&absmax, 1, grid.divisor, scale + i);
            zero_point[i] = grid.zero_point;
        }
    }
    return PQ_OK;
}
