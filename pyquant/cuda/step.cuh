/* Division at the speed of multiplication; csrc/elementwise/step.inc has the proof. */
#ifndef PQ_STEP_CUH
#define PQ_STEP_CUH

#include "primitives.cuh"

/* Scales and zero points: arrays, or one of each by value where the address is null; no zero points at all is 0. */
struct Params {
    const float *scales;
    const int *zero_points;
    float scale;
    int zero_point;

    PQ_DEVICE float scale_at(const Params &p, u32 i) { return p.scales ? p.scales[i] : p.scale; }
    PQ_DEVICE int zero_point_at(const Params &p, u32 i) { return p.zero_points ? p.zero_points[i] : p.zero_point; }
};

#define PARAMS_PARAMETERS const float *scales, double scale, const int *zero_points, i64 zero_point
#define PARAMS                                                                                                  \
    Params { scales, zero_points, (float)scale, (int)zero_point }

/* One scale, ready to use. The proof is for scales from 2^-100 to 2^100; for the others x and the scale are both
 * multiplied by `unit`, 2^64 or 2^-64, which leaves the quotient as it is: exactly, or where x overflows or loses bits
 * far from every tie, as |x / scale| is beyond 2^100 or below 2^-100 there. */
struct Step {
    float unit, scale, inverse, low, high; /* the bounds of x * unit; scale and inverse of the product */
    int zero_point;
};

PQ_DEVICE Step make_step(float scale, int zero_point, int qmin, int qmax)
{
    const float unit = scale < 0x1p-100f ? 0x1p64f : scale > 0x1p100f ? 0x1p-64f : 1.0f, s = scale * unit;
    const Step step = {unit, s, reciprocal(s), (float)(qmin - zero_point) * s, (float)(qmax - zero_point) * s, zero_point};
    return step;
}

/* rint(x / scale) without the zero point, clamped to the grid; 0 for NaN. */
PQ_DEVICE int steps_of(float x, const Step &s)
{
    const float inside = clamp_or_nan(x * s.unit, s.low, s.high), y = inside * s.inverse;
    return round_or_zero(__fmaf_rn(__fmaf_rn(-y, s.scale, inside), s.inverse, y));
}

#endif
