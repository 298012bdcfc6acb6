/* From one array to another, element by element, with the scale that each element has.
 *
 * An operation is a struct:
 *   Step step(u32 i)                     the i-th scale and zero point, ready to use
 *   Out::value operator()(In::value, Step)
 *
 * A vector is as many elements as have 16 bytes in the wider of the two arrays; a thread has several of them in flight,
 * and neighbouring threads have neighbouring vectors. A launch has fewer than 2^31 elements (the host cuts larger
 * arrays), so indices within it are 32 bits wide and divided by multiplication. */
#ifndef PQ_MAP_CUH
#define PQ_MAP_CUH

#include "elements.cuh"

enum { MAP_THREADS = 256, ONE_UNROLL = 4, ROWS_UNROLL = 2, COLUMNS_UNROLL = 4, EACH_UNROLL = 2 };

/* Which scale an element has. The array is rows of `width`; element (row, column) has scale
 *   (row / period * blocks + row % period / block) * stride + column / run. */
struct Places {
    u32 width, rows, period, blocks, stride;
    Divisor by_width, by_period, by_block, by_run;

    PQ_DEVICE u32 row(u32 r, const Places &p)
    {
        const u32 turn = r / p.by_period;
        return (turn * p.blocks + (r - turn * p.period) / p.by_block) * p.stride;
    }
    PQ_DEVICE u32 of(u32 r, u32 column, const Places &p) { return row(r, p) + column / p.by_run; }
};

#define PLACES_PARAMETERS                                                                                       \
    i64 width, i64 by_width, i64 rows, i64 period, i64 by_period, i64 blocks, i64 by_block, i64 stride, i64 by_run
#define PLACES                                                                                                  \
    Places                                                                                                      \
    {                                                                                                           \
        (u32) width, (u32)rows, (u32)period, (u32)blocks, (u32)stride, divisor_of(by_width),                    \
            divisor_of(by_period), divisor_of(by_block), divisor_of(by_run)                                     \
    }

template <class In, class Out> struct Vector {
    static constexpr int SIZE = 16 / (In::SIZE > Out::SIZE ? In::SIZE : Out::SIZE);
    typedef Words<SIZE * In::SIZE> in;
    typedef Words<SIZE * Out::SIZE> out;

    PQ_DEVICE in load(const void *p, u32 i)
    {
        return load_words<SIZE * In::SIZE>((const char *)p + (u64)i * In::SIZE);
    }
    PQ_DEVICE void store(void *p, u32 i, const out &w)
    {
        store_words<SIZE * Out::SIZE>((char *)p + (u64)i * Out::SIZE, w);
    }
};

/* One scale for all. The first `head` elements and what is left after the last vector go one by one; vectors begin
 * at `head`, where both arrays are aligned. */
template <class In, class Out, class Op>
PQ_DEVICE void map_one(const void *from, void *to, u32 n, u32 head, const Op &op)
{
    typedef Vector<In, Out> V;
    const typename Op::Step step = op.step(0);
    const u32 vectors = (n - head) / V::SIZE, first = blockIdx.x * (MAP_THREADS * ONE_UNROLL) + threadIdx.x;
    typename V::in in[ONE_UNROLL];
#pragma unroll
    for (u32 u = 0; u < ONE_UNROLL; u++) {
        const u32 v = first + u * MAP_THREADS;
        if (v < vectors) in[u] = V::load(from, head + v * V::SIZE);
    }
#pragma unroll
    for (u32 u = 0; u < ONE_UNROLL; u++) {
        const u32 v = first + u * MAP_THREADS;
        typename V::out out;
        if (v >= vectors) break;
#pragma unroll
        for (int k = 0; k < V::SIZE; k++) Out::put(out, k, op(In::get(in[u], k), step));
        V::store(to, head + v * V::SIZE, out);
    }
    const u32 thread = blockIdx.x * MAP_THREADS + threadIdx.x, threads = gridDim.x * MAP_THREADS;
    const u32 tail = head + vectors * V::SIZE, single = head + (n - tail);
    for (u32 i = thread; i < single; i += threads) {
        const u32 e = i < head ? i : tail + (i - head);
        Out::store(to, e, op(In::load(from, e), step));
    }
}

/* One scale for a vector: rows and runs are whole vectors. */
template <class In, class Out, class Op>
PQ_DEVICE void map_rows(const void *from, void *to, u32 n, const Places &places, const Op &op)
{
    typedef Vector<In, Out> V;
    const u32 vectors = n / V::SIZE, first = blockIdx.x * (MAP_THREADS * ROWS_UNROLL) + threadIdx.x;
    typename V::in in[ROWS_UNROLL];
#pragma unroll
    for (u32 u = 0; u < ROWS_UNROLL; u++) {
        const u32 v = first + u * MAP_THREADS;
        if (v < vectors) in[u] = V::load(from, v * V::SIZE);
    }
#pragma unroll
    for (u32 u = 0; u < ROWS_UNROLL; u++) {
        const u32 v = first + u * MAP_THREADS;
        typename V::out out;
        if (v >= vectors) break;
        const u32 row = v * V::SIZE / places.by_width;
        const typename Op::Step step = op.step(Places::of(row, v * V::SIZE - row * places.width, places));
#pragma unroll
        for (int k = 0; k < V::SIZE; k++) Out::put(out, k, op(In::get(in[u], k), step));
        V::store(to, v * V::SIZE, out);
    }
}

