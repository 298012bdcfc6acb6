# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False, cdivision=True
"""One short wrapper per C function.

Arrays come in C-contiguous and of the types that pyquant.ops has checked; a wrapper passes their pointers on without the
GIL and returns the status as an int (0: fine). Layouts are the four numbers (outer, axis, inner, block) of pq_layout.
_cuda.py has the same names and signatures.
"""
cimport numpy as cnp
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int8_t, int16_t, int32_t, uint8_t, uint16_t, uint64_t, uintptr_t
from libc.float cimport FLT_MAX
from libc.math cimport INFINITY
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from pyquant.capi cimport *

import numpy as np

cnp.import_array()

cdef extern from "_memory.h":
    object pyquant_empty(int ndim, cnp.npy_intp *shape, int type)


cdef extern from *:
    """
    static void pyquant_keep_at_most(size_t bytes) { pyquant_pool.limit = bytes; }
    /* A strong reference: the archive's references to OpenMP are weak, and a linker that drops libraries without
     * strong ones would leave everything on one thread. */
    extern int omp_get_max_threads(void);
    static int pyquant_openmp_threads(void) { return omp_get_max_threads(); }
    """
    void pyquant_keep_at_most(size_t bytes)
    int pyquant_openmp_threads()


# The codes of pq_type and pq_status that pyquant.ops speaks in.
F32, F16, BF16, F64 = <int>PQ_F32, <int>PQ_F16, <int>PQ_BF16, <int>PQ_F64
I8, U8, I16, U16, I32 = <int>PQ_I8, <int>PQ_U8, <int>PQ_I16, <int>PQ_U16, <int>PQ_I32
OK, ERROR_SCALE, ERROR_ZERO_POINT = <int>PQ_OK, <int>PQ_ERROR_SCALE, <int>PQ_ERROR_ZERO_POINT
ERROR_NONFINITE, ERROR_RANGE, ERROR_CODE = <int>PQ_ERROR_NONFINITE, <int>PQ_ERROR_RANGE, <int>PQ_ERROR_CODE
ERROR_OVERFLOW, ERROR_MEMORY = <int>PQ_ERROR_OVERFLOW, <int>PQ_ERROR_MEMORY
SYMMETRIC, AFFINE = <int>PQ_SYMMETRIC, <int>PQ_AFFINE
FLOAT, FIXED_DOUBLE, FIXED_SINGLE = <int>PQ_REQUANTIZE_FLOAT, <int>PQ_REQUANTIZE_FIXED_DOUBLE, <int>PQ_REQUANTIZE_FIXED_SINGLE


cdef inline void *data(cnp.ndarray a) noexcept nogil:
    return cnp.PyArray_DATA(a)


cdef inline pq_layout layout_of(tuple layout):
    cdef pq_layout l
    l.outer, l.axis, l.inner, l.block = layout[0], layout[1], layout[2], layout[3]
    return l


cdef inline pq_params params_of(cnp.ndarray scale, zero_point, int32_t qmin, int32_t qmax):
    cdef pq_params p
    p.scale = <const float *>data(scale)
    p.zero_point = NULL if zero_point is None else <const int32_t *>data(zero_point)
    p.qmin = qmin
    p.qmax = qmax
    return p


def empty(tuple shape, dtype):
    """A new array; a large one from memory that earlier results have given back."""
    cdef cnp.npy_intp dims[64]
    cdef int i, ndim = len(shape)
    cdef int type = np.dtype(dtype).num
    if ndim > 64 or type < 0 or type >= 24:
        return np.empty(shape, dtype)
    for i in range(ndim):
        dims[i] = shape[i]
    return pyquant_empty(ndim, dims, type)


def keep_at_most(size_t bytes):
    """How much memory freed results may leave waiting."""
    pyquant_keep_at_most(bytes)


def quantize(cnp.ndarray x, int x_type, cnp.ndarray scale, zero_point, cnp.ndarray q, int q_type, tuple layout,
             int32_t qmin, int32_t qmax):
    cdef pq_layout l = layout_of(layout)
    cdef pq_params p = params_of(scale, zero_point, qmin, qmax)
    cdef int status
    with nogil:
        status = pq_quantize(data(x), <pq_type>x_type, data(q), <pq_type>q_type, &l, &p)
    return status


def dequantize(cnp.ndarray q, int q_type, cnp.ndarray scale, zero_point, cnp.ndarray x, int x_type, tuple layout):
    cdef pq_layout l = layout_of(layout)
    cdef pq_params p = params_of(scale, zero_point, 0, 0)
    cdef int status
    with nogil:
        status = pq_dequantize(data(q), <pq_type>q_type, data(x), <pq_type>x_type, &l, &p)
    return status


def fake_quantize(cnp.ndarray x, int x_type, cnp.ndarray scale, zero_point, cnp.ndarray y, tuple layout,
                  int32_t qmin, int32_t qmax):
    cdef pq_layout l = layout_of(layout)
    cdef pq_params p = params_of(scale, zero_point, qmin, qmax)
    cdef int status
    with nogil:
        status = pq_fake_quantize(data(x), <pq_type>x_type, data(y), &l, &p)
    return status


def fake_quantize_grad(cnp.ndarray grad, cnp.ndarray x, int x_type, cnp.ndarray scale, zero_point, cnp.ndarray dx,
                       cnp.ndarray dscale, cnp.ndarray dzero_point, tuple layout, int32_t qmin, int32_t qmax):
    cdef pq_layout l = layout_of(layout)
    cdef pq_params p = params_of(scale, zero_point, qmin, qmax)
    cdef int status
    with nogil:
        status = pq_fake_quantize_grad(data(grad), data(x), <pq_type>x_type, data(dx),
                                       <double *>data(dscale), <double *>data(dzero_point), &l, &p)
    return status


