/* CUDA's words in C++, for one CPU thread: the kernels of pyquant/cuda are compiled with this as they stand.
 *
 * Every CUDA thread is a fiber, and blocks run one after the other. A fiber runs until it must wait (__syncthreads, a
 * shuffle), and then the next one does, in an order that is shuffled at every turn; so is the order of blocks. Code
 * that needs a barrier and has none meets threads that are far ahead or far behind, and gives wrong results here as
 * it might on a device. Threads that wait for each other in vain end the launch with a message.
 *
 * What a warp does together is a rendezvous: every lane of the mask brings a value, and when the last one has come all
 * go on and see what each brought (shim::exchange). A C++ body of mma.sync or of a shuffle is a few lines on top. */
#ifndef PQ_SHIM_H
#define PQ_SHIM_H

#include <sys/mman.h>

#include <algorithm>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SHIM_ASAN 1
#else
#define SHIM_ASAN 0
#endif

#define __host__
#define __device__
#define __constant__ const
#define __shared__ static /* blocks run one after the other, so one copy is enough */
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#ifndef SHIM_LIST /* the list of kernels is read off preprocessed text in which this word is left */
#define __global__
#endif

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define SHIM_VECTOR(name, type)                                                                                 \
    struct alignas(2 * sizeof(type)) name##2 {                                                                  \
        type x, y;                                                                                              \
    };                                                                                                          \
    struct alignas(sizeof(type) < 8 ? 4 * sizeof(type) : 16) name##4 {                                          \
        type x, y, z, w;                                                                                        \
    };                                                                                                          \
    static inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                     \
    static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
SHIM_VECTOR(int, int)
SHIM_VECTOR(uint, unsigned)
SHIM_VECTOR(float, float)
SHIM_VECTOR(double, double)
#undef SHIM_VECTOR

namespace shim {

enum { STACK_BYTES = 128 << 10, MOST_THREADS = 1024, LANES = 32, MOST_EXCHANGED = 256 };

/* ---- one thread and one block ---- */

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

/* ---- switching stacks ---- */

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

/* ---- the scheduler: whoever stops calls it and it goes on with the next ---- */

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

inline const char *state_name(State s)
{
    return s == AT_BARRIER ? "__syncthreads" : s == AT_EXCHANGE ? "a warp's rendezvous" : "nothing";
}

/* ---- launching ---- */

inline void run_block()
{
    block.unfinished = block.threads;
    block.at_barrier = block.ready_first = block.ready_count = 0;
    unsigned numbers[MOST_THREADS], i = 0;
    for (unsigned z = 0; z < block.size.z; z++)
        for (unsigned y = 0; y < block.size.y; y++)
            for (unsigned x = 0; x < block.size.x; x++, i++) {
                Thread &t = block.thread[i];
                t.index = dim3(x, y, z);
                t.number = i;
                t.state = NEW;
                numbers[i] = i;
            }
    make_ready_shuffled(numbers, block.threads);
    memset(block.dynamic, 0xa5, block.dynamic_bytes); /* what shared memory holds at first is anything */
    run_next(&launcher, false);
    if (block.unfinished && !failed) {
        for (const Thread &t : block.thread)
            if (t.number < block.threads && (t.state == AT_BARRIER || t.state == AT_EXCHANGE)) {
                fail("deadlock: in block (%u, %u, %u) %u threads have not ended, and thread %u waits at %s",
                     block.index.x, block.index.y, block.index.z, block.unfinished, t.number, state_name(t.state));
                break;
            }
    }
    if (failed) idle_stacks = nullptr; /* those of the threads that hang are lost */
}

inline uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) std::swap(a %= b, b);
    return a;
}

