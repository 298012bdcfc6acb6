/* The arithmetic of one element. C *and* CUDA compile this text, so it uses neither libc nor intrinsics.
 *
 * It is the specification in code: every SIMD variant and CUDA kernel gives the bits that these functions give.
 * It must be compiled without contraction of a * b + c and with IEEE arithmetic (-ffp-contract=off, --fmad=false,
 * -ftz=false). */
#ifndef PYQUANT_SEMANTICS_H
#define PYQUANT_SEMANTICS_H

#ifndef PQ_SEMANTICS
#define PQ_SEMANTICS static inline
#endif

typedef union {
    float f;
    unsigned int u;
} pq_bits32;

/* Round half to even for |x| < 2^22: the sum's last bit is the unit. */
PQ_SEMANTICS float pq_rint_f32(float x) { return (x + 12582912.0f) - 12582912.0f; }

/* The same for |x| < 2^51. */
PQ_SEMANTICS double pq_rint_f64(double x) { return (x + 6755399441055744.0) - 6755399441055744.0; }

/* rint(ratio) + zero_point on the grid. The clamp comes first, so that no conversion overflows; it is exact
 * because its bounds are integers and rint is monotone. A grid has at most 16 bits, so they are exact too. */
PQ_SEMANTICS int pq_code_f32(float ratio, int zero_point, int qmin, int qmax)
{
    const float low = (float)(qmin - zero_point), high = (float)(qmax - zero_point);
    if (ratio != ratio) return zero_point;
    ratio = ratio < low ? low : ratio > high ? high : ratio;
    return (int)pq_rint_f32(ratio) + zero_point;
}

PQ_SEMANTICS int pq_quantize_f32(float x, float scale, int zero_point, int qmin, int qmax)
{
    return pq_code_f32(x / scale, zero_point, qmin, qmax);
}

PQ_SEMANTICS int pq_quantize_f64(double x, float scale, int zero_point, int qmin, int qmax)
{
    const double low = qmin - zero_point, high = qmax - zero_point;
    double ratio = x / (double)scale;
    if (ratio != ratio) return zero_point;
    ratio = ratio < low ? low : ratio > high ? high : ratio;
    return (int)pq_rint_f64(ratio) + zero_point;
}

PQ_SEMANTICS float pq_dequantize_f32(int q, float scale, int zero_point) { return (float)(q - zero_point) * scale; }

#define PQ_LEAST_NORMAL 1.1754943508222875e-38f
#define PQ_LARGEST_FLOAT 3.4028234663852886e+38f

/* The formulas of the specification from a finite range to a scale and a zero point. A signed b-bit grid, full or
 * narrow, ends at 2^(b-1) - 1 and has its symmetric zero at 0; an unsigned one ends at 2^b - 1 and has it at 2^(b-1).
 * Either way the scale divides by 2^(b-1) - 1, the steps from zero to the end. */
PQ_SEMANTICS int pq_symmetric_zero_point(int qmin, int qmax) { return qmin < 0 ? 0 : (qmax + 1) / 2; }

PQ_SEMANTICS float pq_symmetric_scale(float absmax, float divisor)
{
    const float scale = absmax / divisor;
    return absmax == 0.0f ? 1.0f : scale < PQ_LEAST_NORMAL ? PQ_LEAST_NORMAL : scale;
}

PQ_SEMANTICS int pq_clamp_zero_point(double z, int qmin, int qmax)
{
    return (int)pq_rint_f64(z < qmin ? qmin : z > qmax ? qmax : z);
}

PQ_SEMANTICS void pq_affine_params(float alpha, float beta, int qmin, int qmax, float *scale, int *zero_point)
{
    const float low = alpha < 0.0f ? alpha : 0.0f, high = beta > 0.0f ? beta : 0.0f;
    const float width = high - low;
    float s = width / (float)(qmax - qmin);
    if (low == high) {
        s = 1.0f;
    } else if (width > PQ_LARGEST_FLOAT) { /* all of it in float64, rounded at the end */
        const double wide = ((double)high - (double)low) / (double)(qmax - qmin);
        *scale = (float)wide;
        *zero_point = pq_clamp_zero_point((double)qmin - (double)low / wide, qmin, qmax);
        return;
    } else if (s < PQ_LEAST_NORMAL) {
        s = PQ_LEAST_NORMAL;
    }
    *scale = s;
    *zero_point = pq_clamp_zero_point((double)((float)qmin - low / s), qmin, qmax);
}

