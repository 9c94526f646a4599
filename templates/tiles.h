/* Tile operations of one chunk in C: what printed walks over chunks call.
 *
 * `real` is REAL, float unless the includer says double. Matrices are row-major; their row strides, in reals,
 * are multiples of LANES, and what lies beyond the columns of a row is scratch: it may be read and written,
 * and holds anything, NaN too, but reaches no result. Vectors over time are contiguous. Results overlap no
 * arguments, unless a function says so. Compile with -ffp-contract=fast -fno-math-errno -fno-trapping-math,
 * and never with -ffast-math: NaN and infinities mean what they say.
 *
 * The mathematics, and the words for intervals (exclusive, strict), are those of rnnc.ops.tiles.
 */
#ifndef RNNC_TILES_H
#define RNNC_TILES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef REAL
#define REAL float
#endif
#define TILES_BITS_float 32
#define TILES_BITS_double 64
#define TILES_JOIN_(a, b) a##b
#define TILES_JOIN(a, b) TILES_JOIN_(a, b)
#define REAL_BITS TILES_JOIN(TILES_BITS_, REAL)
typedef REAL real;

/* Bytes of a vector register, and how many registers there are. */
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define VECTOR_REGISTERS 32
#elif defined(__AVX2__) || defined(__AVX__)
#define VECTOR_BYTES 32
#define VECTOR_REGISTERS 16
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define VECTOR_REGISTERS 32
#else
#define VECTOR_BYTES 16
#define VECTOR_REGISTERS 16
#endif
#define LANES (VECTOR_BYTES * 8 / REAL_BITS)

/* The number of reals, rounded up to whole registers: the shortest row stride for so many columns. */
#define PADDED(n) (((n) + LANES - 1) / LANES * LANES)

/* TILE: not every walk uses every function; each is compiled once, for compilers take their time. INLINE: sizes
 * are constants where it is called. */
#ifndef TILE
#define TILE static __attribute__((unused, noinline))
#endif
#define INLINE static inline __attribute__((always_inline, unused))
#define ALIGNED __attribute__((aligned(64)))

#include "tiles_vectors.h"

#include "tiles_functions.h"

#include "tiles_products.h"

#include "tiles_sums.h"

#include "tiles_paths.h"

#include "tiles_triangles.h"

#include "tiles_decays.h"

#include "tiles_decay_grads.h"

#endif
