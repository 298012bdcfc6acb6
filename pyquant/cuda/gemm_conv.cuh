/* Convolutions as matrix products on tensor cores: the tiles of tile.cuh, whose A are pixels of an image, fetched from
 * where they lie for every piece of K anew. Groups are the products of a batch. */
#include "conv.cuh"
#include "tile.cuh"

template <int ROWS, int BK, int THREADS> struct Gather : Pieces<ROWS, BK, THREADS> {
    typedef Pieces<ROWS, BK, THREADS> Base;
    const char *image;
    u32 places[Base::COUNT];
    const pq_gather *where;

    PQ_DEVICE Gather from(const void *image, const pq_gather *where, int row0, int rows)
    {
        Gather f;
        f.place(row0, rows);
        f.image = (const char *)image;
        f.where = where;
#pragma unroll
        for (int i = 0; i < Base::COUNT; i++) {
            const bool present = f.inside >> i & 1;
            f.places[i] = present ? read_odometer(where->result, (u32)(row0 + f.row + i * Base::STRIDE)) : 0;
        }
        return f;
    }

    __device__ __forceinline__ void start(char *stage, int k0, int end)
    {
        const int k = k0 + 16 * this->chunk;
        const bool within = k < end;
        const u32 place = within ? read_odometer(where->kernel, where->first + (u32)k / 16) : 0;
#pragma unroll
        for (int i = 0; i < Base::COUNT; i++) this->bring(stage, i, image + 16 * (i64)(places[i] + place), within);
    }
};

template <bool CHANNELS_FIRST> struct Images {
    pq_gather where;

    template <int ROWS, int BK, int THREADS>
    __device__ __forceinline__ Gather<ROWS, BK, THREADS> left(const pq_gemm &g, int batch, int row0) const
    {
        return Gather<ROWS, BK, THREADS>::from((const char *)g.a + batch * g.a_batch, &where, row0, g.m);
    }
    template <int COLUMNS>
    __device__ __forceinline__ void store(const pq_gemm &g, int *slab, int row0, int column0, int batch) const
    {
        if (CHANNELS_FIRST) {
            store_slab_across<COLUMNS>(g, slab, row0, column0, batch, where.pixels, where.by_pixels, where.image);
        } else {
            store_slab<COLUMNS>(g, slab, row0, column0, batch);
        }
    }
};

#ifdef PQ_A_SIGNED
#define PQ_CONV(BM, BN, WM, WN, BK, STAGES, BLOCKS, LAYOUT, CHANNELS_FIRST)                                    \
    PQ_KERNEL __launch_bounds__(32 * (BM / WM) * (BN / WN), BLOCKS)                                            \
        conv_##BM##x##BN##_##LAYOUT(const pq_gemm g, const pq_gather where)                                    \
    {                                                                                                          \
        PQ_DYNAMIC_SHARED(char, shared);                                                                       \
        const Images<CHANNELS_FIRST> images = {where};                                                         \
        Tile<PQ_A_SIGNED, PQ_B_SIGNED, BM, BN, WM, WN, BK, STAGES>::run(g, shared, images);                    \
    }
PQ_CONV(64, 64, 32, 32, 128, 3, 3, nchw, true)
PQ_CONV(64, 64, 32, 32, 128, 3, 3, nhwc, false)
#if PQ_ARCH >= 800 /* before that registers hold what is on its way, and there are not enough */
PQ_CONV(128, 128, 64, 64, 64, 4, 2, nchw, true)
PQ_CONV(128, 128, 64, 64, 64, 4, 2, nhwc, false)
#endif
#endif
