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
    // The bit as the sign: what a blend looks at.
    I32 sign = flags << __builtin_clz((unsigned)bit);
    return sign < 0 ? g * outside : g;
}

// What clamps let through where they act: the leak, or what the soft forward has kept of a row, plane by plane.
struct Outside {
    float leak;
    const float* kept;
    int64_t plane;

    Outside from(int64_t i) const { return {leak, kept ? kept + i : nullptr, plane}; }
    float at(int64_t i) const { return kept ? kept[i] : leak; }
    INLINE_MEMBER F32 of(int c, int64_t n) const {
        if (!kept) return splatf(leak);
        const float* p = kept + c * plane;
        float tail[HALF];
        return load<F32>(n >= HALF ? p : readable(p, (int)n, tail, 0.0f));
    }
};

// Gradients of RGB pixels to gradients of YCbCr at full resolution: transposed decoder matrix.
template <bool LUMA> INLINE void decode_adjoint(const F32 x[3], const Matrix& matrix, F32 sums[3]) {
    for (int i = LUMA ? 0 : 1; i < 3; i++)
        sums[i] = mul_add(x[0], matrix.at[i], mul_add(x[1], matrix.at[3 + i], x[2] * matrix.at[6 + i]));
}

template <bool LUMA>
INLINE void decode_adjoint(const float* const g[3], const uint8_t* flags, const Matrix& matrix, const Outside& rgb,
                           const Outside& sample, int64_t n, float* const out[3]) {
    const I32 flag = load_bytes(flags);
    F32 x[3], sums[3];
    for (int j = 0; j < 3; j++) x[j] = masked(load<F32>(g[j]), flag, OUT_R << j, rgb.of(j, n));
    decode_adjoint<LUMA>(x, matrix, sums);
    if (LUMA) store(out[0], masked(sums[0], flag, SAMPLE, sample.of(0, n)));
    store(out[1], sums[1]);
    store(out[2], sums[2]);
}

// A row of it. KEPT: what the clamps let through is kept, and read only where they act.
template <bool LUMA, bool KEPT>
static __attribute__((noinline)) void decode_adjoint_row(const float* const g[3], const uint8_t* flags, int64_t n,
                                                         const float* numbers, const Outside& rgb,
                                                         const Outside& sample, float* const out[3]) {
    const Matrix matrix(numbers);
    const Outside leak = {rgb.leak, nullptr, 0};
    const float *red = g[0], *green = g[1], *blue = g[2];
    float *y = out[0], *cb = out[1], *cr = out[2];
    int64_t i = 0;
    for (; i + HALF <= n; i += HALF) {
        const float* p[3] = {red + i, green + i, blue + i};
        float* const o[3] = {y + i, cb + i, cr + i};
        if (KEPT && (load<Flags>(flags + i) & flags_of(OUT_R | OUT_G | OUT_B | (LUMA ? SAMPLE : 0))))
            decode_adjoint<LUMA>(p, flags + i, matrix, rgb.from(i), sample.from(i), HALF, o);
        else
            decode_adjoint<LUMA>(p, flags + i, matrix, leak, leak, HALF, o);
    }
    if (i == n) return;
    float tail[3][HALF];
    uint8_t tail_flags[HALF];
    const float* p[3];
    for (int c = 0; c < 3; c++) p[c] = readable(g[c] + i, (int)(n - i), tail[c], 0.0f);
    float* const o[3] = {y + i, cb + i, cr + i};
    decode_adjoint<LUMA>(p, readable(flags + i, (int)(n - i), tail_flags, (uint8_t)0), matrix, rgb.from(i),
                         sample.from(i), n - i, o);
}

