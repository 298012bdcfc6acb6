/* The machine's own limits: plain C loops over the bytes each operation must move.
 *
 * Compiled by bench/limits.py at bench time with the system compiler, -O3 -march=native, and loaded
 * with ctypes. These loops are no reference for results: the multiply by a reciprocal is wrong for
 * some inputs, NaN is ignored, and nothing is checked. They say how fast the bytes can move.
 *
 * Every loop takes a run of elements; limit_run splits it over threads, repeats it (so that the
 * call from Python costs nothing per run) and, when asked, sends the result around the caches with
 * streaming stores through a tile that stays in L1.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SCALE 0.02f
#define ZERO 3
#define LOW (-128.0f)
#define HIGH 127.0f
#define TILE 2048 /* elements; at most 8 KiB in and 8 KiB out */
#define LANES 128 /* partial results of a reduction: enough to hide the latency of an add */

typedef void (*loop)(const void *restrict in, void *restrict out, size_t n);

static inline float from_bits(uint32_t bits) {
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

static inline uint32_t to_bits(float v) {
  uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  return bits;
}

/* Clamp first, then adding 1.5 * 2^23 leaves the rounded integer in the low bits: the cheapest way
 * to int8 that every compiler vectorizes. */
static inline uint32_t to_steps(float steps) {
  float v = steps;
  v = v < LOW - ZERO ? LOW - ZERO : v;
  v = v > HIGH - ZERO ? HIGH - ZERO : v;
  return to_bits(v + 12582912.0f) + ZERO;
}

static inline int8_t to_int8(float steps) { return (int8_t)(uint8_t)to_steps(steps); }

static void copy_bytes(const void *restrict in, void *restrict out, size_t n) { memcpy(out, in, n); }

static void quantize_multiply(const void *restrict in, void *restrict out, size_t n) {
  const float *x = in;
  int8_t *q = out;
  for (size_t i = 0; i < n; i++) q[i] = to_int8(x[i] * (1.0f / SCALE));
}

static void quantize_divide(const void *restrict in, void *restrict out, size_t n) {
  const float *x = in;
  int8_t *q = out;
  for (size_t i = 0; i < n; i++) q[i] = to_int8(x[i] / SCALE);
}

static void dequantize(const void *restrict in, void *restrict out, size_t n) {
  const int8_t *q = in;
  float *x = out;
  for (size_t i = 0; i < n; i++) x[i] = (float)(q[i] - ZERO) * SCALE;
}

static void fake_quantize(const void *restrict in, void *restrict out, size_t n) {
  const float *x = in;
  float *y = out;
  for (size_t i = 0; i < n; i++) {
    float v = rintf(x[i] * (1.0f / SCALE)) + (float)ZERO;
    v = v < LOW ? LOW : v;
    v = v > HIGH ? HIGH : v;
    y[i] = (v - (float)ZERO) * SCALE;
  }
}

static void bfloat16_in(const void *restrict in, void *restrict out, size_t n) {
  const uint16_t *x = in;
  int8_t *q = out;
  for (size_t i = 0; i < n; i++) q[i] = to_int8(from_bits((uint32_t)x[i] << 16) * (1.0f / SCALE));
}

static void bfloat16_out(const void *restrict in, void *restrict out, size_t n) {
  const int8_t *q = in;
  uint16_t *x = out;
  for (size_t i = 0; i < n; i++) {
    uint32_t bits = to_bits((float)(q[i] - ZERO) * SCALE);
    x[i] = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
}

/* float16 by the conversion instructions where the compiler would not vectorize them itself. */
static void float16_in(const void *restrict in, void *restrict out, size_t n) {
#if defined(__AVX512F__)
  const uint16_t *x = in;
  int8_t *q = out;
  const __m512 inverse = _mm512_set1_ps(1.0f / SCALE);
  const __m512i zero = _mm512_set1_epi32(ZERO);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    __m512 v = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(x + i)));
    __m512i steps = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(v, inverse)), zero);
    _mm_storeu_si128((__m128i *)(q + i), _mm512_cvtsepi32_epi8(steps));
  }
  for (; i < n; i++) q[i] = to_int8(_cvtsh_ss(x[i]) * (1.0f / SCALE));
#elif defined(__F16C__)
  const uint16_t *x = in;
  int8_t *q = out;
  float wide[8];
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(wide, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
    for (size_t j = 0; j < 8; j++) q[i + j] = to_int8(wide[j] * (1.0f / SCALE));
  }
  for (; i < n; i++) q[i] = to_int8(_cvtsh_ss(x[i]) * (1.0f / SCALE));