def minmax(cnp.ndarray x, int x_type, tuple layout, bint omit, cnp.ndarray low, cnp.ndarray high):
    cdef pq_layout l = layout_of(layout)
    cdef int status
    with nogil:
        status = pq_range(data(x), <pq_type>x_type, &l, omit, <float *>data(low), <float *>data(high))
    return status


def absmax(cnp.ndarray x, int x_type, tuple layout, bint omit, cnp.ndarray high):
    cdef pq_layout l = layout_of(layout)
    cdef int status
    with nogil:
        status = pq_absmax(data(x), <pq_type>x_type, &l, omit, <float *>data(high))
    return status


def histogram(cnp.ndarray x, int x_type, tuple layout, bint omit, size_t half, cnp.ndarray counts,
              cnp.ndarray exponent, cnp.ndarray low, cnp.ndarray high):
    cdef pq_layout l = layout_of(layout)
    cdef int status
    with nogil:
        status = pq_histogram(data(x), <pq_type>x_type, &l, omit, half, <uint64_t *>data(counts),
                              <int32_t *>data(exponent), <float *>data(low), <float *>data(high))
    return status


def histogram_error(cnp.ndarray low, cnp.ndarray high, cnp.ndarray density, double scale, int lowest, int highest):
    cdef double error = 0.0
    cdef size_t n = cnp.PyArray_SIZE(low)
    with nogil:
        pq_histogram_error(<double *>data(low), <double *>data(high), <double *>data(density), n, scale, lowest,
                           highest, &error)
    return error


def histogram_divergence(cnp.ndarray counts, size_t half, size_t codes, size_t first, cnp.ndarray divergence):
    cdef int status
    cdef size_t clips = cnp.PyArray_SIZE(divergence)
    with nogil:
        status = pq_histogram_divergence(<uint64_t *>data(counts), half, codes, first, clips,
                                         <double *>data(divergence))
    return status


def find_nonfinite(cnp.ndarray x, int x_type):
    cdef size_t n = cnp.PyArray_SIZE(x), found
    with nogil:
        found = pq_find_nonfinite(data(x), <pq_type>x_type, n)
    return found


def choose_params(cnp.ndarray alpha, cnp.ndarray beta, int scheme, int32_t qmin, int32_t qmax, cnp.ndarray scale,
                  cnp.ndarray zero_point):
    cdef size_t n = cnp.PyArray_SIZE(alpha)
    cdef int status
    with nogil:
        status = pq_choose_params(<const float *>data(alpha), <const float *>data(beta), n, <pq_scheme>scheme,
                                  qmin, qmax, <float *>data(scale), <int32_t *>data(zero_point))
    return status


def dynamic_quantize(cnp.ndarray x, int x_type, cnp.ndarray q, int q_type, tuple layout, int scheme, int32_t qmin,
                     int32_t qmax, cnp.ndarray scale, cnp.ndarray zero_point):
    cdef pq_layout l = layout_of(layout)
    cdef int status
    with nogil:
        status = pq_dynamic_quantize(data(x), <pq_type>x_type, data(q), <pq_type>q_type, &l, <pq_scheme>scheme,
                                     qmin, qmax, <float *>data(scale), <int32_t *>data(zero_point))
    return status


def requantize(cnp.ndarray acc, cnp.ndarray multiplier, zero_point, cnp.ndarray q, int q_type, tuple layout,
               int32_t qmin, int32_t qmax, int mode):
    cdef pq_layout l = layout_of(layout)
    cdef pq_params p = params_of(multiplier, zero_point, qmin, qmax)
    cdef int status
    with nogil:
        status = pq_requantize(<const int32_t *>data(acc), data(q), <pq_type>q_type, &l, &p,
                               <pq_requantize_mode>mode)
    return status


# Products. Operands are pyquant._operands.Operand and Result: arrays (..., rows, columns) whose strides are whole
# elements, int32 zero points and float32 scales that are C-contiguous, and None for what is not there.

cdef int cap_changes = 0


cdef class PackedCodes:
    """A matrix of codes in the layout of an instruction set."""
    cdef pq_packed_matrix *packed
    cdef int cap
    cdef readonly size_t k, n, block
    cdef readonly int code

    def __dealloc__(self):
        pq_free_packed_matrix(self.packed)

    @property
    def nbytes(self):
        return pq_packed_matrix_bytes(self.packed)

    @property
    def isa(self):
        return pq_packed_matrix_isa(self.packed).decode()

    @property
    def current(self):
        """Was it made under the cap that holds now? PYQUANT_ISA decides once; tests change it."""
        return self.cap == cap_changes

    def again(self):
        """The same codes in the layout that the cap asks for now."""
        return pack_matrix(self.unpack(), self.code, self.block)

    def unpack(self):
        cdef cnp.npy_intp dims[2]
        cdef cnp.ndarray b
        dims[0], dims[1] = self.k, self.n
        b = cnp.PyArray_EMPTY(2, dims, code_number(self.code), 0)
        with nogil:
            pq_unpack_matrix(self.packed, data(b))
        return b


cdef inline void place(cnp.ndarray x, int type_, pq_matrix *m) noexcept:
    """The last two dimensions."""
    cdef int last = cnp.PyArray_NDIM(x) - 1
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(x)
    m.data, m.type = data(x), <pq_type>type_
    m.row_stride, m.column_stride = cnp.PyArray_STRIDE(x, last - 1) // size, cnp.PyArray_STRIDE(x, last) // size


