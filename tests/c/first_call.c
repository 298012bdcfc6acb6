/* Many threads make the first calls of the process at the same moment: they fill the dispatch table together. For
 * ThreadSanitizer, and as it is. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "pyquant.h"

enum { THREADS = 8, N = 333 };
static float x[N];
static pthread_barrier_t start;
static int wrong;

static void *hammer(void *context)
{
    static const pq_layout layout = {1, 1, N, 0};
    const float scale = 0.25f;
    const pq_params p = {&scale, NULL, -128, 127};
    signed char q[N];
    (void)context;
    pthread_barrier_wait(&start);
    for (int i = 0; i < 200; i++) {
        float back[N], low, high, s;
        int32_t z;
        memset(q, 99, sizeof q);
        if (pq_quantize(x, PQ_F32, q, PQ_I8, &layout, &p) != PQ_OK) __atomic_store_n(&wrong, 1, __ATOMIC_RELAXED);
        pq_dequantize(q, PQ_I8, back, PQ_F32, &layout, &p);
        pq_range(x, PQ_F32, &layout, 0, &low, &high);
        pq_dynamic_quantize(x, PQ_F32, q, PQ_I8, &layout, PQ_AFFINE, -128, 127, &s, &z);
        if (pq_get_num_threads() < 1 || !pq_isa_usable("scalar") || pq_op_chosen(0) == NULL)
            __atomic_store_n(&wrong, 1, __ATOMIC_RELAXED);
        for (int k = 0; k < N; k++)
            if (back[k] != x[k]) __atomic_store_n(&wrong, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(void)
{
    pthread_t thread[THREADS];
    for (int i = 0; i < N; i++) x[i] = (float)(i % 200 - 100) * 0.25f;
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&thread[i], NULL, hammer, NULL) != 0) return 2;
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    puts(wrong ? "WRONG" : "all equal");
    return wrong;
}
