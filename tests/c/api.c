/* The public C API: layouts of every shape, on 1, 2 and 7 threads of the library and of a pool of our own, under
 * every instruction set, against one element at a time. Errors are in errors.c. Ends with 0 when all is well. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layouts.h"
#include "pyquant_semantics.h"

static unsigned long failures;
static const char *what;
static char where[128];

static void expect(int good, const char *problem)
{
    if (good) return;
    printf("FAILED %s (%s): %s\n", what, where, problem);
    if (++failures == 20) exit(1);
}

/* A pool of one's own: threads that take the tasks backwards. */
typedef struct {
    pq_task task;
    void *context;
    size_t next;
} pool_job;
static size_t pool_calls;

static void *pool_thread(void *context)
{
    pool_job *j = context;
    for (;;) {
        const size_t left = __atomic_fetch_sub(&j->next, 1, __ATOMIC_RELAXED);
        if (left == 0 || left > (size_t)1 << 60) return NULL;
        j->task(j->context, left - 1);
    }
}

static void pool_run(void *pool, size_t tasks, pq_task task, void *context)
{
    pthread_t thread[3];
    pool_job j = {task, context, tasks};
    expect(pool == &pool_calls, "the pool's pointer was not handed on");
    pool_calls++;
    for (int i = 0; i < 3; i++)
        if (pthread_create(&thread[i], NULL, pool_thread, &j) != 0) exit(2);
    for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
}

typedef struct {
    void *q, *x, *y;
    float *low, *high, *dynamic_scale;
    int32_t *dynamic_zero_point;
    void *dynamic_q;
    double *dscale, *dzero_point;
} results;

static results new_results(const problem *p)
{
    results r;
    r.q = calloc(p->n + 1, 2);
    r.dynamic_q = calloc(p->n + 1, 2);
    r.x = calloc(p->n + 1, 8);
    r.y = calloc(p->n + 1, 8);
    r.low = calloc(p->params + 1, 4);
    r.high = calloc(p->params + 1, 4);
    r.dynamic_scale = calloc(p->params + 1, 4);
    r.dynamic_zero_point = calloc(p->params + 1, 4);
    r.dscale = calloc(p->params + 1, 8);
    r.dzero_point = calloc(p->params + 1, 8);
    return r;
}

static void free_results(results *r)
{
    free(r->q), free(r->dynamic_q), free(r->x), free(r->y), free(r->low), free(r->high);
    free(r->dynamic_scale), free(r->dynamic_zero_point), free(r->dscale), free(r->dzero_point);
}

static int equal(const void *a, const void *b, size_t bytes) { return bytes == 0 || memcmp(a, b, bytes) == 0; }

static void naive(const problem *p, results *r, pq_scheme scheme)
{
    naive_quantize(p, r->q);
    naive_dequantize(p, r->q, r->x);
    naive_fake_quantize(p, r->y);
    naive_range(p, r->low, r->high);
    pq_choose_params(r->low, r->high, p->params, scheme, p->given.qmin, p->given.qmax, r->dynamic_scale,
                     r->dynamic_zero_point);
    problem chosen = *p;
    chosen.given.scale = r->dynamic_scale;
    chosen.given.zero_point = r->dynamic_zero_point;
    naive_quantize(&chosen, r->dynamic_q);
}

