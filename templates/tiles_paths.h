/* Decays between all pairs of tokens that are the same for every channel: the tokens j < t <= i of (i, j). */

/* Logarithms to base 2 below this are as good as -inf: 2^FLOOR is 0, in float64 too. */
#define LOG_FLOOR -32768.0

/* out[i,j] = sum_{j < t <= i} x[t] (exclusive: t < i), -inf for pairs that are left out. x may hold -inf.
 *
 * Differences of running sums, but in float64, of logarithms that end at LOG_FLOOR: what they lose is below
 * 1e-9. */
TILE void segment_sum(real *restrict out, long ldo, const real *restrict x, long n, int exclusive,
                      int strict) {
    long width = PADDED(n);
    double total[width];
    for (long t = 0; t < width; t++) {
        double step = t < n ? (double)x[t] : 0;
        total[t] = (t ? total[t - 1] : 0) + (step < LOG_FLOOR ? LOG_FLOOR : step);
    }
    for (long i = 0; i < n; i++) {
        double upper = exclusive ? (i ? total[i - 1] : 0) : total[i];
        real *restrict row = out + i * ldo;
        for (long j = 0; j < PADDED(i + 1); j++) row[j] = (real)(upper - total[j]);
        for (long j = exclusive || strict ? i : i + 1; j < width; j++) row[j] = -INFINITY;
    }
}

/* dx[t] = sum of grad[i,j] over i >= t > j (exclusive: i > t). No other entry counts. */
TILE void segment_sum_grad(real *restrict dx, const real *restrict grad, long ldg, long n, int exclusive) {
    real below[PADDED(n)]; /* [j]: the sum of grad[i,j] over i >= t, or i > t */
    for (long j = 0; j < PADDED(n); j++) below[j] = 0;
    for (long t = n - 1; t >= 0; t--) {
        vec sum = {0};
        if (!exclusive || t < n - 1) {
            const real *restrict row = grad + (exclusive ? t + 1 : t) * ldg;
            for (long j = 0; j < t; j += LANES) {
                vec value = load(below + j) + load(row + j);
                store(below + j, value);
                sum += first_lanes(value, t - j);
            }
        }
        dx[t] = sum_of_lanes(sum);
    }
}

/* Row i of prod_{j < t <= i} d[t] (exclusive: t < i) for j < i, from the row before. */
INLINE void path_row(real *restrict to, const real *restrict before, const real *d, long i, int exclusive) {
    real factor = exclusive ? (i ? d[i - 1] : 1) : d[i];
    for (long j = 0; j < PADDED(i); j++) to[j] = before[j] * factor;
    if (i) to[i - 1] = exclusive ? 1 : d[i];
}

/* out[i,j] = prod_{j < t <= i} d[t] (exclusive: t < i), 0 for pairs that are left out. */
TILE void path(real *restrict out, long ldo, const real *restrict d, long n, int exclusive, int strict) {
    for (long i = 0; i < n; i++) {
        real *row = out + i * ldo;
        path_row(row, i ? row - ldo : row, d, i, exclusive);
        for (long j = i; j < PADDED(n); j++) row[j] = 0;
        if (!exclusive && !strict) row[i] = 1;
    }
}

/* Reals of scratch that `path_grad` needs. */
#define path_scratch(n) (((n) + 1) * PADDED(n))

/* The gradient of d from that of `path`: with T[i,j] the products over j < t <= i,
 *
 *   dd[t] = sum_{j < t} T[t-1,j] after[t,j],   after[t,j] = grad[t,j] + d[t+1] after[t+1,j]
 *
 * (exclusive: grad[t+1,j] for grad[t,j]). Of grad only entries below the diagonal count. */
TILE void path_grad(real *restrict dd, const real *restrict d, const real *restrict grad, long ldg, long n,
                    int exclusive, real *restrict scratch) {
    long width = PADDED(n);
    real *after = scratch + n * width;
    path(scratch, width, d, n, 0, 0);
    for (long j = 0; j < width; j++) after[j] = 0;
    for (long t = n - 1; t >= 0; t--) {
        vec sum = {0};
        real factor = t < n - 1 ? d[t + 1] : 0;
        if (!exclusive || t < n - 1) {
            const real *restrict row = grad + (exclusive ? t + 1 : t) * ldg;
            for (long j = 0; j < t; j += LANES) {
                vec value = load(row + j) + factor * load(after + j);
                store(after + j, value);
                sum += first_lanes(value * load(scratch + (t - 1) * width + j), t - j);
            }
        }
        dd[t] = sum_of_lanes(sum);
    }
}
