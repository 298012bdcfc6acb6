#define PQ_A_SIGNED true
#define PQ_B_SIGNED true
#define PQ_SMALL_TILES
#include "gemm_mma.cuh"
