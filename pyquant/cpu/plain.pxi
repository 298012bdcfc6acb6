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
