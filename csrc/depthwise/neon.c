/* The verbs of simd.inc on 128 bits: products are added up one tap at a time, so a pair is just two vectors. */
#include <arm_neon.h>
#define ISA neon
#define WIDTH 8
typedef int16x8_t vec;
typedef struct {
    int32x4_t low, high;
} sums;

#define LOAD(p) vld1q_s16(p)
#define NOTHING() vdupq_n_s16(0)
#define ZIP(pair, a, b) (pair[0] = a, pair[1] = b)
#define ADD_PRODUCTS(sum, pair, w) add_products(sum, pair, w)
#define LOAD_SUMS(p) load_sums(p)
#define STORE_SUMS(p, sum) store_sums(p, sum)

static inline __attribute__((always_inline)) void add_products(sums *sum, const vec pair[2], const vec w[2])
{
    for (int i = 0; i < 2; i++) {
        sum->low = vmlal_s16(sum->low, vget_low_s16(pair[i]), vget_low_s16(w[i]));
        sum->high = vmlal_high_s16(sum->high, pair[i], w[i]);
    }
}

static inline __attribute__((always_inline)) sums load_sums(const int *p)
{
    return (sums){vld1q_s32(p), vld1q_s32(p + 4)};
}

static inline __attribute__((always_inline)) void store_sums(int *p, sums sum)
{
    vst1q_s32(p, sum.low);
    vst1q_s32(p + 4, sum.high);
}

#include "simd.inc"