/* All blocks of a grid, in an order of their own: every step-th, where step has no divisor in common with them. */
inline const char *run_grid(const unsigned *grid, const unsigned *size, size_t dynamic_bytes, uint64_t seed,
                            void (*run)(void *), void *arguments)
{
    failed = false;
    launcher.base = nullptr;
    block.grid = dim3(grid[0], grid[1], grid[2]);
    block.size = dim3(size[0], size[1], size[2]);
    block.threads = size[0] * size[1] * size[2];
    block.run = run;
    block.arguments = arguments;
    random_state = seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
    if (random_state == 0) random_state = 1;
    if (block.threads == 0 || block.threads > MOST_THREADS) {
        fail("a block of %u threads", block.threads);
        return message;
    }
    if (grid[1] > 65535 || grid[2] > 65535 || grid[0] > 0x7fffffffu || dynamic_bytes > 227u << 10) {
        fail("no device takes a grid of (%u, %u, %u) with %zu bytes of shared memory", grid[0], grid[1], grid[2],
             dynamic_bytes);
        return message;
    }
    /* malloc, so that AddressSanitizer sees what goes beyond; aligned as on a device. */
    void *dynamic = nullptr;
    if (posix_memalign(&dynamic, 1024, dynamic_bytes ? dynamic_bytes : 1)) abort();
    block.dynamic = (unsigned char *)dynamic;
    block.dynamic_bytes = dynamic_bytes;
    const uint64_t blocks = (uint64_t)grid[0] * grid[1] * grid[2];
    uint64_t step = blocks > 2 ? 1 + random_below((unsigned)std::min<uint64_t>(blocks - 1, 1u << 30)) : 1;
    while (common_divisor(step, blocks) != 1) step++;
    uint64_t at = blocks ? random_below((unsigned)std::min<uint64_t>(blocks, 1u << 30)) : 0;
    for (uint64_t i = 0; i < blocks && !failed; i++, at = (at + step) % blocks) {
        block.index = dim3((unsigned)(at % grid[0]), (unsigned)(at / grid[0] % grid[1]),
                           (unsigned)(at / grid[0] / grid[1]));
        run_block();
    }
    free(dynamic);
    return failed ? message : nullptr;
}

template <class... A> struct Call {
    void (*kernel)(A...);
    std::tuple<std::decay_t<A>...> values;
    static void run(void *self)
    {
        Call *const c = (Call *)self;
        std::apply(c->kernel, c->values);
    }
};

template <class T> T value_at(const void *p)
{
    std::remove_const_t<T> value;
    memcpy(&value, p, sizeof value);
    return value;
}

template <class... A, size_t... I>
const char *launch_with(void (*kernel)(A...), const unsigned *grid, const unsigned *size, size_t dynamic_bytes,
                        uint64_t seed, void *const *arguments, std::index_sequence<I...>)
{
    Call<A...> call{kernel, {value_at<std::decay_t<A>>(arguments[I])...}};
    return run_grid(grid, size, dynamic_bytes, seed, &Call<A...>::run, &call);
}

/* The driver copies as many bytes as a parameter has from wherever CuPy points: "p" an address, "i" and "f" numbers,
 * "V" a structure, and then their bytes. A number may stand for an address. */
template <class T> bool is_passed_as(const char *kind)
{
    const bool fits = atoi(kind + 1) == (int)sizeof(T);
    if (std::is_pointer_v<T>) return fits && (*kind == 'p' || *kind == 'i');
    return fits && *kind == (std::is_floating_point_v<T> ? 'f' : std::is_integral_v<T> ? 'i' : 'V');
}

template <class... A>
const char *launch(void (*kernel)(A...), const unsigned *grid, const unsigned *size, size_t dynamic_bytes,
                   uint64_t seed, void *const *arguments, const char *const *kinds, size_t count)
{
    failed = false;
    if (count != sizeof...(A)) {
        fail("the kernel takes %zu arguments, not %zu", sizeof...(A), count);
        return message;
    }
    size_t place = 0;
    const bool fine[] = {is_passed_as<std::decay_t<A>>(kinds[place++])...};
    for (place = 0; place < count; place++)
        if (!fine[place]) fail("argument %zu of the kernel cannot be a %s", place, kinds[place]);
    if (failed) return message;
    return launch_with(kernel, grid, size, dynamic_bytes, seed, arguments, std::index_sequence_for<A...>{});
}

} // namespace shim

/* Appended for every kernel: an entry that takes the arguments as addresses, as cuLaunchKernel does. */
#define SHIM_EXPORT(kernel)                                                                                     \
    extern "C" SHIM_ENTRY const char *launch_##kernel(const unsigned *grid, const unsigned *size, size_t dynamic_bytes,    \
                                           uint64_t seed, void *const *arguments, const char *const *kinds,     \
                                           size_t count)                                                        \
    {                                                                                                           \
        return shim::launch(&kernel, grid, size, dynamic_bytes, seed, arguments, kinds, count);                 \
    }

/* ---- CUDA's built-in variables and functions ---- */

#define threadIdx (shim::current->index)
#define blockIdx (shim::block.index)
#define blockDim (shim::block.size)
#define gridDim (shim::block.grid)
#define warpSize 32

