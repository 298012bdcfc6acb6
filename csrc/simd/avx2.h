/* The verbs of AVX2 with FMA and F16C: 8 float lanes. See simd/README.md for the contract. */
#include <immintrin.h>

#include "../kernels.h"
#include "inline.h"

#define ISA avx2
enum { LANES = 8, BLOCK = 4 * LANES };

typedef __m256 vf;
typedef __m256i vi;

PQ_INLINE vf set_f(float x) { return _mm256_set1_ps(x); }
PQ_INLINE vi set_i(int32_t x) { return _mm256_set1_epi32(x); }
PQ_INLINE vf add_f(vf a, vf b) { return _mm256_add_ps(a, b); }
PQ_INLINE vf mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
PQ_INLINE vf divide(vf a, vf b) { return _mm256_div_ps(a, b); }
PQ_INLINE vf fma_f(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
PQ_INLINE vf negative_fma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
/* x86 returns the second operand where one is NaN. */
PQ_INLINE vf min_f(vf bound, vf x) { return _mm256_min_ps(bound, x); }
PQ_INLINE vf max_f(vf bound, vf x) { return _mm256_max_ps(bound, x); }
PQ_INLINE vi bits_of(vf x) { return _mm256_castps_si256(x); }
PQ_INLINE vf from_bits(vi x) { return _mm256_castsi256_ps(x); }
PQ_INLINE vf keep_min(vf x, vf so_far) { return _mm256_min_ps(x, so_far); }
PQ_INLINE vf keep_max(vf x, vf so_far) { return _mm256_max_ps(x, so_far); }
PQ_INLINE vf abs_f(vf x) { return from_bits(_mm256_and_si256(bits_of(x), set_i(0x7fffffff))); }
PQ_INLINE vi max_u(vi a, vi b) { return _mm256_max_epu32(a, b); }
PQ_INLINE vi add_i(vi a, vi b) { return _mm256_add_epi32(a, b); }
PQ_INLINE vi sub_i(vi a, vi b) { return _mm256_sub_epi32(a, b); }
PQ_INLINE vf to_float(vi x) { return _mm256_cvtepi32_ps(x); }
PQ_INLINE vi to_int(vf x) { return _mm256_cvtps_epi32(x); }
PQ_INLINE vi min_i(vi a, vi b) { return _mm256_min_epi32(a, b); }
PQ_INLINE vi max_i(vi a, vi b) { return _mm256_max_epi32(a, b); }
PQ_INLINE vi xor_i(vi a, vi b) { return _mm256_xor_si256(a, b); }
PQ_INLINE vi zero_where_nan(vi codes, vf x)
{
    return _mm256_and_si256(codes, bits_of(_mm256_cmp_ps(x, x, _CMP_ORD_Q)));
}
PQ_INLINE int is_finite(vf x)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(abs_f(x), set_f(3.402823466e+38f), _CMP_LE_OQ)) == 0xff;
}

