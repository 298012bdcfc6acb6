/* Every error of the C API, and that a refused call leaves its outputs as they were. Linked with --wrap=malloc, so
 * that memory can run out. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pyquant.h"

static unsigned long failures;
static int out_of_memory;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) { return out_of_memory ? NULL : __real_malloc(size); }

enum { N = 4096 };
static float x[N], y[N], scale[N], low[N], high[N];
static double wide[N], dscale[N], dzero_point[N];
static int32_t zero_point[N], acc[N];
static int16_t q[N];
static unsigned char packed[N];
static const pq_layout tensor = {1, 1, 100, 0}, channels = {2, 5, 10, 0}, empty = {0, 5, 10, 0};
static const pq_layout joined = {100, 4, 1, 0}, columns = {20, 70, 1, 0}, blocks = {1, 4000, 1, 30};
static const pq_layout huge = {(size_t)1 << 40, (size_t)1 << 40, 1, 0}, vast = {(size_t)1 << 61, 1, 1, 0};

static void clear(void)
{
    for (int i = 0; i < N; i++) {
        x[i] = (float)(i % 50) - 20.0f;
        wide[i] = x[i];
        scale[i] = 0.5f;
        zero_point[i] = 3;
        acc[i] = i;
    }
    memset(y, 0x77, sizeof y);
    memset(q, 0x77, sizeof q);
    memset(packed, 0x77, sizeof packed);
}

static int untouched(const void *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (((const unsigned char *)p)[i] != 0x77) return 0;
    return 1;
}

static void check(const char *call, pq_status got, pq_status want, int line)
{
    const int clean = want == PQ_OK || want == PQ_ERROR_NONFINITE || want == PQ_ERROR_RANGE ||
                      want == PQ_ERROR_CODE ||
                      (untouched(y, sizeof y) && untouched(q, sizeof q) && untouched(packed, sizeof packed));
    if (got != want || !clean) {
        printf("FAILED line %d: %s is \"%s\", not \"%s\"%s\n", line, call, pq_status_string(got), pq_status_string(want),
               clean ? "" : "; an output was written");
        failures++;
    }
    clear();
}
#define CHECK(call, want) check(#call, call, want, __LINE__)

static pq_params with(int32_t qmin, int32_t qmax)
{
    const pq_params p = {scale, zero_point, qmin, qmax};
    return p;
}

/* The checks that every call with parameters makes, for each of them. */
typedef pq_status (*call_fn)(const pq_layout *, const pq_params *, int nothing);

static pq_status quantize(const pq_layout *l, const pq_params *p, int nothing)
{
    return pq_quantize(nothing == 1 ? NULL : x, PQ_F32, nothing == 2 ? NULL : q, PQ_I8, l, p);
}
static pq_status dequantize(const pq_layout *l, const pq_params *p, int nothing)
{
    return pq_dequantize(nothing == 1 ? NULL : acc, PQ_I8, nothing == 2 ? NULL : y, PQ_F32, l, p);
}
static pq_status fake_quantize(const pq_layout *l, const pq_params *p, int nothing)
{
    return pq_fake_quantize(nothing == 1 ? NULL : x, PQ_F32, nothing == 2 ? NULL : y, l, p);
}
static pq_status requantize(const pq_layout *l, const pq_params *p, int nothing)
{
    return pq_requantize(nothing == 1 ? NULL : acc, nothing == 2 ? NULL : q, PQ_I8, l, p, PQ_REQUANTIZE_FLOAT);
}
static pq_status gradient(const pq_layout *l, const pq_params *p, int nothing)
{
    return pq_fake_quantize_grad(x, nothing == 1 ? NULL : x, PQ_F32, nothing == 2 ? NULL : y, dscale, dzero_point, l, p);
}