#elif defined(__aarch64__)
  const __fp16 *x = in;
  int8_t *q = out;
  for (size_t i = 0; i < n; i++) q[i] = to_int8((float)x[i] * (1.0f / SCALE));
#else
  bfloat16_in(in, out, n);
#endif
}

static void float16_out(const void *restrict in, void *restrict out, size_t n) {
#if defined(__F16C__)
  const int8_t *q = in;
  uint16_t *x = out;
  size_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16) {
    __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(q + i)));
    __m512 v = _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, _mm512_set1_epi32(ZERO)));
    v = _mm512_mul_ps(v, _mm512_set1_ps(SCALE));
    _mm256_storeu_si256((__m256i *)(x + i), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
#endif
  for (; i + 8 <= n; i += 8) {
    __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(q + i)));
    __m256 v = _mm256_cvtepi32_ps(_mm256_sub_epi32(wide, _mm256_set1_epi32(ZERO)));
    v = _mm256_mul_ps(v, _mm256_set1_ps(SCALE));
    _mm_storeu_si128((__m128i *)(x + i), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  for (; i < n; i++) x[i] = _cvtss_sh((float)(q[i] - ZERO) * SCALE, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__aarch64__)
  const int8_t *q = in;
  __fp16 *x = out;
  for (size_t i = 0; i < n; i++) x[i] = (__fp16)((float)(q[i] - ZERO) * SCALE);
#else
  bfloat16_out(in, out, n);
#endif
}

static void pack_int4(const void *restrict in, void *restrict out, size_t n) {
  const uint16_t *pairs = in; /* two elements each, the first in the low byte */
  uint8_t *packed = out;
  for (size_t i = 0; i < n / 2; i++)
    packed[i] = (uint8_t)((pairs[i] & 0x0f) | ((pairs[i] >> 4) & 0xf0));
}

static void unpack_int4(const void *restrict in, void *restrict out, size_t n) {
  const uint8_t *packed = in;
  uint16_t *pairs = out;
  for (size_t i = 0; i < n / 2; i++) {
    uint16_t low = packed[i] & 0x0f, high = packed[i] >> 4;
    pairs[i] = (uint16_t)((((low ^ 8u) - 8u) & 0xff) | (((high ^ 8u) - 8u) << 8));
  }
}

