/* Is the fast rint(x / scale) that of true division, for every float32 x?
 *
 *   sweep all [variant]   all 2^32 bit patterns of x for scales of every kind (minutes)
 *   sweep some            a stride through the patterns, and all ties with their neighbours for many more scales
 *   sweep ties            the ties alone, for emulators
 *
 * Every variant that this machine has, on 8-bit and 16-bit grids. What is expected is written here once more, with
 * the division and rounding of the machine: it shares nothing with the library. */
#define _DEFAULT_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernels.h"

enum { CHUNK = 1 << 14 };

/* rint(x / scale) + zero_point, clamped: plain C that the compiler vectorises. */
static void expect(const float *x, int16_t *q, size_t n, float scale, int32_t zero_point, int32_t qmin, int32_t qmax)
{
    const float low = (float)(qmin - zero_point), high = (float)(qmax - zero_point);
    for (size_t i = 0; i < n; i++) {
        const float ratio = x[i] / scale, number = ratio == ratio ? ratio : 0.0f;
        const float inside = number < low ? low : number > high ? high : number;
        q[i] = (int16_t)(uint16_t)((int32_t)rintf(inside) + zero_point);
    }
}

static const struct {
    const char *isa;
    pq_quantize_fn *i8, *i16;
} variants[] = {
#define VARIANT(isa) PQ_IF_##isa({#isa, pq_quantize_f32_i8_##isa, pq_quantize_f32_i16_##isa}, )
    VARIANT(scalar) VARIANT(avx2) VARIANT(avx512) VARIANT(neon)
};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

static const struct {
    int wide;
    int32_t zero_point, qmin, qmax;
} grids[] = {{0, 0, -128, 127}, {0, 255, 0, 255}, {1, 0, -32768, 32767}, {1, 65535, 0, 65535}, {1, 0, 0, 65535}};
enum { GRIDS = sizeof grids / sizeof grids[0] };

static unsigned long long wrong;

static void check(size_t variant, size_t g, const float *x, size_t n, float scale)
{
    int16_t want[CHUNK], got[CHUNK];
    const int32_t z = grids[g].zero_point;
    int differ = 0;
    expect(x, want, n, scale, z, grids[g].qmin, grids[g].qmax);
    (grids[g].wide ? variants[variant].i16 : variants[variant].i8)(x, got, 1, n, &scale, &z, grids[g].qmin, grids[g].qmax, 0);
    if (grids[g].wide) {
        differ = memcmp(want, got, n * 2) != 0;
    } else {
        const uint8_t *codes = (const uint8_t *)got;
        for (size_t i = 0; i < n; i++) differ |= (uint8_t)want[i] ^ codes[i];
    }
    if (!differ) return;
    for (size_t i = 0; i < n; i++) {
        const int code = grids[g].wide ? (uint16_t)got[i] : ((const uint8_t *)got)[i];
        if (code == (grids[g].wide ? (uint16_t)want[i] : (uint8_t)want[i])) continue;
        if (__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED) < 20)
            printf("FAILED %s: x %a / scale %a on %d ... %d gives %d, not %d\n", variants[variant].isa, (double)x[i],
                   (double)scale, grids[g].qmin, grids[g].qmax, code, want[i]);
    }
}

/* Patterns first, first + stride ... of one scale. */
typedef struct {
    float scale;
    uint64_t first, stride, step;
    size_t variant, grid;
} part;

static void *sweep_part(void *context)
{
    const part *p = context;
    float *x = malloc(CHUNK * sizeof *x);
    for (uint64_t next = p->first; next < (uint64_t)1 << 32;) {
        size_t n = 0;
        for (; n < CHUNK && next < (uint64_t)1 << 32; n++, next += p->stride) {
            const uint32_t bits = (uint32_t)next;
            memcpy(x + n, &bits, 4);
        }
        check(p->variant, p->grid, x, n, p->scale);
        next += (p->step - 1) * p->stride * CHUNK;
    }
    free(x);
    return NULL;
}

static void sweep_patterns(size_t variant, size_t g, float scale, uint64_t stride)
{
    enum { MOST = 64 };
    pthread_t thread[MOST];
    part parts[MOST];
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    const size_t count = cpus < 1 ? 1 : cpus > MOST ? MOST : (size_t)cpus;
    for (size_t t = 0; t < count; t++) {
        parts[t] = (part){scale, t * stride * CHUNK, stride, count, variant, g};
        if (pthread_create(&thread[t], NULL, sweep_part, &parts[t]) != 0) exit(2);
    }
    for (size_t t = 0; t < count; t++) pthread_join(thread[t], NULL);
}

