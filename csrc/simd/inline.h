/* What every kernel file needs. Kernel files are compiled with flags of their own, so all that they share is
 * static: a non-inlined copy compiled for a newer CPU must never be the one that the linker keeps. */
#ifndef PQ_SIMD_INLINE_H
#define PQ_SIMD_INLINE_H

#include <stdint.h>
#include <string.h>

#define PQ_INLINE static inline __attribute__((always_inline))
#define PQ_COLD static __attribute__((noinline, cold, unused))

/* No iteration reads what another has written: arrays that may be equal are read and written at the same index. */
#if defined(__clang__)
#define PQ_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define PQ_INDEPENDENT _Pragma("GCC ivdep")
#else
#define PQ_INDEPENDENT
#endif

#define PQ_PASTE3_(a, b, c) a##_##b##_##c
#define PQ_PASTE3(a, b, c) PQ_PASTE3_(a, b, c)
/* pq_<op>_<isa> for the file that defines ISA. */
#define PQ_NAME(op) PQ_PASTE3(pq, op, ISA)

/* Elements at any address. */
typedef double pq_any_f64 __attribute__((aligned(1), may_alias));
typedef float pq_any_f32 __attribute__((aligned(1), may_alias));
typedef int32_t pq_any_i32 __attribute__((aligned(1), may_alias));
typedef uint16_t pq_any_u16 __attribute__((aligned(1), may_alias));

PQ_INLINE size_t pq_min(size_t a, size_t b) { return a < b ? a : b; }

#endif
