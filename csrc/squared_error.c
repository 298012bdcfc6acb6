/* pq_histogram_error: what a grid costs, the inner loop of searching for the best one. */
#include "include/pyquant.h"

/* The antiderivative of (u - k)^2, k the nearest of lowest ... highest: every whole step adds 1/12, and beyond the ends
 * k stands still. Adding 1.5 * 2^52 rounds, and vectorises everywhere. */
static inline double grown(double u, double lowest, double highest)
{
    const double magic = 0x1.8p52;
    const double inside = u < lowest ? lowest : u > highest ? highest : u;
    const double k = (inside + magic) - magic, r = u - k;
    return k * (1.0 / 12.0) + r * r * r * (1.0 / 3.0);
}

pq_status pq_histogram_error(const double *low, const double *high, const double *density, size_t n, double scale,
                             int32_t lowest, int32_t highest, double *error)
{
    enum { LANES = 8 }; /* a fixed order of addition, whatever the compiler makes of it */
    double sums[LANES] = {0.0};
    const double inverse = 1.0 / scale, first = lowest, last = highest;
    size_t i = 0;
    if (error == NULL || (n > 0 && (low == NULL || high == NULL || density == NULL))) return PQ_ERROR_ARGUMENT;
    if (!(scale > 0.0) || lowest > highest) return PQ_ERROR_ARGUMENT;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            sums[k] += density[i + k] *
                       (grown(high[i + k] * inverse, first, last) - grown(low[i + k] * inverse, first, last));
    for (size_t k = 0; i + k < n; k++)
        sums[k] += density[i + k] *
                   (grown(high[i + k] * inverse, first, last) - grown(low[i + k] * inverse, first, last));
    for (size_t k = 1; k < LANES; k++) sums[0] += sums[k];
    *error = sums[0] * scale * scale * scale;
    return PQ_OK;
}
