#define PQ_A_SIGNED true
#define PQ_B_SIGNED true
#include "conv_direct.cuh"
