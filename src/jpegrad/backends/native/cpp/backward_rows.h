// Adjoints of the row operations in color.h and chroma.h, in float32.
#pragma once
#include "api.h"
#include "geometry.h"
#include "simd.h"

namespace NAMESPACE {

// A 3x3 matrix, every element in all lanes.
struct Matrix {
    F32 at[9];

    explicit Matrix(const float* m) {
        for (int i = 0; i < 9; i++) at[i] = splatf(m[i]);
    }
};

INLINE F32 masked(F32 g, I32 flags, int bit, F32 outside) {
    I32 active = (flags & bit) != 0;
    return active ? g * outside : g;
}

// What clamps let through where they act: the leak, or what the soft forward has kept of a row, plane by plane.
struct Outside {
    float leak;
    const float* kept;
    int64_t plane;

    Outside from(int64_t i) const { return {leak, kept ? kept + i : nullptr, plane}; }
    float at(int64_t i) const { return kept ? kept[i] : leak; }
    INLINE_MEMBER F32 of(int c, int64_t n) const {
        float tail[HALF];
        if (!kept) return splatf(leak);
        return n >= HALF ? load<F32>(kept + c * plane) : load<F32>(readable(kept + c * plane, (int)n, tail, 0.0f));
    }
};

// Gradients of RGB pixels to gradients of YCbCr at full resolution: transposed decoder matrix behind the output clamp.
template <bool LUMA>
INLINE void decode_adjoint(const float* const g[3], const uint8_t* flags, const Matrix& matrix, const Outside& rgb,
                           const Outside& sample, int64_t n, float* const out[3]) {
    I32 flag = load_bytes(flags);
    F32 x[3] = {load<F32>(g[0]), load<F32>(g[1]), load<F32>(g[2])};
    const bool clamped = any(flag & (OUT_R | OUT_G | OUT_B));
    if (clamped)
        for (int j = 0; j < 3; j++) x[j] = masked(x[j], flag, OUT_R << j, rgb.of(j, n));
    const bool luma = LUMA && any(flag & (int)SAMPLE);
    for (int i = LUMA ? 0 : 1; i < 3; i++) {
        F32 sum = mul_add(x[0], matrix.at[i], mul_add(x[1], matrix.at[3 + i], x[2] * matrix.at[6 + i]));
        store(out[i], i == 0 && luma ? masked(sum, flag, SAMPLE, sample.of(0, n)) : sum);
    }
}

template <bool LUMA>
static void decode_adjoint_row(const float* const g[3], const uint8_t* flags, int64_t n, const float* numbers,
                               const Outside& rgb, const Outside& sample, float* const out[3]) {
    const Matrix matrix(numbers);
    in_vectors<HALF>(n, [&](int64_t i, auto count) {
        float tail[3][HALF];
        uint8_t tail_flags[HALF];
        const float* p[3];
        for (int c = 0; c < 3; c++) p[c] = readable(g[c] + i, count, tail[c], 0.0f);
        float* o[3] = {LUMA ? out[0] + i : nullptr, out[1] + i, out[2] + i};
        decode_adjoint<LUMA>(p, readable(flags + i, count, tail_flags, (uint8_t)0), matrix, rgb.from(i), sample.from(i),
                             count, o);
    });
}

// Gradients of YCbCr to gradients of RGB pixels: transposed encoder matrix, then the input clamp.
INLINE void encode_adjoint(const float* const g[3], const uint8_t* flags, const Matrix& matrix, const Outside& outside,
                           int64_t n, float* const out[3]) {
    I32 flag = load_bytes(flags);
    F32 x[3] = {load<F32>(g[0]), load<F32>(g[1]), load<F32>(g[2])};
    F32 sums[3];
    for (int j = 0; j < 3; j++)
        sums[j] = mul_add(x[0], matrix.at[j], mul_add(x[1], matrix.at[3 + j], x[2] * matrix.at[6 + j]));
    const int in = IN_R | IN_G | IN_B, undefined = UNDEFINED;
    if (any(flag & (in | undefined))) {
        const I32 infinite = (flag & undefined) != 0, none = (flag & (in | undefined)) == undefined;
        for (int j = 0; j < 3; j++) {
            F32 through = infinite ? F32{} : outside.of(j, n);
            sums[j] = none ? splatf(NAN) : masked(sums[j], flag, IN_R << j, through);
        }
    }
    for (int j = 0; j < 3; j++) store(out[j], sums[j]);
}

// `g` readable in whole vectors.
static void encode_adjoint_row(const float* const g[3], const uint8_t* flags, int64_t n, const float* numbers,
                               const Outside& outside, float* const out[3]) {
    const Matrix matrix(numbers);
    in_vectors<HALF>(n, [&](int64_t i, auto count) {
        float tail[3][HALF], *o[3];
        uint8_t tail_flags[HALF];
        const float* p[3] = {g[0] + i, g[1] + i, g[2] + i};
        for (int c = 0; c < 3; c++) o[c] = writable(out[c] + i, count, tail[c]);
        encode_adjoint(p, readable(flags + i, count, tail_flags, (uint8_t)0), matrix, outside.from(i), count, o);
        for (int c = 0; c < 3; c++) write_back(out[c] + i, count, tail[c]);
    });
}

// Where a clamp acted on a decoded sample.
static void mask_row(const uint8_t* flags, int64_t n, const Outside& outside, float* g) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        if (!load<uint64_t>(flags + i)) continue;
        for (int64_t x = i; x < i + 8; x++) g[x] *= flags[x] ? outside.at(x) : 1.0f;
    }
    for (; i < n; i++) g[i] *= flags[i] ? outside.at(i) : 1.0f;
}

