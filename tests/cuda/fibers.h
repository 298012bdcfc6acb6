/* The scheduler: whoever stops calls it and it goes on with the next. */
#ifndef PQ_SHIM_FIBERS_H
#define PQ_SHIM_FIBERS_H

#include "stacks.h"

namespace shim {

inline void make_ready(unsigned number)
{
    block.ready[(block.ready_first + block.ready_count++) % MOST_THREADS] = number;
}

inline unsigned take_ready()
{
    const unsigned number = block.ready[block.ready_first];
    block.ready_first = (block.ready_first + 1) % MOST_THREADS;
    block.ready_count--;
    return number;
}

inline void make_ready_shuffled(unsigned *numbers, unsigned n)
{
    for (unsigned i = n; i > 1; i--) std::swap(numbers[i - 1], numbers[random_below(i)]);
    for (unsigned i = 0; i < n; i++) make_ready(numbers[i]);
}

inline void open_barrier_if_all_came()
{
    if (block.at_barrier == 0 || block.at_barrier < block.unfinished) return;
    unsigned numbers[MOST_THREADS], n = 0;
    block.votes = 0;
    block.all_votes = 1;
    for (unsigned i = 0; i < block.threads; i++) {
        Thread &t = block.thread[i];
        if (t.state != AT_BARRIER) continue;
        t.state = RUNNING;
        block.votes += t.vote != 0;
        block.all_votes &= t.vote != 0;
        numbers[n++] = i;
    }
    block.at_barrier = 0;
    make_ready_shuffled(numbers, n);
}

inline void fiber_body();

inline Stack *take_stack()
{
    Stack *s = idle_stacks;
    if (s) {
        idle_stacks = s->next;
    } else {
        s = (Stack *)calloc(1, sizeof *s);
        s->base = (char *)new_pages(STACK_BYTES);
        s->bytes = STACK_BYTES;
    }
#if SHIM_ASAN
    __asan_unpoison_memory_region(s->base, s->bytes);
#endif
    s->pointer = first_frame(s->base + STACK_BYTES, fiber_body);
    return s;
}

/* Leaves this stack for the next ready thread, or for the launcher when nobody is ready. */
inline void run_next(Stack *from, bool for_good)
{
    Stack *to = &launcher;
    if (block.ready_count && !failed) {
        current = &block.thread[take_ready()];
        if (current->state == NEW) current->stack = take_stack();
        to = current->stack;
    }
    if (to != from) go(from, to, for_good);
}

/* Threads that have not begun run on the stack of one that has ended: a kernel without barriers needs one stack. */
inline void fiber_body()
{
#if SHIM_ASAN
    const void *base;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &base, &bytes);
    if (launcher.base == nullptr) { /* the first to run was called by the launcher */
        launcher.base = (char *)base;
        launcher.bytes = bytes;
    }
#endif
    for (;;) {
        Stack *const here = current->stack;
        current->state = RUNNING;
        block.run(block.arguments);
        current->state = DONE;
        block.unfinished--;
        open_barrier_if_all_came();
        if (block.ready_count && !failed) {
            Thread &next = block.thread[block.ready[block.ready_first]];
            if (next.state == NEW) {
                take_ready();
                current = &next;
                next.stack = here;
                continue;
            }
        }
        here->next = idle_stacks;
        idle_stacks = here;
        run_next(here, true);
    }
}

inline void wait()
{
    Thread *const self = current;
    run_next(self->stack, false);
    current = self;
}

inline int barrier(int vote)
{
    current->state = AT_BARRIER;
    current->vote = vote;
    block.at_barrier++;
    open_barrier_if_all_came();
    wait();
    return block.votes;
}

} // namespace shim

#endif