/* All ties of the grid, (k + 1/2) scale rounded to float32, with the float32 numbers around them, both signs. */
static void sweep_ties(size_t variant, size_t g, float scale)
{
    float x[CHUNK];
    size_t n = 0;
    const int last = grids[g].wide ? 65537 : 258;
    for (int k = 0; k <= last; k++) {
        const float tie = (float)((k + 0.5) * (double)scale);
        uint32_t bits;
        memcpy(&bits, &tie, 4);
        for (uint32_t near = 0; near < 5; near++) {
            const uint32_t value = bits + near - 2, negative = value ^ 0x80000000u;
            memcpy(x + n++, &value, 4);
            memcpy(x + n++, &negative, 4);
        }
        if (n + 10 > CHUNK || k == last) {
            check(variant, g, x, n, scale);
            n = 0;
        }
    }
}

static uint64_t state = 20240607;
static uint32_t random32(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

static float random_scale(int any)
{
    const uint32_t exponent = any ? 1 + random32() % 254 : 107 + random32() % 30;
    const uint32_t fraction = random32() & 0x7fffff, bits = exponent << 23 | fraction;
    float scale;
    memcpy(&scale, &bits, 4);
    return scale;
}

/* Around the subnormals, the ends of the fast division, the largest float; all-ones mantissas; powers of two. */
static const float chosen[] = {
    0x1p-126f, 0x1.fffffcp-127f, 0x1.000002p-126f, 0x1p-149f, 0x1.fffffep-125f,
    0x1p-100f, 0x1.fffffep-101f, 0x1.000002p-100f, 0x1.fffffep-100f,
    0x1p100f, 0x1.fffffep99f, 0x1.000002p100f, 0x1.fffffep127f, 0x1p127f, 0x1.fffffep126f,
    0x1.fffffep-1f, 0x1.fffffep-8f, 0x1.fffffcp3f, 1.0f, 0x1p-7f, 0x1p10f, 0x1.000002p0f,
    0.00214854861f, 0x1.555556p-7f, 0.1f,
};
enum { CHOSEN = sizeof chosen / sizeof chosen[0], RANDOM = 7 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    const char *const level = argc > 1 ? argv[1] : "some";
    const int all = strcmp(level, "all") == 0, ties = strcmp(level, "ties") == 0;
    float scales[CHOSEN + RANDOM];
    memcpy(scales, chosen, sizeof chosen);
    for (size_t i = 0; i < RANDOM; i++) scales[CHOSEN + i] = random_scale(i & 1);
    for (size_t v = 0; v < VARIANTS; v++) {
        const double start = seconds();
        unsigned long swept = 0;
        if ((ties && v == 0) || (argc > 2 && strcmp(argv[2], variants[v].isa) != 0)) continue;
        if (!pq_isa_usable(variants[v].isa)) {
            printf("%s: could not run on this CPU\n", variants[v].isa);
            continue;
        }
        for (size_t i = 0; i < CHOSEN + RANDOM; i++) {
            const double before = seconds();
            for (size_t g = 0; g < GRIDS; g++) {
                if (ties && grids[g].wide && (i + g) % 3) continue; /* an emulator is slow */
                sweep_ties(v, g, scales[i]);
                /* The scalar code is slow and plain: a stride is enough for it. */
                if (all && v) sweep_patterns(v, g, scales[i], 1);
                else if (!ties && (i + g) % 4 == 0) sweep_patterns(v, g, scales[i], v ? 131 : 16411);
                swept++;
            }
            if (!all || v == 0) continue;
            printf("  %s, scale %a, %d grids: %.1f s\n", variants[v].isa, (double)scales[i], GRIDS, seconds() - before);
            fflush(stdout);
        }
        for (int i = 0; i < (ties ? 100 : 4000); i++, swept++) sweep_ties(v, i & 1, random_scale(i & 2));
        for (int i = 0; i < (ties ? 3 : 60); i++, swept++) sweep_ties(v, 2 + (size_t)i % 3, random_scale(i & 1));
        printf("%s: %lu sweeps (%s) in %.1f s\n", variants[v].isa, swept, level, seconds() - start);
        fflush(stdout);
    }
    printf(wrong ? "%llu WRONG\n" : "all equal\n", wrong);
    return wrong != 0;
}
