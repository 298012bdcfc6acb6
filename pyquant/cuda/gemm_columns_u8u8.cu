#define PQ_A_SIGNED false
#define PQ_B_SIGNED false
#include "gemm_columns.cuh"
