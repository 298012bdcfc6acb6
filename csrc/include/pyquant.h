/* pyquant: quantization of plain arrays. The public C API; C99 and C++.
 *
 * Every function returns pq_status. Sizes and strides are in elements. No alignment is demanded, nothing is
 * read or written outside the given buffers, nothing is printed, and no function exits the process. The only
 * global state is the dispatch table and the thread settings below. Unless a comment says otherwise an output
 * may alias an input exactly (same address, same element size) and must not overlap it in any other way.
 *
 * Results are the same bits under every instruction set and every number of threads.
 */
#ifndef PYQUANT_H
#define PYQUANT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PQ_VERSION_MAJOR 0
#define PQ_VERSION_MINOR 1
#define PQ_VERSION_PATCH 0

typedef enum {
    PQ_OK = 0,
    PQ_ERROR_ARGUMENT,  /* a null pointer, an unknown type or scheme, a size that overflows */
    PQ_ERROR_SCALE,     /* a scale that is not positive and finite */
    PQ_ERROR_ZERO_POINT, /* a zero point outside the grid */
    PQ_ERROR_GRID,      /* qmin > qmax, or a grid that the integer type can not hold */
    PQ_ERROR_NONFINITE, /* NaN or infinity in data that parameters are chosen from */
    PQ_ERROR_RANGE,     /* finite data whose range float32 can not hold */
    PQ_ERROR_CODE,      /* an integer that does not fit the bits it is packed to */
    PQ_ERROR_OVERFLOW,  /* an int32 accumulator could overflow */
    PQ_ERROR_ISA,       /* an unknown instruction set name */
    PQ_ERROR_MEMORY     /* an allocation failed */
} pq_status;

const char *pq_status_string(pq_status status);

typedef enum { PQ_F32, PQ_F16, PQ_BF16, PQ_F64, PQ_I8, PQ_U8, PQ_I16, PQ_U16, PQ_I32 } pq_type;

typedef enum { PQ_SYMMETRIC, PQ_AFFINE } pq_scheme;

/* Which elements share a scale. The array is seen as (outer, axis, inner) in C order.
 *   per tensor:  {1, 1, n, 0}           one scale
 *   per channel: {outer, C, inner, 0}   scale[c], C of them
 *   per block:   {outer, D, inner, b}   scale[o][d / b][i]: outer * ceil(D / b) * inner of them */
typedef struct {
    size_t outer, axis, inner, block;
} pq_layout;

/* How many elements and how many scales a layout has. */
size_t pq_layout_size(const pq_layout *layout);
size_t pq_layout_params(const pq_layout *layout);

/* scale and zero_point have pq_layout_params() entries; zero_point may be NULL (all zero). */
typedef struct {
    const float *scale;
    const int32_t *zero_point;
    int32_t qmin, qmax;
} pq_params;

/* q = clamp(rint(x / scale) + zero_point, qmin, qmax), division rounded to float32 (float64 for PQ_F64),
 * half to even; NaN gives the zero point. x: any float type; q: PQ_I8, PQ_U8, PQ_I16 or PQ_U16. */
pq_status pq_quantize(const void *x, pq_type x_type, void *q, pq_type q_type, const pq_layout *layout,
                      const pq_params *params);

/* x = (q - zero_point) * scale rounded to float32, then to x_type (PQ_F32, PQ_F16, PQ_BF16 or PQ_F64).
 * params->qmin and qmax are not looked at. */
pq_status pq_dequantize(const void *q, pq_type q_type, void *x, pq_type x_type, const pq_layout *layout,
                        const pq_params *params);

/* y = dequantize(quantize(x)) in one pass, y of x's type. */
pq_status pq_fake_quantize(const void *x, pq_type type, void *y, const pq_layout *layout,
                           const pq_params *params);

/* Straight-through gradients of fake quantize for one upstream gradient g of x's shape, both PQ_F32 or PQ_F64:
 *   dx = g inside the grid, 0 outside; dscale = sum g * (rint(x/s) - x/s) inside, g * (qmin|qmax - z) outside;
 *   dzero_point = sum -g * scale outside. Sums are in double and in a fixed order. dscale and dzero_point have
 * pq_layout_params() entries. dx must not overlap x; it may be g. */
pq_status pq_fake_quantize_grad(const void *g, const void *x, pq_type type, void *dx, double *dscale,
                                double *dzero_point, const pq_layout *layout, const pq_params *params);

