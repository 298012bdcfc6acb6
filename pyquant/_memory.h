/* Result buffers that are used again.
 *
 * A fresh result of many megabytes costs more in page faults than in arithmetic. NumPy lets an array bring its own
 * allocator, so large results come from a small set of blocks that freed results went back to. A block that waits
 * there is given up to the system with MADV_FREE: under memory pressure the kernel takes its pages without asking,
 * and otherwise the next result finds them mapped. At most KEPT_BYTES wait.
 *
 * Set PYQUANT_KEEP_BYTES to change that number; 0 turns the reuse off. */
#ifndef PYQUANT_MEMORY_H
#define PYQUANT_MEMORY_H

#include <Python.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <numpy/arrayobject.h>

enum { PYQUANT_BLOCKS = 8 };
static const size_t pyquant_smallest_block = (size_t)1 << 20; /* below, malloc reuses well enough */
static const size_t pyquant_huge_page = (size_t)2 << 20;

static struct {
    pthread_mutex_t lock;
    size_t limit, kept;
    int count;
    struct {
        void *block;
        size_t size;
    } waiting[PYQUANT_BLOCKS]; /* the oldest first */
} pyquant_pool = {PTHREAD_MUTEX_INITIALIZER, (size_t)512 << 20, 0, 0, {{NULL, 0}}};

/* The size of a block stands at its start, and the data after it on a cache line of their own. */
enum { PYQUANT_HEADER = 64 };

/* The bytes to ask for, in whole pages, huge ones for what is worth them; 0: too many. */
static size_t pyquant_block_size(size_t size)
{
    const size_t page = size >= 2 * pyquant_huge_page ? pyquant_huge_page : 4096;
    return size > SIZE_MAX - 2 * page ? 0 : (size + PYQUANT_HEADER + page - 1) / page * page;
}

static size_t pyquant_size_of(const void *block)
{
    size_t size;
    memcpy(&size, block, sizeof size);
    return size;
}

/* Takes block i out of the list; the lock is held. */
static void *pyquant_remove(int i)
{
    void *block = pyquant_pool.waiting[i].block;
    pyquant_pool.kept -= pyquant_pool.waiting[i].size;
    pyquant_pool.count--;
    memmove(pyquant_pool.waiting + i, pyquant_pool.waiting + i + 1,
            (size_t)(pyquant_pool.count - i) * sizeof pyquant_pool.waiting[0]);
    return block;
}

/* A waiting block of at least `size` bytes and at most a quarter more. A lock that is taken (by another thread, or
 * in the child of a fork by nobody) is not waited for. */
static void *pyquant_take(size_t size)
{
    void *block = NULL;
    if (pthread_mutex_trylock(&pyquant_pool.lock) != 0) return NULL;
    int best = -1;
    for (int i = 0; i < pyquant_pool.count; i++) {
        const size_t have = pyquant_pool.waiting[i].size;
        if (have >= size && have - size <= size / 4 && (best < 0 || have < pyquant_pool.waiting[best].size)) best = i;
    }
    if (best >= 0) {
        size = pyquant_pool.waiting[best].size;
        block = pyquant_remove(best);
        memcpy(block, &size, sizeof size); /* the kernel may have taken the page */
    }
    pthread_mutex_unlock(&pyquant_pool.lock);
    return block;
}

/* The newest block stays, and the oldest make room for it. */
static int pyquant_keep(void *block, size_t size)
{
    if (size > pyquant_pool.limit || pthread_mutex_trylock(&pyquant_pool.lock) != 0) return 0;
    while (pyquant_pool.count == PYQUANT_BLOCKS || pyquant_pool.kept + size > pyquant_pool.limit)
        free(pyquant_remove(0));
#ifdef MADV_FREE
    madvise(block, size, MADV_FREE);
#endif
    pyquant_pool.waiting[pyquant_pool.count].block = block;
    pyquant_pool.waiting[pyquant_pool.count].size = size;
    pyquant_pool.count++;
    pyquant_pool.kept += size;
    pthread_mutex_unlock(&pyquant_pool.lock);
    return 1;
}

static void *pyquant_allocate(void *context, size_t size)
{
    (void)context;
    const size_t whole = pyquant_block_size(size);
    if (whole == 0) return NULL;
    void *block = pyquant_take(whole);
    if (block == NULL) {
        const int huge = whole % pyquant_huge_page == 0;
        if (posix_memalign(&block, huge ? pyquant_huge_page : 4096, whole) != 0) return NULL;
#ifdef MADV_HUGEPAGE
        if (huge) madvise(block, whole, MADV_HUGEPAGE);
#endif
        memcpy(block, &whole, sizeof whole);
    }
    return (char *)block + PYQUANT_HEADER;
}

static void pyquant_release(void *context, void *data, size_t size)
{
    (void)context;
    (void)size;
    if (data == NULL) return;
    void *block = (char *)data - PYQUANT_HEADER;
    if (!pyquant_keep(block, pyquant_size_of(block))) free(block);
}

static void *pyquant_allocate_zeroed(void *context, size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size) return NULL;
    void *data = pyquant_allocate(context, count * size);
    if (data != NULL) memset(data, 0, count * size);
    return data;
}

static void *pyquant_reallocate(void *context, void *data, size_t size)
{
    void *fresh = pyquant_allocate(context, size);
    if (fresh == NULL || data == NULL) return fresh;
    const size_t had = pyquant_size_of((char *)data - PYQUANT_HEADER) - PYQUANT_HEADER;
    memcpy(fresh, data, had < size ? had : size);
    pyquant_release(context, data, 0);
    return fresh;
}

static PyDataMem_Handler pyquant_handler = {
    "pyquant_blocks",
    1,
    {NULL, pyquant_allocate, pyquant_allocate_zeroed, pyquant_reallocate, pyquant_release},
};

/* A new C-contiguous array. */
static PyObject *pyquant_empty(int ndim, npy_intp *shape, int type)
{
    static PyObject *capsule;
    npy_intp n = 1;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    if (n < (npy_intp)pyquant_smallest_block) /* elements have at least one byte: not more than a hint */
        return PyArray_SimpleNew(ndim, shape, type);
    if (capsule == NULL) capsule = PyCapsule_New(&pyquant_handler, "mem_handler", NULL);
    if (capsule == NULL) return NULL;
    PyObject *before = PyDataMem_SetHandler(capsule);
    if (before == NULL) return NULL;
    PyObject *array = PyArray_SimpleNew(ndim, shape, type);
    PyObject *ours = PyDataMem_SetHandler(before);
    Py_XDECREF(ours);
    Py_DECREF(before);
    return array;
}
#endif