static inline void __syncthreads() { shim::barrier(0); }
static inline int __syncthreads_count(int p) { return shim::barrier(p); }
static inline int __syncthreads_or(int p) { return shim::barrier(p) != 0; }
static inline int __syncthreads_and(int p)
{
    shim::barrier(p);
    return shim::block.all_votes;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu) { const shim::Exchange<char> all(mask, 0); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}

static inline unsigned __ballot_sync(unsigned mask, int p)
{
    return shim::reduce<unsigned>(mask, p ? 1u << shim::lane() : 0u, [](unsigned a, unsigned b) { return a | b; });
}
static inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == mask; }

template <class T> static inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32)
{
    const unsigned first = shim::lane() / width * width;
    return shim::shuffle(mask, v, first + (unsigned)lane % width, true);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32)
{
    const unsigned source = shim::lane() ^ (unsigned)bits;
    return shim::shuffle(mask, v, source, source < (shim::lane() / width + 1) * width);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32)
{
    const unsigned source = shim::lane() + by;
    return shim::shuffle(mask, v, source, source < (shim::lane() / width + 1) * width);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32)
{
    const unsigned first = shim::lane() / width * width;
    return shim::shuffle(mask, v, shim::lane() - by, shim::lane() >= first + by);
}

#define SHIM_REDUCE(name, type, expression)                                                                     \
    static inline type name(unsigned mask, type v)                                                              \
    {                                                                                                           \
        return shim::reduce<type>(mask, v, [](type a, type b) -> type { return expression; });                  \
    }
SHIM_REDUCE(__reduce_add_sync, unsigned, a + b)
SHIM_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
SHIM_REDUCE(__reduce_max_sync, unsigned, a < b ? b : a)
SHIM_REDUCE(__reduce_or_sync, unsigned, a | b)
SHIM_REDUCE(__reduce_and_sync, unsigned, a & b)
SHIM_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
SHIM_REDUCE(__reduce_add_sync, int, (int)((unsigned)a + (unsigned)b))
SHIM_REDUCE(__reduce_min_sync, int, a < b ? a : b)
SHIM_REDUCE(__reduce_max_sync, int, a < b ? b : a)
#undef SHIM_REDUCE

/* One CPU thread runs everything, so a plain operation is atomic. */
#define SHIM_ATOMIC(name, expression)                                                                           \
    template <class T> static inline T name(T *p, std::common_type_t<T> v)                                      \
    {                                                                                                           \
        const T old = *p;                                                                                       \
        *p = (T)(expression);                                                                                   \
        return old;                                                                                             \
    }
SHIM_ATOMIC(atomicAdd, old + v)
SHIM_ATOMIC(atomicSub, old - v)
SHIM_ATOMIC(atomicMin, v < old ? v : old)
SHIM_ATOMIC(atomicMax, old < v ? v : old)
SHIM_ATOMIC(atomicOr, old | v)
SHIM_ATOMIC(atomicAnd, old & v)
SHIM_ATOMIC(atomicXor, old ^ v)
SHIM_ATOMIC(atomicExch, v)
SHIM_ATOMIC(atomicInc, old >= v ? 0 : old + 1)
#undef SHIM_ATOMIC
template <class T> static inline T atomicCAS(T *p, std::common_type_t<T> expected, std::common_type_t<T> v)
{
    const T old = *p;
    if (old == expected) *p = v;
    return old;
}

template <class To, class From> static inline To shim_bits(From v)
{
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &v, sizeof to);
    return to;
}
static inline unsigned __float_as_uint(float x) { return shim_bits<unsigned>(x); }
static inline int __float_as_int(float x) { return shim_bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return shim_bits<float>(x); }
static inline float __int_as_float(int x) { return shim_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return shim_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return shim_bits<double>(x); }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 32; i += 8) c = (int)((unsigned)c + (unsigned)((int8_t)(a >> i) * (int8_t)(b >> i)));
    return c;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c)
{
    for (int i = 0; i < 32; i += 8) c += (a >> i & 255u) * (b >> i & 255u);
    return c;
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s)
{
    const unsigned long long both = (unsigned long long)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned pick = s >> (4 * i) & 15u, byte = (unsigned)(both >> (8 * (pick & 7u))) & 255u;
        r |= (pick & 8u ? (byte & 128u ? 255u : 0u) : byte) << (8 * i);
    }
    return r;
}
template <class T> static inline T __ldg(const T *p) { return *p; }
template <class T> static inline T __ldcs(const T *p) { return *p; }
template <class T> static inline void __stcs(T *p, T v) { *p = v; }
template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }

#endif
