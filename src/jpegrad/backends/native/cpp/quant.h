// The quantiser (T.81 A.3.4, libjpeg-turbo jcdctmgr.c): levels of 16-bit coefficients, eight times the orthonormal.
#pragma once
#include "simd.h"

namespace NAMESPACE {

// Exact division by d = 8 * table entry: with 2^b < d <= 2^(b+1) and reciprocal = ceil(2^(16+b) / d),
// (a * reciprocal) >> (16 + b) = a / d for every a < 2^15, because the error a / 2^(16+b) stays below 1/d.
struct Quantizer {
    int16_t step[64];
    uint16_t half[64], reciprocal[64], shift[64];
    float inverse[64];  // of d, for the slopes

    void set(const double* table) {
        for (int i = 0; i < 64; i++) {
            int t = (int)table[i];
            uint32_t d = 8u * (uint32_t)(t < 1 ? 1 : t > 255 ? 255 : t);
            int b = 31 - __builtin_clz(d - 1);
            step[i] = (int16_t)(d / 8);
            half[i] = (uint16_t)(d / 2);
            reciprocal[i] = (uint16_t)(((1u << (16 + b)) + d - 1) / d);
            shift[i] = (uint16_t)b;
            inverse[i] = 1.0f / (float)d;
        }
    }
};

// sign(c) * floor((|c| + d/2) / d): half away from zero.
INLINE I16 quantize(I16 c, const Quantizer& q, int i) {
    I16 sign = c >> 15;
    U16 magnitude = (U16)((c ^ sign) - sign) + q.half[i];
    U16 level = mulhi(magnitude, U16{} + q.reciprocal[i]) >> q.shift[i];
    return ((I16)level ^ sign) - sign;
}

}  // namespace NAMESPACE
