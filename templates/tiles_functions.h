/* Elementwise functions of one real, which compilers make loops over registers of.
 *
 * The float ones are within about 2 units of the last place; NaN stays NaN, what is below 2^-126 is 0. */

#if REAL_BITS == 32
#include "tiles_float_functions.h"
#else
INLINE real fast_exp2(real x) { return exp2(x); }
INLINE real fast_exp(real x) { return exp(x); }
INLINE real fast_expm1(real x) { return expm1(x); }
INLINE real fast_log2(real x) { return log2(x); }
INLINE real fast_log(real x) { return log(x); }
INLINE real log1p_of_unit(real x) { return log1p(x); }
INLINE real fast_tanh(real x) { return tanh(x); }
INLINE real fast_erf(real x) { return erf(x); }
INLINE real positive_part(real x) { return x < 0 ? 0 : x; }
INLINE real apply_abs(real x) { return fabs(x); }
INLINE real apply_sqrt(real x) { return sqrt(x); }
INLINE real apply_sin(real x) { return sin(x); }
INLINE real apply_cos(real x) { return cos(x); }
INLINE real apply_power(real x, real e) { return pow(x, e); }
#endif

INLINE real rsqrt(real x) { return 1 / apply_sqrt(x); }
INLINE real fast_sigmoid(real x) { return 1 / (1 + fast_exp(-x)); }
/* log(1 + exp(x)), to full precision for every x. */
INLINE real fast_softplus(real x) { return positive_part(x) + log1p_of_unit(fast_exp(-apply_abs(x))); }

INLINE real apply_exp(real x) { return fast_exp(x); }
INLINE real apply_exp2(real x) { return fast_exp2(x); }
INLINE real apply_log(real x) { return fast_log(x); }
INLINE real apply_log2(real x) { return fast_log2(x); }
INLINE real apply_rsqrt(real x) { return rsqrt(x); }
INLINE real apply_sign(real x) { return (real)((x > 0) - (x < 0)); }
INLINE real apply_sigmoid(real x) { return fast_sigmoid(x); }
INLINE real apply_tanh(real x) { return fast_tanh(x); }
INLINE real apply_relu(real x) { return x < 0 ? 0 : x; }
INLINE real apply_silu(real x) { return x / (1 + fast_exp(-x)); }
INLINE real apply_gelu(real x) { return (real)0.5 * x * (1 + fast_erf(x * (real)0.70710678118654752440)); }
INLINE real apply_softplus(real x) { return fast_softplus(x); }
INLINE real apply_logsigmoid(real x) { return -fast_softplus(-x); }
INLINE real apply_elu(real x) { return x > 0 ? x : fast_expm1(x); }
INLINE real apply_erf(real x) { return fast_erf(x); }
INLINE real apply_step(real x) { return x > 0 ? 1 : 0; }
INLINE real apply_reciprocal(real x) { return 1 / x; }
/* NaN where either is. */
INLINE real apply_max(real x, real y) { return x > y || x != x ? x : y; }
INLINE real apply_min(real x, real y) { return x < y || x != x ? x : y; }
INLINE real apply_select(real x, real a, real b) { return x > 0 ? a : b; }
