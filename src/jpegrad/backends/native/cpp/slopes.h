// Slopes of the quantiser's rounding, one vector of coefficients of one frequency at a time. Formulas: surrogates.py.
#pragma once
#include "api.h"
#include "simd.h"

namespace NAMESPACE {

// fn of the kind as a constant: std::integral_constant<int, KIND>.
template <class Fn> INLINE auto for_kind(int kind, const Fn& fn) {
    switch (kind) {
        case CUBIC: return fn(std::integral_constant<int, CUBIC>());
        case SIN: return fn(std::integral_constant<int, SIN>());
        case FOURIER: return fn(std::integral_constant<int, FOURIER>());
        case SOFT_ROUND: return fn(std::integral_constant<int, SOFT_ROUND>());
        case GAUSSIAN: return fn(std::integral_constant<int, GAUSSIAN>());
        case DISTORTION: return fn(std::integral_constant<int, DISTORTION>());
        case DEAD_ZONE: return fn(std::integral_constant<int, DEAD_ZONE>());
        default: return fn(std::integral_constant<int, IDENTITY>());
    }
}

// 2^y for y < 127; far below zero it stops at 2^-120.
INLINE F32 exp2_of(F32 y) {
    y = maxf(y, splatf(-120));
    // The sum's last bits are y's nearest integer.
    F32 shifted = y + MAGIC, f = y - (shifted - MAGIC);
    F32 p = mul_add(f, splatf(1.34004e-3f), splatf(9.67604e-3f));
    p = mul_add(p, f, splatf(5.550327e-2f));
    p = mul_add(p, f, splatf(2.4022107e-1f));
    p = mul_add(p, f, splatf(6.9314721e-1f));
    p = mul_add(p, f, splatf(1.0f));
    return (F32)((I32)p + ((I32)shifted << 23));
}

INLINE F32 absolute(F32 x) { return (F32)((I32)x & 0x7fffffff); }

// sin(pi r) for |r| <= 1/2.
INLINE F32 sin_half_turn(F32 r) {
    F32 z = r * r, p = mul_add(z, splatf(0.07765766f), splatf(-0.59829129f));
    p = mul_add(p, z, splatf(2.55007752f));
    p = mul_add(p, z, splatf(-5.16771008f));
    p = mul_add(p, z, splatf(3.14159264f));
    return p * r;
}

// sin(pi r)^2 = (1 - cos(2 pi r)) / 2 for |r| <= 1/2.
INLINE F32 sin2_half_turn(F32 r) {
    F32 s = sin_half_turn(r);
    return s * s;
}

// What the slope of one frequency needs besides the coefficient.
struct SlopeConstants {
    float near, scale, wave[3], width;
    int far;  // how many thresholds beyond the nearest matter; 3: all
    float quiet;    // up to this residual, in steps, the slope is 0 and the rounding sharp
    int16_t least;  // the same in eighths of a grey level
};

struct SlopeTable {
    SlopeConstants at[64];

    template <class T> void set(Slope kind, float parameter, const T* step) {
        for (int i = 0; i < 64; i++) {
            SlopeConstants& k = at[i];
            k = {};
            k.quiet = -1;
            if (kind == GAUSSIAN) {
                double s = (double)parameter / step[i];
                s = s < 1e-3 ? 1e-3 : s > 1 ? 1 : s;
                k.width = (float)s;
                k.near = (float)(__builtin_sqrt(0.5 * M_LOG2E) / s);
                k.scale = (float)-log2(s * __builtin_sqrt(2 * M_PI));  // a factor, in the exponent
                // Six deviations from the threshold, the Gaussian is below float32's resolution of 1.
                k.quiet = (float)(0.5 - 6 * s);
                k.least = (int16_t)__builtin_floor((0.5 - 6 * s) * 8 * step[i]);
                k.far = s < 0.085 ? 0 : s < 0.18 ? 1 : s < 0.25 ? 2 : 3;
                for (int n = 1; n <= 3 && k.far == 3; n++)
                    k.wave[n - 1] = (float)((n % 2 ? -2 : 2) * exp(-2 * M_PI * M_PI * s * s * n * n));
            } else if (kind == SOFT_ROUND) {
                k.near = (float)(-2 * M_LOG2E * (double)parameter);
                k.scale = (float)(2 * (double)parameter / tanh((double)parameter / 2));
            }
        }
    }
};

// r: residual u - level in [-1/2, 1/2]; u: coefficient in steps.
template <int KIND> INLINE F32 slope_of(F32 r, F32 u, const SlopeConstants& k) {
    if (KIND == CUBIC) return 3 * r * r;
    if (KIND == SIN) return 2 * sin2_half_turn(r);
    if (KIND == FOURIER) {
        F32 c = 1 - 2 * sin2_half_turn(r), before = splatf(1), now = c, sum = c;
        for (int n = 2; n <= 9; n++) {
            F32 next = 2 * c * now - before;
            before = now;
            now = next;
            sum = n % 2 ? sum + now : sum - now;
        }
        return 1 - 2 * sum;
    }
    if (KIND == SOFT_ROUND) {
        F32 e = exp2_of((0.5f - absolute(r)) * k.near), d = 1 + e;
        return k.scale * e / (d * d);
    }
    if (KIND == GAUSSIAN) {
        if (k.far == 3) {  // wide: the Fourier series converges at once
            F32 c = 1 - 2 * sin2_half_turn(r), c2 = 2 * c * c - 1, c3 = 2 * c * c2 - c;
            return 1 + k.wave[0] * c + k.wave[1] * c2 + k.wave[2] * c3;
        }
        F32 a = 0.5f - absolute(r), t = a * k.near, sum = exp2_of(k.scale - t * t);
        if (k.far >= 1) {  // the other threshold
            F32 b = (1 - a) * k.near;
            sum += exp2_of(k.scale - b * b);
        }
        if (k.far == 2) {  // the one beyond the nearest
            F32 c = (1 + a) * k.near;
            sum += exp2_of(k.scale - c * c);
        }
        return sum;
    }
    if (KIND == DISTORTION) {
        I32 zero = absolute(u) < 0.5f;
        return zero ? 4 * u * u : splatf(1);
    }
    if (KIND == DEAD_ZONE) return (F32)((absolute(u) > 1.28867513f) & (I32)splatf(1));
    return splatf(1);
}

INLINE F32 slope_by_kind(int kind, F32 r, F32 u, const SlopeConstants& k) {
    return for_kind(kind, [&](auto each) { return slope_of<each>(r, u, k); });
}

}  // namespace NAMESPACE