cdef inline void parameters(pq_matrix *m, zero_point, scale):
    if zero_point is not None:
        m.zero_point = <const int32_t *>data(<cnp.ndarray>zero_point)
        m.zero_points = cnp.PyArray_SIZE(<cnp.ndarray>zero_point)
    if scale is not None:
        m.scale = <const float *>data(<cnp.ndarray>scale)
        m.scales = cnp.PyArray_SIZE(<cnp.ndarray>scale)


cdef ptrdiff_t *offsets(cnp.ndarray x, ptrdiff_t *out) noexcept nogil:
    """Where each matrix begins, in elements; `out` has room for them all. NULL if there is only one."""
    cdef int d, dimensions = cnp.PyArray_NDIM(x) - 2
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(x), count = 1, step, n, i, j, start
    if dimensions == 0:
        return NULL
    out[0] = 0
    for d in range(dimensions):
        n, step = cnp.PyArray_DIM(x, d), cnp.PyArray_STRIDE(x, d) // size
        for i in range(count - 1, -1, -1):  # backwards, so that what is still needed is not overwritten
            start = out[i]
            for j in range(n - 1, -1, -1):
                out[i * n + j] = start + j * step
        count *= n
    return out


def pack_matrix(cnp.ndarray b, int code, size_t block):
    """PackedCodes of a (k, n) array, of `block` rows (0: k) that share a scale."""
    cdef PackedCodes p = PackedCodes.__new__(PackedCodes)
    cdef pq_matrix m
    cdef pq_status status
    memset(&m, 0, sizeof(m))
    place(b, code, &m)
    p.k, p.n, p.block, p.code, p.cap = cnp.PyArray_DIM(b, 0), cnp.PyArray_DIM(b, 1), block, code, cap_changes
    with nogil:
        status = pq_pack_matrix(&m, p.k, p.n, block, &p.packed)
    if status != PQ_OK:
        raise MemoryError("memory for the packed matrix could not be allocated")
    return p


def matmul(a, b, y, size_t block):
    """y = a @ b. a and b have y's batches, or none; b's array may be PackedCodes."""
    cdef pq_product p
    cdef cnp.ndarray left, result
    cdef ptrdiff_t *starts = NULL
    cdef int d, last, status
    memset(&p, 0, sizeof(p))
    left, code, zero_point, scale, grid = a
    place(left, code, &p.a)
    parameters(&p.a, zero_point, scale)
    if grid is not None:
        _, _, p.a_signed, _, p.a_qmin, p.a_qmax, _, _ = grid
    right, code, zero_point, scale, _ = b
    if type(right) is PackedCodes:
        p.packed = (<PackedCodes>right).packed
    else:
        place(right, code, &p.b)
    parameters(&p.b, zero_point, scale)
    result, code, bias, p.y.low, p.y.high, p.y.scale, p.y.zero_point, p.y.qmin, p.y.qmax, mode = y
    last = cnp.PyArray_NDIM(result) - 1
    p.m, p.n = cnp.PyArray_DIM(result, last - 1), cnp.PyArray_DIM(result, last)
    p.k = cnp.PyArray_DIM(left, cnp.PyArray_NDIM(left) - 1)
    p.block = block
    p.y.data, p.y.type, p.y.mode = data(result), <pq_type><int>code, <pq_requantize_mode><int>mode
    p.y.row_stride = cnp.PyArray_STRIDE(result, last - 1) // cnp.PyArray_ITEMSIZE(result)
    p.y.column_stride = cnp.PyArray_STRIDE(result, last) // cnp.PyArray_ITEMSIZE(result)
    p.y.bias = NULL if bias is None else data(<cnp.ndarray>bias)
    p.batches = 1
    for d in range(last - 1):
        p.batches *= cnp.PyArray_DIM(result, d)
    if last > 1:
        starts = <ptrdiff_t *>malloc(3 * sizeof(ptrdiff_t) * (p.batches + 1))
        if starts == NULL:
            return ERROR_MEMORY
        p.a_offset = offsets(left, starts)
        p.b_offset = NULL if p.packed != NULL else offsets(right, starts + p.batches)
        p.y_offset = offsets(result, starts + 2 * p.batches)
    with nogil:
        status = pq_matmul(&p)
        free(starts)
    return status


def pack_bits(cnp.ndarray q, int bits, bint is_signed, cnp.ndarray packed):
    cdef size_t n = cnp.PyArray_SIZE(q)
    cdef int status
    with nogil:
        status = pq_pack_bits(data(q), n, bits, is_signed, <uint8_t *>data(packed))
    return status


def unpack_bits(cnp.ndarray packed, int bits, bint is_signed, cnp.ndarray q):
    cdef size_t n = cnp.PyArray_SIZE(q)
    cdef int status
    with nogil:
        status = pq_unpack_bits(<const uint8_t *>data(packed), n, bits, is_signed, data(q))
    return status


def packed_size(size_t n, int bits):
    return pq_packed_size(n, bits)


# Convolutions. A shape is pyquant._geometry.Geometry, operands and results are those of products; channels are second or
# last in x and y, and second in w, whose array may be PackedFilters.

cdef pq_convolution_shape convolution_shape(g):
    cdef pq_convolution_shape s
    cdef int i, unused = 3 - len(g[4])
    s.images, s.channels, s.outputs, s.groups = g[0], g[1], g[2], g[3]
    for i in range(3):
        if i < unused:
            s.size[i] = s.kernel[i] = s.stride[i] = s.dilation[i] = 1
            s.before[i] = s.after[i] = 0
        else:
            s.size[i], s.kernel[i], s.stride[i], s.dilation[i], s.before[i], s.after[i] = [
                numbers[i - unused] for numbers in g[4:10]]
    return s


