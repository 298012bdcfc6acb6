/* The verbs of AVX-512 (F, BW, DQ, VL): 16 float lanes. See simd/README.md for the contract. */
#include <immintrin.h>

#include "../kernels.h"
#include "inline.h"

#define ISA avx512
enum { LANES = 16, BLOCK = 4 * LANES };

typedef __m512 vf;
typedef __m512i vi;

PQ_INLINE vf set_f(float x) { return _mm512_set1_ps(x); }
PQ_INLINE vi set_i(int32_t x) { return _mm512_set1_epi32(x); }
PQ_INLINE vf add_f(vf a, vf b) { return _mm512_add_ps(a, b); }
PQ_INLINE vf mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
PQ_INLINE vf divide(vf a, vf b) { return _mm512_div_ps(a, b); }
PQ_INLINE vf fma_f(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
PQ_INLINE vf negative_fma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
/* x86 returns the second operand where one is NaN. */
PQ_INLINE vf min_f(vf bound, vf x) { return _mm512_min_ps(bound, x); }
PQ_INLINE vf max_f(vf bound, vf x) { return _mm512_max_ps(bound, x); }
PQ_INLINE vf keep_min(vf x, vf so_far) { return _mm512_min_ps(x, so_far); }
PQ_INLINE vf keep_max(vf x, vf so_far) { return _mm512_max_ps(x, so_far); }
PQ_INLINE vf abs_f(vf x) { return _mm512_abs_ps(x); }
PQ_INLINE vi bits_of(vf x) { return _mm512_castps_si512(x); }
PQ_INLINE vf from_bits(vi x) { return _mm512_castsi512_ps(x); }
PQ_INLINE vi max_u(vi a, vi b) { return _mm512_max_epu32(a, b); }
PQ_INLINE vi add_i(vi a, vi b) { return _mm512_add_epi32(a, b); }
PQ_INLINE vi sub_i(vi a, vi b) { return _mm512_sub_epi32(a, b); }
PQ_INLINE vf to_float(vi x) { return _mm512_cvtepi32_ps(x); }
PQ_INLINE vi to_int(vf x) { return _mm512_cvtps_epi32(x); }
PQ_INLINE vi min_i(vi a, vi b) { return _mm512_min_epi32(a, b); }
PQ_INLINE vi max_i(vi a, vi b) { return _mm512_max_epi32(a, b); }
PQ_INLINE vi xor_i(vi a, vi b) { return _mm512_xor_si512(a, b); }
PQ_INLINE vi zero_where_nan(vi codes, vf x)
{
    return _mm512_maskz_mov_epi32(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), codes);
}
PQ_INLINE float reduce_min_f(vf x) { return _mm512_reduce_min_ps(x); }
PQ_INLINE float reduce_max_f(vf x) { return _mm512_reduce_max_ps(x); }
PQ_INLINE uint32_t reduce_max_u(vi x) { return _mm512_reduce_max_epu32(x); }
/* No NaN, no infinity in any lane. */
PQ_INLINE int is_finite(vf x)
{
    return _mm512_cmp_ps_mask(abs_f(x), _mm512_set1_ps(3.402823466e+38f), _CMP_LE_OQ) == 0xffff;
}

PQ_INLINE __mmask16 first_lanes(size_t n) { return (__mmask16)_bzhi_u32(0xffff, (unsigned)pq_min(n, LANES)); }
PQ_INLINE __mmask64 first_bytes(size_t n) { return _bzhi_u64(~0ull, (unsigned)pq_min(n, 64)); }
PQ_INLINE __mmask32 first_words(size_t n) { return _bzhi_u32(~0u, (unsigned)pq_min(n, 32)); }

PQ_INLINE vf widen_bf16(__m256i h) { return from_bits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }

PQ_INLINE vf load_f(const void *x, size_t i, pq_type type)
{
    if (type == PQ_F32) return _mm512_loadu_ps((const float *)x + i);
    const __m256i h = _mm256_loadu_si256((const __m256i *)((const uint16_t *)x + i));
    return type == PQ_F16 ? _mm512_cvtph_ps(h) : widen_bf16(h);
}

PQ_INLINE vf load_first_f(const void *x, size_t i, size_t n, pq_type type)
{
    if (type == PQ_F32) return _mm512_maskz_loadu_ps(first_lanes(n), (const float *)x + i);
    const __m256i h = _mm256_maskz_loadu_epi16(first_lanes(n), (const uint16_t *)x + i);
    return type == PQ_F16 ? _mm512_cvtph_ps(h) : widen_bf16(h);
}

PQ_INLINE __m256i narrow_f(vf x, pq_type type)
{
    if (type == PQ_F16) return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const vi bits = bits_of(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), set_i(1));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(add_i(add_i(bits, set_i(0x7fff)), odd), 16));
}