static void shared_checks(call_fn call, int looks_at_grid)
{
    static const float bad_scales[] = {0.0f, -0.0f, -1.0f, INFINITY, -INFINITY, NAN};
    pq_params p = with(-128, 127);
    CHECK(call(&tensor, &p, 0), PQ_OK);
    CHECK(call(NULL, &p, 0), PQ_ERROR_ARGUMENT);
    CHECK(call(&tensor, NULL, 0), PQ_ERROR_ARGUMENT);
    CHECK(call(&tensor, &p, 1), PQ_ERROR_ARGUMENT);
    CHECK(call(&tensor, &p, 2), PQ_ERROR_ARGUMENT);
    CHECK(call(&huge, &p, 0), PQ_ERROR_ARGUMENT);
    CHECK(call(&vast, &p, 0), PQ_ERROR_ARGUMENT);
    CHECK(call(&empty, &p, 1), PQ_OK);
    p.scale = NULL;
    CHECK(call(&tensor, &p, 0), PQ_ERROR_ARGUMENT);
    p = with(-128, 127);
    for (size_t i = 0; i < sizeof bad_scales / sizeof bad_scales[0]; i++) {
        scale[4] = bad_scales[i];
        CHECK(call(&channels, &p, 0), PQ_ERROR_SCALE);
    }
    scale[4] = 1e-45f;
    CHECK(call(&channels, &p, 0), PQ_OK);
    zero_point[4] = 128;
    if (looks_at_grid || call == dequantize) CHECK(call(&channels, &p, 0), PQ_ERROR_ZERO_POINT);
    zero_point[4] = -129;
    if (looks_at_grid || call == dequantize) CHECK(call(&channels, &p, 0), PQ_ERROR_ZERO_POINT);
    if (!looks_at_grid) return;
    p.qmin = 3, p.qmax = 2;
    CHECK(call(&tensor, &p, 0), PQ_ERROR_GRID);
    p.qmin = -100000, p.qmax = 100;
    CHECK(call(&tensor, &p, 0), PQ_ERROR_GRID);
    p.qmin = 1, p.qmax = 100000;
    CHECK(call(&tensor, &p, 0), PQ_ERROR_GRID);
    p.qmin = 1, p.qmax = 7, p.zero_point = NULL; /* 0 is not on it */
    CHECK(call(&tensor, &p, 0), PQ_ERROR_ZERO_POINT);
    p = with(3, 3); /* one code */
    CHECK(call(&tensor, &p, 0), PQ_OK);
}

static void types(void)
{
    const pq_params p = with(0, 7);
    for (int t = PQ_I8; t <= PQ_I32; t++) {
        CHECK(pq_quantize(x, (pq_type)t, q, PQ_I8, &tensor, &p), PQ_ERROR_ARGUMENT);
        CHECK(pq_fake_quantize(x, (pq_type)t, y, &tensor, &p), PQ_ERROR_ARGUMENT);
        CHECK(pq_dequantize(acc, PQ_I8, y, (pq_type)t, &tensor, &p), PQ_ERROR_ARGUMENT);
        CHECK(pq_range(x, (pq_type)t, &tensor, 0, low, high), PQ_ERROR_ARGUMENT);
        CHECK(pq_absmax(x, (pq_type)t, &tensor, 0, high), PQ_ERROR_ARGUMENT);
        CHECK(pq_fake_quantize_grad(x, x, (pq_type)t, y, dscale, dzero_point, &tensor, &p), PQ_ERROR_ARGUMENT);
        CHECK(pq_dynamic_quantize(x, (pq_type)t, q, PQ_I8, &tensor, PQ_AFFINE, 0, 7, scale, zero_point), PQ_ERROR_ARGUMENT);
    }
    for (int t = PQ_F32; t <= PQ_F64; t++) {
        CHECK(pq_quantize(x, PQ_F32, q, (pq_type)t, &tensor, &p), PQ_ERROR_ARGUMENT);
        CHECK(pq_dequantize(acc, (pq_type)t, y, PQ_F32, &tensor, &p), PQ_ERROR_ARGUMENT);
        CHECK(pq_requantize(acc, q, (pq_type)t, &tensor, &p, PQ_REQUANTIZE_FLOAT), PQ_ERROR_ARGUMENT);
        CHECK(pq_dynamic_quantize(x, PQ_F32, q, (pq_type)t, &tensor, PQ_AFFINE, 0, 7, scale, zero_point), PQ_ERROR_ARGUMENT);
    }
    CHECK(pq_quantize(x, (pq_type)77, q, PQ_I8, &tensor, &p), PQ_ERROR_ARGUMENT);
    CHECK(pq_quantize(x, PQ_F32, q, (pq_type)77, &tensor, &p), PQ_ERROR_ARGUMENT);
    CHECK(pq_dequantize(acc, PQ_I32, y, PQ_F32, &tensor, &p), PQ_ERROR_ARGUMENT);
    CHECK(pq_requantize(acc, q, PQ_I8, &tensor, &p, (pq_requantize_mode)3), PQ_ERROR_ARGUMENT);
}

