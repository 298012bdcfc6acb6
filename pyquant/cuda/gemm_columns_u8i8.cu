#define PQ_A_SIGNED false
#define PQ_B_SIGNED true
#include "gemm_columns.cuh"
