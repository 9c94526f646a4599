/* Products of matrices, and the transpose. */

/* Rows and registers of a block of results: its sums, a row of b and one number of a fit the registers. */
#define BLOCK_ROWS (VECTOR_REGISTERS == 32 ? 8 : 4)
#define BLOCK_VECTORS 3

/* A block of c: the sum over k of a [rows, k] and b [k, vectors], then over the `edges` columns in `edge`
 * (column after column, BLOCK_ROWS apart, for the rows of b that start at edge_b). */
INLINE void product_block(real *c, long ldc, const real *a, long ai, long ak, const real *b, long ldb, long k,
                          const real *edge, const real *edge_b, long edges, real alpha, int accumulate,
                          const int rows, const int vectors) {
    vec sums[8][4];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sums[i][v] = (vec){0};
    for (long l = 0; l < k; l++, a += ak, b += ldb) {
        vec row[4];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) row[v] = load(b + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sums[i][v] += a[i * ai] * row[v];
    }
    for (long l = 0; l < edges; l++, edge += BLOCK_ROWS, edge_b += ldb) {
        vec row[4];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) row[v] = load(edge_b + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sums[i][v] += edge[i] * row[v];
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            real *place = c + i * ldc + v * LANES;
            store(place, accumulate ? load(place) + alpha * sums[i][v] : alpha * sums[i][v]);
        }
}

typedef void block_product(real *c, long ldc, const real *a, long ai, long ak, const real *b, long ldb,
                           long k, const real *edge, const real *edge_b, long edges, real alpha,
                           int accumulate);

#define BLOCK_PRODUCT(rows, vectors) \
    TILE void product_##rows##x##vectors(real *c, long ldc, const real *a, long ai, long ak, const real *b, \
                                         long ldb, long k, const real *edge, const real *edge_b, long edges, \
                                         real alpha, int accumulate) { \
        product_block(c, ldc, a, ai, ak, b, ldb, k, edge, edge_b, edges, alpha, accumulate, rows, vectors); \
    }
#define BLOCK_PRODUCTS(rows) BLOCK_PRODUCT(rows, 1) BLOCK_PRODUCT(rows, 2) BLOCK_PRODUCT(rows, 3)
BLOCK_PRODUCTS(1)
BLOCK_PRODUCTS(2)
BLOCK_PRODUCTS(4)
#if VECTOR_REGISTERS == 32
BLOCK_PRODUCTS(8)
#endif

/* By log2 of the rows, and by registers less 1. */
static block_product *const block_products[][BLOCK_VECTORS] = {
    {product_1x1, product_1x2, product_1x3},
    {product_2x1, product_2x2, product_2x3},
    {product_4x1, product_4x2, product_4x3},
#if VECTOR_REGISTERS == 32
    {product_8x1, product_8x2, product_8x3},
#endif
};

/* log2 of how many rows a block takes where so many are left. */
INLINE int block_size(long left) {
    int size = 0;
    while (2L << size <= BLOCK_ROWS && 2L << size <= left) size++;
    return size;
}

/* A diagonal block of a triangular a, with zeros beyond the diagonal, as `product_block` reads it. */
INLINE void triangle_edge(real *edge, const real *a, long ai, long ak, long columns, long rows, int lower) {
    for (long l = 0; l < columns; l++)
        for (long i = 0; i < rows; i++)
            edge[l * BLOCK_ROWS + i] = (lower ? l <= i : l >= i) ? a[i * ai + l * ak] : 0;
}

/* c[i,j] = (accumulate ? c[i,j] : 0) + alpha sum_k a[i * ai + k * ak] b[k,j], for m rows and n columns.
 *
 * a_shape: 0 for all of a; 1 where a is lower, 2 where it is upper triangular: the other entries count as 0
 * and are not read. c_shape 1: only j <= i is wanted; the rest may hold anything afterwards. */
TILE void gemm(real *c, long ldc, const real *a, long ai, long ak, const real *b, long ldb, long m, long n,
               long k, real alpha, int accumulate, int a_shape, int c_shape) {
    long all = (n + LANES - 1) / LANES, panels = (all + BLOCK_VECTORS - 1) / BLOCK_VECTORS;
    real edge[a_shape ? m * BLOCK_ROWS : 1]; /* of all blocks */
    for (long i = 0, rows; a_shape && i < m && i < k; i += rows) {
        rows = 1L << block_size(m - i);
        triangle_edge(edge + i * BLOCK_ROWS, a + i * (ai + ak), ai, ak, k - i < rows ? k - i : rows, rows,
                      a_shape == 1);
    }
    for (long panel = 0, v = 0; panel < panels; panel++) {
        long width = (all - v + panels - panel - 1) / (panels - panel);
        const real *b_panel = b + v * LANES;
        for (long i = c_shape ? v * LANES / BLOCK_ROWS * BLOCK_ROWS : 0, rows; i < m; i += rows) {
            int size = block_size(m - i);
            long vectors = width, from = 0, to = k, edges = 0;
            rows = 1L << size;
            if (c_shape && (i + rows - 1) / LANES + 1 - v < vectors) vectors = (i + rows - 1) / LANES + 1 - v;
            if (vectors < 1) continue;
            if (a_shape) {
                edges = k - i < rows ? (k > i ? k - i : 0) : rows;
                from = a_shape == 1 ? 0 : i + edges;
                to = a_shape == 1 && i < k ? i : k;
            }
            block_products[size][vectors - 1](c + i * ldc + v * LANES, ldc, a + i * ai + from * ak, ai, ak,
                                              b_panel + from * ldb, ldb, to > from ? to - from : 0,
                                              edge + i * BLOCK_ROWS, b_panel + i * ldb, edges, alpha,
                                              accumulate);
        }
        v += width;
    }
}

/* out[c,r] = x[r,c], for x of `rows` rows and `cols` columns. */
TILE void transpose(real *out, long ldo, const real *x, long ldx, long rows, long cols) {
    for (long r = 0; r < rows; r += LANES)
        for (long c = 0; c < cols; c += LANES) {
            vec block[LANES];
            const real *from = x + r * ldx + c;
            real *to = out + c * ldo + r;
            if (rows - r >= LANES && cols - c >= LANES) {
#pragma GCC unroll 16
                for (int i = 0; i < LANES; i++) block[i] = load(from + i * ldx);
                transpose_lanes(block);
#pragma GCC unroll 16
                for (int i = 0; i < LANES; i++) store(to + i * ldo, block[i]);
            } else {
                for (long i = 0; i < LANES; i++) block[i] = i < rows - r ? load(from + i * ldx) : (vec){0};
                transpose_lanes(block);
                for (long i = 0; i < LANES && i < cols - c; i++) store(to + i * ldo, block[i]);
            }
        }
}
