// How arrays lie in memory: floats of several widths, read as `real` and written from it.

#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

static inline float read_bf16(bf16 x)
{
    const uint32_t bits = (uint32_t)x << 16;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

// To the nearest, ties to even; NaN stays NaN.
static inline bf16 write_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return x != x ? 0x7fc0 : (bf16)rounded;
}

#ifdef HALF
typedef _Float16 half;
#define read_half(x) ((float)(x))
#define write_half(x) ((half)(x))
#endif

#define read_float(x) ((real)(x))
#define write_float(x) ((float)(x))
#define read_double(x) ((real)(x))
#define write_double(x) ((double)(x))
