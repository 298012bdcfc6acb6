/* A C99 program that uses the installed library: quantizes, goes back, and looks at the result.
 * With a number as argument, the process must have that many threads after a large call on two. */
#include <pyquant.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int quantize_and_back(void)
{
    const float x[6] = {-1.0f, -0.5f, 0.0f, 0.25f, 0.5f, 1.0f};
    const pq_layout layout = {1, 2, 3, 0};
    signed char q[6];
    float scale[2], back[6];
    int32_t zero_point[2];
    pq_params params;
    int i;
    if (pq_dynamic_quantize(x, PQ_F32, q, PQ_I8, &layout, PQ_SYMMETRIC, -127, 127, scale, zero_point) != PQ_OK) return 1;
    params.scale = scale;
    params.zero_point = zero_point;
    params.qmin = -127;
    params.qmax = 127;
    if (pq_dequantize(q, PQ_I8, back, PQ_F32, &layout, &params) != PQ_OK) return 1;
    if (q[0] != -127 || q[1] != -64 || q[2] != 0 || q[3] != 32 || q[4] != 64 || q[5] != 127) return 1;
    for (i = 0; i < 6; i++)
        if (back[i] - x[i] > 0.005f || x[i] - back[i] > 0.005f) return 1;
    params.qmax = -128;
    if (pq_quantize(x, PQ_F32, q, PQ_I8, &layout, &params) != PQ_ERROR_GRID) return 1;
    return strlen(pq_status_string(PQ_ERROR_GRID)) == 0;
}

/* Large enough for several threads: with OpenMP in the program they run, without it one does all. */
static int large(int want_threads)
{
    const size_t n = (size_t)1 << 23;
    float *x = (float *)malloc(n * sizeof *x);
    signed char *q = (signed char *)malloc(n);
    const float scale = 0.5f;
    const pq_layout layout = {1, 1, (size_t)1 << 23, 0};
    pq_params params;
    size_t i;
    int bad = 0, threads = 0;
    if (x == NULL || q == NULL) return 1;
    for (i = 0; i < n; i++) x[i] = (float)(i % 201) * 0.5f - 50.0f;
    params.scale = &scale;
    params.zero_point = NULL;
    params.qmin = -128;
    params.qmax = 127;
    pq_set_num_threads(2);
    if (pq_get_num_threads() != 2) bad = 1;
    if (pq_quantize(x, PQ_F32, q, PQ_I8, &layout, &params) != PQ_OK) bad = 1;
    for (i = 0; i < n && !bad; i++) bad = q[i] != (signed char)((int)(i % 201) - 100);
    if (want_threads) { /* the helper of the team stays: count this process's threads */
        FILE *status = fopen("/proc/self/status", "r");
        char line[256];
        while (status != NULL && fgets(line, sizeof line, status) != NULL) sscanf(line, "Threads: %d", &threads);
        if (status != NULL) fclose(status);
        printf("%d threads\n", threads);
        if (threads != want_threads) bad = 1;
    }
    free(x);
    free(q);
    return bad;
}

int main(int argc, char **argv)
{
    const int bad = quantize_and_back() || large(argc > 1 ? atoi(argv[1]) : 0);
    puts(bad ? "WRONG" : "embedded library works");
    return bad;
}
