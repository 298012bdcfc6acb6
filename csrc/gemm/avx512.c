/* vpmaddwd on 512 bits: the sum of two products of int16 for each of 16 sums. Exact, where vpmaddubsw on bytes
 * saturates. */
#define ISA avx512
#define ROWS 12
#define COLUMNS 32
#define DEPTH 2
#define PQ_A PQ_I16
#define PQ_B PQ_I16
typedef short a_t, b_t;
#include "copy.inc"
#include "avx512.inc"
#include "tile.inc"
#include "copy_vectors.inc"

static const pq_gemm_kernels kernels = {ROWS, COLUMNS, DEPTH, PQ_A, PQ_B, tile, pack_b, copy_a, NULL, NULL, 4};
const pq_gemm_kernels *PQ_NAME(gemm)(void) { return &kernels; }
