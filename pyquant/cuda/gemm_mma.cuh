/* Integer products of matrices by tile.cuh. Warps of 64 x 64 read 64 bytes of shared memory per clock at A100's rate, half
 * of what there is; the two small ones are for products that read more than they compute, and take twice the K per piece
 * for longer rows. BLOCKS are to fit a multiprocessor, which leaves each thread the registers that it needs and no more. */
#include "tile.cuh"

#define PQ_TILE(BM, BN, WM, WN, BK, STAGES, BLOCKS)                                                            \
    PQ_KERNEL __launch_bounds__(32 * (BM / WM) * (BN / WN), BLOCKS) gemm_##BM##x##BN(const pq_gemm g)           \
    {                                                                                                          \
        PQ_DYNAMIC_SHARED(char, shared);                                                                       \
        Tile<PQ_A_SIGNED, PQ_B_SIGNED, BM, BN, WM, WN, BK, STAGES>::run(g, shared, Matrices());                \
    }
#ifdef PQ_SMALL_TILES
PQ_TILE(16, 128, 16, 32, 128, 3, 4)
PQ_TILE(64, 64, 32, 32, 128, 3, 3)
#else
PQ_TILE(128, 128, 64, 64, 64, 4, 2)
PQ_TILE(128, 256, 64, 64, 64, 4, 1)
#endif
