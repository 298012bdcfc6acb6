#define PQ_A_SIGNED true
#define PQ_B_SIGNED false
#include "gemm_columns.cuh"