cdef void place_images(cnp.ndarray a, int type_, int channel, pq_images *m):
    cdef int i, ndim = cnp.PyArray_NDIM(a), first = 2 if channel == 1 else 1
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(a)
    m.data, m.type = data(a), <pq_type>type_
    m.image_stride, m.channel_stride = cnp.PyArray_STRIDE(a, 0) // size, cnp.PyArray_STRIDE(a, channel) // size
    for i in range(ndim - 2):
        m.stride[5 - ndim + i] = cnp.PyArray_STRIDE(a, first + i) // size


cdef void images_parameters(pq_images *m, zero_point, scale):
    if zero_point is not None:
        m.zero_point = <const int32_t *>data(<cnp.ndarray>zero_point)
        m.zero_points = cnp.PyArray_SIZE(<cnp.ndarray>zero_point)
    if scale is not None:
        m.scale = <const float *>data(<cnp.ndarray>scale)
        m.scales = cnp.PyArray_SIZE(<cnp.ndarray>scale)


cdef class PackedFilters:
    """The weights of a convolution in the layout of an instruction set."""
    cdef pq_packed_convolution *packed

    def __dealloc__(self):
        pq_free_packed_convolution(self.packed)

    @property
    def nbytes(self):
        return pq_packed_convolution_bytes(self.packed)

    @property
    def isa(self):
        return pq_packed_convolution_isa(self.packed).decode()


def pack_convolution(geometry, cnp.ndarray w, int code):
    """PackedFilters of an array (outputs, channels of a group, *kernel)."""
    cdef pq_convolution_shape s = convolution_shape(geometry)
    cdef PackedFilters p = PackedFilters.__new__(PackedFilters)
    cdef pq_images m
    cdef pq_status status
    memset(&m, 0, sizeof(m))
    place_images(w, code, 1, &m)
    with nogil:
        status = pq_pack_convolution(&s, &m, &p.packed)
    if status != PQ_OK:
        raise MemoryError("memory for the packed weights could not be allocated")
    return p


def convolve(geometry, bint channels_last, x, w, y):
    """y = x convolved with w."""
    cdef pq_convolution v
    cdef cnp.ndarray images = x[0], result = y[0]
    cdef int status, last = cnp.PyArray_NDIM(result) - 1
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(result)
    memset(&v, 0, sizeof(v))
    v.shape = convolution_shape(geometry)
    place_images(images, x[1], last if channels_last else 1, &v.x)
    images_parameters(&v.x, x[2], x[3])
    if x[4] is not None:
        _, _, v.x_signed, _, v.x_qmin, v.x_qmax, _, _ = x[4]
    if type(w[0]) is PackedFilters:
        v.packed = (<PackedFilters>w[0]).packed
    else:
        place_images(w[0], w[1], 1, &v.w)
    images_parameters(&v.w, w[2], w[3])
    _, code, bias, v.y.low, v.y.high, v.y.scale, v.y.zero_point, v.y.qmin, v.y.qmax, mode = y
    v.y.data, v.y.type, v.y.mode = data(result), <pq_type><int>code, <pq_requantize_mode><int>mode
    v.y.row_stride = cnp.PyArray_STRIDE(result, last - 1 if channels_last else last) // size
    v.y.column_stride = cnp.PyArray_STRIDE(result, last if channels_last else 1) // size
    v.y_image_stride = cnp.PyArray_STRIDE(result, 0) // size
    v.y.bias = NULL if bias is None else data(<cnp.ndarray>bias)
    with nogil:
        status = pq_convolve(&v)
    return status


# The well-formed call, recognised without Python: NumPy arrays, C-contiguous and in native byte order; a scale that is
# a float or a float32 array of the right shape; a zero point that is an int or an integer array. Whatever else comes
# returns None and takes the road through pyquant.ops, errors included, so nothing here explains anything.

cdef enum:
    GIL_ELEMENTS = 4096  # below, the call is shorter than letting go of the GIL
    GIL_PRODUCTS = 65536

cdef type float32_scalar = np.float32
cdef dict wide_grids = {}  # name -> pyquant._grid.Grid
cdef dict narrow_grids = {}
cdef int bfloat16_number = -1


def know_grid(grid):
    """Remember a Grid, by its name, for the calls to come."""
    (narrow_grids if grid.narrow else wide_grids)[grid.name] = grid


def know_bfloat16(int number):
    """The type number that ml_dtypes' bfloat16 got from NumPy."""
    global bfloat16_number
    bfloat16_number = number


cdef inline bint plain(cnp.ndarray a) noexcept:
    return cnp.PyArray_ISCARRAY_RO(a)


cdef inline int float_type(cnp.ndarray a) noexcept:
    """pq_type, -1 for none."""
    cdef int number = cnp.PyArray_TYPE(a)
    if number == cnp.NPY_FLOAT32:
        return PQ_F32
    if number == cnp.NPY_FLOAT16:
        return PQ_F16
    if number == cnp.NPY_FLOAT64:
        return PQ_F64
    return PQ_BF16 if number == bfloat16_number else -1


cdef inline int code_type(cnp.ndarray a) noexcept:
    cdef int number = cnp.PyArray_TYPE(a)
    if number == cnp.NPY_INT8:
        return PQ_I8
    if number == cnp.NPY_UINT8:
        return PQ_U8
    if number == cnp.NPY_INT16:
        return PQ_I16
    return PQ_U16 if number == cnp.NPY_UINT16 else -1