static void compare(const problem *p, const results *want, results *got, pq_scheme scheme)
{
    const pq_layout *l = &p->layout;
    const size_t q_bytes = p->n * bytes_of(p->q_type), x_bytes = p->n * bytes_of(p->x_type), k = p->params * 4;
    expect(pq_quantize(p->x, p->x_type, got->q, p->q_type, l, &p->given) == PQ_OK, "quantize refused");
    expect(equal(got->q, want->q, q_bytes), "quantize differs");
    expect(pq_dequantize(want->q, p->q_type, got->x, p->x_type, l, &p->given) == PQ_OK, "dequantize refused");
    expect(equal(got->x, want->x, x_bytes), "dequantize differs");
    expect(pq_fake_quantize(p->x, p->x_type, got->y, l, &p->given) == PQ_OK, "fake quantize refused");
    expect(equal(got->y, want->y, x_bytes), "fake quantize differs");
    expect(pq_range(p->x, p->x_type, l, 0, got->low, got->high) == PQ_OK, "range refused");
    expect(equal(got->low, want->low, k) && equal(got->high, want->high, k), "range differs");
    expect(pq_absmax(p->x, p->x_type, l, 1, got->high) == PQ_OK, "absmax refused");
    for (size_t i = 0; i < p->params; i++)
        if (got->high[i] != fmaxf(fabsf(want->low[i]), fabsf(want->high[i]))) {
            expect(0, "absmax differs");
            break;
        }
    expect(pq_dynamic_quantize(p->x, p->x_type, got->dynamic_q, p->q_type, l, scheme, p->given.qmin, p->given.qmax,
                               got->dynamic_scale, got->dynamic_zero_point) == PQ_OK, "dynamic quantize refused");
    expect(equal(got->dynamic_scale, want->dynamic_scale, k), "dynamic scales differ");
    expect(equal(got->dynamic_zero_point, want->dynamic_zero_point, k), "dynamic zero points differ");
    expect(equal(got->dynamic_q, want->dynamic_q, q_bytes), "dynamic codes differ");
}

/* dx one by one; the sums within rounding of plain ones here, and the same bits every time. */
static void compare_grad(const problem *p, results *got, results *again)
{
    if (p->x_type != PQ_F32 && p->x_type != PQ_F64) return;
    double *ds = calloc(p->params + 1, 8), *dz = calloc(p->params + 1, 8), *size = calloc(p->params + 1, 8);
    int good = 1;
    /* x is its own upstream gradient. */
    expect(pq_fake_quantize_grad(p->x, p->x, p->x_type, got->y, got->dscale, got->dzero_point, &p->layout,
                                 &p->given) == PQ_OK, "gradient refused");
    for (size_t i = 0; i < p->n; i++) {
        const size_t k = param_of(&p->layout, i);
        const int z = p->given.zero_point ? p->given.zero_point[k] : 0;
        const int low = p->given.qmin - z, high = p->given.qmax - z;
        const double v = value_of(p->x, i, p->x_type);
        const pq_grad_f32_t f = pq_grad_f32((float)v, (float)v, p->given.scale[k], (float)low, (float)high);
        const pq_grad_f64_t d = pq_grad_f64(v, v, p->given.scale[k], low, high);
        const int wide = p->x_type == PQ_F64;
        if (value_of(got->y, i, p->x_type) != (wide ? d.x : (double)f.x)) good = 0;
        ds[k] += wide ? d.scale : (double)f.scale;
        dz[k] += wide ? d.zero_point : (double)f.zero_point;
        size[k] += fabs(wide ? d.scale : (double)f.scale) + fabs(wide ? d.zero_point : (double)f.zero_point);
    }
    expect(good, "gradient differs");
    for (size_t k = 0; k < p->params; k++)
        if (!(fabs(ds[k] - got->dscale[k]) <= 1e-12 * size[k] && fabs(dz[k] - got->dzero_point[k]) <= 1e-12 * size[k])) {
            expect(0, "gradient sums differ");
            break;
        }
    if (again) {
        expect(equal(again->dscale, got->dscale, p->params * 8), "sums of scale gradients change with threads or ISA");
        expect(equal(again->dzero_point, got->dzero_point, p->params * 8), "sums of zero point gradients change");
    }
    free(ds), free(dz), free(size);
}

