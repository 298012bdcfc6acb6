/* What the matrix kernels share: the description of a product, the order of its tiles, and the epilogue that turns
 * accumulators into results. */
#ifndef PQ_GEMM_CUH
#define PQ_GEMM_CUH

#include "mma.cuh"

/* One value for all, or one per row or column; the products of a batch may have their own. */
struct pq_vector {
    const void *data; /* on the device; null: `value` for all */
    i64 step;         /* elements from one row or column to the next: 0 or 1 */
    i64 batch;        /* elements from one product of the batch to the next */
    u32 value, given; /* is there anything but a default? */
};

/* C = (A - a_zero) (B - b_zero), A (m, depth), B (n, depth) both with contiguous rows. The rows hold k >= depth bytes,
 * k a multiple of 16, zeros past depth; rows begin on multiples of 16 bytes. pyquant/_cuda_gemm_plan.py has the same layout. */
struct pq_gemm {
    const void *a, *b;
    void *c;
    int4 *partial; /* of split-K: accumulators of every block, and how many of a tile's blocks are done (zeros) */
    int *done;
    const float *before; /* (batches, m, n) that float results are added to, as for later blocks of K; or null */
    i64 lda, ldb, ldc;             /* elements from row to row */
    i64 a_batch, b_batch, c_batch; /* elements from product to product; 0: the same operand for all */
    pq_vector a_zero, b_zero;      /* int32 */
    pq_vector a_sum, b_sum;        /* int32: sums along K, needed where the other operand has a zero point */
    pq_vector a_scale, b_scale;    /* float32 */
    pq_vector bias;                /* float32 before float results, int32 before integers */
    int m, n, k, depth, batches, splits;
    int output, mode; /* the enumerations below */
    int zero_point, qmin, qmax;
    float scale;     /* of codes */
    float low, high; /* floats are clipped to */
    /* Where every `block` of K has scales and zero points of its own (gemm_blocks.cuh): how many blocks, and elements from
     * one block's parameters to the next one's. */
    int block, blocks;
    i64 a_zero_block, b_zero_block, a_sum_block, b_sum_block, a_scale_block, b_scale_block;
};

enum { PQ_OUT_I32, PQ_OUT_F32, PQ_OUT_F16, PQ_OUT_BF16, PQ_OUT_CODE8, PQ_OUT_CODE16 };
enum { PQ_MODE_FLOAT, PQ_MODE_FIXED_DOUBLE, PQ_MODE_FIXED_SINGLE };

PQ_DEVICE u32 bits_at(const pq_vector &v, int i, int batch)
{
    return v.data ? ((const u32 *)v.data)[i * v.step + batch * v.batch] : v.value;
}

PQ_DEVICE float float_at(const pq_vector &v, int i, int batch)
{
    pq_bits32 bits;
    bits.u = bits_at(v, i, batch);
    return bits.f;
}

/* One parameter of a row of A or a column of B, block after block. */
struct pq_line {
    const u32 *data; /* or null: `value` for all */
    int step;
    u32 value;

    PQ_DEVICE pq_line of(const pq_vector &v, i64 step, int i, int batch)
    {
        const pq_line line = {v.data ? (const u32 *)v.data + i * v.step + batch * v.batch : nullptr, (int)step, v.value};
        return line;
    }
    __device__ __forceinline__ u32 at(int block, int further = 0) const
    {
        return data ? data[(i64)block * step + further] : value;
    }
};

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

/* Split-K: the blocks that share `number` leave their sums in g.partial; true in the last one to have done so, which adds
 * them up, in int32 and so in any order, and goes on alone. Nothing waits. All threads must call. */
PQ_DEVICE bool is_last_part(const pq_gemm &g, int number)
{
    __shared__ int before;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) before = atomicAdd(g.done + number, 1);
    __syncthreads();
    if (before != g.splits - 1) return false;
    __threadfence();
    return true;
}

PQ_DEVICE int4 add_parts(const int4 &a, const int4 &b)
{
    return make_int4((int)((u32)a.x + (u32)b.x), (int)((u32)a.y + (u32)b.y), (int)((u32)a.z + (u32)b.z),
                     (int)((u32)a.w + (u32)b.w));
}

/* What the epilogue needs of one column, and of one row. */
struct pq_column {
    u32 zero, sum; /* of B */
    float scale;   /* b_scale, times a_scale where that is one value, and then over the scale of codes */
    pq_bits32 bias;
};
struct pq_row {
    u32 zero, sum; /* of A; sum less depth * zero */
    float scale;
};

PQ_DEVICE bool gives_codes(const pq_gemm &g) { return g.output >= PQ_OUT_CODE8; }

PQ_DEVICE pq_column column_of(const pq_gemm &g, int n, int batch)
{
    pq_column column;
    column.zero = bits_at(g.b_zero, n, batch);
    column.sum = bits_at(g.b_sum, n, batch);
    column.bias.u = bits_at(g.bias, n, batch);
    column.scale = float_at(g.b_scale, n, batch);
    if (!g.a_scale.step) {
        column.scale = float_at(g.a_scale, 0, batch) * column.scale;
        if (gives_codes(g)) column.scale = column.scale / g.scale;
    }
    return column;
}