cdef inline int32_t one_code(cnp.ndarray a) noexcept:
    """The first element of an array that has a code_type; at any address."""
    cdef int type = code_type(a)
    cdef int16_t word = 0
    memcpy(&word, data(a), 1 if type == PQ_I8 or type == PQ_U8 else 2)
    if type == PQ_I8:
        return <int8_t>word
    return <uint16_t>word if type == PQ_U16 or type == PQ_U8 else word


cdef inline int code_number(int type) noexcept:
    if type == PQ_I8:
        return cnp.NPY_INT8
    if type == PQ_U8:
        return cnp.NPY_UINT8
    return cnp.NPY_INT16 if type == PQ_I16 else cnp.NPY_UINT16


cdef inline bint same_shape(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int i
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, i) != cnp.PyArray_DIM(b, i):
            return False
    return True


cdef inline bint apart(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef uintptr_t p = <uintptr_t>data(a), q = <uintptr_t>data(b)
    return p + cnp.PyArray_NBYTES(a) <= q or q + cnp.PyArray_NBYTES(b) <= p


cdef cnp.ndarray plain_output(out, cnp.ndarray a, int number, bint in_place):
    """out, or a new array of a's shape; None when out needs a closer look."""
    cdef cnp.ndarray o
    if out is None:
        return pyquant_empty(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), number)
    if type(out) is not cnp.ndarray:
        return None
    o = <cnp.ndarray>out
    if cnp.PyArray_TYPE(o) != number or not cnp.PyArray_ISCARRAY(o) or not same_shape(a, o):
        return None
    return o if apart(a, o) or (in_place and data(a) == data(o)) else None


cdef bint plain_layout(cnp.ndarray a, axis, block_size, pq_layout *l):
    cdef int i, along, ndim = cnp.PyArray_NDIM(a)
    l.block = 0
    if axis is None:
        l.outer = l.axis = 1
        l.inner = cnp.PyArray_SIZE(a)
        return block_size is None
    if type(axis) is not int or axis < -ndim or axis >= ndim:
        return False
    if block_size is not None:
        if type(block_size) is not int or block_size < 1 or block_size > 1 << 40:
            return False
        l.block = block_size
    along = axis
    if along < 0:
        along += ndim
    l.outer = l.inner = 1
    for i in range(along):
        l.outer *= cnp.PyArray_DIM(a, i)
    l.axis = cnp.PyArray_DIM(a, along)
    for i in range(along + 1, ndim):
        l.inner *= cnp.PyArray_DIM(a, i)
    return True


cdef int params_dims(cnp.ndarray a, axis, const pq_layout *l, cnp.npy_intp *dims):
    """The shape of the scales of a layout that plain_layout made; returns its number of dimensions."""
    cdef int i, along, ndim = cnp.PyArray_NDIM(a)
    if axis is None:
        return 0
    if l.block == 0:
        dims[0] = l.axis
        return 1
    along = axis
    if along < 0:
        along += ndim
    for i in range(ndim):
        dims[i] = cnp.PyArray_DIM(a, i)
    dims[along] = (l.axis + l.block - 1) // l.block
    return ndim


cdef bint has_dims(cnp.ndarray a, int ndim, const cnp.npy_intp *dims) noexcept:
    cdef int i
    if cnp.PyArray_NDIM(a) != ndim:
        return False
    for i in range(ndim):
        if cnp.PyArray_DIM(a, i) != dims[i]:
            return False
    return True


cdef class Params:
    """pq_params, and what it points to."""
    cdef pq_params p
    cdef float one_scale
    cdef int32_t one_zero_point
    cdef object scale, zero_point


cdef bint plain_params(Params k, cnp.ndarray a, scale, zero_point, axis, const pq_layout *l, out):
    """Fill k; False when something needs a closer look, as an `out` over the scales does."""
    cdef cnp.npy_intp dims[64]
    cdef int ndim = params_dims(a, axis, l, dims)
    if type(scale) is float or type(scale) is float32_scalar:
        if ndim != 0:
            return False
        k.one_scale = <float><double>scale
        k.p.scale = &k.one_scale
    else:
        if type(scale) is not cnp.ndarray or cnp.PyArray_TYPE(<cnp.ndarray>scale) != cnp.NPY_FLOAT32:
            return False
        if not plain(<cnp.ndarray>scale) or not has_dims(<cnp.ndarray>scale, ndim, dims):
            return False
        if type(out) is cnp.ndarray and not apart(<cnp.ndarray>scale, <cnp.ndarray>out):
            return False
        k.scale = scale
        k.p.scale = <const float *>data(<cnp.ndarray>scale)
    k.p.zero_point = NULL
    if type(zero_point) is int:
        if zero_point == 0:
            return True
        if ndim != 0 or zero_point < -32768 or zero_point > 65535:
            return False
        k.one_zero_point = zero_point
        k.p.zero_point = &k.one_zero_point
        return True
    if type(zero_point) is not cnp.ndarray or code_type(<cnp.ndarray>zero_point) < 0:
        return False
    if not has_dims(<cnp.ndarray>zero_point, ndim, dims):
        return False
    if ndim == 0:
        k.one_zero_point = one_code(<cnp.ndarray>zero_point)
        k.p.zero_point = &k.one_zero_point
        return True
    k.zero_point = cnp.PyArray_FROMANY(zero_point, cnp.NPY_INT32, 0, 0, cnp.NPY_ARRAY_CARRAY_RO)  # a copy: the codes are not int32
    k.p.zero_point = <const int32_t *>data(<cnp.ndarray>k.zero_point)
    return True


