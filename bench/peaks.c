/* What the multipliers of this machine can do: the instructions of an int8 product on registers alone.
 *
 * Compiled by bench/peaks.py at bench time and loaded with ctypes. Inline assembly throughout: a compiler would hoist,
 * reorder or drop work whose result nobody reads. One repeat is a fixed number of operations on each thread.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STEPS 16 /* a loop's own instructions must not count */

typedef struct {
  _Alignas(64) int8_t bytes[1024];
} operands;

/* Full-range values: on zeros some of these instructions run faster. */
static operands random_operands(void) {
  operands data;
  uint32_t state = 12345;
  for (size_t i = 0; i < sizeof data.bytes; i++) {
    state = state * 1664525u + 1013904223u;
    data.bytes[i] = (int8_t)(state >> 24);
  }
  return data;
}

/* 4 tiles of 16 x 16 sums, 16 x 16 x 64 products each. GCC 12's _tile_loadconfig tells the compiler that it reads
 * 8 bytes only, so the whole struct is an operand here. */
static void amx(size_t repeats) {
  const operands data = random_operands();
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t columns[16];
    uint8_t rows[16];
  } config = {.palette = 1};
  for (int t = 0; t < 8; t++) {
    config.columns[t] = 64;
    config.rows[t] = 16;
  }
  const int64_t stride = 64;
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
  __asm__ volatile(
      "tileloadd (%0,%1,1), %%tmm4\n\ttileloadd (%0,%1,1), %%tmm5\n\t"
      "tileloadd (%0,%1,1), %%tmm6\n\ttileloadd (%0,%1,1), %%tmm7\n\t"
      "tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3"
      ::"r"(data.bytes), "r"(stride), "m"(data));
  for (size_t r = 0; r < repeats * STEPS / 4; r++)
    __asm__ volatile(
        ".rept 4\n\t"
        "tdpbssd %%tmm6, %%tmm4, %%tmm0\n\ttdpbssd %%tmm7, %%tmm4, %%tmm1\n\t"
        "tdpbssd %%tmm6, %%tmm5, %%tmm2\n\ttdpbssd %%tmm7, %%tmm5, %%tmm3\n\t"
        ".endr" ::: "memory");
  __asm__ volatile("tilerelease");
}

#define VECTORS16                                                                                                      \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", \
      "xmm14", "xmm15"
#if defined(__AVX512F__)
#define VECTORS \
  VECTORS16, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25"
#else /* the compiler uses no others */
#define VECTORS VECTORS16
#endif

/* Loads the operands and does `body` twice, again and again. */
#define LOOP(name, load, body, vectors)                                                                    \
  static void name(size_t repeats) {                                                                       \
    const operands data = random_operands();                                                               \
    for (size_t r = 0; r < repeats * STEPS; r++)                                                           \
      __asm__ volatile(load ".rept 2\n\t" body ".endr" ::"r"(data.bytes), "m"(data) : vectors);            \
    __asm__ volatile("vzeroupper");                                                                        \
  }

/* 24 and 12 chains of sums: more than any CPU needs to hide the latency. */
LOOP(avx512vnni,
     "vmovdqa64 (%0), %%zmm24\n\tvmovdqa64 64(%0), %%zmm25\n\t",
     ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23\n\t"
     "vpdpbusd %%zmm25, %%zmm24, %%zmm\\n\n\t"
     ".endr\n\t",
     VECTORS)
LOOP(avxvnni,
     "vmovdqa (%0), %%ymm14\n\tvmovdqa 32(%0), %%ymm15\n\t",
     ".irp n,0,1,2,3,4,5,6,7,8,9,10,11\n\t"
     "%{vex%} vpdpbusd %%ymm15, %%ymm14, %%ymm\\n\n\t"
     ".endr\n\t",
     VECTORS16)