// A column of the vertical half of the upsampling's adjoint: ROWS rows with weights.
template <int ROWS, class V> INLINE V weigh(const float* const rows[ROWS], const float weights[ROWS], int64_t x) {
    V sum = load<V>(rows[0] + x) * weights[0];
    for (int k = 1; k < ROWS; k++) sum += load<V>(rows[k] + x) * weights[k];
    return sum;
}

// The adjoint of upsampling without a triangle filter along the row: each of n samples gathers h pixels.
template <int ROWS>
static void replication_adjoint(const float* const rows[ROWS], const float weights[ROWS], int64_t width, int h,
                                int64_t n, float* out) {
    if (h == 1) {
        for (int64_t i = 0; i < n; i += HALF) store(out + i, weigh<ROWS, F32>(rows, weights, i));
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float sum = 0;
        for (int64_t x = h * i; x < h * (i + 1) && x < width; x++) sum += weigh<ROWS, float>(rows, weights, x);
        out[i] = sum;
    }
}

// The adjoint of upsampling by 2 with a triangle filter: sample i gathers pixels 2i - 1 ... 2i + 2 with weights 1/4,
// 3/4, 3/4, 1/4. Rows are readable for 4 * HALF pixels beyond `width`, and 0 there.
template <int ROWS>
static void triangle_adjoint(const float* const rows[ROWS], const float weights[ROWS], int64_t n, float* out) {
    F32 even, odd, next_even, next_odd, before;
    auto read = [&](int64_t i, F32& e, F32& o) {
        split_pairs(weigh<ROWS, F32>(rows, weights, 2 * i), weigh<ROWS, F32>(rows, weights, 2 * i + HALF), e, o);
    };
    read(0, even, odd);
    before = splatf(even[0]);
    for (int64_t i = 0; i < n; i += HALF) {
        read(i + HALF, next_even, next_odd);
        F32 far = shifted_right(before, odd) + shifted_left(even, next_even);
        store(out + i, (even + odd) * 0.75f + far * 0.25f);
        before = odd;
        even = next_even;
        odd = next_odd;
    }
    // Beyond the right border lies the border itself.
    auto at = [&](int64_t x) { return weigh<ROWS, float>(rows, weights, x); };
    out[n - 1] = (at(2 * n - 2) + at(2 * n - 1)) * 0.75f + (at(2 * n - 3) + at(2 * n - 1)) * 0.25f;
}

// The box filter's adjoint along a row: every sample to the h pixels it averages, beyond the image to the last pixel.
static void downsample_adjoint_row(const float* g, int64_t blocks_x, int h, float weight, int64_t width, float* out) {
    int64_t n = ceil_div(width, h), x = 0;
    float beyond = g[n - 1] * (float)(h * n - width);
    for (int64_t i = n; i < blocks_x * 8; i++) beyond += g[i] * (float)h;
    if (h == 2) {
        for (int64_t i = 0; i < n; i += HALF) {
            F32 both = load<F32>(g + i) * weight;
            interleave(both, both, out + 2 * i);
        }
    } else {
        for (int64_t i = 0; i < n; i++)
            for (int k = 0; k < h; k++) out[x++] = g[i] * weight;
    }
    out[width - 1] += beyond * weight;
}

}  // namespace NAMESPACE
