/* Checks of what goes into an integer product or convolution, and of what it is asked for. */
#ifndef PQ_OPERAND_H
#define PQ_OPERAND_H

#include "include/pyquant.h"

/* The integers that codes may be. */
typedef struct {
    int32_t low, high;
} pq_grid;
pq_grid pq_grid_of(pq_type type);

/* The largest |code - zero point|, or -1 where a zero point lies outside; zero_point may be NULL. */
int32_t pq_reach(pq_grid g, const int32_t *zero_point, size_t n);

int pq_scales_are_good(const float *scale, size_t n);

/* Type, clip, grid and scale of a result. */
pq_status pq_check_result(const pq_result *y);

/* The largest |x|. */
uint32_t pq_largest(const int32_t *x, size_t n);

#endif
