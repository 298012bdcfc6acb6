/* The types of the kernels, their prototypes, and the table that dispatch.c fills from kernels.def. */
#ifndef PQ_KERNELS_H
#define PQ_KERNELS_H

#include "include/pyquant.h"

/* Kernels see runs: `runs` pieces of `length` contiguous elements, one after the other, piece r with scale[r] and
 * zero_point[r] (NULL: 0); at least one run of at least one element. Their arguments are checked already; x and q may be equal or disjoint. i8 stands for
 * any grid kept in one byte, signed or not, and i16 for two bytes: the codes' low bits are the same.
 *
 * `stream` says that the output is larger than the caches: non-temporal stores may be used. */
typedef void pq_quantize_fn(const void *x, void *q, size_t runs, size_t length, const float *scale,
                               const int32_t *zero_point, int32_t qmin, int32_t qmax, int stream);
typedef void pq_dequantize_fn(const void *q, void *x, size_t runs, size_t length, const float *scale,
                                 const int32_t *zero_point, int stream);
typedef void pq_fake_quantize_fn(const void *x, void *y, size_t runs, size_t length, const float *scale,
                                    const int32_t *zero_point, int32_t qmin, int32_t qmax, int stream);

/* Columns: `rows` rows of `columns` elements, `stride` elements apart in input and output; column c has scale[c]
 * and zero_point[c] (NULL: 0). At most PQ_COLUMNS columns, but for dequantize: what a kernel prepares per column is on
 * its stack, and narrower tiles of a wide matrix would jump through memory in small steps. */
enum { PQ_COLUMNS = 1024 };
typedef void pq_quantize_columns_fn(const void *x, void *q, size_t rows, size_t columns, size_t stride,
                                       const float *scale, const int32_t *zero_point, int32_t qmin, int32_t qmax,
                                       int stream);
typedef void pq_dequantize_columns_fn(const void *q, void *x, size_t rows, size_t columns, size_t stride,
                                         const float *scale, const int32_t *zero_point, int stream);
typedef void pq_fake_quantize_columns_fn(const void *x, void *y, size_t rows, size_t columns, size_t stride,
                                            const float *scale, const int32_t *zero_point, int32_t qmin,
                                            int32_t qmax, int stream);

/* The smallest and largest of each run of length >= 1. Returns 0 when all is finite; otherwise what was found does not
 * matter. */
typedef int pq_range_fn(const void *x, size_t runs, size_t length, float *low, float *high);
typedef int pq_absmax_fn(const void *x, size_t runs, size_t length, float *absmax);

/* Widens low[c] and high[c], which the caller has set, by the rows. Returns 0 when all is finite. */
typedef int pq_range_columns_fn(const void *x, size_t rows, size_t columns, size_t stride, float *low,
                                   float *high);

/* One run of at most PQ_GRAD_CHUNK elements; *dscale and *dzero_point receive its sums, added up in 16 lanes
 * (element i in lane i % 16), the lanes then added in pairs 8, 4, 2, 1 apart. */
enum { PQ_GRAD_CHUNK = 4096, PQ_GRAD_LANES = 16 };
typedef void pq_fake_quantize_grad_fn(const void *g, const void *x, void *dx, size_t n, float scale,
                                         int32_t zero_point, int32_t qmin, int32_t qmax, double *dscale,
                                         double *dzero_point);

/* Adds the sums of each column, row after row, to dscale[c] and dzero_point[c]. */
typedef void pq_fake_quantize_grad_columns_fn(const void *g, const void *x, void *dx, size_t rows,
                                                 size_t columns, size_t stride, const float *scale,
                                                 const int32_t *zero_point, int32_t qmin, int32_t qmax,
                                                 double *dscale, double *dzero_point);

/* The bins of finite x: 0 for zeros, else sign(x) * (floor(|x| / width) + 1), where inverse_width is a power of two
 * and 1 / width, and |x| / width is below 2^30. float64 is rounded to float32 first. */
typedef void pq_bins_fn(const void *x, size_t n, float inverse_width, int32_t *bin);

typedef void pq_requantize_fn(const int32_t *acc, void *q, size_t n, float multiplier, int32_t zero_point,
                                 int32_t qmin, int32_t qmax, pq_requantize_mode mode);

typedef void pq_requantize_columns_fn(const int32_t *acc, size_t acc_stride, void *q, size_t rows, size_t columns,
                                      size_t stride, const float *multiplier, const int32_t *zero_point, int32_t qmin,
                                      int32_t qmax, pq_requantize_mode mode);

