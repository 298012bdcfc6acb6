/* vpmaddwd on 256 bits: the sum of two products of int16 for each of 8 sums. Exact, where vpmaddubsw on bytes
 * saturates. */
#define ISA avx2
#define ROWS 6
#define COLUMNS 16
#define DEPTH 2
#define PQ_A PQ_I16
#define PQ_B PQ_I16
typedef short a_t, b_t;
#include "copy.inc"
#include "avx2.inc"
#include "tile.inc"
#include "copy_vectors.inc"

static const pq_gemm_kernels kernels = {ROWS, COLUMNS, DEPTH, PQ_A, PQ_B, tile, pack_b, copy_a, NULL, NULL, 4};
const pq_gemm_kernels *PQ_NAME(gemm)(void) { return &kernels; }
