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
 * matrices. Pairs within few tokens are taken one after the other, channels side by side.
 *
 * Here are the factors and decay_dot; the others are in tiles_decay_grads.h. */

/* Reals of scratch that these functions need; ldk is the row stride of channels. */
#define decay_scratch(tokens, n, m, ldk) \
    (((tokens) / 2 * ((n) + (m)) * 2 + PADDED((tokens) / 2 * (m))) * (ldk) + ((tokens) / 2 * 4 + 1) * LANES)

/* Whether pairs of the rows r and c of one token count: a triangle where both have as many. */
INLINE int own_pair(long r, long c, long n, long m, int exclusive, int strict) {
    return !exclusive && (n == m ? c < r + !strict : !strict);
}

/* Running products of d over tokens of half a block. `rows`: from the cut to each token of the upper half
 * (exclusive: before it). Otherwise: from after each token of the lower half to the cut. out = product * x,
 * for `count` rows of x per token; `add`: out += product * x. */
INLINE void scale_vectors(real *restrict out, long ldo, const real *restrict x, long ldx,
                          const real *restrict d, long ldd, long h, long count, int rows, int exclusive,
                          int add, const int vectors) {
    vec product[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) product[v] = fill(1);
    for (long s = 0; s < h; s++) {
        long t = rows ? s : h - 1 - s;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            if (rows && !exclusive) product[v] *= load(d + t * ldd + v * LANES);
        for (long r = t * count; r < (t + 1) * count; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                vec value = product[v] * load(x + r * ldx + v * LANES);
                real *place = out + r * ldo + v * LANES;
                store(place, add ? load(place) + value : value);
            }
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            if (!rows || exclusive) product[v] *= load(d + t * ldd + v * LANES);
    }
}

TILE void scale_half(real *restrict out, long ldo, const real *restrict x, long ldx, const real *restrict d,
                     long ldd, long h, long count, long channels, int rows, int exclusive, int add) {
    long k = 0;
    for (; k + 4 * LANES <= PADDED(channels); k += 4 * LANES)
        scale_vectors(out + k, ldo, x + k, ldx, d + k, ldd, h, count, rows, exclusive, add, 4);
    for (; k < channels; k += LANES)
        scale_vectors(out + k, ldo, x + k, ldx, d + k, ldd, h, count, rows, exclusive, add, 1);
}

/* Tiles of x y^T whose sums are as many as a register has lanes. */
#define DOT_ROWS (LANES < 4 ? LANES : 4)
#define DOT_COLUMNS (LANES / DOT_ROWS)

/* DOT_ROWS rows and DOT_COLUMNS columns of x y^T, or fewer: then the last ones are computed again. */
INLINE void dot_tile(real *out, long ldo, const real *x, long ldx, const real *y, long ldy, long rows,
                     long columns, long channels) {
    vec sums[LANES];
    const real *x_row[DOT_ROWS], *y_row[DOT_COLUMNS];
#pragma GCC unroll 16
    for (int s = 0; s < LANES; s++) sums[s] = (vec){0};
#pragma GCC unroll 4
    for (int r = 0; r < DOT_ROWS; r++) x_row[r] = x + (r < rows ? r : rows - 1) * ldx;
#pragma GCC unroll 4
    for (int c = 0; c < DOT_COLUMNS; c++) y_row[c] = y + (c < columns ? c : columns - 1) * ldy;
    long k = 0;
    for (; k + LANES <= channels; k += LANES) {
#pragma GCC unroll 4
        for (int r = 0; r < DOT_ROWS; r++)
#pragma GCC unroll 4
            for (int c = 0; c < DOT_COLUMNS; c++)
                sums[r * DOT_COLUMNS + c] += load(x_row[r] + k) * load(y_row[c] + k);
    }
    if (k < channels) {
        lane_ints kept = lanes_between(0, channels - k);
#pragma GCC unroll 4
        for (int r = 0; r < DOT_ROWS; r++)
#pragma GCC unroll 4
            for (int c = 0; c < DOT_COLUMNS; c++)
                sums[r * DOT_COLUMNS + c] +=
                    (vec)((lane_ints)(load(x_row[r] + k) * load(y_row[c] + k)) & kept);
    }
    real found[LANES];
    store(found, sums_of_lanes(sums));
    for (int r = 0; r < DOT_ROWS && r < rows; r++)
        for (int c = 0; c < DOT_COLUMNS && c < columns; c++) out[r * ldo + c] = found[r * DOT_COLUMNS + c];
}

