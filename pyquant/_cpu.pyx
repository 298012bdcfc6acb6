# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False, cdivision=True
"""One short wrapper per C function.

Arrays come in C-contiguous and of the types that pyquant.ops has checked; a wrapper passes their pointers on without the
GIL and returns the status as an int (0: fine). Layouts are the four numbers (outer, axis, inner, block) of pq_layout.
_cuda.py has the same names and signatures.

The parts stand in cpu/, and are one module: what one of them declares, all of them know.
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


# The codes of pq_type and pq_status that pyquant.ops speaks in.
F32, F16, BF16, F64 = <int>PQ_F32, <int>PQ_F16, <int>PQ_BF16, <int>PQ_F64
I8, U8, I16, U16, I32 = <int>PQ_I8, <int>PQ_U8, <int>PQ_I16, <int>PQ_U16, <int>PQ_I32
OK, ERROR_SCALE, ERROR_ZERO_POINT = <int>PQ_OK, <int>PQ_ERROR_SCALE, <int>PQ_ERROR_ZERO_POINT
ERROR_NONFINITE, ERROR_RANGE, ERROR_CODE = <int>PQ_ERROR_NONFINITE, <int>PQ_ERROR_RANGE, <int>PQ_ERROR_CODE
ERROR_MEMORY = <int>PQ_ERROR_MEMORY
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


include "cpu/elementwise.pxi"
include "cpu/calibration.pxi"
include "cpu/products.pxi"
include "cpu/convolutions.pxi"
include "cpu/plain.pxi"
include "cpu/plain_elementwise.pxi"
include "cpu/plain_products.pxi"
include "cpu/runtime.pxi"