/* Histograms: the smallest exponent, from -126 on, with most < half * 2^exponent, where half is a power of two and most
 * finite and not negative: both are read from the exponents' bits, and a subnormal needs less than -126. */
PQ_SEMANTICS int pq_bin_exponent(float most, unsigned int half)
{
    pq_bits32 a, b;
    int exponent;
    a.f = most;
    b.f = (float)half;
    exponent = (int)(a.u >> 23) - (int)(b.u >> 23) + 1;
    return exponent < -126 ? -126 : exponent;
}

/* The bin of finite x; inverse_width is a power of two, so the product is exact, or underflows towards a truncated 0,
 * which is right too. */
PQ_SEMANTICS int pq_bin(float x, float inverse_width)
{
    return (int)(x * inverse_width) + (x > 0.0f) - (x < 0.0f);
}

/* Straight-through gradients of fake quantize for one element, upstream gradient g; low and high are qmin and qmax
 * less the zero point. x passes inside the grid only; the scale moves an inner value by its rounding and an outer one
 * by the bound it sits on (LSQ, Esser et al. 2020); the zero point moves outer ones alone. NaN teaches nothing. */
#define PQ_GRAD(real, type, rint)                                                                               \
    typedef struct {                                                                                            \
        real x, scale, zero_point;                                                                              \
    } pq_grad_##type##_t;                                                                                       \
    PQ_SEMANTICS pq_grad_##type##_t pq_grad_##type(real g, real x, float scale, real low, real high)            \
    {                                                                                                           \
        const real ratio = x / (real)scale;                                                                     \
        const real code = rint(ratio < low - 1 ? low - 1 : ratio > high + 1 ? high + 1 : ratio);                \
        const int below = code < low, above = code > high, number = ratio == ratio;                             \
        const real slope = below ? low : above ? high : code - ratio;                                           \
        pq_grad_##type##_t d;                                                                                   \
        d.x = number && !below && !above ? g : 0;                                                               \
        d.scale = number ? g * slope : 0;                                                                       \
        d.zero_point = below || above ? -(g * (real)scale) : 0;                                                 \
        return d;                                                                                               \
    }
PQ_GRAD(float, f32, pq_rint_f32)
PQ_GRAD(double, f64, pq_rint_f64)
#undef PQ_GRAD

/* Requantize, "float": the accumulator is rounded to float32 first, as a GPU or ONNX Runtime does. */
PQ_SEMANTICS int pq_requantize_f32(int acc, float multiplier, int zero_point, int qmin, int qmax)
{
    return pq_code_f32((float)acc * multiplier, zero_point, qmin, qmax);
}

/* multiplier = mantissa * 2^(exponent - 31), mantissa in [2^30, 2^31): gemmlowp's QuantizeMultiplier, from
 * a float32's own bits, so that the split is exact. Zero gives 0 * 2^0. */
PQ_SEMANTICS int pq_fixed_mantissa(float multiplier, int *exponent)
{
    pq_bits32 bits;
    unsigned int fraction;
    int e;
    bits.f = multiplier;
    fraction = bits.u & 0x7fffffu;
    e = (int)((bits.u >> 23) & 0xffu);
    if (e == 0) {
        if (fraction == 0) {
            *exponent = 0;
            return 0;
        }
        e = 1;
        while (!(fraction & 0x800000u)) {
            fraction <<= 1;
            e--;
        }
    }
    *exponent = e - 126;
    return (int)((fraction | 0x800000u) << 7);
}

PQ_SEMANTICS int pq_saturate_i32(long long x)
{
    return x > 2147483647LL ? 2147483647 : x < -2147483647LL - 1 ? -2147483647 - 1 : (int)x;
}

/* gemmlowp SaturatingRoundingDoublingHighMul; b is never INT32_MIN here, so only the rounding is left. gemmlowp writes
 * trunc((p + (p >= 0 ? 2^30 : 1 - 2^30)) / 2^31); for p = -k < 0 that is -floor((k + 2^30 - 1) / 2^31), which is
 * floor((p + 2^30) / 2^31), the same as for p >= 0. */
