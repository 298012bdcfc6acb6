#define ISA scalar
#include "plain.inc"

BINS(f16, pq_any_u16, pq_f16_to_f32)
BINS(bf16, pq_any_u16, pq_bf16_to_f32)