static void parameters(void)
{
    static uint64_t counts[33];
    static int32_t exponents[1];
    double nothing;
    CHECK(pq_choose_params(NULL, high, 3, PQ_AFFINE, 0, 255, scale, zero_point), PQ_ERROR_ARGUMENT);
    CHECK(pq_choose_params(low, high, 3, PQ_AFFINE, 0, 255, NULL, zero_point), PQ_ERROR_ARGUMENT);
    CHECK(pq_choose_params(low, high, 3, (pq_scheme)9, 0, 255, scale, zero_point), PQ_ERROR_ARGUMENT);
    CHECK(pq_choose_params(low, high, 3, PQ_AFFINE, 5, 5, scale, zero_point), PQ_ERROR_GRID);
    CHECK(pq_choose_params(low, high, 3, PQ_AFFINE, 6, 5, scale, zero_point), PQ_ERROR_GRID);
    CHECK(pq_choose_params(low, high, 3, PQ_AFFINE, 0, 65536, scale, zero_point), PQ_ERROR_GRID);
    CHECK(pq_choose_params(NULL, NULL, 0, PQ_AFFINE, 0, 255, NULL, NULL), PQ_OK);
    low[1] = NAN;
    CHECK(pq_choose_params(low, high, 3, PQ_AFFINE, 0, 255, scale, zero_point), PQ_ERROR_NONFINITE);
    low[1] = 2.0f, high[1] = 1.0f;
    CHECK(pq_choose_params(low, high, 3, PQ_AFFINE, 0, 255, scale, zero_point), PQ_ERROR_NONFINITE);
    low[1] = high[1] = 0.0f;
    CHECK(pq_dynamic_quantize(x, PQ_F32, q, PQ_I8, &tensor, PQ_AFFINE, -128, 127, NULL, zero_point), PQ_ERROR_ARGUMENT);
    CHECK(pq_dynamic_quantize(x, PQ_F32, NULL, PQ_I8, &tensor, PQ_AFFINE, -128, 127, scale, zero_point), PQ_ERROR_ARGUMENT);
    CHECK(pq_dynamic_quantize(NULL, PQ_F32, q, PQ_I8, &channels, PQ_AFFINE, -128, 127, scale, zero_point), PQ_ERROR_ARGUMENT);
    CHECK(pq_dynamic_quantize(x, PQ_F32, q, PQ_I8, &tensor, PQ_AFFINE, -129, 127, scale, zero_point), PQ_ERROR_GRID);
    CHECK(pq_dynamic_quantize(x, PQ_F32, q, PQ_I8, &tensor, (pq_scheme)2, -128, 127, scale, zero_point), PQ_ERROR_ARGUMENT);
    CHECK(pq_dynamic_quantize(x, PQ_F32, q, PQ_I8, NULL, PQ_AFFINE, -128, 127, scale, zero_point), PQ_ERROR_ARGUMENT);
    CHECK(pq_range(x, PQ_F32, NULL, 0, low, high), PQ_ERROR_ARGUMENT);
    CHECK(pq_range(NULL, PQ_F32, &tensor, 0, low, high), PQ_ERROR_ARGUMENT);
    CHECK(pq_range(x, PQ_F32, &tensor, 0, NULL, high), PQ_ERROR_ARGUMENT);
    CHECK(pq_absmax(x, PQ_F32, &tensor, 0, NULL), PQ_ERROR_ARGUMENT);
    CHECK(pq_absmax(x, PQ_F32, &huge, 0, high), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram(x, PQ_F32, &tensor, 0, 16, counts, exponents, low, high), PQ_OK);
    CHECK(pq_histogram(x, PQ_F32, NULL, 0, 16, counts, exponents, low, high), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram(NULL, PQ_F32, &tensor, 0, 16, counts, exponents, low, high), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram(x, PQ_I8, &tensor, 0, 16, counts, exponents, low, high), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram(x, PQ_F32, &tensor, 0, 24, counts, exponents, low, high), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram(x, PQ_F32, &tensor, 0, 8, counts, exponents, low, high), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram(x, PQ_F32, &tensor, 0, 16, NULL, exponents, low, high), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram(x, PQ_F32, &tensor, 0, 16, counts, NULL, low, high), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram(x, PQ_F32, &blocks, 0, 16, counts, exponents, low, high), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram_error(wide, wide, wide, 1, 0.0, 0, 7, wide), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram_error(wide, NULL, wide, 1, 1.0, 0, 7, wide), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram_error(wide, wide, wide, 1, 1.0, 8, 7, wide), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram_error(NULL, NULL, NULL, 0, 1.0, 0, 7, &nothing), PQ_OK);
    CHECK(pq_histogram_divergence(counts, 16, 3, 3, 1, &nothing), PQ_OK);
    CHECK(pq_histogram_divergence(NULL, 16, 3, 3, 1, &nothing), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram_divergence(counts, 16, 3, 3, 1, NULL), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram_divergence(counts, 16, 3, 2, 1, &nothing), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram_divergence(counts, 16, 0, 3, 1, &nothing), PQ_ERROR_ARGUMENT);
    CHECK(pq_histogram_divergence(counts, 16, 3, 3, 15, &nothing), PQ_ERROR_ARGUMENT);
    wide[3] = -1e300;
    CHECK(pq_histogram(wide, PQ_F64, &tensor, 0, 16, counts, exponents, low, high), PQ_ERROR_RANGE);
    wide[3] = -1e300;
    CHECK(pq_range(wide, PQ_F64, &channels, 0, low, high), PQ_ERROR_RANGE);
    wide[3] = -1e300;
    CHECK(pq_absmax(wide, PQ_F64, &tensor, 1, high), PQ_ERROR_RANGE);
    wide[3] = INFINITY;
    CHECK(pq_range(wide, PQ_F64, &columns, 0, low, high), PQ_ERROR_NONFINITE);
    const pq_params p = with(0, 7);
    CHECK(pq_fake_quantize_grad(x, x, PQ_F32, y, NULL, dzero_point, &tensor, &p), PQ_ERROR_ARGUMENT);
    CHECK(pq_fake_quantize_grad(NULL, x, PQ_F32, y, dscale, dzero_point, &tensor, &p), PQ_ERROR_ARGUMENT);
}

