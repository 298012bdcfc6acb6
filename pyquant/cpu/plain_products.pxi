# Products for the well-formed call: see plain.pxi.

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
