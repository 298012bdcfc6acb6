/* The table: which variant of each operation runs. Filled on the first call, and again when the cap changes. */
#include <pthread.h>
#include <string.h>

#include "cpu.h"
#include "kernels.h"

enum { ARCH_any, ARCH_x86_64, ARCH_aarch64 };

enum {
#define PQ_ISA(id, have, arch, gcc, msvc, bits) ISA_##id,
#include "isa.def"
#undef PQ_ISA
    ISA_COUNT
};

static const struct {
    const char *name;
    int arch;
    int compiled;
    unsigned bits;
} isas[ISA_COUNT] = {
#define PQ_ISA(id, have, arch, gcc, msvc, bits) {#id, ARCH_##arch, PQ_HAVE_##have, bits},
#include "isa.def"
#undef PQ_ISA
};

enum {
#define PQ_OP(op, type) OP_##op,
#define PQ_KERNEL(op, type, isa)
#include "kernels.def"
#undef PQ_OP
#undef PQ_KERNEL
    OP_COUNT
};

static const char *const op_names[OP_COUNT] = {
#define PQ_OP(op, type) #op,
#define PQ_KERNEL(op, type, isa)
#include "kernels.def"
#undef PQ_OP
#undef PQ_KERNEL
};

typedef void any_fn(void);

/* All variants that were built, in the order of kernels.def: per operation, best first. */
static const struct {
    int op, isa;
    any_fn *function;
} variants[] = {
#define PQ_OP(op, type)
#define PQ_KERNEL(op, type, isa) PQ_IF_##isa({OP_##op, ISA_##isa, (any_fn *)pq_##op##_##isa}, )
#include "kernels.def"
#undef PQ_OP
#undef PQ_KERNEL
};
enum { VARIANT_COUNT = sizeof variants / sizeof variants[0] };

static pq_kernels table;
static int chosen[OP_COUNT]; /* index into variants */
static int ready;
static int cap = -1; /* index into isas; -1: none */

static int find_isa(const char *name)
{
    for (int i = 0; i < ISA_COUNT; i++)
        if (strcmp(isas[i].name, name) == 0) return i;
    return -1;
}

static int under_cap(int isa)
{
    if (cap < 0 || isas[isa].arch == ARCH_any) return 1;
    return isas[isa].arch == isas[cap].arch && isa <= cap;
}

static int usable(int isa)
{
    static unsigned features, detected;
    if (!__atomic_load_n(&detected, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&features, pq_cpu_features(), __ATOMIC_RELAXED);
        __atomic_store_n(&detected, 1u, __ATOMIC_RELEASE);
    }
    const unsigned have = __atomic_load_n(&features, __ATOMIC_RELAXED);
    return isas[isa].compiled && (isas[isa].bits & ~have) == 0 && under_cap(isa);
}

static int best_variant(int op)
{
    for (int v = 0; v < VARIANT_COUNT; v++)
        if (variants[v].op == op && usable(variants[v].isa)) return v;
    return 0; /* not reached: scalar is always usable */
}

/* Once for all threads; later only when the cap changes. */
static void fill(void)
{
#define PQ_OP(op, type) \
    __atomic_store_n(&chosen[OP_##op], best_variant(OP_##op), __ATOMIC_RELAXED); \
    __atomic_store_n(&table.op, (pq_##type##_fn *)variants[chosen[OP_##op]].function, __ATOMIC_RELAXED);
#define PQ_KERNEL(op, type, isa)
#include "kernels.def"
#undef PQ_OP
#undef PQ_KERNEL
    __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
}

const pq_kernels *pq_get_kernels(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE)) pthread_once(&once, fill);
    return &table;
}

pq_status pq_set_isa(const char *name)
{
    int isa = -1;
    if (name != NULL && *name != '\0') {
        isa = find_isa(name);
        if (isa < 0) return PQ_ERROR_ISA;
    }
    pq_get_kernels();
    cap = isa;
    fill();
    return PQ_OK;
}

const char *pq_isa_name(size_t index) { return index < ISA_COUNT ? isas[index].name : NULL; }

int pq_isa_compiled(const char *name)
{
    const int isa = find_isa(name);
    return isa >= 0 && isas[isa].compiled;
}

int pq_isa_usable(const char *name)
{
    const int isa = find_isa(name);
    return isa >= 0 && usable(isa);
}

const char *pq_op_name(size_t index) { return index < OP_COUNT ? op_names[index] : NULL; }

const char *pq_op_chosen(size_t index)
{
    if (index >= OP_COUNT) return NULL;
    pq_get_kernels();
    return isas[variants[chosen[index]].isa].name;
}

int pq_op_has(size_t index, const char *name)
{
    const int isa = find_isa(name);
    for (int v = 0; v < VARIANT_COUNT; v++)
        if (variants[v].op == (int)index && variants[v].isa == isa) return usable(isa);
    return 0;
}

const char *pq_gemm_isa(void) { return pq_op_chosen(OP_gemm); }