/* Codes of one byte each; `bits` below 8. n is a multiple of 8 except in the last call of a stream. Packing returns
 * whether a code did not fit. */
typedef int pq_pack_bits_fn(const uint8_t *q, size_t n, int bits, int is_signed, uint8_t *packed);
typedef void pq_unpack_bits_fn(const uint8_t *packed, size_t n, int bits, int is_signed, uint8_t *q);

/* y[r][j] = (add ? y[r][j] : 0) + float32(acc[r][j]) * (a_scale[r] * b_scale[j]) + bias[j], every operation rounded once, and then
 * between low and high. A step of 0 instead of 1 takes the first scale for all; bias may be NULL. Without add nothing is
 * added in front, so that a product of -0.0 stays what it is. */
typedef void pq_product_f32_fn(const int32_t *acc, size_t acc_stride, float *y, size_t y_stride, size_t rows,
                               size_t columns, const float *a_scale, size_t a_step, const float *b_scale, size_t b_step,
                               const float *bias, float low, float high, int add);

/* c[r][j] += sum a[r][i] * b[i][j] modulo 2^32, for a few rows of codes and b that is used once, where it is: element (i, j) at
 * b[i * b_stride + j] in gemv_rows_i8_i32, at b[j * b_stride + i] in gemv_columns_i8_i32. Types PQ_I8 or PQ_U8. Rows of a are followed by
 * zeros up to a multiple of PQ_GEMV_DEPTH. k >= 1. */
enum { PQ_GEMV_DEPTH = 64 };
typedef void pq_gemv_fn(const uint8_t *a, pq_type a_type, size_t a_stride, size_t n_rows, const uint8_t *b,
                        pq_type b_type, ptrdiff_t b_stride, size_t k, size_t n, int32_t *c, size_t c_stride);

/* Integer products. A tile of the result is `rows` rows of a times `columns` columns of b; k goes in groups of `depth`. Each
 * instruction set multiplies types of its own, a and b below, and int8 or uint8 codes are brought to them while they are copied: int16
 * takes both as they are, uint8 from int8 adds 128, and int8 from uint8 takes 128 away (pq_gemm_shift). The caller makes up
 * for that in the zero points. All sums are modulo 2^32. */
typedef struct {
    int rows, columns, depth;
    pq_type a, b; /* PQ_U8, PQ_I8 or PQ_I16 */

    /* c[r][j] = (accumulate ? c[r][j] : 0) + sum a[r][i] * b[i][j] + row[r] + column[j], for r < n_rows and all the tile's columns;
     * a_stride and c_stride in elements, row and column may be NULL. b is laid out [groups][columns][depth], without
     * alignment. */
    void (*tile)(const void *a, size_t a_stride, const void *b, size_t groups, int n_rows, const int32_t *row,
                 const int32_t *column, int32_t *c, size_t c_stride, int accumulate);

    /* k rows and n columns of int8 or uint8 codes, strides in elements, to ceil(n / columns) panels of [groups][columns][depth] that are
     * panel_stride bytes apart, with zeros where there is nothing. sums[j] is the sum of column j as stored, for all the columns of the
     * panels. */
    void (*pack_b)(const void *b, pq_type type, ptrdiff_t row_stride, ptrdiff_t column_stride, size_t k, size_t n,
                   void *panels, size_t panel_stride, int32_t *sums);

    /* Rows of codes to rows of a's type, out_stride elements apart, with zeros from k to the end of the last group. sums (NULL: not
     * wanted) receives the sum of each row as stored. */
    void (*copy_a)(const void *a, pq_type type, ptrdiff_t row_stride, ptrdiff_t column_stride, size_t n_rows, size_t k,
                   void *out, size_t out_stride, int32_t *sums);

    /* Before the first tile and after the last one of a thread's piece of work; NULL where there is nothing to do. */
    void (*enter)(void), (*leave)(void);

    /* Up to so many rows times a b that is not packed are the work of gemv_rows_i8_i32 and gemv_columns_i8_i32. */
    int few_rows;
} pq_gemm_kernels;
typedef const pq_gemm_kernels *pq_gemm_fn(void);

/* to[c * to_stride + r] = from[r * from_stride + c]; bytes, in places that do not overlap. */
typedef void pq_transpose_fn(const uint8_t *from, size_t rows, size_t columns, size_t from_stride, uint8_t *to,
                             size_t to_stride);

