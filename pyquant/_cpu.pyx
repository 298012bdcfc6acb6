# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False
"""One short wrapper per C function.

Arrays come in C-contiguous and of the types that ops.py has checked; a wrapper passes their pointers on without the
GIL and returns the status as an int (0: fine). Layouts are the four numbers (outer, axis, inner, block) of pq_layout.
_cuda.py has the same names and signatures.
"""
cimport numpy as cnp
from libc.stdint cimport int32_t, uint8_t, uint16_t, uintptr_t

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


# The codes of pq_type and pq_status that ops.py speaks in.
F32, F16, BF16, F64 = <int>PQ_F32, <int>PQ_F16, <int>PQ_BF16, <int>PQ_F64
I8, U8, I16, U16 = <int>PQ_I8, <int>PQ_U8, <int>PQ_I16, <int>PQ_U16
OK, ERROR_SCALE, ERROR_ZERO_POINT = <int>PQ_OK, <int>PQ_ERROR_SCALE, <int>PQ_ERROR_ZERO_POINT
ERROR_NONFINITE, ERROR_RANGE, ERROR_MEMORY = <int>PQ_ERROR_NONFINITE, <int>PQ_ERROR_RANGE, <int>PQ_ERROR_MEMORY
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


def fake_quantize_grad(cnp.ndarray grad, cnp.ndarray x, cnp.ndarray scale, zero_point, cnp.ndarray dx,
                       cnp.ndarray dscale, cnp.ndarray dzero_point, tuple layout, int32_t qmin, int32_t qmax):
    cdef pq_layout l = layout_of(layout)
    cdef pq_params p = params_of(scale, zero_point, qmin, qmax)
    cdef int status
    with nogil:
        status = pq_fake_quantize_grad(<const float *>data(grad), <const float *>data(x), <float *>data(dx),
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


def pack_bits(cnp.ndarray q, int bits, cnp.ndarray packed):
    cdef size_t n = cnp.PyArray_SIZE(q)
    cdef int status
    with nogil:
        status = pq_pack_bits(data(q), n, bits, <uint8_t *>data(packed))
    return status


def unpack_bits(cnp.ndarray packed, int bits, bint is_signed, cnp.ndarray q):
    cdef size_t n = cnp.PyArray_SIZE(q)
    cdef int status
    with nogil:
        status = pq_unpack_bits(<const uint8_t *>data(packed), n, bits, is_signed, data(q))
    return status


def packed_size(size_t n, int bits):
    return pq_packed_size(n, bits)


# The common call, recognised without Python: a C-contiguous native float32 array, one scale, one zero point, a grid
# of the standard types. Anything else returns None and takes the road through ops.py, errors included.

cdef object float32_scalar = np.float32

cdef enum:
    GIL_ELEMENTS = 4096  # below, the call is shorter than letting go of the GIL


cdef inline bint plain(cnp.ndarray a) noexcept:
    return cnp.PyArray_ISCARRAY_RO(a)


cdef inline bint apart(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef uintptr_t p = <uintptr_t>data(a), q = <uintptr_t>data(b)
    return p + cnp.PyArray_NBYTES(a) <= q or q + cnp.PyArray_NBYTES(b) <= p


cdef inline bint same_shape(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int i
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, i) != cnp.PyArray_DIM(b, i):
            return False
    return True


cdef inline bint one_scale(object scale, float *value):
    if type(scale) is not float and type(scale) is not float32_scalar:
        return False
    value[0] = <float><double>scale
    return value[0] > 0.0 and value[0] <= 3.4028234663852886e38


def quantize_plain(x, scale, zero_point, dtype, out):
    """quantize_linear for the common call, or None."""
    cdef cnp.ndarray a, q
    cdef float s
    cdef int32_t z
    cdef pq_type q_type
    cdef int q_num, status
    cdef pq_layout l
    cdef pq_params p
    if type(x) is not cnp.ndarray or type(zero_point) is not int or type(dtype) is not str:
        return None
    a = <cnp.ndarray>x
    if cnp.PyArray_TYPE(a) != cnp.NPY_FLOAT32 or not plain(a) or not one_scale(scale, &s):
        return None
    if dtype == "int8":
        q_type, q_num, p.qmin, p.qmax = PQ_I8, cnp.NPY_INT8, -128, 127
    elif dtype == "uint8":
        q_type, q_num, p.qmin, p.qmax = PQ_U8, cnp.NPY_UINT8, 0, 255
    else:
        return None
    if zero_point < p.qmin or zero_point > p.qmax:
        return None
    z = zero_point
    if out is None:
        q = pyquant_empty(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), q_num)
    else:
        if type(out) is not cnp.ndarray:
            return None
        q = <cnp.ndarray>out
        if cnp.PyArray_TYPE(q) != q_num or not cnp.PyArray_ISCARRAY(q) or not same_shape(a, q) or not apart(a, q):
            return None
    l.outer = l.axis = 1
    l.inner = cnp.PyArray_SIZE(a)
    l.block = 0
    p.scale = &s
    p.zero_point = &z
    if l.inner < GIL_ELEMENTS:
        status = pq_quantize(data(a), PQ_F32, data(q), q_type, &l, &p)
    else:
        with nogil:
            status = pq_quantize(data(a), PQ_F32, data(q), q_type, &l, &p)
    return q if status == PQ_OK else None


def dequantize_plain(q, scale, zero_point, out):
    """dequantize_linear to float32 for the common call, or None."""
    cdef cnp.ndarray a, x
    cdef float s
    cdef int32_t z
    cdef pq_type q_type
    cdef int status
    cdef pq_layout l
    cdef pq_params p
    if type(q) is not cnp.ndarray or type(zero_point) is not int:
        return None
    a = <cnp.ndarray>q
    if not plain(a) or not one_scale(scale, &s):
        return None
    if cnp.PyArray_TYPE(a) == cnp.NPY_INT8 and -128 <= zero_point <= 127:
        q_type = PQ_I8
    elif cnp.PyArray_TYPE(a) == cnp.NPY_UINT8 and 0 <= zero_point <= 255:
        q_type = PQ_U8
    else:
        return None
    z = zero_point
    if out is None:
        x = pyquant_empty(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), cnp.NPY_FLOAT32)
    else:
        if type(out) is not cnp.ndarray:
            return None
        x = <cnp.ndarray>out
        if cnp.PyArray_TYPE(x) != cnp.NPY_FLOAT32 or not cnp.PyArray_ISCARRAY(x):
            return None
        if not same_shape(a, x) or not apart(a, x):
            return None
    l.outer = l.axis = 1
    l.inner = cnp.PyArray_SIZE(a)
    l.block = 0
    p.scale = &s
    p.zero_point = &z
    p.qmin = p.qmax = 0
    if l.inner < GIL_ELEMENTS:
        status = pq_dequantize(data(a), q_type, data(x), PQ_F32, &l, &p)
    else:
        with nogil:
            status = pq_dequantize(data(a), q_type, data(x), PQ_F32, &l, &p)
    return x if status == PQ_OK else None


