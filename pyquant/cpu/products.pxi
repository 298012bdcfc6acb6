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


ctypedef fused Scaled:
    pq_matrix
    pq_images


cdef inline void parameters(Scaled *m, zero_point, scale):
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
