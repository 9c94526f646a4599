/* Decays between all pairs of tokens that differ from channel to channel.
 *
 * With F[i,j] = prod_{j < t <= i} d[t] (exclusive: t < i), d of any sign, 0 for a reset,
 *
 *   decay_dot          A[i,j] = sum_k x[i,k] y[j,k] F[i,j,k]
 *   decay_dot_rows     R[i,k] = sum_j a[i,j] y[j,k] F[i,j,k]
 *   decay_dot_columns  R[j,k] = sum_i a[i,j] x[i,k] F[i,j,k]
 *   decay_dot_decay    R[t,k] = the derivative of sum a * A by d[t,k], or by log2 d[t,k]
 *
 * x has n rows and y m rows for each of the tokens, a power of two. In blocks of 2h tokens the pairs of the
 * upper half with the lower one factor at the cut between the halves, F[i,j] = row[i] column[j]: products of
 * matrices. Pairs within TILES_LEAF tokens are taken one after the other, channels side by side. */
#define TILES_LEAF 8

/* Reals of scratch that these functions need; ldk is the row stride of channels. */
#define decay_scratch(tokens, n, m, ldk)                                                                       \
    (((tokens) / 2 + 1) * ((n) + (m)) * (2 * PADDED(ldk)) + PADDED(ldk) * PADDED(((tokens) / 2 + 1) * (m)))

/* Whether pairs of the rows r and c of one token count: a triangle where both have as many. */
INLINE int own_pair(long r, long c, long n, long m, int exclusive, int strict) {
    return !exclusive && (n == m ? c < r + !strict : !strict);
}

/* Running products of d over tokens of half a block. `rows`: from the cut to each token of the upper half
 * (exclusive: before it). Otherwise: from after each token of the lower half to the cut. out = product * x,
 * for `count` rows of x per token; `add`: out += product * x. */
INLINE void scale_half(real *restrict out, long ldo, const real *restrict x, long ldx, const real *restrict d,
                       long ldd, long h, long count, long channels, int rows, int exclusive, int add) {
    for (long k = 0; k < channels; k += LANES) {
        vec product = fill(1);
        for (long s = 0; s < h; s++) {
            long t = rows ? s : h - 1 - s;
            if (rows && !exclusive) product *= load(d + t * ldd + k);
            for (long r = t * count; r < (t + 1) * count; r++) {
                vec value = product * load(x + r * ldx + k);
                real *place = out + r * ldo + k;
                store(place, add ? load(place) + value : value);
            }
            if (!rows || exclusive) product *= load(d + t * ldd + k);
        }
    }
}

/* Leaves: blocks of few tokens -------------------------------------------------------------------------- */

/* `decay_dot` within `tokens` tokens: row after row, back from its own token to the first. */
INLINE void leaf_dot(real *out, long ldo, const real *x, long ldx, const real *y, long ldy, const real *d, long ldd,
                     long tokens, long n, long m, long channels, int exclusive, int strict) {
    for (long i = 0; i < tokens; i++)
        for (long r = i * n; r < (i + 1) * n; r++) {
            for (long c = 0; c < tokens * m; c++) out[r * ldo + c] = 0;
            for (long c = 0; c < m; c++) {
                if (!own_pair(r - i * n, c, n, m, exclusive, strict)) continue;
                vec sum = {0};
                for (long k = 0; k < channels; k += LANES)
                    sum += load_part(x + r * ldx + k, channels - k) * load_part(y + (i * m + c) * ldy + k, channels - k);
                out[r * ldo + i * m + c] = sum_of_lanes(sum);
            }
            for (long c = 0; c < m; c++) {
                vec sum[TILES_LEAF];
                for (long j = 0; j < i; j++) sum[j] = (vec){0};
                for (long k = 0; k < channels; k += LANES) {
                    vec z = load_part(x + r * ldx + k, channels - k);
                    if (!exclusive) z *= load_part(d + i * ldd + k, channels - k);
                    for (long j = i - 1; j >= 0; j--) {
                        sum[j] += z * load_part(y + (j * m + c) * ldy + k, channels - k);
                        z *= load_part(d + j * ldd + k, channels - k);
                    }
                }
                for (long j = 0; j < i; j++) out[r * ldo + j * m + c] = sum_of_lanes(sum[j]);
            }
        }
}

