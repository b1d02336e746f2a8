// libjpeg's accurate integer DCT ("islow"), as two passes of an 8x8 integer matrix whose rows are even and odd halves:
// sums of mirrored samples meet the even rows, differences the odd ones. A lane is a block.
// Why 16 bits are enough: |samples| <= 128, so pass 1 gives at most 4096 and the sums of eight of those 32768;
// coefficients are at most 8192, and levels * table miss them by at most half a step, 127.5.
#pragma once
#include "geometry.h"
#include "quant.h"
#include "simd.h"

namespace NAMESPACE {

constexpr int ODD[4][4] = {
    {11363, 9633, 6437, 2260}, {9633, -2259, -11362, -6436}, {6437, -11362, 2261, 9633}, {2260, -6436, 9633, -11363}};
constexpr int ROUND_FORWARD_1 = 1024, ROUND_FORWARD_2 = 16384, ROUND_INVERSE_1 = 1024, ROUND_INVERSE_2 = 131072;

// One-dimensional forward DCT. Pass 1 takes samples 0...255 less 128; pass 2 gives 8 times the coefficient.
template <int PASS> INLINE void forward_dct(I16 x[8]) {
    constexpr int SHIFT = PASS == 1 ? 11 : 15, ROUND = PASS == 1 ? ROUND_FORWARD_1 : ROUND_FORWARD_2;
    I16 s[4], d[4];
    for (int i = 0; i < 4; i++) {
        s[i] = x[i] + x[7 - i];
        d[i] = x[i] - x[7 - i];
    }
    I16 a = s[0] + s[3], b = s[1] + s[2], c = s[0] - s[3], e = s[1] - s[2];
    if (PASS == 1) {
        x[0] = (a + b - (int16_t)1024) << 2;
        x[4] = (a - b) << 2;
    } else {
        x[0] = (a + b + (int16_t)2) >> 2;
        x[4] = (a - b + (int16_t)2) >> 2;
    }
    x[2] = pack((rotate(c, e, 10703, 4433) + ROUND) >> SHIFT);
    x[6] = pack((rotate(c, e, 4433, -10704) + ROUND) >> SHIFT);
    for (int k = 0; k < 4; k++)
        x[2 * k + 1] = pack(
            (rotate(d[0], d[1], ODD[k][0], ODD[k][1]) + rotate(d[2], d[3], ODD[k][2], ODD[k][3]) + ROUND) >> SHIFT);
}

// One-dimensional inverse DCT. Pass 2 gives samples around 128, before the clamp.
template <int PASS> INLINE void inverse_dct(I16 x[8]) {
    constexpr int SHIFT = PASS == 1 ? 11 : 18, ROUND = PASS == 1 ? ROUND_INVERSE_1 : ROUND_INVERSE_2 + (128 << 18);
    Pair sum = rotate(x[0], x[4], 8192, 8192) + ROUND, difference = rotate(x[0], x[4], 8192, -8192) + ROUND;
    Pair c = rotate(x[2], x[6], 10703, 4433), e = rotate(x[2], x[6], 4433, -10704);
    Pair even[4] = {sum + c, difference + e, difference - e, sum - c};
    I16 x1 = x[1], x3 = x[3], x5 = x[5], x7 = x[7];
    for (int k = 0; k < 4; k++) {
        Pair odd = rotate(x1, x3, ODD[0][k], ODD[1][k]) + rotate(x5, x7, ODD[2][k], ODD[3][k]);
        x[k] = pack((even[k] + odd) >> SHIFT);
        x[7 - k] = pack((even[k] - odd) >> SHIFT);
    }
}

INLINE void load_row(const int16_t* row, I16 x[8]) {
    for (int i = 0; i < 8; i++) x[i] = load<I16>(row + i * LANES);
    transpose(x);
}

INLINE void store_row(int16_t* row, I16 x[8]) {
    transpose(x);
    for (int i = 0; i < 8; i++) store(row + i * LANES, x[i]);
}

// Samples of LANES blocks lying side by side to coefficients, still to be transformed along the columns.
INLINE void forward_rows(const int16_t* samples, int64_t stride, I16 r[64]) {
    for (int y = 0; y < 8; y++) {
        I16 x[8];
        load_row(samples + y * stride, x);
        forward_dct<1>(x);
        for (int u = 0; u < 8; u++) r[8 * y + u] = x[u];
    }
}

// Row pass of the inverse; CLAMP leaves 0...255, otherwise the caller wants to see what lies outside.
template <bool CLAMP> INLINE void inverse_rows(const I16 r[64], int16_t* samples, int64_t stride) {
    for (int y = 0; y < 8; y++) {
        I16 x[8];
        for (int u = 0; u < 8; u++) x[u] = r[8 * y + u];
        inverse_dct<2>(x);
        if (CLAMP)
            for (int u = 0; u < 8; u++) x[u] = min16(max16(x[u], I16{}), splat16(255));
        store_row(samples + y * stride, x);
    }
}

// Encode and decode LANES blocks in place; SAVE keeps their coefficients, kernel layout [64][LANES].
template <bool SAVE, bool CLAMP>
static void code_group(int16_t* samples, int64_t stride, const Quantizer& q, int16_t* saved) {
    I16 r[64];
    forward_rows(samples, stride, r);
    for (int u = 0; u < 8; u++) {
        I16 x[8];
        for (int y = 0; y < 8; y++) x[y] = r[8 * y + u];
        forward_dct<2>(x);
        for (int v = 0; v < 8; v++) {
            int i = 8 * v + u;
            if (SAVE) store(saved + i * LANES, x[v]);
            x[v] = quantize(x[v], q, i) * q.step[i];
        }
        inverse_dct<1>(x);
        for (int y = 0; y < 8; y++) r[8 * y + u] = x[y];
    }
    inverse_rows<CLAMP>(r, samples, stride);
}

// Coefficients of LANES blocks, kernel layout: [64][LANES].
static void encode_group(const int16_t* samples, int64_t stride, int16_t* coefficients) {
    I16 r[64];
    forward_rows(samples, stride, r);
    for (int u = 0; u < 8; u++) {
        I16 x[8];
        for (int y = 0; y < 8; y++) x[y] = r[8 * y + u];
        forward_dct<2>(x);
        for (int v = 0; v < 8; v++) store(coefficients + (8 * v + u) * LANES, x[v]);
    }
}

static void decode_group(const int16_t* dequantized, int16_t* samples, int64_t stride) {
    I16 r[64];
    for (int u = 0; u < 8; u++) {
        I16 x[8];
        for (int v = 0; v < 8; v++) x[v] = load<I16>(dequantized + (8 * v + u) * LANES);
        inverse_dct<1>(x);
        for (int y = 0; y < 8; y++) r[8 * y + u] = x[y];
    }
    inverse_rows<false>(r, samples, stride);
}

// What the 16-bit lanes cannot hold: real or huge coefficients of one block, as the specification computes them.
static void decode_block(const double* dequantized, int16_t* samples, int64_t stride) {
    double w[64];
    auto matrix = [](int k, int n) -> double {
        constexpr int EVEN[4][4] = {{8192, 8192, 8192, 8192},
                                    {10703, 4433, -4433, -10703},
                                    {8192, -8192, -8192, 8192},
                                    {4433, -10704, 10704, -4433}};
        int m = n < 4 ? n : 7 - n;
        return k % 2 == 0 ? EVEN[k / 2][m] : n < 4 ? ODD[k / 2][m] : -ODD[k / 2][m];
    };
    for (int y = 0; y < 8; y++)
        for (int u = 0; u < 8; u++) {
            double sum = ROUND_INVERSE_1;
            for (int v = 0; v < 8; v++) sum += matrix(v, y) * dequantized[8 * v + u];
            w[8 * y + u] = __builtin_floor(sum / 2048);
        }
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++) {
            double sum = ROUND_INVERSE_2;
            for (int u = 0; u < 8; u++) sum += matrix(u, x) * w[8 * y + u];
            double s = __builtin_floor(sum / 262144) + 128;
            samples[y * stride + x] = (int16_t)(s > 32767 ? 32767 : s > -32768 ? s : -32768);
        }
}

}  // namespace NAMESPACE