/* The smallest and largest value per parameter, rounded to float32; 0 and 0 where there is no element.
 * PQ_ERROR_NONFINITE when a NaN or infinity is there, unless omit_nonfinite. */
pq_status pq_range(const void *x, pq_type type, const pq_layout *layout, int omit_nonfinite, float *low,
                   float *high);

/* The largest absolute value per parameter. */
pq_status pq_absmax(const void *x, pq_type type, const pq_layout *layout, int omit_nonfinite, float *absmax);

/* Histograms: 2 * half + 1 counts a parameter, of bins 2^exponent wide; layouts have no blocks. The count in the
 * middle is that of zeros, the i-th after it that of x in [(i - 1), i) * 2^exponent, the i-th before it that of their
 * negatives. half is a power of two from 16 to 2^24, and the exponent the smallest from -126 on with max |x| <
 * half * 2^exponent; float64 counts as the nearest float32. low and high are the smallest and the largest value, and
 * infinity and -infinity where there is none. A caller that merges histograms widens the one of smaller exponent, bin
 * i >= 1 to (i - 1) / 2 + 1, and has the same counts as if all had been one array: floor(floor(t) / 2) = floor(t / 2).
 * On errors the outputs are not to be used. */
pq_status pq_histogram(const void *x, pq_type type, const pq_layout *layout, int omit_nonfinite, size_t half,
                       uint64_t *counts, int32_t *exponent, float *low, float *high);

/* The summed squared error of rounding to scale * (lowest ... highest) what is evenly spread from low[i] to high[i],
 * density[i] samples a unit, i < n. |low| and |high| below 2^50 * scale. */
pq_status pq_histogram_error(const double *low, const double *high, const double *density, size_t n, double scale,
                             int32_t lowest, int32_t highest, double *error);

/* For clips of first, first + 1, ... bins on either side of zero: sum P log(P / Q), where P is the distribution of the
 * clipped data over the bins, and Q that of the data inside, spread evenly over the bins of each code that P fills; code
 * k of -codes ... codes has the bins nearest to k * clip / codes. Infinite where Q is empty and P is not. codes <=
 * first, and first + clips - 1 <= half. */
pq_status pq_histogram_divergence(const uint64_t *counts, size_t half, size_t codes, size_t first, size_t clips,
                                  double *divergence);

/* The index of the first NaN or infinity, or n. */
size_t pq_find_nonfinite(const void *x, pq_type type, size_t n);

/* Scale and zero point for n ranges [alpha, beta], both finite, alpha <= beta, on the grid qmin ... qmax of
 * `bits` bits, signed or not. */
pq_status pq_choose_params(const float *alpha, const float *beta, size_t n, pq_scheme scheme, int32_t qmin,
                           int32_t qmax, float *scale, int32_t *zero_point);

/* Range, parameters and quantize in one call. scale and zero_point receive pq_layout_params() entries. When the data
 * are refused (PQ_ERROR_NONFINITE, PQ_ERROR_RANGE) parts of the outputs may have been written. */
pq_status pq_dynamic_quantize(const void *x, pq_type x_type, void *q, pq_type q_type, const pq_layout *layout,
                              pq_scheme scheme, int32_t qmin, int32_t qmax, float *scale, int32_t *zero_point);

/* int32 accumulators to a grid. The layout is per tensor or per channel; multiplier[c], zero_point[c] or NULL. */
typedef enum {
    PQ_REQUANTIZE_FLOAT,        /* clamp(rint(float32(acc) * multiplier) + zero_point) */
    PQ_REQUANTIZE_FIXED_DOUBLE, /* gemmlowp: doubling high multiply, then a rounding shift, ties away */
    PQ_REQUANTIZE_FIXED_SINGLE  /* one 64-bit rounding shift, ties up */
} pq_requantize_mode;
pq_status pq_requantize(const int32_t *acc, void *q, pq_type q_type, const pq_layout *layout,
                        const pq_params *params, pq_requantize_mode mode);

/* Integer products: acc[i][j] = sum over k of (a[i][k] - a_zero) * (b[k][j] - b_zero), exactly, and what becomes of it.
 *
 * One operand; element (i, j) at data[i * row_stride + j * column_stride], strides in elements and of any sign. */
