/* The tile registers of AMX: eight, of at most 16 rows of 64 bytes. The macros take their numbers as literals.
 *
 * Inline assembly, because of GCC 12's intrinsics _tile_loadconfig says that it reads 8 bytes only, which drops the
 * rest of the configuration, and _tile_loadd that it reads nothing, which lets stores to the tile's memory come too
 * late. */
#ifndef PQ_SIMD_AMXINT8_H
#define PQ_SIMD_AMXINT8_H

#include <stddef.h>
#include <stdint.h>

/* What LDTILECFG reads: palette 1 is the only one, and a tile has `rows` rows of `bytes` bytes. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} tile_configuration;

#define TMM_(t) "%%tmm" #t
#define TMM(t) TMM_(t)

/* All tiles become zeros. */
#define CONFIGURE_TILES(configuration) __asm__ volatile("ldtilecfg\t%0" : : "m"(configuration))
#define RELEASE_TILES() __asm__ volatile("tilerelease")

/* Rows that are `stride` bytes apart; 0 makes all rows the same. */
#define LOAD_TILE(t, p, stride) \
    __asm__ volatile("tileloadd\t(%0,%1,1), " TMM(t) : : "r"(p), "r"((ptrdiff_t)(stride)) : "memory")
#define STORE_TILE(t, p, stride) \
    __asm__ volatile("tilestored\t" TMM(t) ", (%0,%1,1)" : : "r"(p), "r"((ptrdiff_t)(stride)) : "memory")

/* c[m][n] += the sum over k of a[m][k] * b[k / 4][4 * n + k % 4]: int8 in a and b, int32 in c. */
#define MULTIPLY_TILES(c, a, b) __asm__ volatile("tdpbssd\t" TMM(b) ", " TMM(a) ", " TMM(c) : :)

#endif
