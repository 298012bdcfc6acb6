/* See layouts.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layouts.h"
#include "pyquant_semantics.h"

const named_layout small_layouts[] = {
    {"one element", {1, 1, 1, 0}},
    {"per tensor", {1, 1, 1000, 0}},
    {"per tensor, outer elements", {7, 1, 33, 0}},
    {"empty", {3, 0, 5, 0}},
    {"no outer", {0, 4, 5, 0}},
    {"no inner, blocks", {2, 4, 0, 3}},
    {"first axis", {1, 6, 77, 0}},
    {"middle axis", {3, 5, 70, 0}},
    {"last axis", {9, 65, 1, 0}},
    {"last axis, one row", {1, 130, 1, 0}},
    {"last axis, wider than a tile", {5, 2048 * 2 + 7, 1, 0}},
    {"few columns", {100, 3, 1, 0}},
    {"few columns, many rows left over", {33 * 16 + 15, 7, 1, 0}},
    {"two columns", {1001, 2, 1, 0}},
    {"127 columns", {40, 127, 1, 0}},
    {"128 columns", {40, 128, 1, 0}},
    {"31 rows of few columns", {31, 5, 1, 0}},
    {"small inner", {40, 6, 9, 0}},
    {"small inner, few rows", {7, 6, 9, 0}},
    {"inner of 2", {64, 3, 2, 0}},
    {"inner of 63", {9, 5, 63, 0}},
    {"inner of 64", {9, 5, 64, 0}},
    {"blocks, last axis", {5, 96, 1, 32}},
    {"blocks, last axis, shorter last", {5, 100, 1, 32}},
    {"one ragged row", {1, 1000, 1, 128}},
    {"a block longer than the axis", {4, 10, 1, 32}},
    {"a block as long as the axis", {4, 32, 1, 32}},
    {"blocks of 1", {3, 50, 1, 1}},
    {"blocks of 1, inner elements", {3, 50, 4, 1}},
    {"blocks of 2", {3, 51, 1, 2}},
    {"blocks on another axis", {2, 12, 37, 4}},
    {"blocks on another axis, shorter last", {3, 13, 70, 4}},
    {"blocks, inner of 2", {5, 33, 2, 16}},
    {"a block far longer than the axis", {4, 10, 1, SIZE_MAX}},
    {"a block far longer than the axis, inner", {4, 10, 3, SIZE_MAX - 3}},
    {NULL, {0, 0, 0, 0}},
};

/* Worth several threads. */
const named_layout large_layouts[] = {
    {"per tensor", {1, 1, 1200007, 0}},
    {"first axis", {1, 611, 2003, 0}},
    {"few long channels", {1, 3, 400009, 0}},
    {"last axis", {1501, 803, 1, 0}},
    {"wide last axis", {11, 110001, 1, 0}},
    {"few columns", {400003, 3, 1, 0}},
    {"small inner", {20001, 6, 10, 0}},
    {"middle axis", {60, 100, 201, 0}},
    {"blocks", {1001, 1200, 1, 128}},
    {"even blocks", {1000, 1280, 1, 128}},
    {"one row of blocks", {1, 1200011, 1, 64}},
    {"long blocks", {1, 1200011, 1, 300000}},
    {"even long blocks", {1, 1200000, 1, 400000}},
    {"blocks on the first axis", {1, 600, 2001, 100}},
    {"blocks on a middle axis", {70, 131, 133, 32}},
    {NULL, {0, 0, 0, 0}},
};

size_t size_of_layout(const pq_layout *l) { return l->outer * l->axis * l->inner; }

static size_t blocks_of(const pq_layout *l) { return l->axis / l->block + (l->axis % l->block != 0); }

size_t params_of(const pq_layout *l)
{
    return l->block ? l->outer * blocks_of(l) * l->inner : l->axis;
}

size_t param_of(const pq_layout *l, size_t i)
{
    const size_t k = i % l->inner, a = i / l->inner % l->axis, o = i / l->inner / l->axis;
    return l->block ? (o * blocks_of(l) + a / l->block) * l->inner + k : a;
}

size_t bytes_of(pq_type type)
{
    return type == PQ_F64 ? 8 : type == PQ_F32 ? 4 : type == PQ_I8 || type == PQ_U8 ? 1 : 2;
}

static unsigned long long state;
static unsigned random32(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 32);
}

static void put(void *x, size_t i, pq_type type, double v)
{
    const float f = (float)v;
    const unsigned short h = type == PQ_F16 ? pq_f32_to_f16(f) : pq_f32_to_bf16(f);
    char *to = (char *)x + i * bytes_of(type);
    if (type == PQ_F64) memcpy(to, &v, 8);
    else if (type == PQ_F32) memcpy(to, &f, 4);
    else memcpy(to, &h, 2);
}