typedef struct {
    const void *data;
    pq_type type; /* PQ_I8 or PQ_U8; a may be PQ_F32, PQ_F16, PQ_BF16 or PQ_F64, see pq_product */
    ptrdiff_t row_stride, column_stride;
    const int32_t *zero_point; /* `zero_points` of them, on the grid of the type; NULL: 0 */
    size_t zero_points;        /* 1, or one a row of a, one a column of b; with blocks: see pq_product */
    const float *scale;        /* `scales` of them, positive and finite; NULL: 1 */
    size_t scales;
} pq_matrix;

/* A (k, n) matrix of PQ_I8 or PQ_U8 in the layout of the running instruction set; of `block` rows (0: k) that share a
 * scale. It stays usable whatever the cap is later. */
typedef struct pq_packed_matrix pq_packed_matrix;
pq_status pq_pack_matrix(const pq_matrix *b, size_t k, size_t n, size_t block, pq_packed_matrix **packed);
void pq_free_packed_matrix(pq_packed_matrix *packed);
/* The way back: k * n codes in C order. */
pq_status pq_unpack_matrix(const pq_packed_matrix *packed, void *b);
size_t pq_packed_matrix_bytes(const pq_packed_matrix *packed);
const char *pq_packed_matrix_isa(const pq_packed_matrix *packed);

/* Where the result goes, and its type:
 *   PQ_I32                    acc + bias
 *   PQ_F32                    clip(float32(acc) * (a_scale * b_scale) + bias), every operation rounded once to float32
 *   PQ_I8 PQ_U8 PQ_I16 PQ_U16 pq_requantize of acc + bias with the multiplier (a_scale * b_scale) / scale, rounded so
 * y must not overlap the operands. */
typedef struct {
    void *data;
    pq_type type;
    ptrdiff_t row_stride, column_stride;
    const void *bias;  /* n of them, or NULL; float for PQ_F32, else int32_t */
    float low, high;   /* PQ_F32: the clip; -infinity and infinity: none */
    float scale;       /* integers of 8 and 16 bits */
    int32_t zero_point, qmin, qmax;
    pq_requantize_mode mode;
} pq_result;

/* y = a (m, k) times b (k, n).
 *
 * A float a is quantized on the way in: with a.scale, one scale and zero point, to a_qmin ... a_qmax of 8 bits
 * (a_signed says whether int8 or uint8); without, symmetrically and row by row to -127 ... 127, each row with a scale of its own
 * (PQ_ERROR_NONFINITE and PQ_ERROR_RANGE as pq_dynamic_quantize; parts of y may then have been written).
 *
 * block: 0, or how many k share a scale; then only PQ_F32, the products of the blocks are added up in increasing k, each rounded
 * as above, and the bias comes last. b.scales is 1 or blocks * n (a row of n for each block), and b.zero_points likewise; a.scales
 * is 1, m, or m * blocks (a row of blocks for each row of a), and a.zero_points likewise.
 *
 * PQ_ERROR_OVERFLOW: an int32 result whose accumulators could overflow, given k, the types and the zero points. Other results
 * are right for every k and every block: acc is then of 64 bits.
 *
 * batches: how many products; product i starts a_offset[i], b_offset[i] and y_offset[i] elements after data (NULL:
 * none does). Zero points, scales and bias are the same for all. */
typedef struct {
    size_t m, n, k, block;
    pq_matrix a, b;
    const pq_packed_matrix *packed; /* instead of b.data, b.type and its strides, or NULL */
    int32_t a_qmin, a_qmax;
    int a_signed;
    pq_result y;
    size_t batches;
    const ptrdiff_t *a_offset, *b_offset, *y_offset;
} pq_product;
pq_status pq_matmul(const pq_product *product);

/* Convolution as networks mean it (the kernel is not turned round), of up to three dimensions:
 *   acc[image][o][p] = sum over c, i of (x[image][c][p * stride + i * dilation - before] - x_zero) * (w[o][c][i] - w_zero)
 * where c runs over the channels of o's group, and x outside the image is its zero point: the real 0.0. With fewer dimensions
 * the first entries are size, kernel, stride and dilation 1, before and after 0. */
typedef struct {
    size_t images, channels, outputs, groups; /* channels and outputs of all groups, and multiples of groups */
    size_t size[3], kernel[3], stride[3], dilation[3], before[3], after[3];
} pq_convolution_shape;

/* How many p there are in a dimension, 0 to 2; 0 where the kernel does not fit. */
size_t pq_convolution_size(const pq_convolution_shape *shape, int dimension);

