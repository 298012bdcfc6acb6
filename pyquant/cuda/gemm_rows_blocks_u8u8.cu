#define PQ_A_SIGNED false
#define PQ_B_SIGNED false
#include "gemm_rows_blocks.cuh"
