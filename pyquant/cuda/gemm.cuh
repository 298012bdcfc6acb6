/* What the matrix kernels share: the description of a product, the order of its tiles, and the epilogue that turns
 * accumulators into results. */
#ifndef PQ_GEMM_CUH
#define PQ_GEMM_CUH

#include "mma.cuh"

/* One value for all, or one per row or column; the products of a batch may have their own. */
struct pq_vector {
    const void *data; /* null: absent */
    i64 step;   /* elements from one row or column to the next: 0 or 1 */
    i64 batch;  /* elements from one product of the batch to the next */
};

/* C = (A - a_zero) (B - b_zero), A (m, depth), B (n, depth) both with contiguous rows. The rows hold k >= depth bytes,
 * k a multiple of 16, zeros past depth; rows begin on multiples of 16 bytes. pyquant/_cuda_gemm.py has the same layout. */
struct pq_gemm {
    const void *a, *b;
    void *c;
    int4 *partial; /* of split-K: accumulators of every block, and how many of a tile's blocks are done (zeros) */
    int *done;
    i64 lda, ldb, ldc;             /* elements from row to row */
    i64 a_batch, b_batch, c_batch; /* elements from product to product; 0: the same operand for all */
    pq_vector a_zero, b_zero;            /* int32 */
    pq_vector a_sum, b_sum;              /* int32: sums along K, there where the other operand has a zero point */
    pq_vector a_scale, b_scale, y_scale; /* float32 */
    pq_vector bias;                      /* float32 before float results, int32 before requantized ones */
    pq_vector y_zero;                    /* int32 */
    int m, n, k, depth, batches, splits;
    int output, mode, relu; /* the enumerations below */
    int qmin, qmax;
    int unused;
};

enum { PQ_OUT_I32, PQ_OUT_F32, PQ_OUT_F16, PQ_OUT_BF16, PQ_OUT_CODE };
enum { PQ_MODE_FLOAT, PQ_MODE_FIXED_DOUBLE, PQ_MODE_FIXED_SINGLE };

template <typename T> PQ_DEVICE T at(const pq_vector &v, int i, int batch)
{
    return ((const T *)v.data)[i * v.step + batch * v.batch];
}

/* The tile with this number. Eight tile rows go together, column by column, so that the blocks that run at a time
 * share operands in the second-level cache. */
PQ_DEVICE int2 tile_position(int number, int tiles_m, int tiles_n)
{
    const int per_group = 8 * tiles_n, first = number / per_group * 8, within = number % per_group;
    const int rows = tiles_m - first < 8 ? tiles_m - first : 8;
    int2 tile;
    tile.x = first + within % rows;
    tile.y = within / rows;
    return tile;
}

/* What the epilogue needs of one column, and of one row. */
struct pq_column {
    u32 zero, sum; /* of B */
    float scale;        /* b_scale, times a_scale where that is one value, over y_scale then too */
    pq_bits32 bias;
};
struct pq_row {
    u32 zero, sum; /* of A; sum less depth * zero */
    float scale;
};

PQ_DEVICE pq_column column_of(const pq_gemm &g, int n, int batch)
{
    pq_column column;
    column.zero = g.b_zero.data ? at<u32>(g.b_zero, n, batch) : 0;
    column.sum = g.b_sum.data ? at<u32>(g.b_sum, n, batch) : 0;
    column.bias.u = g.bias.data ? at<u32>(g.bias, n, batch) : 0;
    column.scale = 0;
    if (g.output != PQ_OUT_I32) {
        column.scale = at<float>(g.b_scale, n, batch);
        if (!g.a_scale.step) {
            column.scale = at<float>(g.a_scale, 0, batch) * column.scale;
            if (g.output == PQ_OUT_CODE) column.scale = column.scale / at<float>(g.y_scale, 0, 0);
        }
    }
    return column;
}

PQ_DEVICE pq_row row_of(const pq_gemm &g, int m, int batch)
{
    pq_row row;
    row.zero = g.a_zero.data ? at<u32>(g.a_zero, m, batch) : 0;
    row.sum = (g.a_sum.data ? at<u32>(g.a_sum, m, batch) : 0) - (u32)g.depth * row.zero;
    row.scale = g.a_scale.step ? at<float>(g.a_scale, m, batch) : 0;
    return row;
}

/* sum (a - za)(b - zb) = sum a b - za sum b - zb (sum a - depth za), modulo 2^32 and so exact where the result fits. */
PQ_DEVICE int corrected(int acc, const pq_row &row, const pq_column &column)
{
    return (int)((u32)acc - row.zero * column.sum - column.zero * row.sum);
}

/* The result of one corrected accumulator: an int32, the bits of a float32, float16 or bfloat16, or a code. */
PQ_DEVICE u32 result_of(const pq_gemm &g, int acc, const pq_row &row, const pq_column &column)
{
    float scale = column.scale;
    if (g.output == PQ_OUT_I32) return (u32)acc;
    if (g.a_scale.step) {
        scale = row.scale * scale;
        if (g.output == PQ_OUT_CODE) scale = scale / at<float>(g.y_scale, 0, 0);
    }
    if (g.output == PQ_OUT_CODE) {
        const int zero = g.y_zero.data ? at<int>(g.y_zero, 0, 0) : 0;
        const int lowest = g.relu && zero > g.qmin ? zero : g.qmin;
        const int total = (int)((u32)acc + column.bias.u);
        int exponent, mantissa;
        if (g.mode == PQ_MODE_FLOAT) {
            const int code = pq_requantize_f32(total, scale, zero, g.qmin, g.qmax);
            return (u32)(code < lowest ? lowest : code);
        }
        mantissa = pq_fixed_mantissa(scale, &exponent);
        return (u32)pq_clamp_code(g.mode == PQ_MODE_FIXED_DOUBLE ? pq_fixed_double(total, mantissa, exponent)
                                                                       : pq_fixed_single(total, mantissa, exponent),
                                       zero, lowest, g.qmax);
    }
    pq_bits32 x;
    x.f = (float)acc * scale;
    if (g.bias.data) x.f = x.f + column.bias.f;
    if (g.relu && x.f < 0) x.f = 0;
    return g.output == PQ_OUT_F32 ? x.u : g.output == PQ_OUT_F16 ? narrow_f16(x.f) : narrow_bf16(x.f);
}