/* The exact way of AVX2: 16-bit products added in pairs (no saturation possible), then added up. */
LOOP(avx2,
     "vmovdqa (%0), %%ymm14\n\tvmovdqa 32(%0), %%ymm15\n\t",
     "vpmaddwd %%ymm14, %%ymm15, %%ymm8\n\tvpmaddwd %%ymm14, %%ymm15, %%ymm9\n\t"
     "vpmaddwd %%ymm14, %%ymm15, %%ymm10\n\tvpmaddwd %%ymm14, %%ymm15, %%ymm11\n\t"
     "vpaddd %%ymm8, %%ymm0, %%ymm0\n\tvpaddd %%ymm9, %%ymm1, %%ymm1\n\t"
     "vpaddd %%ymm10, %%ymm2, %%ymm2\n\tvpaddd %%ymm11, %%ymm3, %%ymm3\n\t"
     "vpmaddwd %%ymm14, %%ymm15, %%ymm8\n\tvpmaddwd %%ymm14, %%ymm15, %%ymm9\n\t"
     "vpmaddwd %%ymm14, %%ymm15, %%ymm10\n\tvpmaddwd %%ymm14, %%ymm15, %%ymm11\n\t"
     "vpaddd %%ymm8, %%ymm4, %%ymm4\n\tvpaddd %%ymm9, %%ymm5, %%ymm5\n\t"
     "vpaddd %%ymm10, %%ymm6, %%ymm6\n\tvpaddd %%ymm11, %%ymm7, %%ymm7\n\t",
     VECTORS16)

static int bit(unsigned leaf, unsigned subleaf, int reg, int index) {
  unsigned r[4];
  if (!__get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3])) return 0;
  return (int)(r[reg] >> index & 1u);
}

enum { EAX, EBX, ECX, EDX };

/* Bits of XCR0: what the operating system keeps for a thread. */
static int kept(uint32_t mask) {
  uint32_t low, high;
  if (!bit(1, 0, ECX, 27)) return 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & mask) == mask;
}

static int has_avx2(void) { return kept(0x6) && bit(7, 0, EBX, 5); }
static int has_avxvnni(void) { return has_avx2() && bit(7, 1, EAX, 4); }
static int has_avx512vnni(void) { return kept(0xe6) && bit(7, 0, EBX, 16) && bit(7, 0, ECX, 11); }

/* Linux gives tiles to who asks: ARCH_REQ_XCOMP_PERM for XTILEDATA. */
static int has_amx(void) {
  return kept(0x60000) && bit(7, 0, EDX, 24) && bit(7, 0, EDX, 25) && syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

static const struct {
  const char *name;
  int (*usable)(void);
  void (*run)(size_t repeats);
  double operations; /* in one repeat: two for each product */
} peaks[] = {
    {"amxint8", has_amx, amx, 2.0 * STEPS * 4 * 16 * 16 * 64},
    {"avx512vnni", has_avx512vnni, avx512vnni, 2.0 * STEPS * 48 * 64},
    {"avxvnni", has_avxvnni, avxvnni, 2.0 * STEPS * 24 * 32},
    {"avx2", has_avx2, avx2, 2.0 * STEPS * 16 * 16},
};
#define PEAKS (sizeof peaks / sizeof *peaks)

const char *peak_name(size_t index) { return index < PEAKS ? peaks[index].name : NULL; }
int peak_usable(size_t index) { return peaks[index].usable(); }
double peak_operations(size_t index) { return peaks[index].operations; }

void peak_run(size_t index, int threads, size_t repeats) {
  if (threads == 1) {
    peaks[index].run(repeats);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; t++) peaks[index].run(repeats);
}

#else /* no loop for this processor */

const char *peak_name(size_t index) { return (void)index, NULL; }
int peak_usable(size_t index) { return (void)index, 0; }
double peak_operations(size_t index) { return (void)index, 0; }
void peak_run(size_t index, int threads, size_t repeats) { (void)index, (void)threads, (void)repeats; }

#endif
