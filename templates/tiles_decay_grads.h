/* The derivatives of sum a * decay_dot(x, y, d) by x, by y and by the decays: see tiles_decays.h.
 *
 * With the halves of a block scaled by their factors, upper = row * x and lower = column * y, and the pairs
 * between them, d(row * x) = a lower and d(column * y) = a^T upper are products of matrices. */
#define GRAD_LEAF 8

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
#pragma GCC unroll 8
        for (long i = 0; i < tokens; i++)
            for (long r = i * n; r < (i + 1) * n; r++) {
                const real *row = a + r * lda;
                vec sum = {0};
#pragma GCC unroll 8
                for (long j = 0; j < i; j++) {
                    sum += read_token(row, y, ldy, j, m, k);
                    if (!exclusive || j + 1 < i) sum *= load(d + (j + 1) * ldd + k);
                }
                for (long c = 0; c < m; c++)
                    if (own_pair(r - i * n, c, n, m, exclusive, strict))
                        sum += row[i * m + c] * load(y + (i * m + c) * ldy + k);
                store(out + r * ldo + k, sum);
            }
}

INLINE void leaf_columns(real *out, long ldo, const real *a, long lda, const real *x, long ldx, const real *d,
                         long ldd, long tokens, long n, long m, long channels, int exclusive, int strict) {
    for (long k = 0; k < channels; k += LANES)
#pragma GCC unroll 8
        for (long j = 0; j < tokens; j++)
            for (long c = j * m; c < (j + 1) * m; c++) {
                const real *column = a + c;
                vec sum = {0};
#pragma GCC unroll 8
                for (long i = tokens - 1; i > j; i--) {
                    vec read = read_token_turned(column, lda, x, ldx, i, n, k),
                    factor = load(d + i * ldd + k);
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
        vec grad[GRAD_LEAF], read[GRAD_LEAF];
#pragma GCC unroll 8
        for (long t = 0; t < tokens; t++) grad[t] = (vec){0};
#pragma GCC unroll 8
        for (long i = 1; i < tokens; i++)
            for (long r = i * n; r < (i + 1) * n; r++) {
                long last = exclusive ? i - 1 : i;
                vec sum = {0};
#pragma GCC unroll 8
                for (long t = 1; t <= last; t++) {
                    vec own = read_token(a + r * lda, y, ldy, t - 1, m, k);
                    read[t] = sum = t > 1 ? sum * load(d + (t - 1) * ldd + k) + own : own;
                }
                vec after = load(x + r * ldx + k);
#pragma GCC unroll 8
                for (long t = last; t >= 1; t--) {
                    grad[t] += after * read[t];
                    after *= load(d + t * ldd + k);
                }
            }
#pragma GCC unroll 8
        for (long t = 0; t < tokens; t++) store(out + t * ldo + k, grad[t]);
    }
}

/* The derivatives that have a place. Where sizes are constants, what tokens share stays in registers. */
INLINE void leaf_grads(real *dx, long lddx, real *dy, long lddy, real *dd, long lddd, const real *a, long lda,
                       const real *x, long ldx, const real *y, long ldy, const real *d, long ldd,
                       long tokens, long n, long m, long channels, int exclusive, int strict) {
    if (dx) leaf_rows(dx, lddx, a, lda, y, ldy, d, ldd, tokens, n, m, channels, exclusive, strict);
    if (dy) leaf_columns(dy, lddy, a, lda, x, ldx, d, ldd, tokens, n, m, channels, exclusive, strict);
    if (dd) leaf_decay(dd, lddd, a, lda, x, ldx, y, ldy, d, ldd, tokens, n, m, channels, exclusive);
}

/* sum_r x[r] grad[r] over the `count` rows of token t. */
INLINE vec per_token(const real *x, long ldx, const real *grad, long ldg, long t, long count) {
    vec sum = load(x + t * count * ldx) * load(grad + t * count * ldg);
    for (long r = t * count + 1; r < (t + 1) * count; r++) sum += load(x + r * ldx) * load(grad + r * ldg);
    return sum;
}

/* dd[t] += row[t-1] sum_{i >= t} (prod_{t < s <= i} d[s]) v[i], over the upper half of a block: v[i] being
 * the derivative by row[i]. Exclusive: i > t, s < i. `sums` are h * vectors registers of scratch. */
INLINE void upper_vectors(real *dd, long ldo, const real *x, long ldx, const real *grad, long ldg,
                          const real *d, long ldd, long h, long n, int exclusive, real *sums,
                          const int vectors) {
    vec sum[4], product[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[v] = (vec){0}, product[v] = fill(1);
    for (long t = h - 1; t >= 0; t--)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            if (!exclusive || t < h - 1) {
                vec own = per_token(x + v * LANES, ldx, grad + v * LANES, ldg, exclusive ? t + 1 : t, n);
                sum[v] = t < h - 1 ? sum[v] * load(d + (t + 1) * ldd + v * LANES) + own : own;
            }
            store(sums + (t * vectors + v) * LANES, sum[v]);
        }
    for (long t = 0; t < h; t++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            real *place = dd + t * ldo + v * LANES;
            store(place, load(place) + product[v] * load(sums + (t * vectors + v) * LANES));
            product[v] *= load(d + t * ldd + v * LANES);
        }
}

/* dd[t] += column[t] sum_{j < t} (prod_{j < s < t} d[s]) w[j], over the lower half: w[j] being the derivative
 * by column[j]. */
INLINE void lower_vectors(real *dd, long ldo, const real *y, long ldy, const real *grad, long ldg,
                          const real *d, long ldd, long h, long m, real *sums, const int vectors) {
    vec sum[4], product[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[v] = (vec){0}, product[v] = fill(1);
    for (long t = 1; t < h; t++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            vec own = per_token(y + v * LANES, ldy, grad + v * LANES, ldg, t - 1, m);
            sum[v] = t > 1 ? sum[v] * load(d + (t - 1) * ldd + v * LANES) + own : own;
            store(sums + (t * vectors + v) * LANES, sum[v]);
        }
    for (long t = h - 1; t >= 1; t--)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            real *place = dd + t * ldo + v * LANES;
            store(place, load(place) + product[v] * load(sums + (t * vectors + v) * LANES));
            product[v] *= load(d + t * ldd + v * LANES);
        }
}

TILE void upper_decay(real *dd, long ldo, const real *x, long ldx, const real *grad, long ldg, const real *d,
                      long ldd, long h, long n, long channels, int exclusive, real *sums) {
    long k = 0;
    for (; k + 4 * LANES <= PADDED(channels); k += 4 * LANES)
        upper_vectors(dd + k, ldo, x + k, ldx, grad + k, ldg, d + k, ldd, h, n, exclusive, sums, 4);
    for (; k < channels; k += LANES)
        upper_vectors(dd + k, ldo, x + k, ldx, grad + k, ldg, d + k, ldd, h, n, exclusive, sums, 1);
}

TILE void lower_decay(real *dd, long ldo, const real *y, long ldy, const real *grad, long ldg, const real *d,
                      long ldd, long h, long m, long channels, real *sums) {
    long k = 0;
    for (; k + 4 * LANES <= PADDED(channels); k += 4 * LANES)
        lower_vectors(dd + k, ldo, y + k, ldy, grad + k, ldg, d + k, ldd, h, m, sums, 4);
    for (; k < channels; k += LANES)
        lower_vectors(dd + k, ldo, y + k, ldy, grad + k, ldg, d + k, ldd, h, m, sums, 1);
}

/* The derivatives by x, by y and by d (`log`: by log2 d), those of them that have a place: the others are
 * null. What a derivative does not need may be null too: x for dx, y for dy. */
TILE void decay_dot_grads(real *dx, long lddx, real *dy, long lddy, real *dd, long lddd, const real *a,
                          long lda, const real *x, long ldx, const real *y, long ldy, const real *d,
                          long ldd, long tokens, long n, long m, long channels, int exclusive, int strict,
                          int log, real *scratch) {
    long leaf = tokens < GRAD_LEAF ? tokens : GRAD_LEAF, width = PADDED(channels), half = tokens / 2;
    real *upper = scratch, *lower = upper + half * n * width;
    real *dupper = lower + half * m * width, *dlower = dupper + half * n * width;
    real *sums = dlower + half * m * width;
    for (long t = 0; t < tokens; t += leaf) {
        real *dx_leaf = dx ? dx + t * n * lddx : 0, *dy_leaf = dy ? dy + t * m * lddy : 0;
        real *dd_leaf = dd ? dd + t * lddd : 0;
        const real *pairs = a + t * n * lda + t * m, *d_leaf = d + t * ldd;
        const real *x_leaf = x ? x + t * n * ldx : 0, *y_leaf = y ? y + t * m * ldy : 0;
        if (leaf == GRAD_LEAF && n == 1 && m == 1 && !exclusive)
            leaf_grads(dx_leaf, lddx, dy_leaf, lddy, dd_leaf, lddd, pairs, lda, x_leaf, ldx, y_leaf, ldy,
                       d_leaf, ldd, GRAD_LEAF, 1, 1, channels, 0, strict);
        else
            leaf_grads(dx_leaf, lddx, dy_leaf, lddy, dd_leaf, lddd, pairs, lda, x_leaf, ldx, y_leaf, ldy,
                       d_leaf, ldd, leaf, n, m, channels, exclusive, strict);
    }
    for (long h = leaf; h <= half; h *= 2)
        for (long first = 0; first < tokens; first += 2 * h) {
            long cut = first + h;
            const real *pairs = a + cut * n * lda + first * m, *d_cut = d + cut * ldd;
            const real *d_first = d + first * ldd;
            const real *x_cut = x + cut * n * ldx, *y_first = y + first * m * ldy;
            if (dx || dd) {
                scale_half(lower, width, y_first, ldy, d_first, ldd, h, m, channels, 0, 0, 0);
                gemm(dupper, width, pairs, lda, 1, lower, width, h * n, channels, h * m, 1, 0, 0, 0);
            }
            if (dy || dd) {
                scale_half(upper, width, x_cut, ldx, d_cut, ldd, h, n, channels, 1, exclusive, 0);
                gemm(dlower, width, pairs, 1, lda, upper, width, h * m, channels, h * n, 1, 0, 0, 0);
            }
            if (dx)
                scale_half(dx + cut * n * lddx, lddx, dupper, width, d_cut, ldd, h, n, channels, 1,
                           exclusive, 1);
            if (dy)
                scale_half(dy + first * m * lddy, lddy, dlower, width, d_first, ldd, h, m, channels, 0, 0, 1);
            if (!dd) continue;
            upper_decay(dd + cut * lddd, lddd, x_cut, ldx, dupper, width, d_cut, ldd, h, n, channels,
                        exclusive, sums);
            lower_decay(dd + first * lddd, lddd, y_first, ldy, dlower, width, d_first, ldd, h, m, channels,
                        sums);
        }
    for (long t = 0; dd && log && t < tokens; t++) /* 2^g has the derivative ln 2 2^g */
        for (long k = 0; k < channels; k += LANES)
            store(dd + t * lddd + k,
                  (real)0.69314718055994530942 * load(d + t * ldd + k) * load(dd + t * lddd + k));
}

TILE void decay_dot_rows(real *out, long ldo, const real *a, long lda, const real *y, long ldy, const real *d,
                         long ldd, long tokens, long n, long m, long channels, int exclusive, int strict,
                         real *scratch) {
    decay_dot_grads(out, ldo, 0, 0, 0, 0, a, lda, 0, 0, y, ldy, d, ldd, tokens, n, m, channels, exclusive,
                    strict, 0, scratch);
}

TILE void decay_dot_columns(real *out, long ldo, const real *a, long lda, const real *x, long ldx,
                            const real *d, long ldd, long tokens, long n, long m, long channels,
                            int exclusive, int strict, real *scratch) {
    decay_dot_grads(0, 0, out, ldo, 0, 0, a, lda, x, ldx, 0, 0, d, ldd, tokens, n, m, channels, exclusive,
                    strict, 0, scratch);
}

TILE void decay_dot_decay(real *dd, long ldo, const real *a, long lda, const real *x, long ldx, const real *y,
                          long ldy, const real *d, long ldd, long tokens, long n, long m, long channels,
                          int exclusive, int strict, int log, real *scratch) {
    decay_dot_grads(0, 0, 0, 0, dd, ldo, a, lda, x, ldx, y, ldy, d, ldd, tokens, n, m, channels, exclusive,
                    strict, log, scratch);
}
