/* AMX's tile registers in plain C, in place of csrc/simd/amxint8.h (the compiler gets -include amx_model.h), so that
 * kernels for them run on every CPU. After Intel's manual: what an instruction faults at ends the program here. One
 * thread. */
#ifndef PQ_SIMD_AMXINT8_H
#define PQ_SIMD_AMXINT8_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} tile_configuration;

enum { MODEL_TILES = 8, MODEL_ROWS = 16, MODEL_BYTES = 64 };
typedef struct {
    tile_configuration configuration; /* palette 0: released */
    unsigned char tile[MODEL_TILES][MODEL_ROWS][MODEL_BYTES];
} amx_model;
extern amx_model amx; /* where the program defines it */

static inline void amx_must(int condition, const char *what)
{
    if (condition) return;
    printf("FAILED AMX: %s\n", what);
    exit(1);
}

/* #GP: not a palette, not 0 where it is reserved, more than fits, or a tile with rows but no bytes. */
static inline void amx_configure(const tile_configuration *c)
{
    amx_must(sizeof *c == 64, "the configuration is not 64 bytes");
    amx_must(c->palette == 1, "no such palette");
    amx_must(c->start_row == 0, "a start row");
    for (size_t i = 0; i < sizeof c->reserved; i++) amx_must(c->reserved[i] == 0, "a reserved byte is not 0");
    for (size_t t = 0; t < 16; t++) {
        amx_must((c->rows[t] == 0) == (c->bytes[t] == 0), "a tile with rows and no bytes, or bytes and no rows");
        amx_must(c->rows[t] <= (t < MODEL_TILES ? MODEL_ROWS : 0), "too many rows");
        amx_must(c->bytes[t] <= (t < MODEL_TILES ? MODEL_BYTES : 0), "too many bytes");
    }
    memset(&amx, 0, sizeof amx);
    amx.configuration = *c;
}

/* #UD: without a configuration, or a tile that it leaves out. */
static inline void amx_use(size_t t)
{
    amx_must(amx.configuration.palette == 1, "tiles are used without a configuration");
    amx_must(t < MODEL_TILES && amx.configuration.rows[t] != 0, "a tile is used that is not configured");
}

static inline void amx_load(size_t t, const void *p, ptrdiff_t stride)
{
    amx_use(t);
    memset(amx.tile[t], 0, sizeof amx.tile[t]);
    for (ptrdiff_t r = 0; r < amx.configuration.rows[t]; r++)
        memcpy(amx.tile[t][r], (const char *)p + r * stride, amx.configuration.bytes[t]);
}

static inline void amx_store(size_t t, void *p, ptrdiff_t stride)
{
    amx_use(t);
    for (ptrdiff_t r = 0; r < amx.configuration.rows[t]; r++)
        memcpy((char *)p + r * stride, amx.tile[t][r], amx.configuration.bytes[t]);
}

/* Also #UD: the same tile twice, or shapes that do not fit together. */
static inline void amx_multiply(size_t c, size_t a, size_t b)
{
    const tile_configuration *s = &amx.configuration;
    amx_use(c), amx_use(a), amx_use(b);
    amx_must(c != a && c != b && a != b, "a tile is used twice in a product");
    amx_must(s->bytes[c] % 4 == 0 && s->bytes[a] % 4 == 0 && s->bytes[b] % 4 == 0, "not whole groups of four bytes");
    amx_must(s->rows[c] == s->rows[a], "other rows in the sums than in a");
    amx_must(s->bytes[a] / 4 == s->rows[b], "other groups in a than in b");
    amx_must(s->bytes[c] == s->bytes[b], "other columns in the sums than in b");
    unsigned char result[MODEL_ROWS][MODEL_BYTES] = {{0}};
    for (size_t m = 0; m < s->rows[c]; m++)
        for (size_t n = 0; n < s->bytes[c] / 4u; n++) {
            uint32_t sum;
            memcpy(&sum, &amx.tile[c][m][4 * n], 4);
            for (size_t k = 0; k < s->bytes[a]; k++)
                sum += (uint32_t)((int8_t)amx.tile[a][m][k] * (int8_t)amx.tile[b][k / 4][4 * n + k % 4]);
            memcpy(&result[m][4 * n], &sum, 4);
        }
    memcpy(amx.tile[c], result, sizeof result);
}

#define CONFIGURE_TILES(configuration) amx_configure(&(configuration))
#define RELEASE_TILES() memset(&amx, 0, sizeof amx)
#define LOAD_TILE(t, p, stride) amx_load(t, p, (ptrdiff_t)(stride))
#define STORE_TILE(t, p, stride) amx_store(t, p, (ptrdiff_t)(stride))
#define MULTIPLY_TILES(c, a, b) amx_multiply(c, a, b)

#endif
