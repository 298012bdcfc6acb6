#define _GNU_SOURCE /* sched_getaffinity, syscall */
#include "cpu.h"

#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#endif

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#include <stdint.h>

static uint64_t xgetbv(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Linux hands out the 8 KiB of tile state only to a process that asks (arch_prctl ARCH_REQ_XCOMP_PERM). */
static int amx_permission(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return 0;
#endif
}

unsigned pq_cpu_features(void)
{
    unsigned a, b, c, d, features = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const unsigned osxsave = 1u << 27, avx = 1u << 28, fma = 1u << 12, f16c = 1u << 29;
    if ((c & (osxsave | avx | fma | f16c)) != (osxsave | avx | fma | f16c)) return 0;
    const uint64_t state = xgetbv(), ymm = 0x6, zmm = 0xe6, tile = 0x60000;
    if ((state & ymm) != ymm) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    const unsigned avx2 = 1u << 3 | 1u << 5 | 1u << 8, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    const unsigned avx512vnni = 1u << 11, amx = 1u << 24 | 1u << 25;
    if ((b & avx2) != avx2) return 0;
    features |= PQ_CPU_AVX2;
    if ((state & zmm) == zmm && (b & avx512) == avx512) {
        features |= PQ_CPU_AVX512;
        if (c & avx512vnni) features |= PQ_CPU_AVX512VNNI;
    }
    if ((state & tile) == tile && (d & amx) == amx && amx_permission()) features |= PQ_CPU_AMXINT8;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4)) features |= PQ_CPU_AVXVNNI;
    return features;
}

/* What the CPU says of the cache that one core can fill; sysconf counts those of all sockets and virtual machines. */
static size_t cache_of_level(unsigned level)
{
    enum { INTEL = 4, AMD = (int)0x8000001d };
    unsigned a, b, c, d;
    for (unsigned leaf = INTEL;; leaf = (unsigned)AMD) {
        for (unsigned i = 0; i < 8 && __get_cpuid_count(leaf, i, &a, &b, &c, &d) && (a & 31) != 0; i++)
            if ((a >> 5 & 7) == level && (a & 31) != 2 /* code */)
                return ((b >> 22) + 1) * (size_t)((b >> 12 & 0x3ff) + 1) * ((b & 0xfff) + 1) * ((size_t)c + 1);
        if (leaf == (unsigned)AMD) return 0;
    }
}

#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>
#endif

unsigned pq_cpu_features(void)
{
    unsigned features = PQ_CPU_NEON;
#if defined(__linux__)
    const unsigned long dot = 1ul << 20 /* HWCAP_ASIMDDP */, i8mm = 1ul << 13 /* HWCAP2_I8MM */;
    if (getauxval(AT_HWCAP) & dot) features |= PQ_CPU_NEONDOT;
    if (getauxval(AT_HWCAP2) & i8mm) features |= PQ_CPU_NEONI8MM;
#endif
    return features;
}

#else

unsigned pq_cpu_features(void) { return 0; }

#endif

#if !defined(__x86_64__) && !defined(__i386__)
static size_t cache_of_level(unsigned level)
{
    long size = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
    size = sysconf(level == 2 ? _SC_LEVEL2_CACHE_SIZE : _SC_LEVEL3_CACHE_SIZE);
#endif
    return size > 0 ? (size_t)size : 0;
}
#endif

/* Asked once: CPUID stops a virtual machine. Threads that race here write the same value. */
static size_t remembered(size_t *known, unsigned level, size_t unknown)
{
    size_t size = __atomic_load_n(known, __ATOMIC_RELAXED);
    if (size == 0) {
        size = cache_of_level(level);
        if (size == 0) size = unknown;
        __atomic_store_n(known, size, __ATOMIC_RELAXED);
    }
    return size;
}

size_t pq_cpu_last_level_cache(void)
{
    static size_t known;
    return remembered(&known, 3, (size_t)32 << 20);
}

size_t pq_cpu_second_level_cache(void)
{
    static size_t known;
    return remembered(&known, 2, (size_t)1 << 20);
}

int pq_cpu_count(void)
{
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    const long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int)count : 1;
}