/* x, or the weights, of which `image` is an output and `channel` one of its group's; strides in elements, of any sign. */
typedef struct {
    const void *data;
    pq_type type; /* PQ_I8 or PQ_U8; x may be PQ_F32, PQ_F16, PQ_BF16 or PQ_F64, see pq_convolution */
    ptrdiff_t image_stride, channel_stride, stride[3];
    const int32_t *zero_point; /* `zero_points` of them, on the grid of the type; NULL: 0 */
    size_t zero_points;        /* 1, or one an output */
    const float *scale;        /* `scales` of them, positive and finite; NULL: 1 */
    size_t scales;             /* 1, or one an output */
} pq_images;

/* Weights in the layout of the running instruction set, for shapes with these channels, outputs, groups and kernel. */
typedef struct pq_packed_convolution pq_packed_convolution;
pq_status pq_pack_convolution(const pq_convolution_shape *shape, const pq_images *w, pq_packed_convolution **packed);
void pq_free_packed_convolution(pq_packed_convolution *packed);
size_t pq_packed_convolution_bytes(const pq_packed_convolution *packed);
const char *pq_packed_convolution_isa(const pq_packed_convolution *packed);

/* y as pq_matmul gives it, with an image's pixels in C order for rows and the outputs for columns: column_stride is 1 where channels
 * come last, and row_stride where they come first. Image i starts i * y_image_stride elements after y.data.
 *
 * A float x is quantized on the way in, with x.scale, which must be there, to x_qmin ... x_qmax of 8 bits (x_signed says whether int8
 * or uint8).
 *
 * PQ_ERROR_OVERFLOW: an int32 result whose accumulators could overflow, given the number of products in one, the types
 * and the zero points. Other results are right for all numbers of products. */
typedef struct {
    pq_convolution_shape shape;
    pq_images x, w;
    const pq_packed_convolution *packed; /* instead of w.data, w.type and its strides, or NULL */
    int32_t x_qmin, x_qmax;
    int x_signed;
    pq_result y;
    ptrdiff_t y_image_stride;
} pq_convolution;
pq_status pq_convolve(const pq_convolution *convolution);

/* A little-endian bit stream of n codes of `bits` bits (1 to 16), the first in the lowest bits; q holds one code
 * an element, int8/uint8 up to 8 bits, int16/uint16 above. packed has pq_packed_size() bytes; unused bits are 0.
 * Codes from 0, if q is signed from -2^(bits - 1), to 2^bits - 1 fit; PQ_ERROR_CODE says that others lost bits. */
size_t pq_packed_size(size_t n, int bits);
pq_status pq_pack_bits(const void *q, size_t n, int bits, int is_signed, uint8_t *packed);
pq_status pq_unpack_bits(const uint8_t *packed, size_t n, int bits, int is_signed, void *q);

/* Threads: OpenMP's where the program is linked with -fopenmp (and -Wl,--no-as-needed if it has no OpenMP code of its
 * own), else the calling one, or a pool of the caller's. 0 asks for the CPUs that this process may use. In the child of
 * a fork whose parent had used them everything runs on the calling thread: GNU's OpenMP would deadlock. */
pq_status pq_set_num_threads(int n);
int pq_get_num_threads(void);

/* Run task(0) ... task(tasks - 1), in any order and on any threads, and return when all are done. */
typedef void (*pq_task)(void *context, size_t index);
typedef void (*pq_parallel_for)(void *pool, size_t tasks, pq_task task, void *context);

/* Bring your own thread pool; NULL goes back to the library's. Not to be called while another call runs. */
pq_status pq_set_parallel_for(pq_parallel_for run, void *pool);

/* Cap the instruction set, by name; NULL or "": no cap. A name of another architecture leaves the scalar code. */
pq_status pq_set_isa(const char *name);

/* Introspection. Index from 0; NULL past the end. */
const char *pq_isa_name(size_t index);            /* all known names */
int pq_isa_usable(const char *name);              /* compiled in, this CPU has it, not capped */
int pq_isa_compiled(const char *name);
const char *pq_op_name(size_t index);             /* "quantize_f32_i8", ... */
const char *pq_op_chosen(size_t index);           /* the variant that runs */
int pq_op_has(size_t index, const char *isa);     /* this operation has that variant, usable here */

#ifdef __cplusplus
}
#endif
#endif
