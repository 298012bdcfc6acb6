#include "map.cuh"
#include "step.cuh"

/* The zero point cancels, but for the bounds. Through an integer, so that -0.4 gives +0.0 as dequantize does. */
struct FakeQuantize {
    struct Step {
        ::Step to;
        float scale;
    };
    Params params;
    int qmin, qmax;

    __device__ __forceinline__ Step step(u32 i) const
    {
        const float scale = Params::scale_at(params, i);
        return {make_step(scale, Params::zero_point_at(params, i), qmin, qmax), scale};
    }
    __device__ __forceinline__ float operator()(float x, const Step &s) const
    {
        return pq_dequantize_f32(steps_of(x, s.to), s.scale, 0);
    }
};

/* float64 is divided; the result is a float32 all the same. */
struct FakeQuantizeF64 {
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
    __device__ __forceinline__ double operator()(double x, const Step &s) const
    {
        return pq_dequantize_f32(pq_quantize_f64(x, s.scale, s.zero_point, qmin, qmax), s.scale, s.zero_point);
    }
};

#define FAKE_QUANTIZE(in, IN, OP)                                                                               \
    PQ_MAP(fake_quantize_##in, IN, IN, (PARAMS_PARAMETERS, i64 qmin, i64 qmax), (OP{PARAMS, (int)qmin, (int)qmax}))
FAKE_QUANTIZE(f32, F32, FakeQuantize)
FAKE_QUANTIZE(f16, F16, FakeQuantize)
FAKE_QUANTIZE(bf16, BF16, FakeQuantize)
FAKE_QUANTIZE(f64, F64, FakeQuantizeF64)
