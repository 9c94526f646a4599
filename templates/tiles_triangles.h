/* The inverse of a unit triangular matrix, by forward substitution, and its gradient. */

/* `rows` rows from i on of (I - P)^-1, in `vectors` registers of columns from j on, those before being done:
 * what P takes of the rows before, then the rows of the block one after the other. */
INLINE void inverse_block(real *out, long ldo, const real *p, long ldp, long i, long j, const int rows,
                          const int vectors) {
    vec x[8][2];
    lane_ints diagonal[8][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            long lane = i + r - j - v * LANES;
            diagonal[r][v] = lanes_between(lane, lane + 1);
            x[r][v] = (vec)((lane_ints)fill(1) & diagonal[r][v]);
        }
    const real *from = p + i * ldp;
    for (long l = j; l < i; l++) {
        vec row[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) row[v] = load(out + l * ldo + j + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) x[r][v] += from[r * ldp + l] * row[v];
    }
#pragma GCC unroll 8
    for (int l = 0; l < rows; l++) {
#pragma GCC unroll 8
        for (int r = l + 1; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) x[r][v] += from[r * ldp + i + l] * x[l][v];
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            long column = j + v * LANES;
            store(out + (i + r) * ldo + column, first_lanes(x[r][v], i + r + 1 - column));
        }
}

/* `inverse_block` for every row from j on. */
INLINE void inverse_panel(real *out, long ldo, const real *p, long ldp, long n, long j, const int vectors) {
    long i = j;
    for (; i + BLOCK_ROWS <= n; i += BLOCK_ROWS) inverse_block(out, ldo, p, ldp, i, j, BLOCK_ROWS, vectors);
    for (; i < n; i++) inverse_block(out, ldo, p, ldp, i, j, 1, vectors);
}

/* out = (I - P)^-1 for strictly lower triangular P; no other entry of p is read. */
TILE void inverse(real *restrict out, long ldo, const real *restrict p, long ldp, long n) {
    long width = PADDED(n);
    for (long j = 0; j < width;) {
        int vectors = width - j > LANES ? 2 : 1;
        for (long i = 0; i < j; i++)
            for (int v = 0; v < vectors; v++) store(out + i * ldo + j + v * LANES, (vec){0});
        if (vectors == 2)
            inverse_panel(out, ldo, p, ldp, n, j, 2);
        else
            inverse_panel(out, ldo, p, ldp, n, j, 1);
        j += vectors * LANES;
    }
}

/* Reals of scratch that `inverse_grad` needs. */
#define inverse_scratch(n) (2 * (n) * PADDED(n))

/* A row with its columns from `first` on and before `end`, the others 0; in place too. */
INLINE void copy_columns(real *to, const real *from, long width, long first, long end) {
    for (long j = 0; j < width; j += LANES)
        store(to + j, (vec)((lane_ints)load(from + j) & lanes_between(first - j, end - j)));
}

/* dp = the part of X^T dX X^T below the diagonal, 0 elsewhere: the gradient of P from that of X = (I - P)^-1.
 * Of x and dx only entries on and below the diagonal count. */
TILE void inverse_grad(real *restrict dp, long ldo, const real *restrict x, long ldx, const real *restrict dx,
                       long lddx, long n, real *restrict scratch) {
    long width = PADDED(n);
    real *product = scratch, *turned = scratch + n * width;
    for (long i = 0; i < n; i++) copy_columns(turned + i * width, dx + i * lddx, width, 0, i + 1);
    gemm(product, width, x, 1, ldx, turned, width, n, n, n, 1, 0, 2, 1);
    transpose(turned, width, x, ldx, n, n);
    for (long i = 0; i < n; i++) copy_columns(turned + i * width, turned + i * width, width, i, width);
    gemm(dp, ldo, product, width, 1, turned, width, n, n, n, 1, 0, 1, 1);
    for (long i = 0; i < n; i++) copy_columns(dp + i * ldo, dp + i * ldo, width, 0, i);
}