def quantize_plain(x, scale, zero_point, dtype, narrow_range, axis, block_size, out):
    """ops.quantize_linear for the well-formed call, or None."""
    cdef cnp.ndarray a, q
    cdef Params k
    cdef pq_layout l
    cdef int x_type, q_type, status
    cdef tuple grid
    if type(x) is not cnp.ndarray or type(dtype) is not str:
        return None
    a = <cnp.ndarray>x
    x_type = float_type(a)
    found = (narrow_grids if narrow_range else wide_grids).get(dtype)
    if found is None or x_type < 0 or not plain(a) or not plain_layout(a, axis, block_size, &l):
        return None
    grid = <tuple>found
    k = Params.__new__(Params)
    if not plain_params(k, a, scale, zero_point, axis, &l, out):
        return None
    k.p.qmin, k.p.qmax, q_type = grid[4], grid[5], grid[7]
    q = plain_output(out, a, code_number(q_type), False)
    if q is None:
        return None
    if cnp.PyArray_SIZE(a) < GIL_ELEMENTS:
        status = pq_quantize(data(a), <pq_type>x_type, data(q), <pq_type>q_type, &l, &k.p)
    else:
        with nogil:
            status = pq_quantize(data(a), <pq_type>x_type, data(q), <pq_type>q_type, &l, &k.p)
    return q if status == PQ_OK else None


def dequantize_plain(q, scale, zero_point, axis, block_size, dtype, out):
    """ops.dequantize_linear for the well-formed call, or None."""
    cdef cnp.ndarray a, x
    cdef Params k
    cdef pq_layout l
    cdef int q_type, x_type, number, status
    if type(q) is not cnp.ndarray or type(dtype) is not str:
        return None
    a = <cnp.ndarray>q
    q_type = code_type(a)
    if dtype == "float32":
        x_type, number = PQ_F32, cnp.NPY_FLOAT32
    elif dtype == "float16":
        x_type, number = PQ_F16, cnp.NPY_FLOAT16
    elif dtype == "bfloat16":
        x_type, number = PQ_BF16, bfloat16_number
    else:
        return None
    if q_type < 0 or number < 0 or not plain(a) or not plain_layout(a, axis, block_size, &l):
        return None
    k = Params.__new__(Params)
    if not plain_params(k, a, scale, zero_point, axis, &l, out):
        return None
    if number == bfloat16_number and out is None:
        return None
    x = plain_output(out, a, number, False)
    if x is None:
        return None
    if cnp.PyArray_SIZE(a) < GIL_ELEMENTS:
        status = pq_dequantize(data(a), <pq_type>q_type, data(x), <pq_type>x_type, &l, &k.p)
    else:
        with nogil:
            status = pq_dequantize(data(a), <pq_type>q_type, data(x), <pq_type>x_type, &l, &k.p)
    return x if status == PQ_OK else None


def fake_quantize_plain(x, scale, zero_point, dtype, narrow_range, axis, block_size, out):
    """ops.fake_quantize_linear for the well-formed call, or None."""
    cdef cnp.ndarray a, y
    cdef Params k
    cdef pq_layout l
    cdef int type_, status
    cdef tuple grid
    if type(x) is not cnp.ndarray or type(dtype) is not str:
        return None
    a = <cnp.ndarray>x
    type_ = float_type(a)
    found = (narrow_grids if narrow_range else wide_grids).get(dtype)
    if found is None or type_ < 0 or not plain(a) or not plain_layout(a, axis, block_size, &l):
        return None
    grid = <tuple>found
    k = Params.__new__(Params)
    if not plain_params(k, a, scale, zero_point, axis, &l, out):
        return None
    if type_ == PQ_BF16 and out is None:
        return None
    k.p.qmin, k.p.qmax = grid[4], grid[5]
    y = plain_output(out, a, cnp.PyArray_TYPE(a), True)
    if y is None:
        return None
    if cnp.PyArray_SIZE(a) < GIL_ELEMENTS:
        status = pq_fake_quantize(data(a), <pq_type>type_, data(y), &l, &k.p)
    else:
        with nogil:
            status = pq_fake_quantize(data(a), <pq_type>type_, data(y), &l, &k.p)
    return y if status == PQ_OK else None


cdef inline bint one_zero_point(value, int32_t *z) except -1:
    """A zero point that is an int or one code."""
    cdef cnp.ndarray a
    if type(value) is int:
        if value < -128 or value > 255:
            return False
        z[0] = value
        return True
    if type(value) is not cnp.ndarray:
        return False
    a = <cnp.ndarray>value
    if cnp.PyArray_SIZE(a) != 1 or cnp.PyArray_NDIM(a) > 1 or cnp.PyArray_ITEMSIZE(a) != 1 or code_type(a) < 0:
        return False
    z[0] = one_code(a)
    return True


cdef inline bint plain_codes(object x) noexcept:
    """A matrix of int8 or uint8, of any strides."""
    if type(x) is not cnp.ndarray or cnp.PyArray_NDIM(<cnp.ndarray>x) != 2:
        return False
    return cnp.PyArray_TYPE(<cnp.ndarray>x) == cnp.NPY_INT8 or cnp.PyArray_TYPE(<cnp.ndarray>x) == cnp.NPY_UINT8