static void all_small(const char *isa)
{
    static const pq_type x_types[] = {PQ_F32, PQ_F16, PQ_BF16, PQ_F64}, q_types[] = {PQ_I8, PQ_U8, PQ_I16, PQ_U16};
    for (const named_layout *l = small_layouts; l->what; l++)
        for (int t = 0; t < 16; t++) {
            const pq_scheme scheme = t % 2 ? PQ_AFFINE : PQ_SYMMETRIC;
            what = l->what;
            snprintf(where, sizeof where, "%s, types %d and %d", isa, t / 4, t % 4);
            expect(pq_layout_size(&l->layout) == size_of_layout(&l->layout), "another size");
            if (pq_layout_params(&l->layout) != params_of(&l->layout)) {
                expect(0, "another number of scales");
                break;
            }
            problem p = new_problem(&l->layout, x_types[t / 4], q_types[t % 4], (unsigned)t * 77 + 1, 1);
            results want = new_results(&p), got = new_results(&p);
            naive(&p, &want, scheme);
            compare(&p, &want, &got, scheme);
            compare_grad(&p, &got, NULL);
            free_problem(&p), free_results(&want), free_results(&got);
        }
}

static void all_large(const char *const *isas, size_t isa_count, int brief)
{
    static const struct {
        int threads, own_pool;
    } ways[] = {{1, 0}, {2, 0}, {7, 0}, {7, 1}};
    int t = 0;
    for (const named_layout *l = large_layouts; l->what; l++, t++) {
        static const pq_type x_types[] = {PQ_F32, PQ_BF16, PQ_F32, PQ_F64}, q_types[] = {PQ_I8, PQ_U8, PQ_I16};
        problem p = new_problem(&l->layout, x_types[t % 4], q_types[t % 3], (unsigned)t, 1);
        results want = new_results(&p), got = new_results(&p), first = new_results(&p);
        what = l->what;
        naive(&p, &want, t % 2 ? PQ_AFFINE : PQ_SYMMETRIC);
        for (size_t i = brief ? isa_count - 1 : 0; i < isa_count; i++)
            for (size_t w = brief ? 3 : i ? 1 : 0; w < sizeof ways / sizeof ways[0]; w += i ? 2 : 1) {
                const size_t before = pool_calls;
                snprintf(where, sizeof where, "%s, %d threads%s", isas[i], ways[w].threads, ways[w].own_pool ? " of its own" : "");
                pq_set_isa(isas[i]);
                pq_set_num_threads(ways[w].threads);
                expect(pq_get_num_threads() == ways[w].threads, "another number of threads");
                pq_set_parallel_for(ways[w].own_pool ? pool_run : NULL, &pool_calls);
                compare(&p, &want, &got, t % 2 ? PQ_AFFINE : PQ_SYMMETRIC);
                expect((pool_calls > before) == ways[w].own_pool, "the pool was not used, or used unasked");
                if (brief || (i == 0 && w == 0)) compare_grad(&p, &first, NULL);
                else if (w % 2) compare_grad(&p, &got, &first);
            }
        free_problem(&p), free_results(&want), free_results(&got), free_results(&first);
    }
    pq_set_parallel_for(NULL, NULL);
    pq_set_num_threads(0);
}

/* NaN and infinity in data: omitted, or refused and found. */
static void nonfinite(void)
{
    const pq_layout l = {40, 50, 3, 0}, blocks = {40, 50, 3, 7};
    problem p = new_problem(&l, PQ_F32, PQ_I8, 5, 1);
    float *x = p.x, low[6000], high[6000], scale[6000];
    int32_t zero_point[6000];
    signed char q[6000];
    what = "data that are not finite", where[0] = 0;
    x[4711] = NAN;
    x[5000] = INFINITY;
    expect(pq_find_nonfinite(x, PQ_F32, p.n) == 4711, "found elsewhere");
    expect(pq_find_nonfinite(x, PQ_F32, 4711) == 4711, "found where none is");
    for (int k = 0; k < 2; k++) {
        const pq_layout *layout = k ? &blocks : &l;
        expect(pq_range(x, PQ_F32, layout, 0, low, high) == PQ_ERROR_NONFINITE, "range passed over NaN");
        expect(pq_absmax(x, PQ_F32, layout, 0, high) == PQ_ERROR_NONFINITE, "absmax passed over NaN");
        expect(pq_dynamic_quantize(x, PQ_F32, q, PQ_I8, layout, PQ_SYMMETRIC, -127, 127, scale, zero_point) ==
               PQ_ERROR_NONFINITE, "dynamic quantize passed over NaN");
        expect(pq_range(x, PQ_F32, layout, 1, low, high) == PQ_OK, "range did not omit");
        for (size_t i = 0; i < pq_layout_params(layout); i++)
            if (!(isfinite(low[i]) && isfinite(high[i]) && low[i] <= high[i])) expect(0, "an omitted value came through");
    }
    double wide[3] = {1e300, -1.0, 2.0};
    const pq_layout three = {1, 1, 3, 0};
    expect(pq_range(wide, PQ_F64, &three, 0, low, high) == PQ_ERROR_RANGE, "range of 1e300 in float32");
    expect(pq_dynamic_quantize(wide, PQ_F64, q, PQ_I8, &three, PQ_AFFINE, -128, 127, scale, zero_point) == PQ_ERROR_RANGE,
           "dynamic quantize of 1e300");
    free_problem(&p);
}

