/* vpmaddwd on 256 bits: the sum of two products of int16 for each of 8 sums. Exact, where vpmaddubsw on bytes saturates. */
#define ISA avx2
#define ROWS 6
#define COLUMNS 16
#define DEPTH 2
#define PQ_A PQ_I16
#define PQ_B PQ_I16
typedef short a_t, b_t;
#include "copy.inc"
#include "avx2.inc"

/* Inline assembly, because GCC 12 takes the products of several rows first and spills sums to make room for them. */
PQ_INLINE void add_products(__m256i *sums, __m256i a, __m256i b)
{
    __m256i products;
    __asm__("vpmaddwd\t%3, %2, %1\n\tvpaddd\t%1, %0, %0" : "+x"(*sums), "=&x"(products) : "x"(a), "x"(b));
}

#include "tile.inc"
#include "copy_vectors.inc"

static const pq_gemm_kernels kernels = {ROWS, COLUMNS, DEPTH, PQ_A, PQ_B, tile, pack_b, copy_a, NULL, NULL, 4};
const pq_gemm_kernels *PQ_NAME(gemm)(void) { return &kernels; }