PQ_DEVICE int result_size(int output)
{
    return output == PQ_OUT_CODE ? 1 : output == PQ_OUT_F16 || output == PQ_OUT_BF16 ? 2 : 4;
}

PQ_DEVICE void store_result(void *c, i64 i, u32 result, int size)
{
    if (size == 4) ((u32 *)c)[i] = result;
    else if (size == 2) ((u16 *)c)[i] = (u16)result;
    else ((u8 *)c)[i] = (u8)result;
}

/* Elements from one row of a slab to the next: 8 more than its columns put the rows that a warp writes at a time
 * (8 bytes a lane, four lanes a row) into different banks. */
template <int COLUMNS> struct Slab {
    static constexpr int PITCH = COLUMNS + 8, WORDS = 16 * PITCH;
};

/* 16 rows of accumulators of one warp as they leave the matrix units, to shared memory: c[4 j ...] is an 8-column
 * piece in the layout of mma_16x8x32. */
template <int COLUMNS> PQ_DEVICE void fill_slab(int *slab, const int (*c)[4])
{
    const int g = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++) {
        int2 *upper = (int2 *)(slab + g * Slab<COLUMNS>::PITCH + 8 * j + 2 * t);
        int2 *lower = (int2 *)(slab + (g + 8) * Slab<COLUMNS>::PITCH + 8 * j + 2 * t);
        *upper = make_int2(c[j][0], c[j][1]);
        *lower = make_int2(c[j][2], c[j][3]);
    }
}

/* A warp's slab to the result, rows row0 ... + 15 and columns column0 ... of product `batch`. A lane keeps its four
 * columns from row to row; results of 32 bits leave at once, 16 bytes a lane; narrower ones go back to the slab,
 * packed at the start of their row, and leave from there, so that stores are 16 bytes too. */
template <int COLUMNS> PQ_DEVICE void store_slab(const pq_gemm &g, int *slab, int row0, int column0, int batch)
{
    constexpr int PITCH = Slab<COLUMNS>::PITCH, LANES = COLUMNS / 4;
    const int size = result_size(g.output), place = lane_id() % LANES, column0_lane = column0 + 4 * place;
    char *const c = (char *)g.c + batch * g.c_batch * size;
    const bool wide = (((u64)c | (u64)(g.ldc * size)) & 15) == 0;
    pq_column columns[4];
    __syncwarp();
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int n = column0_lane + j;
        columns[j] = column_of(g, n < g.n ? n : g.n - 1, batch);
    }
    for (int r = lane_id() / LANES; r < 16; r += 32 / LANES) {
        const int m = row0 + r;
        const pq_row row = row_of(g, m < g.m ? m : g.m - 1, batch);
        const int4 acc = *(const int4 *)(slab + r * PITCH + 4 * place);
        uint4 y;
        y.x = result_of(g, corrected(acc.x, row, columns[0]), row, columns[0]);
        y.y = result_of(g, corrected(acc.y, row, columns[1]), row, columns[1]);
        y.z = result_of(g, corrected(acc.z, row, columns[2]), row, columns[2]);
        y.w = result_of(g, corrected(acc.w, row, columns[3]), row, columns[3]);
        if (size == 4) {
            const i64 i = m * g.ldc + column0_lane;
            if (m >= g.m) continue;
            if (wide && column0_lane + 4 <= g.n) {
                *(uint4 *)((u32 *)c + i) = y;
                continue;
            }
            if (column0_lane < g.n) store_result(c, i, y.x, 4);
            if (column0_lane + 1 < g.n) store_result(c, i + 1, y.y, 4);
            if (column0_lane + 2 < g.n) store_result(c, i + 2, y.z, 4);
            if (column0_lane + 3 < g.n) store_result(c, i + 3, y.w, 4);
            continue;
        }
        __syncwarp(); /* all have read the row that the packed results overwrite */
        u32 *packed = (u32 *)slab + r * PITCH;
        if (size == 2) {
            packed[2 * place] = y.x | y.y << 16;
            packed[2 * place + 1] = y.z | y.w << 16;
        } else {
            packed[place] = (y.x & 255) | (y.y & 255) << 8 | (y.z & 255) << 16 | y.w << 24;
        }
    }
    __syncwarp();
    if (size < 4) {
        const int pieces = COLUMNS * size / 16, width = 16 / size; /* of 16 bytes, in a row; elements in each */
        for (int p = lane_id(); p < 16 * pieces; p += 32) {
            const int r = p / pieces, m = row0 + r, n = column0 + p % pieces * width;
            const u32 *packed = (const u32 *)slab + r * PITCH + p % pieces * 4;
            if (m >= g.m || n >= g.n) continue;
            if (wide && n + width <= g.n) {
                *(uint4 *)(c + (m * g.ldc + n) * size) = *(const uint4 *)packed;
                continue;
            }
            for (int j = 0; j < width && n + j < g.n; j++) {
                const u32 word = packed[j * size / 4];
                store_result(c, m * g.ldc + n + j, word >> (8 * (j * size % 4)), size);
            }
        }
    }
    __syncwarp(); /* the slab may be filled again */
}

#endif
