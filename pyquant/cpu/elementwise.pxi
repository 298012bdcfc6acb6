# From array to array, element by element.

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


def requantize(cnp.ndarray acc, cnp.ndarray multiplier, zero_point, cnp.ndarray q, int q_type, tuple layout,
               int32_t qmin, int32_t qmax, int mode):
    cdef pq_layout l = layout_of(layout)
    cdef pq_params p = params_of(multiplier, zero_point, qmin, qmax)
    cdef int status
    with nogil:
        status = pq_requantize(<const int32_t *>data(acc), data(q), <pq_type>q_type, &l, &p,
                               <pq_requantize_mode>mode)
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
