#include "map.cuh"
#include "step.cuh"

struct RequantizeFloat {
    struct Step {
        float multiplier;
        int zero_point;
    };
    Params params;
    int qmin, qmax;

    __device__ __forceinline__ Step step(u32 i) const
    {
        return {Params::scale_at(params, i), Params::zero_point_at(params, i)};
    }
    __device__ __forceinline__ int operator()(int acc, const Step &s) const
    {
        return pq_requantize_f32(acc, s.multiplier, s.zero_point, qmin, qmax);
    }
};

struct FixedPoint {
    struct Step {
        int mantissa, exponent, zero_point;
    };
    Params params;
    int qmin, qmax;

    __device__ __forceinline__ Step step(u32 i) const
    {
        Step s;
        s.mantissa = pq_fixed_mantissa(Params::scale_at(params, i), &s.exponent);
        s.zero_point = Params::zero_point_at(params, i);
        return s;
    }
};

struct RequantizeDouble : FixedPoint {
    __device__ __forceinline__ int operator()(int acc, const Step &s) const
    {
        return pq_clamp_code(pq_fixed_double(acc, s.mantissa, s.exponent), s.zero_point, qmin, qmax);
    }
};

struct RequantizeSingle : FixedPoint {
    __device__ __forceinline__ int operator()(int acc, const Step &s) const
    {
        return pq_clamp_code(pq_fixed_single(acc, s.mantissa, s.exponent), s.zero_point, qmin, qmax);
    }
};

#define REQUANTIZE(mode, OP)                                                                                    \
    PQ_MAP(requantize_##mode##_i8, I32, Code8, (PARAMS_PARAMETERS, i64 qmin, i64 qmax),                         \
           (OP{PARAMS, (int)qmin, (int)qmax}))                                                                  \
    PQ_MAP(requantize_##mode##_i16, I32, Code16, (PARAMS_PARAMETERS, i64 qmin, i64 qmax),                       \
           (OP{PARAMS, (int)qmin, (int)qmax}))
REQUANTIZE(float, RequantizeFloat)
REQUANTIZE(fixed_double, RequantizeDouble)
REQUANTIZE(fixed_single, RequantizeSingle)
