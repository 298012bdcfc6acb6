# What parameters are chosen from: ranges and histograms; and dynamic quantization, which chooses its own.

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
