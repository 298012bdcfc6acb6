# Threads, instruction sets, memory.

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
