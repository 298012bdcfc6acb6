#include "map.cuh"
#include "step.cuh"

struct Quantize {
    typedef ::Step Step;
    Params params;
    int qmin, qmax;

    __device__ __forceinline__ Step step(i64 i) const
    {
        return make_step(Params::scale_at(params, i), Params::zero_point_at(params, i), qmin, qmax);
    }
    __device__ __forceinline__ int operator()(float x, const Step &s) const { return steps_of(x, s) + s.zero_point; }
};

#define QUANTIZE(in, IN, out, OUT)                                                                              \
    PQ_MAP(quantize_##in##_##out, IN, OUT, (PARAMS_PARAMETERS, i64 qmin, i64 qmax),                             \
           (Quantize{PARAMS, (int)qmin, (int)qmax}))

QUANTIZE(f32, F32, i8, Code8)

QUANTIZE(f16, F16, i8, Code8)
QUANTIZE(bf16, BF16, i8, Code8)
QUANTIZE(f32, F32, i16, Code16)
QUANTIZE(f16, F16, i16, Code16)
QUANTIZE(bf16, BF16, i16, Code16)

