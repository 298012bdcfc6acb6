/* One element read and written as the type says, for the scalar reference. No alignment is assumed. */
#include "../include/pyquant_semantics.h"
#include "../kernels.h"
#include "inline.h"

#define ISA scalar

PQ_INLINE float read_f(const void *x, size_t i, pq_type type)
{
    uint16_t h;
    float f;
    if (type == PQ_F32) {
        memcpy(&f, (const char *)x + 4 * i, 4);
        return f;
    }
    memcpy(&h, (const char *)x + 2 * i, 2);
    return type == PQ_F16 ? pq_f16_to_f32(h) : pq_bf16_to_f32(h);
}

PQ_INLINE void write_f(void *x, size_t i, float f, pq_type type)
{
    if (type == PQ_F32) {
        memcpy((char *)x + 4 * i, &f, 4);
    } else {
        const uint16_t h = type == PQ_F16 ? pq_f32_to_f16(f) : pq_f32_to_bf16(f);
        memcpy((char *)x + 2 * i, &h, 2);
    }
}

PQ_INLINE int32_t read_code(const void *q, size_t i, pq_type type)
{
    uint16_t w;
    if (type == PQ_I8) return ((const int8_t *)q)[i];
    if (type == PQ_U8) return ((const uint8_t *)q)[i];
    memcpy(&w, (const char *)q + 2 * i, 2);
    return type == PQ_I16 ? (int16_t)w : w;
}

PQ_INLINE void write_code(void *q, size_t i, int32_t code, pq_type type)
{
    const uint16_t w = (uint16_t)code;
    if (type == PQ_I8) ((uint8_t *)q)[i] = (uint8_t)code;
    else memcpy((char *)q + 2 * i, &w, 2);
}
