/* Elementwise functions in float32, without a branch or a table: polynomials on a short interval around 0,
 * fitted at Chebyshev nodes, and the exponent's bits. */

INLINE int32_t float_bits(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE float bits_float(int32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x to the nearest whole number, for |x| < 2^22; its lowest bits are then the integer's. */
#define ROUNDING 12582912.0f /* 1.5 * 2^23 */

/* x 2^n, n being the whole number to which ROUNDING was added; no exponent may leave the normal range. */
INLINE float shift_exponent(float x, float n_rounded) {
    return bits_float((int32_t)((uint32_t)float_bits(x) + ((uint32_t)float_bits(n_rounded) << 23)));
}

/* `value` for x from `low` on and below `high`; 0 below, infinity above, NaN for NaN. */
INLINE float within_exponents(float x, float value, float low, float high) {
    float outside = x < 0 ? 0.0f : x + INFINITY;
    return x >= low && x < high ? value : outside;
}

INLINE float fast_exp2(float x) {
    float n = x + ROUNDING, f = x - (n - ROUNDING);
    float p = 1.545316295e-4f;
    p = p * f + 1.339086336e-3f;
    p = p * f + 9.618082557e-3f;
    p = p * f + 5.550357114e-2f;
    p = p * f + 2.402265076e-1f;
    p = p * f + 6.93147188e-1f;
    return within_exponents(x, shift_exponent(p * f + 1, n), -126.0f, 128.0f);
}

/* exp(f) - 1 for |f| <= ln(2) / 2 */
INLINE float expm1_near_zero(float f) {
    float p = 1.392625083e-3f;
    p = p * f + 8.363232884e-3f;
    p = p * f + 4.166655421e-2f;
    p = p * f + 1.666657667e-1f;
    p = p * f + 0.5f;
    return p * f * f + f;
}

/* x - n ln 2 for n = ROUNDING + the whole number nearest to x / ln 2. */
INLINE float exp_remainder(float x, float n) {
    n -= ROUNDING;
    return (x - n * 0.693145751953125f) - n * 1.428606820309417e-6f; /* ln 2: 15 bits, and the rest */
}

INLINE float fast_exp(float x) {
    float n = x * 1.44269504f + ROUNDING;
    float value = shift_exponent(1 + expm1_near_zero(exp_remainder(x, n)), n);
    return within_exponents(x, value, -87.33654f, 88.72284f);
}

/* 2^n (exp(f) - 1) + (2^n - 1), halved so that 2^n stays finite. */
INLINE float fast_expm1(float x) {
    float y = x < -30 ? -30 : x; /* exp(-30) is lost beside 1 */
    float n = y * 1.44269504f + ROUNDING, half = shift_exponent(0.5f, n);
    float value = 2 * (half * expm1_near_zero(exp_remainder(y, n)) + (half - 0.5f));
    return y < 88.72284f ? value : y + INFINITY;
}

/* log(1 + f) for 1 + f from sqrt(1/2) to sqrt(2) */
INLINE float log1p_near_zero(float f) {
    float p = -7.902743772e-2f;
    p = p * f + 1.262231985e-1f;
    p = p * f - 1.299818376e-1f;
    p = p * f + 1.421449592e-1f;
    p = p * f - 1.664128146e-1f;
    p = p * f + 2.000104509e-1f;
    p = p * f - 2.500030642e-1f;
    p = p * f + 3.333333073e-1f;
    p = p * f - 0.5f;
    return p * f * f + f;
}

/* The exponent and the rest, 2^e (1 + f) = x with 1 + f from sqrt(1/2) to sqrt(2), for x > 0. */
INLINE float split_exponent(float x, float *f) {
    int small = x < 0x1p-126f;
    int32_t bits = float_bits(small ? x * 0x1p24f : x);
    int32_t e = (bits - 0x3f3504f3) >> 23; /* the bits of sqrt(1/2), rounded down */
    *f = bits_float((int32_t)((uint32_t)bits - ((uint32_t)e << 23))) - 1;
    return (float)e - (small ? 24 : 0);
}

/* What logarithms are outside the positive numbers: -inf for 0, infinity and NaN themselves. */
INLINE float log_domain(float x, float value) {
    float outside = x == 0 ? -INFINITY : x < 0 ? NAN : x;
    return x > 0 && x < INFINITY ? value : outside;
}

INLINE float fast_log(float x) {
    float f, e = split_exponent(x, &f);
    return log_domain(x, e * 0.693145751953125f + (e * 1.428606820309417e-6f + log1p_near_zero(f)));
}

INLINE float fast_log2(float x) {
    float f, e = split_exponent(x, &f);
    return log_domain(x, log1p_near_zero(f) * 1.44269504f + e);
}

/* log(1 + x) for x from 0 to 1: the logarithm of the rounded sum, and what rounding it lost. */
INLINE float log1p_of_unit(float x) {
    float sum = 1 + x, lost = x - (sum - 1);
    /* 1 beyond sqrt(2); by bits: of a comparison compilers make a branch with a polynomial each */
    float half = (float)((uint32_t)(0x3fb504f3 - float_bits(sum)) >> 31);
    float f = (sum - half * 0.5f * sum) - 1;
    return half * 0.693145751953125f + (half * 1.428606820309417e-6f + log1p_near_zero(f)) + lost / sum;
}

INLINE float fast_tanh(float x) {
    float size = x < 0 ? -x : x, z = x * x;
    float p = 2.308341992e-3f;
    p = p * z - 8.35759967e-3f;
    p = p * z + 2.177305498e-2f;
    p = p * z - 5.39597638e-2f;
    p = p * z + 1.333330567e-1f;
    p = p * z - 3.333333319e-1f;
    float near = x + x * z * p;
    float far = 1 - 2 / (fast_exp(2 * size) + 1);
    return size < 0.62f ? near : copysignf(far, x);
}

/* A polynomial of x^2 up to 1, exp of one of |x| beyond: log(1 - erf). */
INLINE float fast_erf(float x) {
    float size = x < 0 ? -x : x, z = x * x;
    float p = 7.875875063e-5f;
    p = p * z - 8.016864287e-4f;
    p = p * z + 5.189087423e-3f;
    p = p * z - 2.685421201e-2f;
    p = p * z + 1.128359472e-1f;
    p = p * z - 3.761262667e-1f;
    p = p * z + 1.128379166f;
    float q = -7.58268197e-8f; /* negative: beyond 4, where 1 - erf is lost beside 1, exp(q) is so too */
    q = q * size + 3.321684591e-06f;
    q = q * size - 6.229835325e-05f;
    q = q * size + 0.000685836683f;
    q = q * size - 0.00506494692f;
    q = q * size + 0.02709952329f;
    q = q * size - 0.1110550174f;
    q = q * size - 0.6309530298f;
    q = q * size - 1.130675144f;
    q = q * size + 0.0004163292177f;
    float far = copysignf(1 - fast_exp(q), x), near = x * p;
    return size < 1 ? near : far;
}

/* max(x, 0) */
INLINE float positive_part(float x) { return bits_float(float_bits(x) & ~(float_bits(x) >> 31)); }

INLINE float apply_abs(float x) { return fabsf(x); }
INLINE float apply_sqrt(float x) { return sqrtf(x); }
INLINE float apply_sin(float x) { return sinf(x); }
INLINE float apply_cos(float x) { return cosf(x); }
INLINE float apply_power(float x, float e) { return powf(x, e); }