PQ_INLINE float reduce_min_f(vf x)
{
    __m128 a = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    a = _mm_min_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_min_ss(a, _mm_movehdup_ps(a)));
}
PQ_INLINE float reduce_max_f(vf x)
{
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}
PQ_INLINE uint32_t reduce_max_u(vi x)
{
    __m128i a = _mm_max_epu32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    a = _mm_max_epu32(a, _mm_shuffle_epi32(a, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(a, _mm_shuffle_epi32(a, 0xb1)));
}

PQ_INLINE __m256i first_lanes(size_t n)
{
    return _mm256_cmpgt_epi32(set_i((int)pq_min(n, LANES)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

PQ_INLINE vf widen_h(__m128i h, pq_type type)
{
    return type == PQ_F16 ? _mm256_cvtph_ps(h) : from_bits(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* The first n (at most 16 / size) elements of `size` bytes, the rest 0: AVX2 has masked loads of 4 bytes only. */
PQ_INLINE __m128i load_first_bytes(const void *p, size_t n, size_t size)
{
    uint64_t buffer[2] = {0, 0};
    const char *from = (const char *)p;
    if (n >= LANES) return size == 1 ? _mm_loadl_epi64((const __m128i *)p) : _mm_loadu_si128((const __m128i *)p);
    for (size_t i = 0; i < n * size; i++) ((char *)buffer)[i] = from[i];
    return _mm_set_epi64x((long long)buffer[1], (long long)buffer[0]);
}

PQ_INLINE void store_first_bytes(void *p, size_t bytes, __m256i v)
{
    char buffer[32];
    _mm256_storeu_si256((__m256i *)buffer, v);
    memcpy(p, buffer, bytes);
}

PQ_INLINE vf load_f(const void *x, size_t i, pq_type type)
{
    if (type == PQ_F32) return _mm256_loadu_ps((const float *)x + i);
    return widen_h(_mm_loadu_si128((const __m128i *)((const uint16_t *)x + i)), type);
}

PQ_INLINE vf load_first_f(const void *x, size_t i, size_t n, pq_type type)
{
    if (type == PQ_F32) return _mm256_maskload_ps((const float *)x + i, first_lanes(n));
    return widen_h(load_first_bytes((const uint16_t *)x + i, n, 2), type);
}

PQ_INLINE __m128i narrow_f(vf x, pq_type type)
{
    if (type == PQ_F16) return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const vi bits = bits_of(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), set_i(1));
    const vi h = _mm256_srli_epi32(add_i(add_i(bits, set_i(0x7fff)), odd), 16);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(h, h), 0x08));
}

PQ_INLINE void store_f(void *x, size_t i, vf v, pq_type type)
{
    if (type == PQ_F32) _mm256_storeu_ps((float *)x + i, v);
    else _mm_storeu_si128((__m128i *)((uint16_t *)x + i), narrow_f(v, type));
}

PQ_INLINE void store_first_f(void *x, size_t i, size_t n, vf v, pq_type type)
{
    if (type == PQ_F32) _mm256_maskstore_ps((float *)x + i, first_lanes(n), v);
    else store_first_bytes((uint16_t *)x + i, 2 * pq_min(n, LANES), _mm256_castsi128_si256(narrow_f(v, type)));
}

PQ_INLINE void stream_f(void *x, size_t i, vf v, pq_type type)
{
    if (type == PQ_F32) _mm256_stream_ps((float *)x + i, v);
    else _mm_stream_si128((__m128i *)((uint16_t *)x + i), narrow_f(v, type));
}

PQ_INLINE vi widen_codes(__m128i q, pq_type type)
{
    switch (type) {
    case PQ_I8: return _mm256_cvtepi8_epi32(q);
    case PQ_U8: return _mm256_cvtepu8_epi32(q);
    case PQ_I16: return _mm256_cvtepi16_epi32(q);
    default: return _mm256_cvtepu16_epi32(q);
    }
}

PQ_INLINE vi load_codes(const void *q, size_t i, pq_type type)
{
    if (type == PQ_I8 || type == PQ_U8)
        return widen_codes(_mm_loadl_epi64((const __m128i *)((const int8_t *)q + i)), type);
    return widen_codes(_mm_loadu_si128((const __m128i *)((const int16_t *)q + i)), type);
}

PQ_INLINE vi load_first_codes(const void *q, size_t i, size_t n, pq_type type)
{
    const size_t size = type == PQ_I8 || type == PQ_U8 ? 1 : 2;
    return widen_codes(load_first_bytes((const char *)q + i * size, n, size), type);
}

PQ_INLINE vi load_i(const int32_t *x, size_t i) { return _mm256_loadu_si256((const __m256i *)(x + i)); }
PQ_INLINE vi load_first_i(const int32_t *x, size_t i, size_t n) { return _mm256_maskload_epi32(x + i, first_lanes(n)); }

/* See avx512.h. */
enum { SATURATES = 1 };
PQ_INLINE vi set_byte(int x) { return _mm256_set1_epi8((char)x); }
PQ_INLINE vi pack_words(vi a, vi b) { return _mm256_packs_epi32(a, b); }
PQ_INLINE vi add_saturating(vi a, vi b) { return _mm256_adds_epi16(a, b); }
PQ_INLINE vi pack_bytes(vi ab, vi cd)
{
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab, cd), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
PQ_INLINE vi min_bytes(vi a, vi b) { return _mm256_min_epi8(a, b); }
PQ_INLINE vi max_bytes(vi a, vi b) { return _mm256_max_epi8(a, b); }
PQ_INLINE int holds_lowest(vi ab, vi cd)
{
    const vi lowest = _mm256_set1_epi16(-32768);
    const vi found = _mm256_or_si256(_mm256_cmpeq_epi16(ab, lowest), _mm256_cmpeq_epi16(cd, lowest));
    return _mm256_movemask_epi8(found) != 0;
}
PQ_INLINE int holds_indefinite(vi a, vi b, vi c, vi d)
{
    const vi lowest = set_i(INT32_MIN);
    const vi ab = _mm256_or_si256(_mm256_cmpeq_epi32(a, lowest), _mm256_cmpeq_epi32(b, lowest));
    const vi cd = _mm256_or_si256(_mm256_cmpeq_epi32(c, lowest), _mm256_cmpeq_epi32(d, lowest));
    return _mm256_movemask_epi8(_mm256_or_si256(ab, cd)) != 0;
}

PQ_INLINE vi low_words(vi a, vi b)
{
    const vi word = set_i(0xffff);
    const vi packed = _mm256_packus_epi32(_mm256_and_si256(a, word), _mm256_and_si256(b, word));
    return _mm256_permute4x64_epi64(packed, 0xd8);
}
PQ_INLINE vi add_words(vi a, vi b) { return _mm256_add_epi16(a, b); }

#define PUT_VECTOR _mm256_storeu_si256
#define STREAM_VECTOR _mm256_stream_si256
#include "codes.inc"

PQ_INLINE void store_first_codes(void *q, size_t i, size_t n, codes c, pq_type type)
{
    if (type == PQ_I8) {
        store_first_bytes((int8_t *)q + i, pq_min(n, BLOCK), c.low);
    } else {
        store_first_bytes((int16_t *)q + i, 2 * pq_min(n, BLOCK / 2), c.low);
        if (n > BLOCK / 2) store_first_bytes((int16_t *)q + i + 16, 2 * pq_min(n - BLOCK / 2, BLOCK / 2), c.high);
    }
}

PQ_INLINE void stream_line(void *to, const void *from)
{
    _mm256_stream_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)from));
    _mm256_stream_si256((__m256i *)to + 1, _mm256_loadu_si256((const __m256i *)from + 1));
}