/* out = x y^T, for rows that are too few to be worth a transposition. */
TILE void dot_rows(real *restrict out, long ldo, const real *restrict x, long ldx, const real *restrict y,
                   long ldy, long rows, long columns, long channels) {
    for (long r = 0; r < rows; r += DOT_ROWS)
        for (long c = 0; c < columns; c += DOT_COLUMNS)
            dot_tile(out + r * ldo + c, ldo, x + r * ldx, ldx, y + c * ldy, ldy, rows - r, columns - c,
                     channels);
}

#define DOT_LEAF 4

/* One row of every token with one column of every token, of up to DOT_LEAF tokens: strides go from token to
 * token. Pairs after the token are 0, and those with itself unless `own`. */
INLINE void leaf_dot(real *out, long out_row, long out_column, const real *x, long ldx, const real *y,
                     long ldy, const real *d, long ldd, const int tokens, long channels, int exclusive,
                     int own) {
    vec sums[DOT_LEAF][DOT_LEAF];
#pragma GCC unroll 4
    for (int i = 0; i < tokens; i++)
#pragma GCC unroll 4
        for (int j = 0; j <= i; j++) sums[i][j] = (vec){0};
    for (long k = 0; k < channels; k += LANES) {
        lane_ints kept = lanes_between(0, channels - k);
#pragma GCC unroll 4
        for (int i = 0; i < tokens; i++) {
            vec z = (vec)((lane_ints)load(x + i * ldx + k) & kept);
            sums[i][i] += z * (vec)((lane_ints)load(y + i * ldy + k) & kept);
            if (!exclusive) z *= (vec)((lane_ints)load(d + i * ldd + k) & kept);
#pragma GCC unroll 4
            for (int j = i - 1; j >= 0; j--) {
                sums[i][j] += z * (vec)((lane_ints)load(y + j * ldy + k) & kept);
                z *= (vec)((lane_ints)load(d + j * ldd + k) & kept);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < tokens; i++)
#pragma GCC unroll 4
        for (int j = 0; j < tokens; j++)
            out[i * out_row + j * out_column] =
                j < i || (j == i && own) ? sum_of_lanes(sums[i][j < i ? j : i]) : 0;
}

TILE void decay_dot(real *out, long ldo, const real *x, long ldx, const real *y, long ldy, const real *d,
                    long ldd, long tokens, long n, long m, long channels, int exclusive, int strict,
                    real *scratch) {
    long leaf = tokens < DOT_LEAF ? tokens : DOT_LEAF, width = PADDED(channels), half = tokens / 2;
    real *upper = scratch, *lower = upper + half * n * width, *turned = lower + half * m * width;
    for (long r = 0; r < tokens * n; r++) memset(out + r * ldo, 0, sizeof(real) * PADDED(tokens * m));
    for (long h = half; h >= leaf; h /= 2)
        for (long first = 0; first < tokens; first += 2 * h) {
            long cut = first + h, turned_width = PADDED(h * m);
            real *pairs = out + cut * n * ldo + first * m;
            scale_half(upper, width, x + cut * n * ldx, ldx, d + cut * ldd, ldd, h, n, channels, 1,
                       exclusive, 0);
            scale_half(lower, width, y + first * m * ldy, ldy, d + first * ldd, ldd, h, m, channels, 0, 0, 0);
            if (h * m < LANES) {
                dot_rows(pairs, ldo, upper, width, lower, width, h * n, h * m, channels);
            } else { /* what this writes beyond its columns belongs to narrower blocks */
                transpose(turned, turned_width, lower, width, h * m, channels);
                gemm(pairs, ldo, upper, width, 1, turned, turned_width, h * n, h * m, channels, 1, 0, 0, 0);
            }
        }
    for (long t = 0; t < tokens; t += leaf)
        for (long r = 0; r < n; r++)
            for (long c = 0; c < m; c++) {
                real *pairs = out + (t * n + r) * ldo + t * m + c;
                const real *x_row = x + (t * n + r) * ldx, *y_row = y + (t * m + c) * ldy,
                *d_row = d + t * ldd;
                int own = own_pair(r, c, n, m, exclusive, strict);
                if (leaf == 4)
                    leaf_dot(pairs, n * ldo, m, x_row, n * ldx, y_row, m * ldy, d_row, ldd, 4, channels,
                             exclusive, own);
                else if (leaf == 2)
                    leaf_dot(pairs, n * ldo, m, x_row, n * ldx, y_row, m * ldy, d_row, ldd, 2, channels,
                             exclusive, own);
                else
                    leaf_dot(pairs, n * ldo, m, x_row, n * ldx, y_row, m * ldy, d_row, ldd, 1, channels,
                             exclusive, own);
            }
}