/* What all rows y of token t give row r: sum_c a[r, c] y[c]. */
INLINE vec read_token(const real *a, const real *y, long ldy, long t, long m, long k) {
    vec sum = {0};
    for (long c = t * m; c < (t + 1) * m; c++) sum += a[c] * load(y + c * ldy + k);
    return sum;
}

/* What token t gives to column c: sum_r a[r, c] x[r], over the rows of the token. */
INLINE vec read_token_turned(const real *a, long lda, const real *x, long ldx, long t, long n, long k) {
    vec sum = {0};
    for (long r = t * n; r < (t + 1) * n; r++) sum += a[r * lda] * load(x + r * ldx + k);
    return sum;
}

INLINE void leaf_rows(real *out, long ldo, const real *a, long lda, const real *y, long ldy, const real *d,
                      long ldd, long tokens, long n, long m, long channels, int exclusive, int strict) {
    for (long k = 0; k < channels; k += LANES)
        for (long i = 0; i < tokens; i++)
            for (long r = i * n; r < (i + 1) * n; r++) {
                const real *row = a + r * lda;
                vec sum = {0};
                for (long j = 0; j < i; j++) {
                    sum += read_token(row, y, ldy, j, m, k);
                    if (!exclusive || j + 1 < i) sum *= load(d + (j + 1) * ldd + k);
                }
                for (long c = 0; c < m; c++)
                    if (own_pair(r - i * n, c, n, m, exclusive, strict)) sum += row[i * m + c] * load(y + (i * m + c) * ldy + k);
                store(out + r * ldo + k, sum);
            }
}

INLINE void leaf_columns(real *out, long ldo, const real *a, long lda, const real *x, long ldx, const real *d,
                         long ldd, long tokens, long n, long m, long channels, int exclusive, int strict) {
    for (long k = 0; k < channels; k += LANES)
        for (long j = 0; j < tokens; j++)
            for (long c = j * m; c < (j + 1) * m; c++) {
                const real *column = a + c;
                vec sum = {0};
                for (long i = tokens - 1; i > j; i--) {
                    vec read = read_token_turned(column, lda, x, ldx, i, n, k), factor = load(d + i * ldd + k);
                    sum = exclusive ? sum * factor + read : (sum + read) * factor;
                }
                for (long r = 0; r < n; r++)
                    if (own_pair(r, c - j * m, n, m, exclusive, strict))
                        sum += column[(j * n + r) * lda] * load(x + (j * n + r) * ldx + k);
                store(out + c * ldo + k, sum);
            }
}

/* dd[t] = sum over rows i and over j < t <= i of x[i] prod_{t < s <= i} d[s] times the sum over j of
 * a[i,j] y[j] prod_{j < s < t} d[s]. */
INLINE void leaf_decay(real *out, long ldo, const real *a, long lda, const real *x, long ldx, const real *y,
                       long ldy, const real *d, long ldd, long tokens, long n, long m, long channels,
                       int exclusive) {
    for (long k = 0; k < channels; k += LANES) {
        vec grad[TILES_LEAF], read[TILES_LEAF];
        for (long t = 0; t < tokens; t++) grad[t] = (vec){0};
        for (long i = 1; i < tokens; i++)
            for (long r = i * n; r < (i + 1) * n; r++) {
                long last = exclusive ? i - 1 : i;
                vec sum = {0};
                for (long t = 1; t <= last; t++) {
                    if (t > 1) sum *= load(d + (t - 1) * ldd + k);
                    read[t] = sum += read_token(a + r * lda, y, ldy, t - 1, m, k);
                }
                vec after = load(x + r * ldx + k);
                for (long t = last; t >= 1; t--) {
                    grad[t] += after * read[t];
                    after *= load(d + t * ldd + k);
                }
            }
        for (long t = 0; t < tokens; t++) store(out + t * ldo + k, grad[t]);
    }
}

/* All pairs ----------------------------------------------------------------------------------------------- */