/* Reductions leave one float in out. Blocks of LANES partial results vectorize without -ffast-math. */
static void read_sum(const void *restrict in, void *restrict out, size_t n) {
  const float *x = in;
  float sum[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (size_t j = 0; j < LANES; j++) sum[j] += x[i + j];
  for (; i < n; i++) sum[0] += x[i];
  for (size_t j = 1; j < LANES; j++) sum[0] += sum[j];
  *(float *)out = sum[0];
}

static void read_minmax(const void *restrict in, void *restrict out, size_t n) {
  const float *x = in;
  float low[LANES] = {0}, high[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (size_t j = 0; j < LANES; j++) {
      low[j] = x[i + j] < low[j] ? x[i + j] : low[j];
      high[j] = x[i + j] > high[j] ? x[i + j] : high[j];
    }
  for (; i < n; i++) {
    low[0] = x[i] < low[0] ? x[i] : low[0];
    high[0] = x[i] > high[0] ? x[i] : high[0];
  }
  for (size_t j = 1; j < LANES; j++) {
    low[0] = low[j] < low[0] ? low[j] : low[0];
    high[0] = high[j] > high[0] ? high[j] : high[0];
  }
  *(float *)out = high[0] - low[0];
}

/* The weights of a product, read once, in two streams or in one: CPUs differ in which is faster. */
static void read_stream(const void *restrict in, void *restrict out, size_t n) {
  const uint64_t *x = in;
  uint64_t bits[LANES / 2] = {0};
  size_t i = 0;
  for (; i + LANES / 2 <= n / 8; i += LANES / 2)
    for (size_t j = 0; j < LANES / 2; j++) bits[j] ^= x[i + j];
  for (; i < n / 8; i++) bits[0] ^= x[i];
  for (size_t j = 1; j < LANES / 2; j++) bits[0] ^= bits[j];
  memcpy(out, bits, sizeof *bits);
}

static void read_streams(const void *restrict in, void *restrict out, size_t n) {
  const uint64_t *x = in, *y = x + n / 16;
  uint64_t bits[LANES / 2] = {0};
  size_t i = 0;
  for (; i + LANES / 2 <= n / 16; i += LANES / 2)
    for (size_t j = 0; j < LANES / 2; j++) bits[j] ^= x[i + j] ^ y[i + j];
  for (; i < n / 16; i++) bits[0] ^= x[i] ^ y[i];
  for (size_t j = 1; j < LANES / 2; j++) bits[0] ^= bits[j];
  memcpy(out, bits, sizeof *bits);
}

/* The result of a product, written and nothing else. */
static void fill(const void *restrict in, void *restrict out, size_t n) {
  uint32_t value;
  memcpy(&value, in, sizeof value);
  uint32_t *y = out;
  for (size_t i = 0; i < n; i++) y[i] = value;
}

/* Order and sizes are read by bench/limits.py through limit_name; keep the two in one place: here. */
static const struct {
  const char *name;
  loop run;
  unsigned in_bits, out_bits; /* per element; out_bits 0: a reduction */
} loops[] = {
    {"memcpy", copy_bytes, 8, 8},
    {"multiply", quantize_multiply, 32, 8},
    {"divide", quantize_divide, 32, 8},
    {"dequantize", dequantize, 8, 32},
    {"fake quantize", fake_quantize, 32, 32},
    {"float16 in", float16_in, 16, 8},
    {"bfloat16 in", bfloat16_in, 16, 8},
    {"float16 out", float16_out, 8, 16},
    {"bfloat16 out", bfloat16_out, 8, 16},
    {"pack int4", pack_int4, 8, 4},
    {"unpack int4", unpack_int4, 4, 8},
    {"read", read_sum, 32, 0},
    {"min/max", read_minmax, 32, 0},
    {"read stream", read_stream, 8, 0},
    {"read streams", read_streams, 8, 0},
    {"fill", fill, 0, 32},
};

const char *limit_name(size_t index) {
  return index < sizeof loops / sizeof *loops ? loops[index].name : NULL;
}

static void stream(void *restrict out, const void *restrict tile, size_t bytes) {
#if defined(__AVX512F__)
  size_t i = 0;
  if ((uintptr_t)out % 64 == 0)
    for (; i + 64 <= bytes; i += 64)
      _mm512_stream_si512((__m512i *)((char *)out + i),
                          _mm512_load_si512((const char *)tile + i));
  memcpy((char *)out + i, (const char *)tile + i, bytes - i);
#elif defined(__x86_64__)
  size_t i = 0;
  if ((uintptr_t)out % 16 == 0)
    for (; i + 16 <= bytes; i += 16)
      _mm_stream_si128((__m128i *)((char *)out + i),
                       _mm_load_si128((const __m128i *)((const char *)tile + i)));
  memcpy((char *)out + i, (const char *)tile + i, bytes - i);
#else
  memcpy(out, tile, bytes);
#endif
}

static void run_part(size_t index, const char *in, char *out, size_t n, int streaming) {
  const unsigned in_bits = loops[index].in_bits, out_bits = loops[index].out_bits;
  if (!streaming || out_bits == 0) {
    loops[index].run(in, out, n);
    return;
  }
  _Alignas(64) char tile[TILE * 4];
  for (size_t i = 0; i < n; i += TILE) {
    size_t m = n - i < TILE ? n - i : TILE;
    loops[index].run(in + i * in_bits / 8, tile, m);
    stream(out + i * out_bits / 8, tile, m * out_bits / 8);
  }
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

/* out must hold n elements, for a reduction 64 bytes for each thread. */
void limit_run(size_t index, const void *in, void *out, size_t n, int threads, int streaming,
               size_t repeats) {
  const unsigned in_bits = loops[index].in_bits, out_bits = loops[index].out_bits;
  const size_t step = (n / (size_t)threads + 127) / 128 * 128;
  for (size_t r = 0; r < repeats; r++) {
    if (threads == 1) {
      run_part(index, in, out, n, streaming);
    } else {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
      for (int t = 0; t < threads; t++) {
        size_t begin = step * (size_t)t < n ? step * (size_t)t : n;
        size_t end = t + 1 == threads ? n : (begin + step < n ? begin + step : n);
        char *place = (char *)out + (out_bits ? begin * out_bits / 8 : 64 * (size_t)t);
        run_part(index, (const char *)in + begin * in_bits / 8, place, end - begin, streaming);
      }
    }
    __asm__ volatile("" ::: "memory"); /* each repeat does all its work */
  }
}