/* One output of two channels and 3 x 3 of 4 x 5 codes, which changes in one thing. */
static pq_convolution small(void)
{
    static const int32_t zero = 3;
    static const float one = 1.0f;
    pq_convolution v = {.shape = {1, 2, 1, 1, {1, 4, 5}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}}};
    v.x = (pq_images){acc, PQ_U8, 40, 20, {20, 5, 1}, &zero, 1, &one, 1};
    v.w = (pq_images){acc, PQ_I8, 18, 9, {9, 3, 1}, NULL, 0, &one, 1};
    v.y = (pq_result){q, PQ_I8, 1, 6, NULL, -1.0f, 1.0f, 1.0f, 0, -128, 127, PQ_REQUANTIZE_FLOAT};
    v.y_image_stride = 6;
    return v;
}

static pq_status packed_for(const pq_convolution *v, size_t outputs)
{
    pq_convolution other = *v;
    pq_packed_convolution *w = NULL;
    other.shape.outputs = outputs;
    const pq_status status = pq_pack_convolution(&other.shape, &other.w, &w);
    if (status != PQ_OK) return status;
    pq_convolution with_packed = *v;
    with_packed.packed = w;
    const pq_status done = pq_convolve(&with_packed);
    pq_free_packed_convolution(w);
    return done;
}

#define WITH(change, want)                                                                                     \
    do {                                                                                                       \
        pq_convolution v = small();                                                                            \
        change;                                                                                                \
        CHECK(pq_convolve(&v), want);                                                                          \
    } while (0)

