/* From a call as CuPy makes it to blocks in an order of their own. */
#ifndef PQ_SHIM_LAUNCH_H
#define PQ_SHIM_LAUNCH_H

#include "fibers.h"

namespace shim {

inline const char *state_name(State s)
{
    return s == AT_BARRIER ? "__syncthreads" : s == AT_EXCHANGE ? "a warp's rendezvous" : "nothing";
}

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

#endif