cdef object constant(int type, void **value):
    """A read-only array without dimensions; value receives where its number goes."""
    cdef cnp.ndarray a = cnp.PyArray_EMPTY(0, NULL, type, 0)
    value[0] = data(a)
    cnp.PyArray_CLEARFLAGS(a, cnp.NPY_ARRAY_WRITEABLE)
    return a


def dynamic_quantize_plain(x, grid, int scheme):
    """(q, scale, zero_point) of the common call: one scale, a contiguous native float32 array; else None.

    grid is a pyquant._grid.Grid. scale and zero_point are read-only.
    """
    cdef cnp.ndarray a, q
    cdef float s
    cdef int32_t z, qmin = (<tuple>grid)[4], qmax = (<tuple>grid)[5]
    cdef int q_type = (<tuple>grid)[7], status, q_num
    cdef void *value
    cdef pq_layout l
    if type(x) is not cnp.ndarray:
        return None
    a = <cnp.ndarray>x
    if cnp.PyArray_TYPE(a) != cnp.NPY_FLOAT32 or not plain(a):
        return None
    if q_type == PQ_I8:
        q_num = cnp.NPY_INT8
    elif q_type == PQ_U8:
        q_num = cnp.NPY_UINT8
    else:
        q_num = cnp.NPY_INT16 if q_type == PQ_I16 else cnp.NPY_UINT16
    q = pyquant_empty(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), q_num)
    l.outer = l.axis = 1
    l.inner = cnp.PyArray_SIZE(a)
    l.block = 0
    if l.inner < GIL_ELEMENTS:
        status = pq_dynamic_quantize(data(a), PQ_F32, data(q), <pq_type>q_type, &l, <pq_scheme>scheme, qmin, qmax,
                                     &s, &z)
    else:
        with nogil:
            status = pq_dynamic_quantize(data(a), PQ_F32, data(q), <pq_type>q_type, &l, <pq_scheme>scheme, qmin,
                                         qmax, &s, &z)
    if status != PQ_OK:
        return None
    scale = constant(cnp.NPY_FLOAT32, &value)
    (<float *>value)[0] = s
    zero_point = constant(q_num, &value)
    if q_num == cnp.NPY_INT8 or q_num == cnp.NPY_UINT8:
        (<uint8_t *>value)[0] = <uint8_t>z
    else:
        (<uint16_t *>value)[0] = <uint16_t>z
    return q, scale, zero_point


# Runtime

def set_num_threads(int n):
    return pq_set_num_threads(n)


def get_num_threads():
    return pq_get_num_threads()


def set_isa(str name):
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
