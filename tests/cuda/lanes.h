/* What the lanes of a warp do together. */
#ifndef PQ_SHIM_LANES_H
#define PQ_SHIM_LANES_H

#include "fibers.h"

namespace shim {

inline unsigned lane() { return current->number % LANES; }

inline void meet(unsigned mask, const void *brought, unsigned bytes)
{
    Thread *const warp = &block.thread[current->number / LANES * LANES];
    current->state = AT_EXCHANGE;
    current->mask = mask;
    current->brought = brought;
    current->bytes = bytes;
    if (!(mask >> lane() & 1)) fail("lane %u is not in the mask %08x of its own rendezvous", lane(), mask);
    if (bytes > MOST_EXCHANGED) fail("%u bytes are too many for a rendezvous", bytes);
    unsigned numbers[LANES], n = 0;
    for (unsigned i = 0; i < LANES; i++) {
        if (!(mask >> i & 1)) continue;
        const Thread &t = warp[i];
        if (t.number >= block.threads || t.state != AT_EXCHANGE || t.mask != mask) {
            wait();
            return;
        }
        if (t.bytes != bytes) fail("the lanes of a rendezvous bring different things");
        numbers[n++] = t.number;
    }
    Snapshot *s = idle_snapshots;
    if (s) idle_snapshots = s->next;
    else s = new Snapshot;
    s->readers = (int)n;
    for (unsigned i = 0; i < n; i++) {
        Thread &t = block.thread[numbers[i]];
        memcpy(s->lane[t.number % LANES], t.brought, bytes);
        t.seen = s;
        t.state = RUNNING;
    }
    make_ready_shuffled(numbers, n);
    wait();
}

/* What every lane of the mask brought, after all have come: shim::Exchange<T> all(mask, mine); all[lane]. */
template <class T> struct Exchange {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= MOST_EXCHANGED);
    Exchange(unsigned mask, const T &mine)
    {
        meet(mask, &mine, sizeof(T));
        snapshot = current->seen;
    }
    ~Exchange()
    {
        if (snapshot && --snapshot->readers == 0) {
            snapshot->next = idle_snapshots;
            idle_snapshots = snapshot;
        }
    }
    Exchange(const Exchange &) = delete;
    const T &operator[](unsigned lane) const { return *(const T *)snapshot->lane[lane]; }
    Snapshot *snapshot;
};

/* Combines what the lanes of the mask brought. */
template <class T, class F> T reduce(unsigned mask, T mine, F combine)
{
    const Exchange<T> all(mask, mine);
    bool first = true;
    T sum = mine;
    for (unsigned i = 0; i < LANES; i++) {
        if (!(mask >> i & 1)) continue;
        sum = first ? all[i] : combine(sum, all[i]);
        first = false;
    }
    return sum;
}

/* A lane outside the mask or beyond the width reads its own value. */
template <class T> T shuffle(unsigned mask, T mine, unsigned source, bool inside)
{
    const Exchange<T> all(mask, mine);
    if (!inside) return mine;
    if (!(mask >> source & 1)) fail("a shuffle reads lane %u, which mask %08x leaves out", source, mask);
    return all[source];
}

} // namespace shim

#endif
