#define PQ_A_SIGNED false
#define PQ_B_SIGNED false
#define PQ_SMALL_TILES
#include "gemm_mma.cuh"
