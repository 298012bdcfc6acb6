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
    parameters(&v.x, x[2], x[3])
    if x[4] is not None:
        _, _, v.x_signed, _, v.x_qmin, v.x_qmax, _, _ = x[4]
    if type(w[0]) is PackedFilters:
        v.packed = (<PackedFilters>w[0]).packed
    else:
        place_images(w[0], w[1], 1, &v.w)
    parameters(&v.w, w[2], w[3])
    _, code, bias, v.y.low, v.y.high, v.y.scale, v.y.zero_point, v.y.qmin, v.y.qmax, mode = y
    v.y.data, v.y.type, v.y.mode = data(result), <pq_type><int>code, <pq_requantize_mode><int>mode
    v.y.row_stride = cnp.PyArray_STRIDE(result, last - 1 if channels_last else last) // size
    v.y.column_stride = cnp.PyArray_STRIDE(result, last if channels_last else 1) // size
    v.y_image_stride = cnp.PyArray_STRIDE(result, 0) // size
    v.y.bias = NULL if bias is None else data(<cnp.ndarray>bias)
    with nogil:
        status = pq_convolve(&v)
    return status
