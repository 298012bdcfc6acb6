#include "map.cuh"
#include "step.cuh"

struct Quantize {
    typedef ::Step Step;
    Params params;
    int qmin, qmax;

    __device__ __forceinline__ Step step(u32 i) const
    {
        return make_step(Params::scale_at(params, i), Params::zero_point_at(params, i), qmin, qmax);
    }
    __device__ __forceinline__ int operator()(float x, const Step &s) const { return steps_of(x, s) + s.zero_point; }
};

/* float64 is divided. */
struct QuantizeF64 {
    struct Step {
        float scale;
        int zero_point;
    };
    Params params;
    int qmin, qmax;

    __device__ __forceinline__ Step step(u32 i) const
    {
        return {Params::scale_at(params, i), Params::zero_point_at(params, i)};
    }
    __device__ __forceinline__ int operator()(double x, const Step &s) const
    {
        return pq_quantize_f64(x, s.scale, s.zero_point, qmin, qmax);
    }
};

#define QUANTIZE(in, IN, OP)                                                                                    \
    PQ_MAP(quantize_##in##_i8, IN, Code8, (PARAMS_PARAMETERS, i64 qmin, i64 qmax),                              \
           (OP{PARAMS, (int)qmin, (int)qmax}))                                                                  \
    PQ_MAP(quantize_##in##_i16, IN, Code16, (PARAMS_PARAMETERS, i64 qmin, i64 qmax),                            \
           (OP{PARAMS, (int)qmin, (int)qmax}))
QUANTIZE(f32, F32, Quantize)
QUANTIZE(f16, F16, Quantize)
QUANTIZE(bf16, BF16, Quantize)
QUANTIZE(f64, F64, QuantizeF64)
