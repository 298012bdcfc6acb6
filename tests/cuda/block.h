/* One block and its threads, and what goes wrong in it. */
#ifndef PQ_SHIM_BLOCK_H
#define PQ_SHIM_BLOCK_H

#include "vectors.h"

namespace shim {

enum { STACK_BYTES = 128 << 10, MOST_THREADS = 1024, LANES = 32, MOST_EXCHANGED = 256 };

enum State { NEW, RUNNING, AT_BARRIER, AT_EXCHANGE, DONE };

struct Snapshot { /* what the lanes of a rendezvous brought; freed by its last reader */
    int readers;
    Snapshot *next;
    alignas(16) unsigned char lane[LANES][MOST_EXCHANGED];
};

struct Stack {
    char *base;
    size_t bytes;
    void *pointer;
    void *fake; /* AddressSanitizer's */
    Stack *next;
};

struct Thread {
    dim3 index;
    unsigned number;
    State state;
    Stack *stack;
    unsigned mask, bytes; /* of the rendezvous it waits at */
    const void *brought;
    Snapshot *seen;
    int vote; /* brought to the barrier */
};

struct Block {
    dim3 index, size, grid;
    unsigned threads, unfinished, at_barrier;
    unsigned ready_first, ready_count; /* a ring: who may run, in which order */
    unsigned ready[MOST_THREADS];
    Thread thread[MOST_THREADS];
    int votes, all_votes; /* what the last barrier collected */
    unsigned char *dynamic;
    size_t dynamic_bytes;
    void (*run)(void *);
    void *arguments;
};

inline Block block;
inline Thread *current;
inline Stack launcher;
inline Stack *idle_stacks;
inline Snapshot *idle_snapshots;
inline uint64_t random_state = 1;
inline char message[512];
inline bool failed;

inline void fail(const char *format, ...)
{
    if (failed) return;
    failed = true;
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
}

inline unsigned random_below(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(((random_state >> 32) * n) >> 32);
}

} // namespace shim

#endif
