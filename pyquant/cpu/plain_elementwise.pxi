# Operations on elements and ranges for the well-formed call: see plain.pxi.

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