/* Depthwise convolution: c[p][j] = (start ? start[j] : c[p][j]) + sum over i of a[p * a_stride + offset[i] + j] * w[i * w_stride + j],
 * modulo 2^32. Each of a and w is between -255 and 255; channels is a multiple of PQ_DEPTHWISE_CHANNELS, and taps from 1 to
 * PQ_DEPTHWISE_TAPS. */
enum { PQ_DEPTHWISE_CHANNELS = 32, PQ_DEPTHWISE_TAPS = 32 };
typedef void pq_depthwise_fn(const int16_t *a, size_t a_stride, const size_t *offset, size_t taps, const int16_t *w,
                             size_t w_stride, size_t pixels, size_t channels, const int32_t *start, int32_t *c,
                             size_t c_stride);

/* What is added to a code of `from` to make it one of `to`. */
static inline int32_t pq_gemm_shift(pq_type from, pq_type to)
{
    return from == PQ_I8 && to == PQ_U8 ? 128 : from == PQ_U8 && to == PQ_I8 ? -128 : 0;
}

/* What the build made. The scalar code is always there. */
#define PQ_HAVE_SCALAR 1
#ifndef PQ_HAVE_AVX2
#define PQ_HAVE_AVX2 0
#endif
#ifndef PQ_HAVE_AVXVNNI
#define PQ_HAVE_AVXVNNI 0
#endif
#ifndef PQ_HAVE_AVX512
#define PQ_HAVE_AVX512 0
#endif
#ifndef PQ_HAVE_AVX512VNNI
#define PQ_HAVE_AVX512VNNI 0
#endif
#ifndef PQ_HAVE_AMXINT8
#define PQ_HAVE_AMXINT8 0
#endif
#ifndef PQ_HAVE_NEON
#define PQ_HAVE_NEON 0
#endif
#ifndef PQ_HAVE_NEONDOT
#define PQ_HAVE_NEONDOT 0
#endif
#ifndef PQ_HAVE_NEONI8MM
#define PQ_HAVE_NEONI8MM 0
#endif

/* PQ_IF_<isa>(text): the text where the build made that variant, nothing elsewhere. */
#if PQ_HAVE_SCALAR
#define PQ_IF_scalar(...) __VA_ARGS__
#else
#define PQ_IF_scalar(...)
#endif
#if PQ_HAVE_AVX2
#define PQ_IF_avx2(...) __VA_ARGS__
#else
#define PQ_IF_avx2(...)
#endif
#if PQ_HAVE_AVXVNNI
#define PQ_IF_avxvnni(...) __VA_ARGS__
#else
#define PQ_IF_avxvnni(...)
#endif
#if PQ_HAVE_AVX512
#define PQ_IF_avx512(...) __VA_ARGS__
#else
#define PQ_IF_avx512(...)
#endif
#if PQ_HAVE_AVX512VNNI
#define PQ_IF_avx512vnni(...) __VA_ARGS__
#else
#define PQ_IF_avx512vnni(...)
#endif
#if PQ_HAVE_AMXINT8
#define PQ_IF_amxint8(...) __VA_ARGS__
#else
#define PQ_IF_amxint8(...)
#endif
#if PQ_HAVE_NEON
#define PQ_IF_neon(...) __VA_ARGS__
#else
#define PQ_IF_neon(...)
#endif
#if PQ_HAVE_NEONDOT
#define PQ_IF_neondot(...) __VA_ARGS__
#else
#define PQ_IF_neondot(...)
#endif
#if PQ_HAVE_NEONI8MM
#define PQ_IF_neoni8mm(...) __VA_ARGS__
#else
#define PQ_IF_neoni8mm(...)
#endif

/* The prototypes, so that a definition that does not fit its type is an error. */
#define PQ_OP(op, type)
#define PQ_KERNEL(op, type, isa) pq_##type##_fn pq_##op##_##isa;
#include "kernels.def"
#undef PQ_OP
#undef PQ_KERNEL

/* The variant that runs, per operation. */
typedef struct {
#define PQ_OP(op, type) pq_##type##_fn *op;
#define PQ_KERNEL(op, type, isa)
#include "kernels.def"
#undef PQ_OP
#undef PQ_KERNEL
} pq_kernels;

const pq_kernels *pq_get_kernels(void);

/* The instruction set of the gemm that runs. */
const char *pq_gemm_isa(void);

#endif