// Gradients of n chroma samples, by the transposed encoder matrix and a weight, to what they add to those of the `h`
// pixels that each of them averages: R, G and B. Beyond the image they go to the last pixel.
static __attribute__((noinline)) void encode_chroma_row(const float* cb, const float* cr, int64_t n, int h,
                                                        const float* numbers, float weight, int64_t width,
                                                        float* const out[3]) {
    const int64_t inside = ceil_div(width, h);
    for (int j = 0; j < 3; j++) {
        const float from_cb = numbers[3 + j] * weight, from_cr = numbers[6 + j] * weight;
        float* const row = out[j];
        float beyond = (cb[inside - 1] * from_cb + cr[inside - 1] * from_cr) * (float)(h * inside - width);
        for (int64_t i = inside; i < n; i++) beyond += (cb[i] * from_cb + cr[i] * from_cr) * (float)h;
        for (int64_t i = 0; i < inside; i += HALF) {
            F32 sum = mul_add(load<F32>(cb + i), splatf(from_cb), load<F32>(cr + i) * from_cr);
            if (h == 1)
                store(row + i, sum);
            else if (h == 2)
                double_each(sum, row + 2 * i);
            else
                for (int64_t x = 0; x < HALF * h; x++) row[h * i + x] = sum[x / h];
        }
        row[width - 1] += beyond;
    }
}

// Gradients of luma, and what chroma adds, to gradients of RGB pixels where an input clamp acts.
static __attribute__((noinline)) void encode_clamped(const float* luma, const float* const chroma[3],
                                                     const uint8_t* flags, const float* numbers, const Outside& outside,
                                                     int64_t n, float* const out[3]) {
    const int in = IN_R | IN_G | IN_B, undefined = UNDEFINED;
    const I32 flag = load_bytes(flags);
    const I32 infinite = (flag & undefined) != 0, none = (flag & (in | undefined)) == undefined;
    for (int j = 0; j < 3; j++) {
        F32 sum = mul_add(load<F32>(luma), splatf(numbers[j]), load<F32>(chroma[j]));
        F32 through = infinite ? F32{} : outside.of(j, n);
        store(out[j], none ? splatf(NAN) : masked(sum, flag, IN_R << j, through));
    }
}

// `luma` and `chroma` readable in whole vectors.
static __attribute__((noinline)) void encode_adjoint_row(const float* luma, const float* const chroma[3],
                                                         const uint8_t* flags, int64_t n, const float* numbers,
                                                         const Outside& outside, float* const out[3]) {
    const F32 red = splatf(numbers[0]), green = splatf(numbers[1]), blue = splatf(numbers[2]);
    const float *to_red = chroma[0], *to_green = chroma[1], *to_blue = chroma[2];
    float *r = out[0], *g = out[1], *b = out[2];
    int64_t i = 0;
    for (; i + HALF <= n; i += HALF) {
        if (__builtin_expect((load<Flags>(flags + i) & flags_of(IN_R | IN_G | IN_B | UNDEFINED)) != 0, 0)) {
            const float* p[3] = {to_red + i, to_green + i, to_blue + i};
            float* const o[3] = {r + i, g + i, b + i};
            encode_clamped(luma + i, p, flags + i, numbers, outside.from(i), HALF, o);
            continue;
        }
        for (int j = 0; j < 3; j++) will_write<HALF>(out[j] + i);
        F32 y = load<F32>(luma + i);
        store(r + i, mul_add(y, red, load<F32>(to_red + i)));
        store(g + i, mul_add(y, green, load<F32>(to_green + i)));
        store(b + i, mul_add(y, blue, load<F32>(to_blue + i)));
    }
    if (i == n) return;
    float tail[3][HALF];
    uint8_t tail_flags[HALF];
    const float* p[3] = {to_red + i, to_green + i, to_blue + i};
    float* const o[3] = {tail[0], tail[1], tail[2]};
    encode_clamped(luma + i, p, readable(flags + i, (int)(n - i), tail_flags, (uint8_t)0), numbers, outside.from(i),
                   n - i, o);
    for (int c = 0; c < 3; c++) __builtin_memcpy(out[c] + i, tail[c], (size_t)(n - i) * sizeof(float));
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
INLINE float mul_add(float a, float b, float c) { return a * b + c; }
template <int ROWS, class V> INLINE V weigh(const float* const rows[ROWS], const float weights[ROWS], int64_t x) {
    V sum = load<V>(rows[0] + x) * weights[0];
    for (int k = 1; k < ROWS; k++) sum = mul_add(load<V>(rows[k] + x), V{} + weights[k], sum);
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
static __attribute__((noinline)) void triangle_adjoint(const float* const rows[ROWS], const float weights[ROWS],
                                                       int64_t n, float* out) {
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

}  // namespace NAMESPACE