/* Every width, against shifts of single bits. */
static void packing(void)
{
    static unsigned short q[2000], back[2000];
    static unsigned char small[2000], small_back[2000], packed[4001], want[4001];
    what = "packing";
    for (int bits = 1; bits <= 16; bits++)
        for (size_t n = 0; n < 2000; n += n < 40 ? 1 : 163) {
            const size_t bytes = (n * (size_t)bits + 7) / 8;
            snprintf(where, sizeof where, "%zu codes of %d bits", n, bits);
            memset(want, 0, sizeof want);
            for (size_t i = 0; i < n; i++) {
                q[i] = (unsigned short)(i * 40503u >> 3);
                small[i] = (unsigned char)q[i];
                for (int b = 0; b < bits; b++) {
                    const size_t at = i * (size_t)bits + (size_t)b;
                    want[at / 8] = (unsigned char)(want[at / 8] | (q[i] >> b & 1) << at % 8);
                }
            }
            memset(packed, 0x5a, sizeof packed);
            expect(pq_packed_size(n, bits) == bytes, "another size");
            const void *from = bits > 8 ? (void *)q : (void *)small;
            const pq_status fits = bits == 8 || bits == 16 || n == 0 ? PQ_OK : PQ_ERROR_CODE;
            q[0] = small[0] = 255, q[0] = 65535; /* never fits */
            expect(pq_pack_bits(from, n, bits, 0, packed) == fits, "a code that does not fit was taken");
            for (size_t i = 0; i < n; i++) {
                const int is_negative = i % 3 == 0, mask = (1 << bits) - 1, code = (int)(i * 40503u >> 3) & mask;
                const int negative = is_negative && code >> (bits - 1) ? code - (1 << bits) : code;
                q[i] = (unsigned short)negative;
                small[i] = (unsigned char)negative;
            }
            memset(packed, 0x5a, sizeof packed);
            expect(pq_pack_bits(from, n, bits, 1, packed) == PQ_OK, "refused");
            expect(equal(packed, want, bytes) && packed[bytes] == 0x5a, "packed differently");
            for (int is_signed = 0; is_signed < 2; is_signed++) {
                expect(pq_unpack_bits(packed, n, bits, is_signed, bits > 8 ? (void *)back : (void *)small_back) == PQ_OK, "refused");
                for (size_t i = 0; i < n; i++) {
                    int code = q[i] & ((1 << bits) - 1);
                    if (is_signed && code >> (bits - 1)) code -= 1 << bits;
                    if (bits > 8 ? back[i] != (unsigned short)code : small_back[i] != (unsigned char)code) {
                        expect(0, "unpacked differently");
                        break;
                    }
                }
            }
        }
}

