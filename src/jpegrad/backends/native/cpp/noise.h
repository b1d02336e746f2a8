// Clamps smoothed by noise: their mean over normal noise, and the noise that they leave. Formulas: stages/noise.py.
#pragma once
#include "geometry.h"
#include "soft_functions.h"

namespace NAMESPACE {

constexpr float QUIET = 0.04f;  // the least variance of a decoded sample
constexpr float REACH = 4.5f;   // deviations beyond which a clamp moves a grey level by less than 10^-6 of one

INLINE I32 near_bounds(F32 x, F32 deviation) {
    return (I32)(x < REACH * deviation) | (I32)(x > 255 - REACH * deviation);
}

// A bound `x` deviations below: the density there, and the probability of lying below it.
struct Bound {
    F32 density, below, excess;  // excess: E[max(noise - |x|, 0)], in deviations

    explicit Bound(F32 x) {
        F32 z = minf(absolute(x), splatf(9)), e = exp2_of(z * z * -0.72134752f), p = tail(z, e);
        density = e * 0.398942280f;
        below = x < 0 ? 1 - p : p;
        excess = density - z * p;
    }
};

// Whether noise that reaches one bound is out of reach of the other.
INLINE bool reaches_one(F32 deviation) { return !any((I32)(REACH * deviation >= 127.5f)); }

// How far inside of the nearer bound.
INLINE F32 depth(F32 x) { return 127.5f - absolute(x - 127.5f); }

// E[clamp(x + noise)] to 0...255, and its slope, which is the probability that the clamp does not act.
INLINE F32 smoothed_clamp(F32 x, F32 deviation, float leak, F32& slope) {
    const F32 inverse = 1 / deviation;
    F32 mean;
    if (__builtin_expect(reaches_one(deviation), 1)) {
        const F32 inside = depth(x);
        const Bound near(inside * inverse);
        const F32 above = maxf(inside, F32{}) + deviation * near.excess;
        mean = x < 127.5f ? above : 255 - above;
        slope = 1 - near.below;
    } else {
        const Bound low(x * inverse), high((255 - x) * inverse);
        mean = minf(maxf(x, F32{}), splatf(255)) + deviation * (low.excess - high.excess);
        slope = 1 - low.below - high.below;
    }
    if (leak == 0) return mean;
    slope += leak * (1 - slope);
    // An infinite number does not leak.
    return mean + leak * (F32)((I32)(x - mean) & (I32)(x - x == 0));
}

// By how much the clamp lessens the variance of x + noise.
INLINE F32 lost_variance(F32 x, F32 deviation) {
    const F32 inverse = 1 / deviation;
    auto within = [](F32 z) { return minf(maxf(z, splatf(-9)), splatf(9)); };
    F32 to_low = within((reaches_one(deviation) ? depth(x) : x) * inverse);
    const Bound low(to_low);
    F32 mean = low.density - to_low * low.below;
    F32 square = 1 + (to_low * to_low - 1) * low.below - to_low * low.density;
    if (!reaches_one(deviation)) {
        const F32 to_high = within((255 - x) * inverse);
        const Bound high(to_high);
        mean += to_high * high.below - high.density;
        square += (to_high * to_high - 1) * high.below - to_high * high.density;
    }
    return deviation * deviation * (1 - maxf(square - mean * mean, F32{}));
}

// Where the slopes of the clamps of one call are kept, plane by plane: written and read only where a flag is set.
struct Clips {
    float *pixels, *luma, *chroma, *rgb;

    explicit Clips(float* const each[4]) : pixels(each[0]), luma(each[1]), chroma(each[2]), rgb(each[3]) {}
};

// Of numbers that stand for eight samples each, those of the samples from `x` on.
INLINE F32 of_eight(const float* numbers, int64_t x) {
    F32 found = splatf(numbers[x / 8]);
    for (int i = 8; i < HALF; i++) found[i] = numbers[x / 8 + 1];
    return found;
}

// Adds the sums of every eight samples from `x` on.
INLINE void add_eights(float* sums, int64_t x, F32 samples) {
#if LANES == 32
    sums[x / 8] += _mm512_mask_reduce_add_ps(0xff, samples);
    sums[x / 8 + 1] += _mm512_mask_reduce_add_ps(0xff00, samples);
#else
    sums[x / 8] += total(samples);
#endif
}

// What there is of a vector.
INLINE void store_part(float* p, F32 x, int64_t n) {
    if (n >= HALF)
        store(p, x);
    else
        for (int i = 0; i < n; i++) p[i] = x[i];
}

}  // namespace NAMESPACE