PQ_INLINE void store_f(void *x, size_t i, vf v, pq_type type)
{
    if (type == PQ_F32) _mm512_storeu_ps((float *)x + i, v);
    else _mm256_storeu_si256((__m256i *)((uint16_t *)x + i), narrow_f(v, type));
}

PQ_INLINE void store_first_f(void *x, size_t i, size_t n, vf v, pq_type type)
{
    if (type == PQ_F32) _mm512_mask_storeu_ps((float *)x + i, first_lanes(n), v);
    else _mm256_mask_storeu_epi16((uint16_t *)x + i, first_lanes(n), narrow_f(v, type));
}

/* x + i is a multiple of 64 bytes away from address 0. */
PQ_INLINE void stream_f(void *x, size_t i, vf v, pq_type type)
{
    if (type == PQ_F32) _mm512_stream_ps((float *)x + i, v);
    else _mm256_stream_si256((__m256i *)((uint16_t *)x + i), narrow_f(v, type));
}

PQ_INLINE vi load_codes(const void *q, size_t i, pq_type type)
{
    switch (type) {
    case PQ_I8: return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)((const int8_t *)q + i)));
    case PQ_U8: return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)((const uint8_t *)q + i)));
    case PQ_I16: return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)((const int16_t *)q + i)));
    default: return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)((const uint16_t *)q + i)));
    }
}

PQ_INLINE vi load_first_codes(const void *q, size_t i, size_t n, pq_type type)
{
    const __mmask16 mask = first_lanes(n);
    switch (type) {
    case PQ_I8: return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, (const int8_t *)q + i));
    case PQ_U8: return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, (const uint8_t *)q + i));
    case PQ_I16: return _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(mask, (const int16_t *)q + i));
    default: return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)q + i));
    }
}

PQ_INLINE vi load_i(const int32_t *x, size_t i) { return _mm512_loadu_si512(x + i); }
PQ_INLINE vi load_first_i(const int32_t *x, size_t i, size_t n) { return _mm512_maskz_loadu_epi32(first_lanes(n), x + i); }

/* Bytes of a block are made in two steps, each with signed saturation; words in between are in the CPU's own order. */
enum { SATURATES = 1 };
PQ_INLINE vi set_byte(int x) { return _mm512_set1_epi8((char)x); }
PQ_INLINE vi pack_words(vi a, vi b) { return _mm512_packs_epi32(a, b); }
PQ_INLINE vi add_saturating(vi a, vi b) { return _mm512_adds_epi16(a, b); }
PQ_INLINE vi pack_bytes(vi ab, vi cd)
{
    const vi order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, _mm512_packs_epi16(ab, cd));
}
PQ_INLINE vi min_bytes(vi a, vi b) { return _mm512_min_epi8(a, b); }
PQ_INLINE vi max_bytes(vi a, vi b) { return _mm512_max_epi8(a, b); }
PQ_INLINE int holds_lowest(vi ab, vi cd)
{
    const vi lowest = _mm512_set1_epi16(-32768);
    return (_mm512_cmpeq_epi16_mask(ab, lowest) | _mm512_cmpeq_epi16_mask(cd, lowest)) != 0;
}
PQ_INLINE int holds_indefinite(vi a, vi b, vi c, vi d)
{
    const vi lowest = set_i(INT32_MIN);
    return (_mm512_cmpeq_epi32_mask(a, lowest) | _mm512_cmpeq_epi32_mask(b, lowest) |
            _mm512_cmpeq_epi32_mask(c, lowest) | _mm512_cmpeq_epi32_mask(d, lowest)) != 0;
}

/* The low 16 bits of two vectors, in order, and their sums modulo 2^16. */
PQ_INLINE vi low_words(vi a, vi b)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)), _mm512_cvtepi32_epi16(b), 1);
}
PQ_INLINE vi add_words(vi a, vi b) { return _mm512_add_epi16(a, b); }

#define PUT_VECTOR _mm512_storeu_si512
#define STREAM_VECTOR _mm512_stream_si512
#include "codes.inc"

PQ_INLINE void store_first_codes(void *q, size_t i, size_t n, codes c, pq_type type)
{
    if (type == PQ_I8) {
        _mm512_mask_storeu_epi8((int8_t *)q + i, first_bytes(n), c.low);
    } else {
        _mm512_mask_storeu_epi16((int16_t *)q + i, first_words(n), c.low);
        if (n > 32) _mm512_mask_storeu_epi16((int16_t *)q + i + 32, first_words(n - 32), c.high);
    }
}

PQ_INLINE void stream_line(void *to, const void *from) { _mm512_stream_si512(to, _mm512_loadu_si512(from)); }