double value_of(const void *x, size_t i, pq_type type)
{
    const char *from = (const char *)x + i * bytes_of(type);
    double v;
    float f;
    unsigned short h;
    if (type == PQ_F64) return memcpy(&v, from, 8), v;
    if (type == PQ_F32) return memcpy(&f, from, 4), (double)f;
    memcpy(&h, from, 2);
    return type == PQ_F16 ? (double)pq_f16_to_f32(h) : (double)pq_bf16_to_f32(h);
}

problem new_problem(const pq_layout *l, pq_type x_type, pq_type q_type, unsigned long long seed, int finite)
{
    problem p;
    p.layout = *l;
    p.n = size_of_layout(l);
    p.params = params_of(l);
    p.x_type = x_type;
    p.q_type = q_type;
    p.x = malloc(p.n * bytes_of(x_type) + 1);
    p.scale = malloc(p.params * sizeof(float) + 1);
    p.zero_point = malloc(p.params * sizeof(int32_t) + 1);
    state = seed;
    const int is_signed = q_type == PQ_I8 || q_type == PQ_I16, bits = bytes_of(q_type) == 1 ? 8 : 12;
    p.given.qmin = is_signed ? 1 - (1 << (bits - 1)) : 0;
    p.given.qmax = is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
    for (size_t i = 0; i < p.params; i++) {
        p.scale[i] = 0.01f + (float)(random32() % 1000) * 1e-4f;
        p.zero_point[i] = p.given.qmin + (int32_t)(random32() % (unsigned)(p.given.qmax - p.given.qmin + 1));
    }
    p.given.scale = p.scale;
    p.given.zero_point = is_signed && seed % 2 ? NULL : p.zero_point;
    for (size_t i = 0; i < p.n; i++) {
        double v = (double)(int)random32() * 0x1p-31 * 8.0;
        if (random32() % 8 == 0) v = ((int)(random32() % 200) - 100 + 0.5) * (double)p.scale[param_of(l, i)];
        if (!finite && random32() % 64 == 0) v = random32() % 2 ? -INFINITY : 1e9;
        put(p.x, i, x_type, v);
    }
    return p;
}

void free_problem(problem *p)
{
    free(p->x);
    free(p->scale);
    free(p->zero_point);
}

static int code_of(const problem *p, size_t i)
{
    const size_t k = param_of(&p->layout, i);
    const int z = p->given.zero_point ? p->given.zero_point[k] : 0;
    const double v = value_of(p->x, i, p->x_type);
    if (p->x_type == PQ_F64) return pq_quantize_f64(v, p->given.scale[k], z, p->given.qmin, p->given.qmax);
    return pq_quantize_f32((float)v, p->given.scale[k], z, p->given.qmin, p->given.qmax);
}

void naive_quantize(const problem *p, void *q)
{
    for (size_t i = 0; i < p->n; i++) {
        const int code = code_of(p, i);
        if (bytes_of(p->q_type) == 1) ((unsigned char *)q)[i] = (unsigned char)code;
        else ((unsigned short *)q)[i] = (unsigned short)code;
    }
}

static int stored(const void *q, size_t i, pq_type type)
{
    return type == PQ_I8    ? ((const signed char *)q)[i]
           : type == PQ_U8  ? ((const unsigned char *)q)[i]
           : type == PQ_I16 ? ((const short *)q)[i]
                            : ((const unsigned short *)q)[i];
}

static void put_value(const problem *p, void *x, size_t i, int code)
{
    const size_t k = param_of(&p->layout, i);
    put(x, i, p->x_type, (double)pq_dequantize_f32(code, p->given.scale[k], p->given.zero_point ? p->given.zero_point[k] : 0));
}

void naive_dequantize(const problem *p, const void *q, void *x)
{
    for (size_t i = 0; i < p->n; i++) put_value(p, x, i, stored(q, i, p->q_type));
}

void naive_fake_quantize(const problem *p, void *y)
{
    for (size_t i = 0; i < p->n; i++) put_value(p, y, i, code_of(p, i));
}

void naive_range(const problem *p, float *low, float *high)
{
    for (size_t k = 0; k < p->params; k++) low[k] = INFINITY, high[k] = -INFINITY;
    for (size_t i = 0; i < p->n; i++) {
        const size_t k = param_of(&p->layout, i);
        const float v = (float)value_of(p->x, i, p->x_type);
        if (v < low[k]) low[k] = v;
        if (v > high[k]) high[k] = v;
    }
    for (size_t k = 0; k < p->params; k++) {
        if (p->n == 0) low[k] = high[k] = 0.0f;
        low[k] += 0.0f;
        high[k] += 0.0f;
    }
}