PQ_SEMANTICS int pq_doubling_high_multiply(int a, int b)
{
    return (int)(((long long)a * b + (1LL << 30)) >> 31);
}

/* gemmlowp RoundingDivideByPOT: ties away from zero; shift 0 to 31. */
PQ_SEMANTICS int pq_rounding_shift(int x, int shift)
{
    const int mask = (int)((1LL << shift) - 1);
    const int remainder = x & mask;
    const int threshold = (mask >> 1) + (x < 0 ? 1 : 0);
    return (x >> shift) + (remainder > threshold ? 1 : 0);
}

/* TFLite MultiplyByQuantizedMultiplier with double rounding. A left shift saturates, where TFLite leaves it
 * undefined; a right shift past 31 leaves nothing but the sign's rounding, which is 0. */
PQ_SEMANTICS int pq_fixed_double(int acc, int mantissa, int exponent)
{
    const int left = exponent > 0 ? exponent : 0, right = exponent > 0 ? 0 : -exponent;
    const long long shifted = left > 31 ? (acc > 0 ? 1LL << 40 : acc < 0 ? -(1LL << 40) : 0) : (long long)acc * (1LL << left);
    const int high = pq_doubling_high_multiply(pq_saturate_i32(shifted), mantissa);
    return right > 31 ? 0 : pq_rounding_shift(high, right);
}

/* TFLite's single-rounding form: (acc * mantissa + 2^(shift - 1)) >> shift with shift = 31 - exponent, ties up. */
PQ_SEMANTICS int pq_fixed_single(int acc, int mantissa, int exponent)
{
    const long long product = (long long)acc * mantissa;
    const int shift = 31 - exponent;
    if (shift > 62) return 0; /* |product| < 2^62: it rounds to 0 */
    if (shift <= 0) { /* a multiplier of 2^30 and more: the product is 0 or far beyond int32 */
        return acc > 0 ? 2147483647 : acc < 0 ? -2147483647 - 1 : 0;
    }
    return pq_saturate_i32((product + (1LL << (shift - 1))) >> shift);
}

PQ_SEMANTICS int pq_clamp_code(int value, int zero_point, int qmin, int qmax)
{
    const long long code = (long long)value + zero_point;
    return code < qmin ? qmin : code > qmax ? qmax : (int)code;
}

/* bfloat16 and float16, bit patterns in 16 bits; exact widening, narrowing to nearest even. */
PQ_SEMANTICS float pq_bf16_to_f32(unsigned short h)
{
    pq_bits32 bits;
    bits.u = (unsigned int)h << 16;
    return bits.f;
}

/* Not for NaN, which no dequantized value is. */
PQ_SEMANTICS unsigned short pq_f32_to_bf16(float x)
{
    pq_bits32 bits;
    bits.f = x;
    return (unsigned short)((bits.u + 0x7fffu + ((bits.u >> 16) & 1u)) >> 16);
}

PQ_SEMANTICS float pq_f16_to_f32(unsigned short h)
{
    const unsigned int sign = (unsigned int)(h & 0x8000u) << 16;
    unsigned int fraction = h & 0x3ffu, exponent = (h >> 10) & 0x1fu;
    pq_bits32 bits;
    if (exponent == 0x1f) {
        bits.u = sign | 0x7f800000u | (fraction << 13);
    } else if (exponent != 0) {
        bits.u = sign | ((exponent + 112) << 23) | (fraction << 13);
    } else {
        bits.f = (float)fraction * 5.9604644775390625e-08f; /* 2^-24 */
        bits.u |= sign;
    }
    return bits.f;
}

/* Not for NaN. */
PQ_SEMANTICS unsigned short pq_f32_to_f16(float x)
{
    pq_bits32 bits;
    unsigned int sign, magnitude;
    bits.f = x;
    sign = (bits.u >> 16) & 0x8000u;
    magnitude = bits.u & 0x7fffffffu;
    if (magnitude >= 0x477ff000u) return (unsigned short)(sign | 0x7c00u); /* rounds past 65504 */
    if (magnitude < 0x38800000u) { /* subnormal: adding 0.5 aligns 2^-24 with the last bit, rounding to even */
        bits.u = magnitude;
        bits.f += 0.5f;
        return (unsigned short)(sign | (bits.u - 0x3f000000u));
    }
    return (unsigned short)(sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13));
}

#endif
