/* pq_histogram_divergence: for each clip of a histogram, how far the codes' distribution is from the data's. */
#include <math.h>
#include <stdlib.h>

#include "include/pyquant.h"
#include "parallel.h"

typedef struct {
    const uint64_t *counts;
    size_t half, codes, first, clips, tasks;
    double *mass, *filled, *plogp; /* of the bins before */
    double *divergence;
} job;

/* The natural logarithm to about 1e-16, the same bits with every C library, and without its mathematical half: the
 * series of 2 atanh t, t = (m - 1) / (m + 1), for m within sqrt(2) of 1, where |t|^23 < 3e-18. */
static double natural_log(double x)
{
    if (!(x > 0.0)) return -INFINITY;
    int exponent;
    double m = frexp(x, &exponent), sum = 0.0;
    if (m < 0.70710678118654752) {
        m *= 2.0;
        exponent--;
    }
    const double t = (m - 1.0) / (m + 1.0), square = t * t;
    for (int k = 21; k > 0; k -= 2) sum = sum * square + 1.0 / k;
    return 2.0 * t * sum + exponent * 0.69314718055994531;
}

static double xlogx(double x) { return x > 0.0 ? x * natural_log(x) : 0.0; }

/* What a code adds to sum p log q but for the constant: `inside` is its share of the data within the clip, p with what
 * lies beyond, `bins` how many bins of P the code has. */
static double term(double p, double inside, double bins) { return p > 0.0 ? p * natural_log(inside / bins) : 0.0; }

static double of_clip(const job *j, size_t clip)
{
    const size_t h = j->half, low = h - clip, high = h + clip, last = 2 * h + 1, codes = j->codes;
    const double below = j->mass[low], above = j->mass[last] - j->mass[high + 1], total = j->mass[last];
    const double within = total - below - above;
    const double first = (double)j->counts[low], end = (double)j->counts[high];
    double entropy = j->plogp[high + 1] - j->plogp[low], cross = 0.0;
    entropy += xlogx(first + below) - xlogx(first) + xlogx(end + above) - xlogx(end);
    /* Code j > 0 holds the bins after (2j - 1) * clip / (2 * codes), rounded, up to that of code j + 1. */
    size_t inner = (clip + codes) / (2 * codes);
    const size_t left = h - inner, right = h + inner + 1;
    const double middle = j->mass[right] - j->mass[left];
    cross += term(middle, middle, j->filled[right] - j->filled[left]);
    for (size_t code = 1; code <= codes; code++) {
        const size_t outer = code == codes ? clip : ((2 * code + 1) * clip + codes) / (2 * codes);
        const double up = j->mass[h + 1 + outer] - j->mass[h + 1 + inner];
        const double down = j->mass[h - inner] - j->mass[h - outer];
        const double up_bins = j->filled[h + 1 + outer] - j->filled[h + 1 + inner];
        const double down_bins = j->filled[h - inner] - j->filled[h - outer];
        if (code < codes) {
            cross += term(up, up, up_bins) + term(down, down, down_bins);
        } else { /* the end bins hold what lies beyond, and are not empty where there is any */
            cross += term(up + above, up, up_bins + (end == 0.0 && above > 0.0));
            cross += term(down + below, down, down_bins + (first == 0.0 && below > 0.0));
        }
        inner = outer;
    }
    const double value = (entropy - cross) / total + natural_log(within) - natural_log(total);
    return isfinite(value) ? value : INFINITY;
}

static void clips_task(void *context, size_t i)
{
    const job *j = (const job *)context;
    for (size_t k = i; k < j->clips; k += j->tasks) j->divergence[k] = of_clip(j, j->first + k);
}

pq_status pq_histogram_divergence(const uint64_t *counts, size_t half, size_t codes, size_t first, size_t clips,
                                  double *divergence)
{
    if (clips == 0) return PQ_OK;
    if (counts == NULL || divergence == NULL || codes == 0 || first < codes || half == 0 || half > 1u << 24)
        return PQ_ERROR_ARGUMENT;
    if (first > half || clips > half - first + 1) return PQ_ERROR_ARGUMENT;
    const size_t n = 2 * half + 2;
    double *const mass = (double *)malloc(3 * n * sizeof(double));
    if (mass == NULL) return PQ_ERROR_MEMORY;
    job j = {counts, half, codes, first, clips, 1, mass, mass + n, mass + 2 * n, divergence};
    uint64_t sum = 0;
    mass[0] = j.filled[0] = j.plogp[0] = 0.0;
    for (size_t i = 0; i + 1 < n; i++) {
        sum += counts[i];
        mass[i + 1] = (double)sum;
        j.filled[i + 1] = j.filled[i] + (counts[i] > 0);
        j.plogp[i + 1] = j.plogp[i] + xlogx((double)counts[i]);
    }
    j.tasks = pq_tasks_for(clips * codes * 64);
    pq_run(j.tasks, clips_task, &j);
    free(mass);
    return PQ_OK;
}