static void requantizing(void)
{
    static const pq_layout layouts[] = {{1, 1, 999, 0}, {7, 5, 33, 0}, {50, 13, 1, 0}, {1, 300001, 4, 0}, {3000, 7, 100, 0}};
    what = "requantize";
    for (size_t k = 0; k < 5; k++)
        for (int mode = 0; mode < 3; mode++) {
            const pq_layout *l = &layouts[k];
            problem p = new_problem(l, PQ_F32, mode ? PQ_I8 : PQ_U16, k * 2 + 2, 1);
            int32_t *acc = malloc(p.n * 4);
            unsigned char *got = malloc(p.n * 2), *want = malloc(p.n * 2);
            for (size_t i = 0; i < p.n; i++) acc[i] = (int32_t)(i * 2654435761u) >> (i % 24);
            for (size_t i = 0; i < p.params; i++) p.scale[i] *= i % 3 ? 1e-3f : 1.0f;
            for (size_t i = 0; i < p.n; i++) {
                const size_t c = param_of(l, i);
                int exponent, mantissa = pq_fixed_mantissa(p.scale[c], &exponent), v;
                const int z = p.given.zero_point ? p.zero_point[c] : 0;
                if (mode == 0) v = pq_requantize_f32(acc[i], p.scale[c], z, p.given.qmin, p.given.qmax);
                else v = pq_clamp_code(mode == 1 ? pq_fixed_double(acc[i], mantissa, exponent) : pq_fixed_single(acc[i], mantissa, exponent), z, p.given.qmin, p.given.qmax);
                if (mode) want[i] = (unsigned char)v;
                else memcpy(want + 2 * i, &(unsigned short){(unsigned short)v}, 2);
            }
            snprintf(where, sizeof where, "layout %zu, mode %d", k, mode);
            expect(pq_requantize(acc, got, p.q_type, l, &p.given, (pq_requantize_mode)mode) == PQ_OK, "refused");
            expect(equal(got, want, p.n * bytes_of(p.q_type)), "differs");
            free(acc), free(got), free(want), free_problem(&p);
        }
}

static void instruction_sets(void)
{
    what = "introspection", where[0] = 0;
    expect(pq_set_isa("no such thing") == PQ_ERROR_ISA, "an unknown name was taken");
    expect(strcmp(pq_isa_name(0), "scalar") == 0, "scalar is not the first");
    expect(!pq_isa_usable("no such thing") && !pq_isa_compiled("no such thing"), "an unknown name is usable");
    for (size_t i = 0; pq_isa_name(i); i++) {
        expect(pq_set_isa(pq_isa_name(i)) == PQ_OK, "a known name was refused");
        for (size_t op = 0; pq_op_name(op); op++) {
            const char *chosen = pq_op_chosen(op);
            snprintf(where, sizeof where, "%s under %s", pq_op_name(op), pq_isa_name(i));
            expect(pq_isa_usable(chosen) && pq_op_has(op, chosen), "the chosen variant is not usable");
            if (i == 0) expect(strcmp(chosen, "scalar") == 0, "capped at scalar, yet another variant runs");
        }
        expect(pq_op_chosen(100000) == NULL && pq_op_name(100000) == NULL, "an operation past the end");
    }
    expect(pq_set_isa("") == PQ_OK, "no cap was refused");
}

int main(int argc, char **argv)
{
    const char *isas[16];
    size_t count = 0;
    const int reduced = argc > 1 && strcmp(argv[1], "reduced") == 0; /* for emulators */
    const int brief = argc > 1 && strcmp(argv[1], "brief") == 0;     /* for sanitizers: the best variant, one pool */
    for (size_t i = 0; pq_isa_name(i); i++)
        if (pq_isa_usable(pq_isa_name(i))) isas[count++] = pq_isa_name(i);
    instruction_sets();
    nonfinite();
    packing();
    requantizing();
    for (size_t i = 0; i < count; i++) {
        if ((reduced || brief) && i + 1 < count) continue;
        pq_set_isa(isas[i]);
        all_small(isas[i]);
        printf("%s: %s\n", isas[i], reduced ? "small layouts" : "small and large layouts");
    }
    if (!reduced) all_large(isas, count, brief);
    printf(failures ? "%lu FAILURES\n" : "all equal\n", failures);
    return failures != 0;
}
