/* Writable pages between two that nobody may touch. */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

arena new_arena(size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    arena a;
    a.size = (size + run_effort.slack + page - 1) / page * page;
    unsigned char *all = mmap(NULL, a.size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED || mprotect(all + page, a.size, PROT_READ | PROT_WRITE) != 0) {
        perror("guard pages");
        exit(2);
    }
    a.base = all + page;
    return a;
}

/* Under AddressSanitizer what lies between the array and the guard page is out of bounds too. */
static void fence(const arena *a, unsigned char *p, size_t bytes)
{
    const size_t before = (size_t)(p - a->base), after = a->size - before - bytes;
    ASAN_POISON_MEMORY_REGION(p - (before < MARGIN ? before : MARGIN), before < MARGIN ? before : MARGIN);
    ASAN_POISON_MEMORY_REGION(p + bytes, after < MARGIN ? after : MARGIN);
    ASAN_UNPOISON_MEMORY_REGION(p, bytes);
}

static unsigned char *at(const arena *a, size_t bytes, size_t distance, int side)
{
    if (side == AFTER) distance += run_effort.slack;
    if (bytes + distance > a->size) {
        fprintf(stderr, "an arena of %zu bytes is too small for %zu\n", a->size, bytes + distance);
        exit(2);
    }
    ASAN_UNPOISON_MEMORY_REGION(a->base, a->size);
    return side == AFTER ? a->base + a->size - distance - bytes : a->base + distance;
}

void *place(const arena *a, size_t bytes, size_t distance, int side)
{
    unsigned char *p = at(a, bytes, distance, side);
    fence(a, p, bytes);
    return p;
}

void *place_copy(const arena *a, const void *from, size_t bytes, size_t distance, int side)
{
    void *p = place(a, bytes, distance, side);
    if (bytes) memcpy(p, from, bytes);
    return p;
}

static size_t margin_before(const arena *a, const unsigned char *p)
{
    const size_t room = (size_t)(p - a->base);
    return room < MARGIN ? room : MARGIN;
}

static size_t margin_after(const arena *a, const unsigned char *p, size_t bytes)
{
    const size_t room = (size_t)(a->base + a->size - p) - bytes;
    return room < MARGIN ? room : MARGIN;
}

void *place_output(const arena *a, size_t bytes, size_t distance, int side)
{
    unsigned char *p = at(a, bytes, distance, side);
    const size_t before = margin_before(a, p);
    memset(p - before, CANARY, before + bytes + margin_after(a, p, bytes));
    fence(a, p, bytes);
    return p;
}

int margins_intact(const arena *a, const void *where, size_t bytes)
{
    static unsigned char canaries[MARGIN];
    const unsigned char *p = where;
    const size_t before = margin_before(a, p), after = margin_after(a, p, bytes);
    if (canaries[0] != CANARY) memset(canaries, CANARY, MARGIN);
    ASAN_UNPOISON_MEMORY_REGION(a->base, a->size);
    return memcmp(p - before, canaries, before) == 0 && memcmp(p + bytes, canaries, after) == 0;
}
