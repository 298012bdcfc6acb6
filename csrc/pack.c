/* pq_pack_bits, pq_unpack_bits. */
#include <string.h>

#include "layout.h"

size_t pq_packed_size(size_t n, int bits)
{
    return n / 8 * (size_t)bits + (n % 8 * (size_t)bits + 7) / 8;
}

typedef struct {
    const uint8_t *from;
    uint8_t *to;
    int bits, is_signed;
    int bad; /* a code does not fit */
} job;

/* Spans begin at multiples of 8 codes, so at whole bytes. */
static void pack_span(void *context, size_t task, size_t begin, size_t end)
{
    job *j = (job *)context;
    (void)task;
    if (pq_get_kernels()->pack_bits_i8(j->from + begin, end - begin, j->bits, j->is_signed,
                                       j->to + begin / 8 * (size_t)j->bits))
        __atomic_store_n(&j->bad, 1, __ATOMIC_RELAXED);
}

static void unpack_span(void *context, size_t task, size_t begin, size_t end)
{
    const job *j = (const job *)context;
    (void)task;
    pq_get_kernels()->unpack_bits_i8(j->from + begin / 8 * (size_t)j->bits, end - begin, j->bits, j->is_signed,
                                     j->to + begin);
}

/* Grids of 9 to 16 bits, two bytes a code, low byte first: a plain bit buffer. */
static int pack_wide(const uint8_t *q, size_t n, unsigned bits, int is_signed, uint8_t *packed)
{
    const int32_t low = is_signed ? -(1 << (bits - 1)) : 0, high = (1 << bits) - 1;
    uint32_t buffer = 0;
    unsigned held = 0;
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t word = q[2 * i] | (uint32_t)q[2 * i + 1] << 8;
        const int32_t code = is_signed ? (int16_t)word : (int32_t)word;
        bad |= code < low || code > high;
        buffer |= (word & ((1u << bits) - 1)) << held;
        for (held += bits; held >= 8; held -= 8, buffer >>= 8) *packed++ = (uint8_t)buffer;
    }
    if (held) *packed = (uint8_t)buffer;
    return bad;
}

static void unpack_wide(const uint8_t *packed, size_t n, unsigned bits, uint32_t sign, uint8_t *q)
{
    uint32_t buffer = 0;
    unsigned held = 0;
    for (size_t i = 0; i < n; i++) {
        for (; held < bits; held += 8) buffer |= (uint32_t)*packed++ << held;
        const uint32_t code = ((buffer & ((1u << bits) - 1)) ^ sign) - sign;
        q[2 * i] = (uint8_t)code;
        q[2 * i + 1] = (uint8_t)(code >> 8);
        buffer >>= bits;
        held -= bits;
    }
}

pq_status pq_pack_bits(const void *q, size_t n, int bits, int is_signed, uint8_t *packed)
{
    if (bits < 1 || bits > 16 || (n > 0 && (q == NULL || packed == NULL))) return PQ_ERROR_ARGUMENT;
    job j = {(const uint8_t *)q, packed, bits, is_signed, 0};
    if (bits > 8) j.bad = pack_wide((const uint8_t *)q, n, (unsigned)bits, is_signed, packed);
    else if (bits == 8 && n > 0) memmove(packed, q, n);
    else if (n > 0) pq_walk_span(n, 2, pack_span, &j);
    return j.bad ? PQ_ERROR_CODE : PQ_OK;
}

pq_status pq_unpack_bits(const uint8_t *packed, size_t n, int bits, int is_signed, void *q)
{
    if (bits < 1 || bits > 16 || (n > 0 && (q == NULL || packed == NULL))) return PQ_ERROR_ARGUMENT;
    job j = {packed, (uint8_t *)q, bits, is_signed, 0};
    if (bits > 8) unpack_wide(packed, n, (unsigned)bits, is_signed ? 1u << (bits - 1) : 0, (uint8_t *)q);
    else if (bits == 8 && n > 0) memmove(q, packed, n);
    else if (n > 0) pq_walk_span(n, 2, unpack_span, &j);
    return PQ_OK;
}
