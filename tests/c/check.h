/* What the tests of the kernels share: places for arrays between guard pages, difficult values, and failures. */
#ifndef PQ_TESTS_CHECK_H
#define PQ_TESTS_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels.h"

typedef void any_fn(void);

/* One variant to compare, bit for bit, with the scalar code. */
typedef struct {
    const char *op, *isa;
    any_fn *function, *reference;
    pq_type in, out;
} comparison;

/* How much of everything: emulators run a smaller share. */
typedef struct {
    size_t longest;     /* lengths 0 to this one */
    size_t alignments;  /* this many of the 64 misalignments, always with 0 */
    size_t scenes;      /* data and parameters per length */
    size_t grids;       /* scale and grid combinations on long data */
    size_t slack;       /* keep this far from the page after an array: see kernels.c */
} effort;
extern effort run_effort;

/* The tests, one per kernel type of kernels.h: a type without one does not compile. */
void check_quantize(const comparison *c);
void check_quantize_columns(const comparison *c);
void check_dequantize(const comparison *c);
void check_dequantize_columns(const comparison *c);
void check_fake_quantize(const comparison *c);
void check_fake_quantize_columns(const comparison *c);
void check_range(const comparison *c);
void check_absmax(const comparison *c);
void check_range_columns(const comparison *c);
void check_fake_quantize_grad(const comparison *c);
void check_fake_quantize_grad_columns(const comparison *c);
void check_bins(const comparison *c);
void check_requantize(const comparison *c);
void check_requantize_columns(const comparison *c);
void check_pack_bits(const comparison *c);
void check_unpack_bits(const comparison *c);
void check_product_f32(const comparison *c);
void check_gemv(const comparison *c);
void check_transpose(const comparison *c);
void check_depthwise(const comparison *c);
void check_gemm(const comparison *c);

/* arena.c: writable pages between two that nobody may touch. */
enum { BEFORE, AFTER, SIDES }; /* which guard page an array is near */
enum { CANARY = 0xa5, MARGIN = 128 };
typedef struct {
    unsigned char *base;
    size_t size;
} arena;
arena new_arena(size_t size);

/* `bytes` bytes, `distance` bytes away from the guard page of that side. */
void *place(const arena *a, size_t bytes, size_t distance, int side);
void *place_copy(const arena *a, const void *from, size_t bytes, size_t distance, int side);
/* The same, canaries in and around. */
void *place_output(const arena *a, size_t bytes, size_t distance, int side);
/* Are the canaries around it alive? */
int margins_intact(const arena *a, const void *p, size_t bytes);

/* values.c: repeatable numbers, ordinary and not. */
typedef struct {
    uint64_t state;
} rng;
uint64_t random_bits(rng *r);
size_t random_below(rng *r, size_t n);
float random_scale(rng *r);

typedef struct {
    int32_t qmin, qmax;
} grid;
grid random_grid(rng *r, int most_bits);
int32_t random_zero_point(rng *r, grid g);

/* Element i of an array: ties and their neighbours of scale on the grid, zeros, subnormals, infinities, NaN ... */
void put_value(void *array, size_t i, pq_type type, rng *r, float scale, int32_t low, int32_t high);
/* Finite and not extreme in its type. */
void put_finite(void *array, size_t i, pq_type type, rng *r);
size_t size_of_type(pq_type type);
float f32_from_bits(uint32_t bits);

/* report.c: where the program is, for messages and for the handler of a touched guard page. */
typedef struct {
    const comparison *c;
    size_t rows, columns, stride, distance;
    int side, stream, in_place;
    float scale;
    grid g;
} position;
extern position here;
extern unsigned long failures;
void fail(const char *what, size_t element);
/* What a kernel wrote to a place_output: these bytes, and nothing around them. */
void expect_bytes(const arena *outputs, const void *got, const void *expected, size_t bytes);
void report_touched_guards(void);

/* The lengths and places that every kernel is tried at. */
size_t alignment_step(size_t i); /* the i-th misalignment, 0 first */

#endif
