#define PQ_A_SIGNED true
#define PQ_B_SIGNED true
#include "gemm_columns.cuh"