def matmul_integer_plain(a, b, a_zero_point, b_zero_point, out):
    """ops.matmul_integer for two matrices, or a matrix and PackedCodes, and one zero point each; or None."""
    cdef pq_product p
    cdef cnp.ndarray left, right, y
    cdef cnp.npy_intp dims[2]
    cdef int32_t za, zb
    cdef int status
    if not plain_codes(a) or not one_zero_point(a_zero_point, &za) or not one_zero_point(b_zero_point, &zb):
        return None
    left = <cnp.ndarray>a
    memset(&p, 0, sizeof(p))
    place(left, code_type(left), &p.a)
    p.m, p.k, p.batches = cnp.PyArray_DIM(left, 0), cnp.PyArray_DIM(left, 1), 1
    if type(b) is PackedCodes:
        if (<PackedCodes>b).k != p.k or (<PackedCodes>b).block != 0 or (<PackedCodes>b).cap != cap_changes:
            return None
        p.packed, p.n = (<PackedCodes>b).packed, (<PackedCodes>b).n
        right = None
    elif plain_codes(b):
        right = <cnp.ndarray>b
        if <size_t>cnp.PyArray_DIM(right, 0) != p.k:
            return None
        place(right, code_type(right), &p.b)
        p.n = cnp.PyArray_DIM(right, 1)
    else:
        return None
    if za:
        p.a.zero_point, p.a.zero_points = &za, 1
    if zb:
        p.b.zero_point, p.b.zero_points = &zb, 1
    dims[0], dims[1] = p.m, p.n
    if out is None:
        y = pyquant_empty(2, dims, cnp.NPY_INT32)
    else:
        if type(out) is not cnp.ndarray or not plain(left) or not (right is None or plain(right)):
            return None
        y = <cnp.ndarray>out
        if cnp.PyArray_TYPE(y) != cnp.NPY_INT32 or not cnp.PyArray_ISCARRAY(y) or not has_dims(y, 2, dims):
            return None
        if not apart(left, y) or not (right is None or apart(right, y)):
            return None
    p.y.data, p.y.type, p.y.row_stride, p.y.column_stride = data(y), PQ_I32, p.n, 1
    if <double>p.m * <double>p.n * <double>p.k < GIL_PRODUCTS:
        status = pq_matmul(&p)
    else:
        with nogil:
            status = pq_matmul(&p)
    return y if status == PQ_OK else None


cdef bint one_of(params, float *scale, int32_t *zero_point) except -1:
    """Scale and zero point of QuantParams that are per tensor, and on the host."""
    given, zero = getattr(params, "_scale", None), getattr(params, "_zero_point", None)
    if type(given) is not cnp.ndarray or type(zero) is not cnp.ndarray or cnp.PyArray_NDIM(<cnp.ndarray>given) != 0:
        return False
    scale[0] = (<float *>data(<cnp.ndarray>given))[0]
    zero_point[0] = one_code(<cnp.ndarray>zero)
    return True


cdef bint multipliers_are_good(const pq_product *p) noexcept nogil:
    """Are all a_scale * b_scale / y_scale positive and finite? a has one scale, and no block."""
    cdef size_t j
    cdef float multiplier, one = p.a.scale[0]
    for j in range(p.b.scales if p.b.scale != NULL else 1):
        multiplier = (one * p.b.scale[j] if p.b.scale != NULL else one) / p.y.scale
        if not (multiplier > 0 and multiplier <= FLT_MAX):
            return False
    return True


def linear_plain(x, bint quantized, x_params, weight, bias, out_params, bint relu):
    """The array that pyquant.linear makes of a contiguous x and the Operand of a PackedMatrix, or None.

    `quantized`: x are codes. The parameters are QuantParams or None.
    """
    cdef pq_product p
    cdef cnp.ndarray left, y
    cdef PackedCodes codes
    cdef cnp.npy_intp dims[64]
    cdef int32_t zero_point
    cdef float scale
    cdef int i, last, type_, number, status
    if type(x) is not cnp.ndarray or type((<tuple>weight)[0]) is not PackedCodes:
        return None
    left, codes = <cnp.ndarray>x, <PackedCodes>(<tuple>weight)[0]
    last = cnp.PyArray_NDIM(left) - 1
    type_ = code_type(left) if quantized else float_type(left)
    if last < 0 or type_ < 0 or not plain(left) or codes.cap != cap_changes:
        return None
    memset(&p, 0, sizeof(p))
    p.m, p.n, p.k, p.batches = 1, codes.n, cnp.PyArray_DIM(left, last), 1
    p.block, p.packed = codes.block, codes.packed
    if p.k != codes.k:
        return None
    for i in range(last):
        dims[i] = cnp.PyArray_DIM(left, i)
        p.m *= dims[i]
    dims[last] = p.n
    p.a.data, p.a.type, p.a.row_stride, p.a.column_stride = data(left), <pq_type>type_, p.k, 1
    parameters(&p.b, (<tuple>weight)[2], (<tuple>weight)[3])
    if x_params is not None:
        if not one_of(x_params, &scale, &zero_point):
            return None
        p.a.scale, p.a.scales = &scale, 1
        if zero_point:
            p.a.zero_point, p.a.zero_points = &zero_point, 1
        _, bits, p.a_signed, _, p.a_qmin, p.a_qmax, _, _ = x_params._grid
        if bits > 8:
            return None
    elif quantized:
        return None
    p.y.row_stride, p.y.column_stride = p.n, 1
    if out_params is None:
        p.y.type, number = PQ_F32, cnp.NPY_FLOAT32
        p.y.low, p.y.high = 0 if relu else -INFINITY, INFINITY
    else:
        if not one_of(out_params, &p.y.scale, &p.y.zero_point) or p.block != 0:
            return None
        _, _, _, _, p.y.qmin, p.y.qmax, _, i = out_params._grid
        p.y.type, number, p.y.mode = <pq_type>i, code_number(i), PQ_REQUANTIZE_FLOAT
        if relu:
            p.y.qmin = p.y.zero_point
        if p.a.scale != NULL and not multipliers_are_good(&p):
            return None
    if bias is not None:
        if type(bias) is not cnp.ndarray or not plain(<cnp.ndarray>bias) or not has_dims(<cnp.ndarray>bias, 1, dims + last):
            return None
        if cnp.PyArray_TYPE(<cnp.ndarray>bias) != (cnp.NPY_FLOAT32 if out_params is None else cnp.NPY_INT32):
            return None
        p.y.bias = data(<cnp.ndarray>bias)
    y = pyquant_empty(last + 1, dims, number)
    p.y.data = data(y)
    if <double>p.m * <double>p.n * <double>p.k < GIL_PRODUCTS:
        status = pq_matmul(&p)
    else:
        with nogil:
            status = pq_matmul(&p)
    return y if status == PQ_OK else None


