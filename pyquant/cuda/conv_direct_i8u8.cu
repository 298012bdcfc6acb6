#define PQ_A_SIGNED true
#define PQ_B_SIGNED false
#include "conv_direct.cuh"