static void convolutions(void)
{
    static int32_t outside = 128;
    static float bad = NAN;
    pq_packed_convolution *w = NULL;
    const pq_convolution good = small();
    CHECK(pq_convolve(NULL), PQ_ERROR_ARGUMENT);
    WITH((void)v, PQ_OK);
    WITH(v.shape.images = 0; v.x.data = v.y.data = NULL, PQ_OK);
    WITH(v.shape.kernel[1] = 5, PQ_OK); /* does not fit: no results */
    WITH(v.shape.groups = 0, PQ_ERROR_ARGUMENT);
    WITH(v.shape.groups = 2, PQ_ERROR_ARGUMENT);
    WITH(v.shape.kernel[2] = 0, PQ_ERROR_ARGUMENT);
    WITH(v.shape.stride[1] = 0, PQ_ERROR_ARGUMENT);
    WITH(v.shape.dilation[0] = 0, PQ_ERROR_ARGUMENT);
    WITH(v.shape.before[2] = (size_t)1 << 30, PQ_ERROR_ARGUMENT);
    WITH(v.shape.size[2] = (size_t)1 << 63, PQ_ERROR_ARGUMENT);
    WITH(v.shape.images = (size_t)1 << 40, PQ_ERROR_ARGUMENT);
    WITH(v.x.data = NULL, PQ_ERROR_ARGUMENT);
    WITH(v.w.data = NULL, PQ_ERROR_ARGUMENT);
    WITH(v.y.data = NULL, PQ_ERROR_ARGUMENT);
    WITH(v.x.type = PQ_I16, PQ_ERROR_ARGUMENT);
    WITH(v.w.type = PQ_F32, PQ_ERROR_ARGUMENT);
    WITH(v.y.type = PQ_F16, PQ_ERROR_ARGUMENT);
    WITH(v.y.mode = (pq_requantize_mode)3, PQ_ERROR_ARGUMENT);
    WITH(v.x.zero_points = 2, PQ_ERROR_ARGUMENT);
    WITH(v.w.zero_point = &outside; v.w.zero_points = 2, PQ_ERROR_ARGUMENT);
    WITH(v.w.zero_point = &outside; v.w.zero_points = 1, PQ_ERROR_ZERO_POINT);
    WITH(v.y.zero_point = 128, PQ_ERROR_ZERO_POINT);
    WITH(v.y.qmin = -129, PQ_ERROR_GRID);
    WITH(v.x.scale = &bad, PQ_ERROR_SCALE);
    WITH(v.w.scale = &bad, PQ_ERROR_SCALE);
    WITH(v.w.scales = 2, PQ_ERROR_ARGUMENT);
    WITH(v.y.scale = 0.0f, PQ_ERROR_SCALE);
    WITH(v.y.scale = 1e-40f; v.y.qmax = 100, PQ_ERROR_SCALE); /* the multiplier is infinite */
    WITH(v.x.type = PQ_F32; v.x.data = x; v.x.scale = NULL; v.x_qmax = 7, PQ_ERROR_ARGUMENT);
    WITH(v.x.type = PQ_F32; v.x.data = x; v.x_qmin = -1; v.x_qmax = 7, PQ_ERROR_GRID);
    WITH(v.x.type = PQ_F32; v.x.data = x; v.x_qmax = 2, PQ_ERROR_ZERO_POINT);
    WITH(v.x.type = PQ_F32; v.x.data = x; v.x_qmax = 7, PQ_OK);
    WITH(v.shape.channels = (size_t)1 << 37, PQ_ERROR_ARGUMENT); /* 9 * 2^37 products a sum */
    CHECK(packed_for(&good, 1), PQ_OK);
    CHECK(packed_for(&good, 2), PQ_ERROR_ARGUMENT);
    CHECK(pq_pack_convolution(NULL, &good.w, &w), PQ_ERROR_ARGUMENT);
    CHECK(pq_pack_convolution(&good.shape, NULL, &w), PQ_ERROR_ARGUMENT);
    CHECK(pq_pack_convolution(&good.shape, &good.w, NULL), PQ_ERROR_ARGUMENT);
    pq_free_packed_convolution(NULL);
    static uint8_t column[33100];
    WITH(memset(column, 255, sizeof column); v.x.data = v.w.data = column; v.x.type = v.w.type = PQ_U8;
         v.x.zero_point = NULL; v.shape.kernel[1] = v.shape.kernel[2] = v.shape.size[1] = v.shape.size[2] = 1;
         v.shape.channels = 33026; v.x.channel_stride = v.w.channel_stride = 1; v.y.type = PQ_I32, PQ_ERROR_OVERFLOW);
}

