#define PQ_B_SIGNED true
#include "gemm_front.cuh"
