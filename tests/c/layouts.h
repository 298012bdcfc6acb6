/* Layouts of every shape, and what the C API must give for them by index arithmetic alone. */
#ifndef PQ_TESTS_LAYOUTS_H
#define PQ_TESTS_LAYOUTS_H

#include "pyquant.h"

typedef struct {
    const char *what;
    pq_layout layout;
} named_layout;
extern const named_layout small_layouts[], large_layouts[]; /* up to an entry without a name */

/* Which scale element i has. */
size_t param_of(const pq_layout *l, size_t i);
/* From the definition, not from the library: how many scales. */
size_t params_of(const pq_layout *l);
size_t size_of_layout(const pq_layout *l);

typedef struct {
    size_t n, params;
    pq_layout layout;
    pq_params given;
    float *scale;
    int32_t *zero_point;
    void *x; /* float values of x_type */
    pq_type x_type, q_type;
} problem;

/* Random data (finite only where asked) and parameters; free with free_problem. */
problem new_problem(const pq_layout *l, pq_type x_type, pq_type q_type, unsigned long long seed, int finite);
void free_problem(problem *p);

/* One element at a time, in the words of pyquant_semantics.h. */
void naive_quantize(const problem *p, void *q);
void naive_dequantize(const problem *p, const void *q, void *x);
void naive_fake_quantize(const problem *p, void *y);
void naive_range(const problem *p, float *low, float *high);
size_t bytes_of(pq_type type);
double value_of(const void *x, size_t i, pq_type type);

#endif