/* One scale an element, the same for four rows at a time: a thread goes down them with the scales of its columns. Rows
 * are whole vectors, run is 1, and no four rows from a multiple of four are of two blocks. */
template <class In, class Out, class Op>
PQ_DEVICE void map_columns(const void *from, void *to, const Places &places, const Op &op)
{
    typedef Vector<In, Out> V;
    const u32 t = blockIdx.x * MAP_THREADS + threadIdx.x;
    const u32 group = t * V::SIZE / places.by_width, column = t * V::SIZE - group * places.width;
    const u32 top = group * COLUMNS_UNROLL;
    if (top >= places.rows) return;
    typename V::in in[COLUMNS_UNROLL];
#pragma unroll
    for (u32 u = 0; u < COLUMNS_UNROLL; u++)
        if (top + u < places.rows) in[u] = V::load(from, (top + u) * places.width + column);
    const u32 base = Places::row(top, places) + column;
    typename Op::Step step[V::SIZE];
#pragma unroll
    for (int k = 0; k < V::SIZE; k++) step[k] = op.step(base + (u32)k);
#pragma unroll
    for (u32 u = 0; u < COLUMNS_UNROLL; u++) {
        typename V::out out;
        if (top + u >= places.rows) break;
#pragma unroll
        for (int k = 0; k < V::SIZE; k++) Out::put(out, k, op(In::get(in[u], k), step[k]));
        V::store(to, (top + u) * places.width + column, out);
    }
}

/* Whatever else, one by one: rows of any length, arrays that are aligned differently. */
template <class In, class Out, class Op>
PQ_DEVICE void map_each(const void *from, void *to, u32 n, const Places &places, const Op &op)
{
    const u32 first = blockIdx.x * (MAP_THREADS * EACH_UNROLL) + threadIdx.x;
    typename In::value in[EACH_UNROLL];
#pragma unroll
    for (u32 u = 0; u < EACH_UNROLL; u++)
        if (first + u * MAP_THREADS < n) in[u] = In::load(from, first + u * MAP_THREADS);
#pragma unroll
    for (u32 u = 0; u < EACH_UNROLL; u++) {
        const u32 i = first + u * MAP_THREADS;
        if (i >= n) break;
        const u32 row = i / places.by_width;
        Out::store(to, i, op(in[u], op.step(Places::of(row, i - row * places.width, places))));
    }
}

/* The four kernels of an operation: NAME_one, NAME_rows, NAME_columns, NAME_each. PARAMETERS are its own, in
 * parentheses, and OP makes it from them. */
#define PQ_UNWRAP(...) __VA_ARGS__
#define PQ_MAP(NAME, IN, OUT, PARAMETERS, OP)                                                                   \
    PQ_KERNEL __launch_bounds__(MAP_THREADS)                                                                    \
        NAME##_one(const void *from, void *to, i64 n, i64 head, PQ_UNWRAP PARAMETERS)                           \
    {                                                                                                           \
        map_one<IN, OUT>(from, to, (u32)n, (u32)head, OP);                                                      \
    }                                                                                                           \
    PQ_KERNEL __launch_bounds__(MAP_THREADS)                                                                    \
        NAME##_rows(const void *from, void *to, i64 n, i64 head, PQ_UNWRAP PARAMETERS, PLACES_PARAMETERS)       \
    {                                                                                                           \
        (void)head;                                                                                             \
        map_rows<IN, OUT>(from, to, (u32)n, PLACES, OP);                                                        \
    }                                                                                                           \
    PQ_KERNEL __launch_bounds__(MAP_THREADS)                                                                    \
        NAME##_columns(const void *from, void *to, i64 n, i64 head, PQ_UNWRAP PARAMETERS, PLACES_PARAMETERS)    \
    {                                                                                                           \
        (void)n, (void)head;                                                                                    \
        map_columns<IN, OUT>(from, to, PLACES, OP);                                                             \
    }                                                                                                           \
    PQ_KERNEL __launch_bounds__(MAP_THREADS)                                                                    \
        NAME##_each(const void *from, void *to, i64 n, i64 head, PQ_UNWRAP PARAMETERS, PLACES_PARAMETERS)       \
    {                                                                                                           \
        (void)head;                                                                                             \
        map_each<IN, OUT>(from, to, (u32)n, PLACES, OP);                                             \
    }

#endif
