/* Every kernel of kernels.def, in every variant that this machine can run, against the scalar one, bit for bit:
 * all lengths, at all misalignments, next to guard pages on both sides. In the manner of dav1d's checkasm.
 *
 *   kernels [full | reduced | padded] [part of an operation's name]
 *
 * "padded" is for QEMU, whose AVX2 masked loads read the lanes that are masked off, which no CPU does: it keeps away
 * from the page after an array. Writes are still watched, by canaries.
 */
#include <stdio.h>
#include <string.h>

#include "check.h"

effort run_effort = {4 * 64 + 3, 64, 8, 600, 0};
static const effort reduced_effort = {4 * 32 + 3, 10, 3, 40, 0};

static const struct {
    const char *op;
    void (*check)(const comparison *);
    any_fn *reference;
} ops[] = {
#define PQ_OP(op, type) {#op, check_##type, (any_fn *)pq_##op##_scalar},
#define PQ_KERNEL(op, type, isa)
#include "kernels.def"
#undef PQ_OP
#undef PQ_KERNEL
};

static const struct {
    const char *op, *isa;
    any_fn *function;
} variants[] = {
#define PQ_OP(op, type)
#define PQ_KERNEL(op, type, isa) PQ_IF_##isa({#op, #isa, (any_fn *)pq_##op##_##isa}, )
#include "kernels.def"
#undef PQ_OP
#undef PQ_KERNEL
};

enum { OPS = sizeof ops / sizeof ops[0], VARIANTS = sizeof variants / sizeof variants[0] };

/* quantize_f32_i8: the last two parts are types, in and out; one part is both. gemm has types of its own. */
static int type_of(const char *name, size_t n, pq_type *type)
{
    static const char *const names[] = {"f32", "f16", "bf16", "f64", "i8", "u8", "i16", "u16", "i32"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0) {
            *type = (pq_type)i;
            return 1;
        }
    return 0;
}

static int types_of(const char *op, pq_type *in, pq_type *out)
{
    const char *last = strrchr(op, '_'), *previous = last;
    if (strcmp(op, "gemm") == 0) return 1;
    if (last == NULL || !type_of(last + 1, strlen(last + 1), out)) return 0;
    *in = *out;
    while (previous > op && previous[-1] != '_') previous--;
    type_of(previous, (size_t)(last - previous), in);
    return 1;
}

static unsigned run(const char *isa, const char *only)
{
    unsigned ran = 0;
    for (size_t o = 0; o < OPS; o++)
        for (size_t v = 0; v < VARIANTS; v++) {
            if (strcmp(variants[v].op, ops[o].op) != 0 || strcmp(variants[v].isa, isa) != 0) continue;
            if (strstr(ops[o].op, only) == NULL) continue;
            comparison c = {ops[o].op, isa, variants[v].function, ops[o].reference, PQ_F32, PQ_F32};
            if (!types_of(c.op, &c.in, &c.out)) {
                printf("FAILED %s: its name does not end in a type\n", c.op);
                failures++;
                continue;
            }
            memset(&here, 0, sizeof here);
            here.c = &c;
            ops[o].check(&c);
            ran++;
        }
    return ran;
}

int main(int argc, char **argv)
{
    const char *const only = argc > 2 ? argv[2] : "";
    const char *const level = argc > 1 ? argv[1] : "full";
    const int is_reduced = strcmp(level, "full") != 0;
    if (is_reduced) run_effort = reduced_effort;
    if (strcmp(level, "padded") == 0) run_effort.slack = 256;
    report_touched_guards();
    for (size_t i = 0; pq_isa_name(i); i++) {
        const char *isa = pq_isa_name(i);
        unsigned built = 0;
        for (size_t v = 0; v < VARIANTS; v++) built += strcmp(variants[v].isa, isa) == 0;
        if (!pq_isa_compiled(isa)) printf("%s: not built\n", isa);
        else if (!pq_isa_usable(isa)) printf("%s: built, could not run: this CPU has not got it\n", isa);
        else if (is_reduced && strcmp(isa, "scalar") == 0)
            printf("scalar: what the others are compared with\n");
        else if (!built) printf("%s: no kernels of its own\n", isa);
        else printf("%s: ran %u of %u kernels\n", isa, run(isa, only), built);
        fflush(stdout);
    }
    printf(failures ? "%lu FAILURES\n" : "all equal\n", failures);
    return failures != 0;
}
