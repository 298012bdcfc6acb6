/* Switching from the stack of one thread to that of another. */
#ifndef PQ_SHIM_STACKS_H
#define PQ_SHIM_STACKS_H

#include "block.h"

namespace shim {

#if defined(__x86_64__)
/* Saves what the ABI says a call keeps; about two nanoseconds. */
asm(R"(
    .text
    .p2align 4
    .local shim_switch
    .type shim_switch, @function
shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size shim_switch, . - shim_switch
)");
extern "C" void shim_switch(void **from, void *to);

inline void *first_frame(char *top, void (*entry)())
{
    void **p = (void **)top;
    *--p = nullptr; /* where entry would return to; keeps the alignment of a call */
    *--p = (void *)entry;
    for (int i = 0; i < 6; i++) *--p = nullptr;
    return p;
}
#elif defined(__aarch64__)
asm(R"(
    .text
    .p2align 4
    .local shim_switch
    .type shim_switch, %function
shim_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size shim_switch, . - shim_switch
)");
extern "C" void shim_switch(void **from, void *to);

inline void *first_frame(char *top, void (*entry)())
{
    void **p = (void **)(top - 160);
    memset(p, 0, 160);
    p[11] = (void *)entry; /* x30 */
    return p;
}
#else
#error "the host shim knows x86-64 and AArch64"
#endif

inline void *new_pages(size_t bytes)
{
    void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) abort();
    return p;
}

inline void go(Stack *from, Stack *to, bool for_good)
{
#if SHIM_ASAN
    __sanitizer_start_switch_fiber(for_good ? nullptr : &from->fake, to->base, to->bytes);
#else
    (void)for_good;
#endif
    shim_switch(&from->pointer, to->pointer);
#if SHIM_ASAN
    __sanitizer_finish_switch_fiber(from->fake, nullptr, nullptr);
#endif
}

} // namespace shim

#endif
