#include "operand.h"

#include "layout.h"

pq_grid pq_grid_of(pq_type type)
{
    const pq_grid i8 = {-128, 127}, u8 = {0, 255};
    return type == PQ_I8 ? i8 : u8;
}

int32_t pq_reach(pq_grid g, const int32_t *zero_point, size_t n)
{
    const int32_t none = 0, *const zero = zero_point ? zero_point : &none;
    int32_t most = 0;
    for (size_t i = 0; i < (zero_point ? n : 1); i++) {
        if (zero[i] < g.low || zero[i] > g.high) return -1;
        const int32_t reach = g.high - zero[i] > zero[i] - g.low ? g.high - zero[i] : zero[i] - g.low;
        most = reach > most ? reach : most;
    }
    return most;
}

int pq_scales_are_good(const float *scale, size_t n)
{
    int bad = 0;
    for (size_t i = 0; i < n; i++) bad |= !(scale[i] > 0.0f) | !(scale[i] <= 3.402823466e+38f);
    return !bad;
}

pq_status pq_check_result(const pq_result *y)
{
    switch (y->type) {
    case PQ_I32: return PQ_OK;
    case PQ_F32: return y->low <= y->high ? PQ_OK : PQ_ERROR_ARGUMENT;
    case PQ_I8: case PQ_U8: case PQ_I16: case PQ_U16: {
        if (!pq_scales_are_good(&y->scale, 1)) return PQ_ERROR_SCALE;
        const pq_status status = pq_check_grid(y->qmin, y->qmax, y->type);
        if (status != PQ_OK) return status;
        if (y->zero_point < y->qmin || y->zero_point > y->qmax) return PQ_ERROR_ZERO_POINT;
        return (unsigned)y->mode > PQ_REQUANTIZE_FIXED_SINGLE ? PQ_ERROR_ARGUMENT : PQ_OK;
    }
    default: return PQ_ERROR_ARGUMENT;
    }
}

uint32_t pq_largest(const int32_t *x, size_t n)
{
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t size = x[i] < 0 ? 0u - (uint32_t)x[i] : (uint32_t)x[i];
        most = size > most ? size : most;
    }
    return most;
}
