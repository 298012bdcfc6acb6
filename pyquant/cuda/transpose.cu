/* Operands made ready for the matrix kernels: rows along K, of a multiple of 16 bytes, zeros past their end; and sums
 * along K. */
#include "mma.cuh"

/* Four bytes of a row, zeros past its end. */
PQ_DEVICE u32 four_bytes(const u8 *p, int left, bool aligned)
{
    u32 word = 0;
    if (aligned && left >= 4) return *(const u32 *)p;
    for (int i = 0; i < 4 && i < left; i++) word |= (u32)p[i] << (8 * i);
    return word;
}

/* (k, n) with contiguous rows to (n, pitch) with contiguous rows, for every matrix of a batch: 128 x 128 bytes a block.
 * A thread turns 4 x 4 bytes in its registers. Its words go to shared memory with their number exclusive-ored by the
 * quad of rows they belong to, so that 32 lanes, each with a quad of its own, write 32 banks; and the 32 words that a
 * warp reads of one row lie in 32 banks in any order. */
PQ_KERNEL __launch_bounds__(256, 4)
    transpose(const u8 *from, u8 *to, i64 k, i64 n, i64 from_pitch,
              i64 to_pitch, i64 from_batch, i64 to_batch)
{
    __shared__ u32 words[128][32];
    const int lane = lane_id(), warp = warp_id();
    const i64 blocks_k = (to_pitch + 127) / 128, blocks_n = (n + 127) / 128;
    const i64 block = blockIdx.x % (blocks_k * blocks_n), batch = blockIdx.x / (blocks_k * blocks_n);
    const i64 k0 = block / blocks_n * 128, n0 = block % blocks_n * 128;
    from += batch * from_batch;
    to += batch * to_batch;
    const bool aligned = (((u64)from | (u64)from_pitch) & 3) == 0;
    const i64 left = n - n0 - 4 * lane;

#pragma unroll
    for (int i = warp; i < 32; i += 8) {
        u32 row[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const i64 line = k0 + 4 * i + j;
            const u8 *p = from + line * from_pitch + n0 + 4 * lane;
            row[j] = line < k ? four_bytes(p, left < 4 ? (int)left : 4, aligned) : 0;
        }
        transpose_4x4(row[0], row[1], row[2], row[3]);
#pragma unroll
        for (int j = 0; j < 4; j++) words[4 * lane + j][i ^ lane] = row[j];
    }
    __syncthreads();
#pragma unroll 4
    for (int r = warp; r < 128; r += 8) {
        const i64 row = n0 + r, place = k0 + 4 * lane;
        if (row < n && place < to_pitch) *(u32 *)(to + row * to_pitch + place) = words[r][lane ^ (r / 4)];
    }
}

/* (rows, k) with contiguous rows to (rows, pitch): 16 bytes a thread, by bytes because rows begin anywhere. */
PQ_KERNEL __launch_bounds__(256)
    pad_rows(const u8 *from, u8 *to, i64 rows, i64 k, i64 from_pitch,
             i64 to_pitch, i64 from_batch, i64 to_batch, i64 batches)
{
    const i64 pieces = to_pitch / 16, i = blockIdx.x * 256LL + threadIdx.x, line = i / pieces;
    const i64 batch = line / rows, row = line % rows, place = i % pieces * 16;
    if (batch >= batches) return;
    const u8 *source = from + batch * from_batch + row * from_pitch;
    u32 word[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const i64 left = k - place - 4 * j;
        word[j] = four_bytes(source + place + 4 * j, left < 0 ? 0 : left < 4 ? (int)left : 4, false);
    }
    *(uint4 *)(to + batch * to_batch + row * to_pitch + place) = make_uint4(word[0], word[1], word[2], word[3]);
}

template <bool SIGNED> PQ_DEVICE int sum16(const u8 *from, int sum)
{
    const uint4 x = *(const uint4 *)from;
    sum = dp4a<SIGNED, false>(x.x, 0x01010101u, sum);
    sum = dp4a<SIGNED, false>(x.y, 0x01010101u, sum);
    sum = dp4a<SIGNED, false>(x.z, 0x01010101u, sum);
    return dp4a<SIGNED, false>(x.w, 0x01010101u, sum);
}

/* sums[row] of (rows, k), k and the pitch multiples of 16: a warp a row. */
template <bool SIGNED>
PQ_DEVICE void sum_row(const u8 *from, int *sums, i64 rows, i64 k, i64 pitch)
{
    const i64 row = blockIdx.x * 8LL + warp_id();
    int sum = 0;
    if (row >= rows) return;
#pragma unroll 4
    for (i64 i = 16 * lane_id(); i < k; i += 512) sum = sum16<SIGNED>(from + row * pitch + i, sum);
    sum = warp_sum(sum);
    if (lane_id() == 0) sums[row] = sum;
}

/* sums[i * rows + row] of block i of every row's k, blocks of a multiple of 16: eight lanes a block. */
template <bool SIGNED>
PQ_DEVICE void sum_block(const u8 *from, int *sums, i64 rows, i64 k, i64 pitch, i64 block)
{
    const i64 blocks = (k + block - 1) / block, number = blockIdx.x * 32LL + threadIdx.x / 8;
    const i64 row = number / blocks, first = number % blocks * block, end = first + block < k ? first + block : k;
    int sum = 0;
    if (row < rows) {
        for (i64 i = first + lane_id() % 8 * 16; i < end; i += 128) sum = sum16<SIGNED>(from + row * pitch + i, sum);
    }
    for (int step = 4; step; step /= 2) sum = (int)((u32)sum + (u32)__shfl_xor_sync(0xffffffffu, sum, step));
    if (row < rows && lane_id() % 8 == 0) sums[number % blocks * rows + row] = sum;
}

PQ_KERNEL __launch_bounds__(256)
    row_sums_i8(const u8 *from, int *sums, i64 rows, i64 k, i64 pitch)
{
    sum_row<true>(from, sums, rows, k, pitch);
}

PQ_KERNEL __launch_bounds__(256)
    row_sums_u8(const u8 *from, int *sums, i64 rows, i64 k, i64 pitch)
{
    sum_row<false>(from, sums, rows, k, pitch);
}

PQ_KERNEL __launch_bounds__(256)
    block_sums_i8(const u8 *from, int *sums, i64 rows, i64 k, i64 pitch, i64 block)
{
    sum_block<true>(from, sums, rows, k, pitch, block);
}

PQ_KERNEL __launch_bounds__(256)
    block_sums_u8(const u8 *from, int *sums, i64 rows, i64 k, i64 pitch, i64 block)
{
    sum_block<false>(from, sums, rows, k, pitch, block);
}
