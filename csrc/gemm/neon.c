/* smull and sadalp: the sum of two products of int8 for each of 4 sums, exactly. */
#define ISA neon
#define ROWS 6
#define COLUMNS 16
#define DEPTH 2
#define PQ_A PQ_I8
#define PQ_B PQ_I8
typedef signed char a_t, b_t;
#include "copy.inc"
#include "neon.inc"
#include "tile.inc"
#include "copy_vectors.inc"

static const pq_gemm_kernels kernels = {ROWS, COLUMNS, DEPTH, PQ_A, PQ_B, tile, pack_b, copy_a, NULL, NULL, 4};
const pq_gemm_kernels *PQ_NAME(gemm)(void) { return &kernels; }
