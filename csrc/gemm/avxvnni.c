/* vpdpbusd on 256 bits: four products of a uint8 and an int8 are added to each of 8 sums. */
#define ISA avxvnni
#define ROWS 6
#define COLUMNS 16
#define DEPTH 4
#define PQ_A PQ_U8
#define PQ_B PQ_I8
typedef unsigned char a_t;
typedef signed char b_t;
#include "copy.inc"
#include "avx2.inc"
#include "tile.inc"
#include "copy_vectors.inc"

static const pq_gemm_kernels kernels = {ROWS, COLUMNS, DEPTH, PQ_A, PQ_B, tile, pack_b, copy_a, NULL, NULL, 4};
const pq_gemm_kernels *PQ_NAME(gemm)(void) { return &kernels; }
