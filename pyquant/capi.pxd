# The C API, for Cython: `from pyquant.capi cimport pq_quantize`, with pyquant.get_include() and get_lib().
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint8_t, uint64_t

cdef extern from "pyquant.h" nogil:
    ctypedef enum pq_status:
        PQ_OK
        PQ_ERROR_ARGUMENT
        PQ_ERROR_SCALE
        PQ_ERROR_ZERO_POINT
        PQ_ERROR_GRID
        PQ_ERROR_NONFINITE
        PQ_ERROR_RANGE
        PQ_ERROR_CODE
        PQ_ERROR_OVERFLOW
        PQ_ERROR_ISA
        PQ_ERROR_MEMORY

    ctypedef enum pq_type:
        PQ_F32
        PQ_F16
        PQ_BF16
        PQ_F64
        PQ_I8
        PQ_U8
        PQ_I16
        PQ_U16
        PQ_I32

    ctypedef enum pq_scheme:
        PQ_SYMMETRIC
        PQ_AFFINE

    ctypedef enum pq_requantize_mode:
        PQ_REQUANTIZE_FLOAT
        PQ_REQUANTIZE_FIXED_DOUBLE
        PQ_REQUANTIZE_FIXED_SINGLE

    ctypedef struct pq_layout:
        size_t outer
        size_t axis
        size_t inner
        size_t block

    ctypedef struct pq_params:
        const float *scale
        const int32_t *zero_point
        int32_t qmin
        int32_t qmax

    ctypedef struct pq_matrix:
        const void *data
        pq_type type
        ptrdiff_t row_stride
        ptrdiff_t column_stride
        const int32_t *zero_point
        size_t zero_points
        const float *scale
        size_t scales

    ctypedef struct pq_packed_matrix:
        pass

    ctypedef struct pq_result:
        void *data
        pq_type type
        ptrdiff_t row_stride
        ptrdiff_t column_stride
        const void *bias
        float low
        float high
        float scale
        int32_t zero_point
        int32_t qmin
        int32_t qmax
        pq_requantize_mode mode

    ctypedef struct pq_product:
        size_t m
        size_t n
        size_t k
        size_t block
        pq_matrix a
        pq_matrix b
        const pq_packed_matrix *packed
        int32_t a_qmin
        int32_t a_qmax
        int a_signed
        pq_result y
        size_t batches
        const ptrdiff_t *a_offset
        const ptrdiff_t *b_offset
        const ptrdiff_t *y_offset

    ctypedef struct pq_convolution_shape:
        size_t images
        size_t channels
        size_t outputs
        size_t groups
        size_t size[3]
        size_t kernel[3]
        size_t stride[3]
        size_t dilation[3]
        size_t before[3]
        size_t after[3]

    ctypedef struct pq_images:
        const void *data
        pq_type type
        ptrdiff_t image_stride
        ptrdiff_t channel_stride
        ptrdiff_t stride[3]
        const int32_t *zero_point
        size_t zero_points
        const float *scale
        size_t scales

    ctypedef struct pq_packed_convolution:
        pass

    ctypedef struct pq_convolution:
        pq_convolution_shape shape
        pq_images x
        pq_images w
        const pq_packed_convolution *packed
        int32_t x_qmin
        int32_t x_qmax
        int x_signed
        pq_result y
        ptrdiff_t y_image_stride

    ctypedef void (*pq_task)(void *context, size_t index)
    ctypedef void (*pq_parallel_for)(void *pool, size_t tasks, pq_task task, void *context)

    const char *pq_status_string(pq_status status)
    size_t pq_layout_size(const pq_layout *layout)
    size_t pq_layout_params(const pq_layout *layout)
    pq_status pq_quantize(const void *x, pq_type x_type, void *q, pq_type q_type, const pq_layout *layout,
                          const pq_params *params)
    pq_status pq_dequantize(const void *q, pq_type q_type, void *x, pq_type x_type, const pq_layout *layout,
                            const pq_params *params)
    pq_status pq_fake_quantize(const void *x, pq_type type, void *y, const pq_layout *layout,
                               const pq_params *params)
    pq_status pq_fake_quantize_grad(const void *g, const void *x, pq_type type, void *dx, double *dscale,
                                    double *dzero_point, const pq_layout *layout, const pq_params *params)
    pq_status pq_range(const void *x, pq_type type, const pq_layout *layout, int omit_nonfinite, float *low,
                       float *high)
    pq_status pq_absmax(const void *x, pq_type type, const pq_layout *layout, int omit_nonfinite, float *absmax)
    pq_status pq_histogram(const void *x, pq_type type, const pq_layout *layout, int omit_nonfinite, size_t half,
                           uint64_t *counts, int32_t *exponent, float *low, float *high)
    pq_status pq_histogram_error(const double *low, const double *high, const double *density, size_t n, double scale,
                                 int32_t lowest, int32_t highest, double *error)
    pq_status pq_histogram_divergence(const uint64_t *counts, size_t half, size_t codes, size_t first, size_t clips,
                                      double *divergence)
    size_t pq_find_nonfinite(const void *x, pq_type type, size_t n)
    pq_status pq_choose_params(const float *alpha, const float *beta, size_t n, pq_scheme scheme, int32_t qmin,
                               int32_t qmax, float *scale, int32_t *zero_point)
    pq_status pq_dynamic_quantize(const void *x, pq_type x_type, void *q, pq_type q_type, const pq_layout *layout,
                                  pq_scheme scheme, int32_t qmin, int32_t qmax, float *scale,
                                  int32_t *zero_point)
    pq_status pq_requantize(const int32_t *acc, void *q, pq_type q_type, const pq_layout *layout,
                            const pq_params *params, pq_requantize_mode mode)
    pq_status pq_pack_matrix(const pq_matrix *b, size_t k, size_t n, size_t block, pq_packed_matrix **packed)
    void pq_free_packed_matrix(pq_packed_matrix *packed)
    pq_status pq_unpack_matrix(const pq_packed_matrix *packed, void *b)
    size_t pq_packed_matrix_bytes(const pq_packed_matrix *packed)
    const char *pq_packed_matrix_isa(const pq_packed_matrix *packed)
    pq_status pq_matmul(const pq_product *product)
    size_t pq_convolution_size(const pq_convolution_shape *shape, int dimension)
    pq_status pq_pack_convolution(const pq_convolution_shape *shape, const pq_images *w, pq_packed_convolution **packed)
    void pq_free_packed_convolution(pq_packed_convolution *packed)
    size_t pq_packed_convolution_bytes(const pq_packed_convolution *packed)
    const char *pq_packed_convolution_isa(const pq_packed_convolution *packed)
    pq_status pq_convolve(const pq_convolution *convolution)
    size_t pq_packed_size(size_t n, int bits)
    pq_status pq_pack_bits(const void *q, size_t n, int bits, int is_signed, uint8_t *packed)
    pq_status pq_unpack_bits(const uint8_t *packed, size_t n, int bits, int is_signed, void *q)
    pq_status pq_set_num_threads(int n)
    int pq_get_num_threads()
    pq_status pq_set_parallel_for(pq_parallel_for run, void *pool)
    pq_status pq_set_isa(const char *name)
    const char *pq_isa_name(size_t index)
    int pq_isa_usable(const char *name)
    int pq_isa_compiled(const char *name)
    const char *pq_op_name(size_t index)
    const char *pq_op_chosen(size_t index)
    int pq_op_has(size_t index, const char *isa)
