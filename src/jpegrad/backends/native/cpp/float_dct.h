// The orthonormal DCT and its inverse in float32, for gradients: Arai, Agui and Nakajima's flow graphs, which leave
// factors FACTOR[u] * FACTOR[v] * 8 on the coefficients. A lane is a block, HALF blocks at a time.
#pragma once
#include "geometry.h"
#include "simd.h"

namespace NAMESPACE {

constexpr float FACTOR[8] = {1.0f, 1.387039845f, 1.306562965f, 1.175875602f,
                             1.0f, 0.785694958f, 0.541196100f, 0.275899379f};

INLINE void scaled_dct(F32 x[8]) {
    F32 s0 = x[0] + x[7], s1 = x[1] + x[6], s2 = x[2] + x[5], s3 = x[3] + x[4];
    F32 d0 = x[0] - x[7], d1 = x[1] - x[6], d2 = x[2] - x[5], d3 = x[3] - x[4];

    F32 a = s0 + s3, b = s1 + s2, c = s0 - s3, d = s1 - s2;
    F32 z = (c + d) * 0.707106781f;
    x[0] = a + b;
    x[4] = a - b;
    x[2] = c + z;
    x[6] = c - z;

    F32 e = d3 + d2, f = d2 + d1, g = d1 + d0;
    F32 z5 = (e - g) * 0.382683433f;
    F32 z2 = mul_add(e, splatf(0.541196100f), z5), z4 = mul_add(g, splatf(1.306562965f), z5), z3 = f * 0.707106781f;
    F32 p = d0 + z3, m = d0 - z3;
    x[5] = m + z2;
    x[3] = m - z2;
    x[1] = p + z4;
    x[7] = p - z4;
}

INLINE void scaled_idct(F32 x[8]) {
    F32 a = x[0] + x[4], b = x[0] - x[4], c = x[2] + x[6], d = (x[2] - x[6]) * 1.414213562f - c;
    F32 e0 = a + c, e3 = a - c, e1 = b + d, e2 = b - d;

    F32 z13 = x[5] + x[3], z10 = x[5] - x[3], z11 = x[1] + x[7], z12 = x[1] - x[7];
    F32 o0 = z11 + z13, m = (z11 - z13) * 1.414213562f, z5 = (z10 + z12) * 1.847759065f;
    F32 o1 = z5 - z10 * 2.613125930f - o0;
    F32 o2 = m - o1, o3 = z5 - z12 * 1.082392200f - o2;

    x[0] = e0 + o0;
    x[7] = e0 - o0;
    x[1] = e1 + o1;
    x[6] = e1 - o1;
    x[2] = e2 + o2;
    x[5] = e2 - o2;
    x[3] = e3 + o3;
    x[4] = e3 - o3;
}

// Lanes of half `part` of a group and the row's samples of their blocks, in the order of the integer kernel's lanes.
INLINE void load_row(const float* row, int part, F32 x[8]) {
    for (int side = 0; side < 8; side += 4)
        for (int i = 0; i < 4; i++) {
            const float* p = row + 8 * block_of_lane(part * HALF + i) + side;
#if LANES == 32
            __m512 four = _mm512_castps128_ps512(_mm_loadu_ps(p));
            four = _mm512_insertf32x4(four, _mm_loadu_ps(row + 8 * block_of_lane(part * HALF + i + 4) + side), 1);
            four = _mm512_insertf32x4(four, _mm_loadu_ps(row + 8 * block_of_lane(part * HALF + i + 8) + side), 2);
            x[side + i] =
                _mm512_insertf32x4(four, _mm_loadu_ps(row + 8 * block_of_lane(part * HALF + i + 12) + side), 3);
#elif LANES == 16
            x[side + i] = _mm256_loadu2_m128(row + 8 * block_of_lane(part * HALF + i + 4) + side, p);
#else
            x[side + i] = load<F32>(p);
#endif
        }
    transpose4(x);
    transpose4(x + 4);
}

INLINE void store_row(float* row, int part, const F32 columns[8]) {
    F32 x[8];
    for (int i = 0; i < 8; i++) x[i] = columns[i];
    transpose4(x);
    transpose4(x + 4);
    for (int side = 0; side < 8; side += 4)
        for (int i = 0; i < 4; i++) {
            float* p = row + 8 * block_of_lane(part * HALF + i) + side;
#if LANES == 32
            _mm_storeu_ps(p, _mm512_castps512_ps128(x[side + i]));
            _mm_storeu_ps(row + 8 * block_of_lane(part * HALF + i + 4) + side, _mm512_extractf32x4_ps(x[side + i], 1));
            _mm_storeu_ps(row + 8 * block_of_lane(part * HALF + i + 8) + side, _mm512_extractf32x4_ps(x[side + i], 2));
            _mm_storeu_ps(row + 8 * block_of_lane(part * HALF + i + 12) + side, _mm512_extractf32x4_ps(x[side + i], 3));
#elif LANES == 16
            _mm256_storeu2_m128(row + 8 * block_of_lane(part * HALF + i + 4) + side, p, x[side + i]);
#else
            store(p, x[side + i]);
#endif
        }
}

INLINE void forward_rows(const float* samples, int64_t stride, int part, F32 r[64]) {
    for (int y = 0; y < 8; y++) {
        F32 x[8];
        load_row(samples + y * stride, part, x);
        scaled_dct(x);
        for (int u = 0; u < 8; u++) r[8 * y + u] = x[u];
    }
}

INLINE void inverse_rows(const F32 r[64], float* samples, int64_t stride, int part) {
    for (int y = 0; y < 8; y++) {
        F32 x[8];
        for (int u = 0; u < 8; u++) x[u] = r[8 * y + u];
        scaled_idct(x);
        store_row(samples + y * stride, part, x);
    }
}

INLINE void load_column(const F32 r[64], int u, F32 x[8]) {
    for (int y = 0; y < 8; y++) x[y] = r[8 * y + u];
}

INLINE void store_column(F32 r[64], int u, const F32 x[8]) {
    for (int y = 0; y < 8; y++) r[8 * y + u] = x[y];
}

// Gradients at decoded samples to gradients at coefficients, [64][HALF] for each part.
static void adjoint_inverse(const float* samples, int64_t stride, F32 out[2][64]) {
    for (int part = 0; part < 2; part++) {
        F32 r[64];
        forward_rows(samples, stride, part, r);
        for (int u = 0; u < 8; u++) {
            F32 x[8];
            load_column(r, u, x);
            scaled_dct(x);
            for (int v = 0; v < 8; v++) out[part][8 * v + u] = x[v] * (1 / (8 * FACTOR[v] * FACTOR[u]));
        }
    }
}

// Gradients at coefficients to gradients at encoded samples.
static void adjoint_forward(const F32 in[2][64], float* samples, int64_t stride) {
    for (int part = 0; part < 2; part++) {
        F32 r[64];
        for (int u = 0; u < 8; u++) {
            F32 x[8];
            for (int v = 0; v < 8; v++) x[v] = in[part][8 * v + u] * (FACTOR[v] * FACTOR[u] / 8);
            scaled_idct(x);
            store_column(r, u, x);
        }
        inverse_rows(r, samples, stride, part);
    }
}

}  // namespace NAMESPACE
