#define PQ_B_SIGNED false
#include "gemm_front.cuh"
