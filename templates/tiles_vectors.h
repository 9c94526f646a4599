/* Registers of LANES reals: loads, stores, transposition and sums over lanes. */

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real unaligned_vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef TILES_JOIN(TILES_JOIN(int, REAL_BITS), _t) lane_int;
typedef lane_int lane_ints __attribute__((vector_size(VECTOR_BYTES)));

INLINE vec load(const real *x) { return *(const unaligned_vec *)x; }

INLINE void store(real *out, vec x) { *(unaligned_vec *)out = x; }

INLINE vec fill(real x) { return x - (vec){0}; }

/* All bits of the lanes from `first` on and before `end`, no bit of others. */
INLINE lane_ints lanes_between(long first, long end) {
    static const lane_int numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    lane_ints lane;
    memcpy(&lane, numbers, sizeof lane);
    return (lane >= (lane_int)first) & (lane < (lane_int)end);
}

/* The lanes of x before `count`; the others are 0, whatever they held. */
INLINE vec first_lanes(vec x, long count) { return (vec)((lane_ints)x & lanes_between(0, count)); }

/* Of `count` reals at x; lanes beyond are 0. LANES reals can be read there. */
INLINE vec load_part(const real *x, long count) {
    return count >= LANES ? load(x) : first_lanes(load(x), count);
}

#if LANES == 16
#define LOW_LANES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_LANES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif LANES == 8
#define LOW_LANES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_LANES 4, 12, 5, 13, 6, 14, 7, 15
#elif LANES == 4
#define LOW_LANES 0, 4, 1, 5
#define HIGH_LANES 2, 6, 3, 7
#else
#define LOW_LANES 0, 2
#define HIGH_LANES 1, 3
#endif

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (lane_ints){__VA_ARGS__})
#endif

/* a0 b0 a1 b1 ... of the lower halves, and of the upper ones. */
INLINE vec interleave_low(vec a, vec b) { return SHUFFLE(a, b, LOW_LANES); }

INLINE vec interleave_high(vec a, vec b) { return SHUFFLE(a, b, HIGH_LANES); }

/* LANES registers, transposed in place: perfect shuffles, as many as LANES has bits. */
INLINE void transpose_lanes(vec x[LANES]) {
    vec y[LANES];
#pragma GCC unroll 4
    for (int width = 1; width < LANES; width *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            y[2 * i] = interleave_low(x[i], x[i + LANES / 2]);
            y[2 * i + 1] = interleave_high(x[i], x[i + LANES / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) x[i] = y[i];
    }
}

/* In lane i the sum over the lanes of x[i]; x is overwritten. */
INLINE vec sums_of_lanes(vec x[LANES]) {
#pragma GCC unroll 4
    for (int half = LANES / 2; half; half /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < half; i++)
            x[i] = interleave_low(x[i], x[i + half]) + interleave_high(x[i], x[i + half]);
    }
    return x[0];
}

/* The sum over the lanes of x. */
INLINE real sum_of_lanes(vec x) {
#pragma GCC unroll 4
    for (int half = LANES / 2; half; half /= 2) x = interleave_low(x, x) + interleave_high(x, x);
    return x[0];
}