TILE void decay_dot(real *out, long ldo, const real *x, long ldx, const real *y, long ldy, const real *d, long ldd,
                    long tokens, long n, long m, long channels, int exclusive, int strict, real *scratch) {
    long leaf = tokens < TILES_LEAF ? tokens : TILES_LEAF, width = PADDED(channels), half = tokens / 2;
    real *upper = scratch, *lower = upper + half * n * width, *turned = lower + half * m * width;
    for (long r = 0; r < tokens * n; r++) memset(out + r * ldo, 0, sizeof(real) * PADDED(tokens * m));
    for (long h = half; h >= leaf; h /= 2)
        for (long first = 0; first < tokens; first += 2 * h) {
            long cut = first + h, turned_width = PADDED(h * m);
            scale_half(upper, width, x + cut * n * ldx, ldx, d + cut * ldd, ldd, h, n, channels, 1, exclusive, 0);
            scale_half(lower, width, y + first * m * ldy, ldy, d + first * ldd, ldd, h, m, channels, 0, 0, 0);
            transpose(turned, turned_width, lower, width, h * m, channels);
            /* what this writes beyond its columns belongs to narrower blocks */
            gemm(out + cut * n * ldo + first * m, ldo, upper, width, 1, turned, turned_width, h * n, h * m, channels,
                 1, 0, 0, 0);
        }
    for (long t = 0; t < tokens; t += leaf)
        leaf_dot(out + t * n * ldo + t * m, ldo, x + t * n * ldx, ldx, y + t * m * ldy, ldy, d + t * ldd, ldd, leaf,
                 n, m, channels, exclusive, strict);
}

TILE void decay_dot_rows(real *out, long ldo, const real *a, long lda, const real *y, long ldy, const real *d,
                         long ldd, long tokens, long n, long m, long channels, int exclusive, int strict,
                         real *scratch) {
    long leaf = tokens < TILES_LEAF ? tokens : TILES_LEAF, width = PADDED(channels), half = tokens / 2;
    real *upper = scratch, *lower = upper + half * n * width;
    for (long t = 0; t < tokens; t += leaf)
        leaf_rows(out + t * n * ldo, ldo, a + t * n * lda + t * m, lda, y + t * m * ldy, ldy, d + t * ldd, ldd, leaf,
                  n, m, channels, exclusive, strict);
    for (long h = leaf; h <= half; h *= 2)
        for (long first = 0; first < tokens; first += 2 * h) {
            long cut = first + h;
            scale_half(lower, width, y + first * m * ldy, ldy, d + first * ldd, ldd, h, m, channels, 0, 0, 0);
            gemm(upper, width, a + cut * n * lda + first * m, lda, 1, lower, width, h * n, channels, h * m, 1, 0, 0,
                 0);
            scale_half(out + cut * n * ldo, ldo, upper, width, d + cut * ldd, ldd, h, n, channels, 1, exclusive, 1);
        }
}

TILE void decay_dot_columns(real *out, long ldo, const real *a, long lda, const real *x, long ldx, const real *d,
                            long ldd, long tokens, long n, long m, long channels, int exclusive, int strict,
                            real *scratch) {
    long leaf = tokens < TILES_LEAF ? tokens : TILES_LEAF, width = PADDED(channels), half = tokens / 2;
    real *upper = scratch, *lower = upper + half * n * width;
    for (long t = 0; t < tokens; t += leaf)
        leaf_columns(out + t * m * ldo, ldo, a + t * n * lda + t * m, lda, x + t * n * ldx, ldx, d + t * ldd, ldd,
                     leaf, n, m, channels, exclusive, strict);
    for (long h = leaf; h <= half; h *= 2)
        for (long first = 0; first < tokens; first += 2 * h) {
            long cut = first + h;
            scale_half(upper, width, x + cut * n * ldx, ldx, d + cut * ldd, ldd, h, n, channels, 1, exclusive, 0);
            gemm(lower, width, a + cut * n * lda + first * m, 1, lda, upper, width, h * m, channels, h * n, 1, 0, 0,
                 0);
            scale_half(out + first * m * ldo, ldo, lower, width, d + first * ldd, ldd, h, m, channels, 0, 0, 1);
        }
}

/* sum_r x[r] grad[r] over the `count` rows of token t. */
INLINE vec per_token(const real *x, long ldx, const real *grad, long ldg, long t, long count, long k) {
    vec sum = {0};
    for (long r = t * count; r < (t + 1) * count; r++) sum += load(x + r * ldx + k) * load(grad + r * ldg + k);
    return sum;
}

