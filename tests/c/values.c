/* Repeatable numbers: what rounds badly, what overflows, what is no number, and ordinary ones. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "check.h"
#include "include/pyquant_semantics.h"

uint64_t random_bits(rng *r) /* splitmix64 */
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

size_t random_below(rng *r, size_t n) { return (size_t)(random_bits(r) >> 33) % n; }

float f32_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of_f32(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* Around the limits of the fast division (2^-100, 2^100) and of float32, all-ones mantissas, powers of two. */
static const float scales[] = {
    0.1f,       0.00214854861f, 1.0f / 127, 1.0f / 3, 0.02f,       1.0f,          2.0f,          0.5f,
    0x1p-20f,   0x1p20f,        0x1p-100f,  0x1p100f, 0x1p-99f,    0x1p99f,       0x1p-101f,     0x1p101f,
    0x1p-126f,  0x1p-125f,      0x1p-149f,  0x1p-140f, 0x1p127f,   FLT_MAX,       FLT_MAX / 2,   0x1.fffffep0f,
    0x1.fffffep-1f, 0x1.fffffep-10f, 0x1.fffffep-101f, 0x1.000002p-100f, 0x1.fffffep99f, 0x1.000002p100f,
    0x1.fffffep-127f, 0x1.000002p-126f, 0x1.000002p0f, 0x1.fffffcp0f, 0x1.555556p-7f, 0x1.fffffep100f,
};

float random_scale(rng *r)
{
    const size_t n = sizeof scales / sizeof scales[0];
    const size_t kind = random_below(r, 8);
    if (kind < 3) return scales[random_below(r, n)];
    if (kind < 6) return f32_from_bits((uint32_t)(random_bits(r) & 0x7fffff) | (uint32_t)(107 + random_below(r, 30)) << 23);
    const uint32_t bits = (uint32_t)(random_bits(r) % 0x7f800000u);
    return f32_from_bits(bits ? bits : 1);
}

grid random_grid(rng *r, int most_bits)
{
    const int bits = 2 + (int)random_below(r, (size_t)most_bits - 1), half = 1 << (bits - 1);
    const grid full = {-half, half - 1}, narrow = {1 - half, half - 1}, positive = {0, 2 * half - 1};
    const size_t kind = random_below(r, 3);
    return kind == 0 ? full : kind == 1 ? narrow : positive;
}

int32_t random_zero_point(rng *r, grid g)
{
    switch (random_below(r, 4)) {
    case 0: return g.qmin;
    case 1: return g.qmax;
    case 2: return g.qmin <= 0 ? 0 : g.qmin;
    default: return g.qmin + (int32_t)random_below(r, (size_t)(g.qmax - g.qmin) + 1);
    }
}

size_t size_of_type(pq_type type)
{
    return type == PQ_F64 ? 8 : type == PQ_F32 || type == PQ_I32 ? 4 : type == PQ_I8 || type == PQ_U8 ? 1 : 2;
}

static double multiple(rng *r, float scale, int32_t low, int32_t high, double fraction)
{
    const int32_t k = low - 3 + (int32_t)random_below(r, (size_t)(high - low) + 7);
    return (k + fraction) * (double)scale;
}

static double difficult(rng *r, float scale, int32_t low, int32_t high)
{
    const double sign = random_bits(r) & 1 ? -1.0 : 1.0;
    switch (random_below(r, 20)) {
    case 0: return sign * 0.0;
    case 1: return sign * (double)f32_from_bits((uint32_t)random_bits(r) & 0x7fffff);
    case 2: return sign * INFINITY;
    case 3: return sign * (random_bits(r) & 1 ? (double)FLT_MAX : 1e30);
    case 4:
    case 5: return multiple(r, scale, low, high, 0.0);
    case 6:
    case 7:
    case 8: return multiple(r, scale, low, high, (double)random_below(r, 1 << 20) / (1 << 20));
    default: return multiple(r, scale, low, high, 0.5);
    }
}

/* Half precision, rounded somehow; the neighbours come from the caller. */
static uint16_t to_half(double v, pq_type type)
{
    const float f = (float)v;
    return type == PQ_F16 ? pq_f32_to_f16(f) : pq_f32_to_bf16(f);
}

void put_value(void *array, size_t i, pq_type type, rng *r, float scale, int32_t low, int32_t high)
{
    const size_t kind = random_below(r, 20), size = size_of_type(type);
    char *to = (char *)array + i * size;
    const int nudge = (int)random_below(r, 3) - 1;
    uint64_t bits = random_bits(r);
    if (kind >= 3 || type >= PQ_I8) {
        if (type >= PQ_I8) { /* codes and accumulators: all bits, often the ends */
            const uint64_t ends[] = {0, 1, ~(uint64_t)0, (uint64_t)1 << (8 * size - 1), ((uint64_t)1 << (8 * size - 1)) - 1};
            if (kind < 6) bits = ends[random_below(r, 5)];
        } else if (type == PQ_F64) {
            const double v = difficult(r, scale, low, high);
            memcpy(&bits, &v, sizeof v);
            bits += (uint64_t)(int64_t)nudge;
        } else if (type == PQ_F32) {
            bits = bits_of_f32((float)difficult(r, scale, low, high)) + (uint32_t)nudge;
        } else {
            bits = (uint64_t)(to_half(difficult(r, scale, low, high), type) + nudge);
        }
    } else if (kind == 2) { /* NaN of any payload, quiet or signalling, and either sign */
        const uint64_t nan[] = {0x7f800000u, 0x7c00u, 0x7f80u, 0x7ff0000000000000u};
        const uint64_t sign = bits & (uint64_t)1 << (8 * size - 1);
        bits = sign | nan[type] | (bits & 7) | (bits >> 8 & 1) << (type == PQ_F64 ? 51 : type == PQ_F32 ? 22 : type == PQ_F16 ? 9 : 6) | 1;
    } /* else any bits at all */
    if (size == 8) memcpy(to, &bits, 8);
    else if (size == 4) memcpy(to, &(uint32_t){(uint32_t)bits}, 4);
    else if (size == 2) memcpy(to, &(uint16_t){(uint16_t)bits}, 2);
    else memcpy(to, &(uint8_t){(uint8_t)bits}, 1);
}

void put_finite(void *array, size_t i, pq_type type, rng *r)
{
    const size_t size = size_of_type(type);
    char *to = (char *)array + i * size;
    double v = ((double)(int64_t)random_bits(r)) * 0x1p-63 * (random_below(r, 4) ? 1.0 : 0x1p-13);
    if (random_below(r, 16) == 0) v = random_bits(r) & 1 ? 0.0 : -0.0;
    if (type == PQ_F64) v *= random_below(r, 8) ? 1.0 : 1e-300;
    const float f = (float)v;
    const uint16_t h = type == PQ_F16 || type == PQ_BF16 ? to_half(v, type) : 0;
    if (type == PQ_F64) memcpy(to, &v, 8);
    else if (type == PQ_F32) memcpy(to, &f, 4);
    else memcpy(to, &h, 2);
}

size_t alignment_step(size_t i)
{
    static const size_t few[] = {0, 1, 3, 4, 2, 32, 63, 16, 5, 8, 31, 48, 33, 60, 62, 13};
    if (run_effort.alignments >= 64) return i;
    return few[i % (sizeof few / sizeof few[0])];
}