cdef cnp.ndarray read_only(int ndim, cnp.npy_intp *dims, int type):
    cdef cnp.ndarray a = cnp.PyArray_EMPTY(ndim, dims, type, 0)
    cnp.PyArray_CLEARFLAGS(a, cnp.NPY_ARRAY_WRITEABLE)
    return a


def dynamic_quantize_plain(x, grid, int scheme, axis, block_size, out):
    """(q, scale, zero_point) of ops.dynamic_quantize for the well-formed call, or None.

    grid is a pyquant._grid.Grid. scale and zero_point are read-only.
    """
    cdef cnp.ndarray a, q, scale, zero_point
    cdef cnp.npy_intp dims[64]
    cdef float s
    cdef int32_t z, qmin = (<tuple>grid)[4], qmax = (<tuple>grid)[5]
    cdef int x_type, q_type = (<tuple>grid)[7], number = code_number(q_type), ndim, status
    cdef pq_layout l
    if type(x) is not cnp.ndarray:
        return None
    a = <cnp.ndarray>x
    x_type = float_type(a)
    if x_type < 0 or not plain(a) or not plain_layout(a, axis, block_size, &l):
        return None
    if out is not None and axis is not None:
        return None  # data that are refused half-way must not leave codes in out
    q = plain_output(out, a, number, False)
    if q is None:
        return None
    ndim = params_dims(a, axis, &l, dims)
    scale = read_only(ndim, dims, cnp.NPY_FLOAT32)
    if ndim == 0:
        zero_point = read_only(ndim, dims, number)
        if l.inner < GIL_ELEMENTS:
            status = pq_dynamic_quantize(data(a), <pq_type>x_type, data(q), <pq_type>q_type, &l, <pq_scheme>scheme,
                                         qmin, qmax, <float *>data(scale), &z)
        else:
            with nogil:
                status = pq_dynamic_quantize(data(a), <pq_type>x_type, data(q), <pq_type>q_type, &l,
                                             <pq_scheme>scheme, qmin, qmax, <float *>data(scale), &z)
        if q_type == PQ_I8 or q_type == PQ_U8:
            (<uint8_t *>data(zero_point))[0] = <uint8_t>z
        else:
            (<uint16_t *>data(zero_point))[0] = <uint16_t>z
    else:
        zero_point = cnp.PyArray_EMPTY(ndim, dims, cnp.NPY_INT32, 0)
        with nogil:
            status = pq_dynamic_quantize(data(a), <pq_type>x_type, data(q), <pq_type>q_type, &l, <pq_scheme>scheme,
                                         qmin, qmax, <float *>data(scale), <int32_t *>data(zero_point))
        zero_point = cnp.PyArray_Cast(zero_point, number)
        cnp.PyArray_CLEARFLAGS(zero_point, cnp.NPY_ARRAY_WRITEABLE)
    return (q, scale, zero_point) if status == PQ_OK else None


def range_plain(x, axis, block_size, bint absolute):
    """(low, high), or the largest absolute value, for the well-formed call on finite data; else None."""
    cdef cnp.ndarray a, low, high
    cdef cnp.npy_intp dims[64]
    cdef int type_, ndim, status
    cdef pq_layout l
    if type(x) is not cnp.ndarray:
        return None
    a = <cnp.ndarray>x
    type_ = float_type(a)
    if type_ < 0 or not plain(a) or not plain_layout(a, axis, block_size, &l):
        return None
    ndim = params_dims(a, axis, &l, dims)
    high = cnp.PyArray_EMPTY(ndim, dims, cnp.NPY_FLOAT32, 0)
    if absolute:
        with nogil:
            status = pq_absmax(data(a), <pq_type>type_, &l, 0, <float *>data(high))
        return high if status == PQ_OK else None
    low = cnp.PyArray_EMPTY(ndim, dims, cnp.NPY_FLOAT32, 0)
    with nogil:
        status = pq_range(data(a), <pq_type>type_, &l, 0, <float *>data(low), <float *>data(high))
    return (low, high) if status == PQ_OK else None


# Runtime

def set_num_threads(int n):
    return pq_set_num_threads(n)


def get_num_threads():
    return pq_get_num_threads()


def set_isa(str name):
    global cap_changes
    cap_changes += 1
    return pq_set_isa(name.encode())


def isa_names():
    """All names, worst first in each architecture."""
    names = []
    while pq_isa_name(len(names)) != NULL:
        names.append(pq_isa_name(len(names)).decode())
    return names


def isa_usable(str name):
    return bool(pq_isa_usable(name.encode()))


def isa_compiled(str name):
    return bool(pq_isa_compiled(name.encode()))


def operations():
    """{operation: (chosen variant, usable variants)}"""
    cdef size_t i = 0
    table = {}
    while pq_op_name(i) != NULL:
        usable = tuple(name for name in isa_names() if pq_op_has(i, name.encode()))
        table[pq_op_name(i).decode()] = (pq_op_chosen(i).decode(), usable)
        i += 1
    return table


def openmp_threads():
    return pyquant_openmp_threads()
