/* Running sums, products and scans along the rows of a matrix: columns side by side, or one column alone.
 *
 * A matrix has row strides of at least LANES; a vector over time is one column with the stride 1. `suffix`
 * runs from the last row to the first; `exclusive` leaves the row itself out. */

/* So many columns are walked over: whole registers, where the rows have room for them. */
INLINE long walked(long cols) { return cols == 1 ? 1 : PADDED(cols); }

/* The row that comes as number t, and the one before it. */
INLINE long row_at(long t, long rows, int suffix) { return suffix ? rows - 1 - t : t; }

/* Added in float64, for sums of logarithms are exponents. */
TILE void running_sum(real *restrict out, long ldo, const real *restrict x, long ldx, long rows, long cols,
                      int suffix, int exclusive) {
    long width = walked(cols);
    double total[width];
    for (long c = 0; c < width; c++) total[c] = 0;
    for (long t = 0; t < rows; t++) {
        long row = row_at(t, rows, suffix);
        const real *restrict from = x + row * ldx;
        real *restrict to = out + row * ldo;
        if (exclusive)
            for (long c = 0; c < width; c++) {
                to[c] = (real)total[c];
                total[c] += from[c];
            }
        else
            for (long c = 0; c < width; c++) {
                total[c] += from[c];
                to[c] = (real)total[c];
            }
    }
}

TILE void running_product(real *restrict out, long ldo, const real *restrict d, long ldd, long rows,
                          long cols, int suffix, int exclusive) {
    long width = walked(cols);
    const real *before = 0;
    for (long t = 0; t < rows; t++) {
        long row = row_at(t, rows, suffix);
        const real *restrict factor = d + (exclusive ? row_at(t ? t - 1 : 0, rows, suffix) : row) * ldd;
        real *restrict to = out + row * ldo;
        for (long c = 0; c < width; c++) {
            real own = t || !exclusive ? factor[c] : 1;
            to[c] = t ? before[c] * own : own;
        }
        before = to;
    }
}

/* The gradient of d from that of `running_product`: of what is before a row times what comes after,
 *
 *   dd[t] = P[t-1] after[t],   after[t] = dout[t] + d[t+1] after[t+1]   (exclusive: dout[t+1] for dout[t])
 *
 * without division, so exact where d is 0. */
TILE void running_product_grad(real *restrict dd, long ldo, const real *restrict d, long ldd,
                               const real *restrict dout, long ldg, long rows, long cols, int suffix,
                               int exclusive) {
    long width = walked(cols);
    real product[width];
    for (long t = rows - 1; t >= 0; t--) {
        long row = row_at(t, rows, suffix), later = row_at(t + 1, rows, suffix);
        const real *restrict next_d = d + later * ldd;
        const real *restrict grad = dout + (exclusive ? later : row) * ldg;
        const real *restrict next = dd + later * ldo;
        real *restrict to = dd + row * ldo;
        if (t == rows - 1)
            for (long c = 0; c < width; c++) to[c] = exclusive ? 0 : grad[c];
        else
            for (long c = 0; c < width; c++) to[c] = grad[c] + next_d[c] * next[c];
    }
    for (long c = 0; c < width; c++) product[c] = 1;
    for (long t = 0; t < rows; t++) {
        long row = row_at(t, rows, suffix);
        const real *restrict factor = d + row * ldd;
        real *restrict to = dd + row * ldo;
        for (long c = 0; c < width; c++) {
            to[c] *= product[c];
            product[c] *= factor[c];
        }
    }
}

/* y[i] = d[i] y[i-1] + x[i], from zero; suffix: y[i] = d[i+1] y[i+1] + x[i];
 * exclusive: y[i] = d[i-1] y[i-1] + x[i-1]; suffix: y[i] = d[i+1] y[i+1] + x[i+1]. */
TILE void linear_scan(real *restrict y, long ldy, const real *restrict d, long ldd, const real *restrict x,
                      long ldx, long rows, long cols, int suffix, int exclusive) {
    long width = walked(cols);
    for (long t = 0; t < rows; t++) {
        long row = row_at(t, rows, suffix), earlier = row_at(t ? t - 1 : 0, rows, suffix);
        const real *restrict decay = d + (suffix || exclusive ? earlier : row) * ldd;
        const real *restrict added = x + (exclusive ? earlier : row) * ldx;
        const real *restrict before = y + earlier * ldy;
        real *restrict to = y + row * ldy;
        if (t)
            for (long c = 0; c < width; c++) to[c] = decay[c] * before[c] + added[c];
        else
            for (long c = 0; c < width; c++) to[c] = exclusive ? 0 : added[c];
    }
}
