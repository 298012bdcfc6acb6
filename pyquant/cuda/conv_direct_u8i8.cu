#define PQ_A_SIGNED false
#define PQ_B_SIGNED true
#include "conv_direct.cuh"
