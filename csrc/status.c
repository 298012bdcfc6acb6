#include "include/pyquant.h"

const char *pq_status_string(pq_status status)
{
    switch (status) {
    case PQ_OK: return "ok";
    case PQ_ERROR_ARGUMENT: return "an argument is null, unknown or too large";
    case PQ_ERROR_SCALE: return "a scale is not positive and finite";
    case PQ_ERROR_ZERO_POINT: return "a zero point lies outside the grid";
    case PQ_ERROR_GRID: return "the grid is empty or does not fit the integer type";
    case PQ_ERROR_NONFINITE: return "the data hold a NaN or an infinity";
    case PQ_ERROR_RANGE: return "the data's range is beyond float32";
    case PQ_ERROR_CODE: return "an integer does not fit the bits it is packed to";
    case PQ_ERROR_OVERFLOW: return "the int32 accumulators of the product could overflow";
    case PQ_ERROR_ISA: return "the instruction set's name is not known";
    case PQ_ERROR_MEMORY: return "memory could not be allocated";
    }
    return "unknown status";
}