PQ_DEVICE pq_row row_of(const pq_gemm &g, int m, int batch)
{
    pq_row row;
    row.zero = bits_at(g.a_zero, m, batch);
    row.sum = bits_at(g.a_sum, m, batch) - (u32)g.depth * row.zero;
    row.scale = g.a_scale.step ? float_at(g.a_scale, m, batch) : 0;
    return row;
}

/* sum (a - za)(b - zb) = sum a b - za sum b - zb (sum a - depth za), modulo 2^32 and so exact where the result fits. */
PQ_DEVICE int corrected(int acc, const pq_row &row, const pq_column &column)
{
    return (int)((u32)acc - row.zero * column.sum - column.zero * row.sum);
}

/* pq_fixed_double and pq_fixed_single for sums of 2^31 ... 2^42 in absolute value, up to what a clamp to 16 bits leaves
 * of them. The product with the mantissa has up to 73 bits: acc = high 2^20 + low makes two of 53, and dividing by
 * 2^20 first loses nothing, for floor(floor(x / a) / b) = floor(x / (a b)). */
PQ_DEVICE int fixed_beyond_int32(i64 acc, int mantissa, int exponent, int mode)
{
    const int shift = mode == PQ_MODE_FIXED_SINGLE ? 31 - exponent : 31, right = 31 - exponent - shift;
    if (mantissa == 0 || shift > 74 || right > 62) return 0;
    if (exponent > 0) return pq_saturate_i32(acc); /* times 1 and more */
    const i64 high = (acc >> 20) * mantissa, low = (acc & 0xfffff) * mantissa >> 20;
    const i64 rounded = (high + low + (1LL << (shift - 21))) >> (shift - 20);
    const i64 mask = (1LL << right) - 1, rest = rounded & mask;
    return pq_saturate_i32((rounded >> right) + (rest > (mask >> 1) + (rounded < 0) ? 1 : 0));
}

/* The code of an exact sum. */
PQ_DEVICE int code_of_sum(const pq_gemm &g, i64 sum, float multiplier)
{
    int exponent, mantissa, value;
    if (g.mode == PQ_MODE_FLOAT) {
        const float ratio = (sum == (int)sum ? (float)(int)sum : (float)sum) * multiplier;
        return pq_code_f32(ratio, g.zero_point, g.qmin, g.qmax);
    }
    mantissa = pq_fixed_mantissa(multiplier, &exponent);
    if (sum != (int)sum) value = fixed_beyond_int32(sum, mantissa, exponent, g.mode);
    else if (g.mode == PQ_MODE_FIXED_DOUBLE) value = pq_fixed_double((int)sum, mantissa, exponent);
    else value = pq_fixed_single((int)sum, mantissa, exponent);
    return pq_clamp_code(value, g.zero_point, g.qmin, g.qmax);
}

/* What a sum of real numbers becomes: the bits of a float32, float16 or bfloat16. */
PQ_DEVICE u32 real_result(const pq_gemm &g, float sum, const pq_column &column)
{
    pq_bits32 x;
    x.f = sum;
    if (g.bias.given) x.f = x.f + column.bias.f; /* adding 0 would lose a -0.0 */
    x.f = x.f < g.low ? g.low : x.f;
    x.f = x.f > g.high ? g.high : x.f;
    return g.output == PQ_OUT_F32 ? x.u : g.output == PQ_OUT_F16 ? narrow_f16(x.f) : narrow_bf16(x.f);
}

/* The result of one corrected accumulator: an int32, the bits of a float32, float16 or bfloat16, or a code. `before`
 * is what a float is added to. */
PQ_DEVICE u32 result_of(const pq_gemm &g, i64 acc, const pq_row &row, const pq_column &column, float before)
{
    float scale = column.scale;
    if (g.output == PQ_OUT_I32) return (u32)acc + column.bias.u;
    if (g.a_scale.step) {
        scale = row.scale * scale;
        if (gives_codes(g)) scale = scale / g.scale;
    }
    if (gives_codes(g)) return (u32)code_of_sum(g, acc + (int)column.bias.u, scale);
    const float x = (acc == (int)acc ? (float)(int)acc : (float)acc) * scale;
    return real_result(g, g.before ? before + x : x, column);
}

PQ_DEVICE float before_of(const pq_gemm &g, int m, int n, int batch)
{
    return g.before && m < g.m && n < g.n ? g.before[((i64)batch * g.m + m) * g.n + n] : 0;
}

