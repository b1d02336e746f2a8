// The smooth functions that the soft forward evaluates in place of the rounding. Formulas: surrogates.py.
#pragma once
#include "slopes.h"

namespace NAMESPACE {

// What a function says of one vector of coefficients in steps: its value, its slope, and by how much the value grows
// with the logarithm of the record's own width.
struct Soft {
    F32 value, slope, widening;
};

// Tail of the normal distribution beyond z >= 0 (Abramowitz & Stegun 7.1.26), with e = exp(-z^2 / 2); right to 8e-8.
INLINE F32 tail(F32 z, F32 e) {
    F32 t = reciprocal(mul_add(z, splatf(0.3275911f * 0.707106781f), splatf(1.0f)));
    F32 p = mul_add(t, splatf(0.5f * 1.061405429f), splatf(0.5f * -1.453152027f));
    p = mul_add(p, t, splatf(0.5f * 1.421413741f));
    p = mul_add(p, t, splatf(0.5f * -0.284496736f));
    p = mul_add(p, t, splatf(0.5f * 0.254829592f));
    return p * t * e;
}

// The rounding up across a threshold at distance d >= 0 by normal noise, of a residual below it.
template <bool TABLES> INLINE void cross(F32 d, const SlopeConstants& k, float sign, Soft& sum) {
    F32 z = d * (1 / k.width), e = exp2_of(z * z * -0.72134752f);
    sum.value += sign * tail(z, e);
    sum.slope += e;
    if (TABLES) sum.widening += sign * z * e;
}

// r: residual u - level in [-1/2, 1/2]. Everything but the level, which the caller adds.
template <bool TABLES> INLINE Soft smoothed(F32 r, const SlopeConstants& k) {
    Soft found = {};
    if (k.far == 3) {  // wide: the Fourier series converges at once
        F32 s = sin_half_turn(r), c = sin_half_turn(0.5f - absolute(r)), sine = 2 * s * c, cosine = 1 - 2 * s * s;
        F32 sine2 = 2 * sine * cosine, cosine2 = 2 * cosine * cosine - 1;
        F32 sine3 = 2 * cosine * sine2 - sine, cosine3 = 2 * cosine * cosine2 - cosine;
        found.value = r + (k.wave[0] * sine + k.wave[1] / 2 * sine2 + k.wave[2] / 3 * sine3) * (float)(0.5 / M_PI);
        found.slope = 1 + k.wave[0] * cosine + k.wave[1] * cosine2 + k.wave[2] * cosine3;
        if (TABLES) {
            F32 moved = k.wave[0] * sine + k.wave[1] * 2 * sine2 + k.wave[2] * 3 * sine3;
            found.widening = moved * (float)(-2 * M_PI) * k.width * k.width;
        }
        return found;
    }
    F32 a = absolute(r);
    cross<TABLES>(0.5f - a, k, 1, found);
    if (k.far >= 1) cross<TABLES>(0.5f + a, k, -1, found);
    if (k.far == 2) cross<TABLES>(1.5f - a, k, 1, found);
    I32 sign = (I32)r & (int32_t)0x80000000;
    found.value = (F32)((I32)found.value ^ sign);
    const float density = 0.398942280f;
    found.slope *= density / k.width;
    found.widening = (F32)((I32)(found.widening * density) ^ sign);
    return found;
}

// The same with a width of its own in every lane, none wider than `k` has it; `inverse` of it.
template <bool TABLES> INLINE Soft smoothed_by(F32 width, F32 inverse, F32 r, const SlopeConstants& k) {
    Soft narrow = {};
    auto threshold = [&](F32 d, float sign) {
        F32 z = d * inverse, density = exp2_of(z * z * -0.72134752f);
        narrow.value += sign * tail(z, density);
        narrow.slope += density;
        if (TABLES) narrow.widening += sign * z * density;
    };
    const F32 a = absolute(r);
    threshold(0.5f - a, 1);
    if (k.far >= 1) threshold(0.5f + a, -1);
    if (k.far >= 2) threshold(1.5f - a, 1);
    const I32 sign = (I32)r & (int32_t)0x80000000;
    const float density = 0.398942280f;
    narrow.value = (F32)((I32)narrow.value ^ sign);
    narrow.slope *= density * inverse;
    narrow.widening = (F32)((I32)(narrow.widening * density) ^ sign);
    const I32 is_wide = width >= 0.25f;
    if (k.far < 3 || !any(is_wide)) return narrow;
    const F32 e = exp2_of(width * width * (float)(-2 * M_PI * M_PI * M_LOG2E)), e4 = e * e * e * e;
    F32 s = sin_half_turn(r), c = sin_half_turn(0.5f - a), sine = 2 * s * c, cosine = 1 - 2 * s * s;
    F32 sine2 = 2 * sine * cosine, cosine2 = 2 * cosine * cosine - 1;
    F32 sine3 = 2 * cosine * sine2 - sine, cosine3 = 2 * cosine * cosine2 - cosine;
    F32 wave = -2 * e, wave2 = 2 * e4, wave3 = -2 * e * e4 * e4;
    Soft wide = {};
    wide.value = r + (wave * sine + wave2 / 2 * sine2 + wave3 / 3 * sine3) * (float)(0.5 / M_PI);
    wide.slope = 1 + wave * cosine + wave2 * cosine2 + wave3 * cosine3;
    if (TABLES)
        wide.widening = (wave * sine + wave2 * 2 * sine2 + wave3 * 3 * sine3) * (float)(-2 * M_PI) * width * width;
    return {is_wide ? wide.value : narrow.value, is_wide ? wide.slope : narrow.slope,
            is_wide ? wide.widening : narrow.widening};
}

template <int KIND, bool TABLES> INLINE Soft soft_of(F32 u, const SlopeConstants& k) {
    if (KIND == IDENTITY) return {u, splatf(1), F32{}};
    F32 level = u + MAGIC - MAGIC, r = u - level;
    if (KIND == GAUSSIAN) {
        if (!any((I32)(absolute(r) > k.quiet))) return {level, F32{}, F32{}};
        Soft found = smoothed<TABLES>(r, k);
        found.value += level;
        return found;
    }
    F32 value = u;
    if (KIND == CUBIC) value = level + r * r * r;
    if (KIND == SIN || KIND == FOURIER) {
        F32 s = sin_half_turn(r), sine = 2 * s * sin_half_turn(0.5f - absolute(r)), cosine = 1 - 2 * s * s;
        F32 sum = sine, before = {}, now = sine;
        for (int n = 2; KIND == FOURIER && n <= 9; n++) {
            F32 next = 2 * cosine * now - before;
            before = now;
            now = next;
            sum += now * ((n % 2 ? 1.0f : -1.0f) / (float)n);
        }
        value = u - sum * (float)((KIND == SIN ? 0.5 : 1) / M_PI);
    }
    if (KIND == SOFT_ROUND) {
        F32 e = exp2_of((0.5f - absolute(r)) * k.near), bent = 0.5f - (1 - e) / (1 + e) * k.width;
        value = level + (F32)((I32)bent ^ ((I32)r & (int32_t)0x80000000));
    }
    if (KIND == DISTORTION) {
        I32 zero = absolute(u) < 0.5f;
        F32 third = (F32)((I32)splatf(1.0f / 3) | ((I32)u & (int32_t)0x80000000));
        value = zero ? (4.0f / 3) * u * u * u : u - third;
    }
    if (KIND == DEAD_ZONE) {
        F32 beyond = maxf(absolute(u) - 1.28867513f, F32{});
        value = (F32)((I32)beyond | ((I32)u & (int32_t)0x80000000));
    }
    return {value, slope_of<KIND>(r, u, k), F32{}};
}

}  // namespace NAMESPACE