static void packing(void)
{
    CHECK(pq_pack_bits(acc, 10, 0, 1, packed), PQ_ERROR_ARGUMENT);
    CHECK(pq_pack_bits(acc, 10, 17, 0, packed), PQ_ERROR_ARGUMENT);
    CHECK(pq_pack_bits(NULL, 10, 4, 0, packed), PQ_ERROR_ARGUMENT);
    CHECK(pq_pack_bits(acc, 10, 4, 0, NULL), PQ_ERROR_ARGUMENT);
    CHECK(pq_pack_bits(NULL, 0, 4, 0, NULL), PQ_OK);
    acc[2] = 200;
    CHECK(pq_pack_bits(acc, 40, 4, 0, packed), PQ_ERROR_CODE);
    acc[2] = -1;
    CHECK(pq_pack_bits(acc, 40, 9, 0, packed), PQ_ERROR_CODE);
    CHECK(pq_unpack_bits((uint8_t *)acc, 10, -1, 0, q), PQ_ERROR_ARGUMENT);
    CHECK(pq_unpack_bits((uint8_t *)acc, 10, 17, 1, q), PQ_ERROR_ARGUMENT);
    CHECK(pq_unpack_bits(NULL, 10, 4, 1, q), PQ_ERROR_ARGUMENT);
    CHECK(pq_unpack_bits((uint8_t *)acc, 10, 4, 1, NULL), PQ_ERROR_ARGUMENT);
    CHECK(pq_unpack_bits(NULL, 0, 4, 1, NULL), PQ_OK);
    CHECK(pq_set_num_threads(-1), PQ_ERROR_ARGUMENT);
    CHECK(pq_set_isa("AVX2"), PQ_ERROR_ISA);
}

static void memory(void)
{
    const pq_params p = with(-128, 127);
    pq_packed_convolution *w = NULL;
    const pq_convolution good = small();
    CHECK(pq_pack_convolution(&good.shape, &good.w, &w), PQ_OK);
    out_of_memory = 1;
    WITH((void)v, PQ_ERROR_MEMORY);
    WITH(v.packed = w, PQ_ERROR_MEMORY);
    CHECK(pq_quantize(x, PQ_F32, q, PQ_I8, &joined, &p), PQ_ERROR_MEMORY);
    CHECK(pq_dequantize(acc, PQ_I8, y, PQ_F32, &joined, &p), PQ_ERROR_MEMORY);
    CHECK(pq_fake_quantize(x, PQ_F32, y, &joined, &p), PQ_ERROR_MEMORY);
    CHECK(pq_fake_quantize_grad(x, x, PQ_F32, y, dscale, dzero_point, &tensor, &p), PQ_ERROR_MEMORY);
    CHECK(pq_range(x, PQ_F32, &columns, 0, low, high), PQ_ERROR_MEMORY);
    static uint64_t counts[33];
    static int32_t exponents[1];
    double divergence;
    CHECK(pq_histogram(x, PQ_F32, &tensor, 0, 16, counts, exponents, low, high), PQ_ERROR_MEMORY);
    CHECK(pq_histogram_divergence(counts, 16, 3, 3, 1, &divergence), PQ_ERROR_MEMORY);
    CHECK(pq_absmax(x, PQ_F32, &tensor, 0, high), PQ_ERROR_MEMORY);
    CHECK(pq_dynamic_quantize(x, PQ_F32, q, PQ_I8, &columns, PQ_AFFINE, -128, 127, scale, zero_point), PQ_ERROR_MEMORY);
    CHECK(pq_dynamic_quantize(x, PQ_F32, q, PQ_I8, &blocks, PQ_AFFINE, -128, 127, scale, zero_point), PQ_ERROR_MEMORY);
    /* What needs no memory does not fail. */
    CHECK(pq_quantize(x, PQ_F32, q, PQ_I8, &channels, &p), PQ_OK);
    CHECK(pq_dynamic_quantize(x, PQ_F32, q, PQ_I8, &tensor, PQ_AFFINE, -128, 127, scale, zero_point), PQ_OK);
    out_of_memory = 0;
    pq_free_packed_convolution(w);
}

static void messages(void)
{
    for (int a = PQ_OK; a <= PQ_ERROR_MEMORY; a++) {
        if (strlen(pq_status_string((pq_status)a)) < 2 || strstr(pq_status_string((pq_status)a), "unknown s")) failures++;
        for (int b = PQ_OK; b < a; b++)
            if (strcmp(pq_status_string((pq_status)a), pq_status_string((pq_status)b)) == 0) {
                printf("FAILED: codes %d and %d have one message\n", a, b);
                failures++;
            }
    }
    if (pq_status_string((pq_status)99) == NULL) failures++;
}

int main(void)
{
    clear();
    shared_checks(quantize, 1);
    clear();
    shared_checks(fake_quantize, 1);
    clear();
    shared_checks(requantize, 1);
    clear();
    shared_checks(gradient, 1);
    clear();
    shared_checks(dequantize, 0);
    clear();
    types();
    parameters();
    convolutions();
    packing();
    memory();
    messages();
    printf(failures ? "%lu FAILURES\n" : "all errors as they should be\n", failures);
    return failures != 0;
}