PQ_DEVICE int result_size(int output)
{
    return output == PQ_OUT_CODE8 ? 1 : output == PQ_OUT_I32 || output == PQ_OUT_F32 ? 4 : 2;
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

/* What becomes of a warp's slab, rows row0 ... + 15 and columns column0 ... of product `batch`: a lane keeps its four
 * columns from row to row, and hands over the results of one row at a time. All lanes of the warp must call; they do it
 * as often, and for rows and columns too that the product has not. REAL: the slab has the bits of float sums. */
template <int COLUMNS, bool REAL = false, class TAKE>
PQ_DEVICE void finish_slab(const pq_gemm &g, const int *slab, int row0, int column0, int batch, const TAKE &take)
{
    constexpr int LANES = COLUMNS / 4;
    const int first = column0 + 4 * (lane_id() % LANES);
    pq_column columns[4];
    __syncwarp();
#pragma unroll
    for (int j = 0; j < 4; j++) columns[j] = column_of(g, first + j < g.n ? first + j : g.n - 1, batch);
    for (int r = lane_id() / LANES; r < 16; r += 32 / LANES) {
        const int m = row0 + r;
        const pq_row row = row_of(g, m < g.m ? m : g.m - 1, batch);
        const int4 acc = *(const int4 *)(slab + r * Slab<COLUMNS>::PITCH + first - column0);
        u32 y[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int sum = j == 0 ? acc.x : j == 1 ? acc.y : j == 2 ? acc.z : acc.w;
            if (REAL) {
                pq_bits32 real;
                real.u = (u32)sum;
                y[j] = real_result(g, real.f, columns[j]);
            } else {
                const float before = before_of(g, m, first + j, batch);
                y[j] = result_of(g, corrected(sum, row, columns[j]), row, columns[j], before);
            }
        }
        take(r, y);
    }
}

/* Four neighbours, at an address that is aligned to all of them. */
PQ_DEVICE void store_four(void *p, const u32 (&y)[4], int size)
{
    if (size == 4) *(uint4 *)p = make_uint4(y[0], y[1], y[2], y[3]);
    else if (size == 2) *(uint2 *)p = make_uint2((y[0] & 0xffff) | y[1] << 16, (y[2] & 0xffff) | y[3] << 16);
    else *(u32 *)p = (y[0] & 255) | (y[1] & 255) << 8 | (y[2] & 255) << 16 | y[3] << 24;
}

/* To a result with contiguous rows. 32 bits an element leave at once, 16 bytes a lane; narrower ones go back to the slab,
 * packed at the start of their row, and leave from there, so that stores are 16 bytes too. */
template <int COLUMNS, bool REAL = false>
PQ_DEVICE void store_slab(const pq_gemm &g, int *slab, int row0, int column0, int batch)
{
    constexpr int PITCH = Slab<COLUMNS>::PITCH, LANES = COLUMNS / 4;
    const int size = result_size(g.output), place = lane_id() % LANES, column0_lane = column0 + 4 * place;
    char *const c = (char *)g.c + batch * g.c_batch * size;
    const bool wide = (((u64)c | (u64)(g.ldc * size)) & 15) == 0;
    finish_slab<COLUMNS, REAL>(g, slab, row0, column0, batch, [&](int r, const u32(&y)[4]) {
        const int m = row0 + r;
        if (size < 4) {
            __syncwarp(); /* all have read the row that the packed results overwrite */
            store_four(slab + r * PITCH + place * size, y, size);
        } else if (m < g.m) {
            u32 *const to = (u32 *)c + m * g.ldc + column0_lane;
            if (wide && column0_lane + 4 <= g.n) {
                store_four(to, y, 4);
                return;
            }
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (column0_lane + j < g.n) to[j] = y[j];
            }
        }
    });
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

/* To images with channels first: rows are their pixels, columns the channels. Results go back to the slab, and a lane
 * stores four neighbouring pixels at a time. */
template <int COLUMNS>
PQ_DEVICE void store_slab_across(const pq_gemm &g, int *slab, int row0, int column0, int batch, u32 pixels,
                                 Divisor by_pixels, i64 image_step)
{
    constexpr int PITCH = Slab<COLUMNS>::PITCH, LANES = COLUMNS / 4;
    const int size = result_size(g.output);
    finish_slab<COLUMNS>(g, slab, row0, column0, batch, [&](int r, const u32(&y)[4]) {
        store_four(slab + r * PITCH + 4 * (lane_id() % LANES), y, 4);
    });
    __syncwarp();
    for (int p = lane_id(); p < 4 * COLUMNS; p += 32) {
        const int m = row0 + p % 4 * 4, n = column0 + p / 4;
        const u32 *from = (const u32 *)slab + p % 4 * 4 * PITCH + p / 4;
        const u32 y[4] = {from[0], from[PITCH], from[2 * PITCH], from[3 * PITCH]};
        u32 image = (u32)m / by_pixels, pixel = (u32)m - image * pixels;
        if (m >= g.m || n >= g.n) continue;
        const i64 channel = batch * g.c_batch + n * g.ldc;
        char *const to = (char *)g.c + (channel + image * image_step + pixel) * size;
        if (m + 4 <= g.m && pixel + 4 <= pixels && ((u64)to & (u64)(4 * size - 1)) == 0) {
            store_four(to, y, size);
            continue;
        }
#pragma unroll
        for (int j = 0; j < 4; j++, pixel++) {
            if (m + j >= g.m) break;
            if (pixel == pixels) pixel = 0, image++;
            store_result(g.c, channel + image * image_step + pixel, y[j], size);
        }
    }
    __syncwarp(); /* the slab may be filled again */
}

#endif