/* dd[t] += row[t-1] sum_{i >= t} (prod_{t < s <= i} d[s]) v[i], over the upper half of a block: v[i] being
 * the derivative by row[i]. Exclusive: i > t, s < i. `sums` are h rows of scratch. */
INLINE void upper_decay(real *dd, long ldo, const real *x, long ldx, const real *grad, long ldg, const real *d,
                        long ldd, long h, long n, long channels, int exclusive, real *sums) {
    for (long k = 0; k < channels; k += LANES) {
        vec sum = {0}, product = fill(1);
        for (long t = h - 1; t >= 0; t--) {
            if (t < h - 1) sum *= load(d + (t + 1) * ldd + k);
            if (exclusive ? t < h - 1 : 1) sum += per_token(x, ldx, grad, ldg, exclusive ? t + 1 : t, n, k);
            store(sums + t * LANES, sum);
        }
        for (long t = 0; t < h; t++) {
            real *place = dd + t * ldo + k;
            store(place, load(place) + product * load(sums + t * LANES));
            product *= load(d + t * ldd + k);
        }
    }
}

/* dd[t] += column[t] sum_{j < t} (prod_{j < s < t} d[s]) w[j], over the lower half: w[j] being the derivative
 * by column[j]. */
INLINE void lower_decay(real *dd, long ldo, const real *y, long ldy, const real *grad, long ldg, const real *d,
                        long ldd, long h, long m, long channels, real *sums) {
    for (long k = 0; k < channels; k += LANES) {
        vec sum = {0}, product = fill(1);
        for (long t = 1; t < h; t++) {
            if (t > 1) sum *= load(d + (t - 1) * ldd + k);
            sum += per_token(y, ldy, grad, ldg, t - 1, m, k);
            store(sums + t * LANES, sum);
        }
        for (long t = h - 1; t >= 1; t--) {
            real *place = dd + t * ldo + k;
            store(place, load(place) + product * load(sums + t * LANES));
            product *= load(d + t * ldd + k);
        }
    }
}

TILE void decay_dot_decay(real *dd, long ldo, const real *a, long lda, const real *x, long ldx, const real *y,
                          long ldy, const real *d, long ldd, long tokens, long n, long m, long channels,
                          int exclusive, int strict, int log, real *scratch) {
    long leaf = tokens < TILES_LEAF ? tokens : TILES_LEAF, width = PADDED(channels), half = tokens / 2;
    real *upper = scratch, *lower = upper + half * n * width;
    real *dupper = lower + half * m * width, *dlower = dupper + half * n * width;
    real sums[(half + 1) * LANES];
    (void)strict;
    for (long t = 0; t < tokens; t += leaf)
        leaf_decay(dd + t * ldo, ldo, a + t * n * lda + t * m, lda, x + t * n * ldx, ldx, y + t * m * ldy, ldy,
                   d + t * ldd, ldd, leaf, n, m, channels, exclusive);
    for (long h = leaf; h <= half; h *= 2)
        for (long first = 0; first < tokens; first += 2 * h) {
            long cut = first + h;
            const real *pairs = a + cut * n * lda + first * m;
            const real *x_cut = x + cut * n * ldx, *y_first = y + first * m * ldy;
            scale_half(upper, width, x_cut, ldx, d + cut * ldd, ldd, h, n, channels, 1, exclusive, 0);
            scale_half(lower, width, y_first, ldy, d + first * ldd, ldd, h, m, channels, 0, 0, 0);
            gemm(dupper, width, pairs, lda, 1, lower, width, h * n, channels, h * m, 1, 0, 0, 0);
            gemm(dlower, width, pairs, 1, lda, upper, width, h * m, channels, h * n, 1, 0, 0, 0);
            upper_decay(dd + cut * ldo, ldo, x_cut, ldx, dupper, width, d + cut * ldd, ldd, h, n, channels,
                        exclusive, sums);
            lower_decay(dd + first * ldo, ldo, y_first, ldy, dlower, width, d + first * ldd, ldd, h, m, channels,
                        sums);
        }
    if (log) /* 2^g has the derivative ln 2 2^g */
        for (long t = 0; t < tokens; t++)
            for (long k = 0; k < channels; k += LANES)
                store(dd + t * ldo + k,
                      (real)0.69314718055994530942 * load(d + t * ldd + k) * load(dd + t * ldo + k));
}
