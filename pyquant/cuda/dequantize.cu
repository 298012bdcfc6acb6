#include "map.cuh"
#include "step.cuh"

/* A signed code with its highest bit flipped is the code plus `sign` (128, 32768; 0 for unsigned ones), and so is the
 * zero point that goes with it. */
struct Dequantize {
    struct Step {
        float scale;
        int zero_point;
    };
    Params params;
    int sign;

    __device__ __forceinline__ Step step(u32 i) const
    {
        return {Params::scale_at(params, i), Params::zero_point_at(params, i) + sign};
    }
    __device__ __forceinline__ float operator()(int q, const Step &s) const
    {
        return pq_dequantize_f32(q ^ sign, s.scale, s.zero_point);
    }
};

#define DEQUANTIZE(out, OUT)                                                                                    \
    PQ_MAP(dequantize_i8_##out, Code8, OUT, (PARAMS_PARAMETERS, i64 sign), (Dequantize{PARAMS, (int)sign}))     \
    PQ_MAP(dequantize_i16_##out, Code16, OUT, (PARAMS_PARAMETERS, i64 sign), (Dequantize{PARAMS, (int)sign}))
DEQUANTIZE(f32, F32)
DEQUANTIZE(f16, F16)
DEQUANTIZE(bf16, BF16)
DEQUANTIZE(f64, F64)
