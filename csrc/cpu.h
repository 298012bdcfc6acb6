/* What this CPU can do, and what the operating system lets it do. */
#ifndef PQ_CPU_H
#define PQ_CPU_H

#include <stddef.h>

enum {
    PQ_CPU_AVX2 = 1 << 0,       /* AVX2, FMA, F16C, BMI1, BMI2 */
    PQ_CPU_AVXVNNI = 1 << 1,
    PQ_CPU_AVX512 = 1 << 2,     /* F, BW, DQ, VL */
    PQ_CPU_AVX512VNNI = 1 << 3,
    PQ_CPU_AMXINT8 = 1 << 4,    /* and the kernel granted the tile state */
    PQ_CPU_NEON = 1 << 8,
    PQ_CPU_NEONDOT = 1 << 9,
    PQ_CPU_NEONI8MM = 1 << 10
};

unsigned pq_cpu_features(void);

/* Bytes of the last-level cache, 32 MiB where it can not be told. */
size_t pq_cpu_last_level_cache(void);

/* Bytes of the cache that one core has for itself, 1 MiB where it can not be told. */
size_t pq_cpu_second_level_cache(void);

/* CPUs that this process may use, at least 1. */
int pq_cpu_count(void);

#endif
