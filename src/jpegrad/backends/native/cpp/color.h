// Pixels to component samples and back, one row at a time: 8-bit rounding, fixed-point colour conversion, clamps.
#pragma once
#include "api.h"
#include "simd.h"

namespace NAMESPACE {

// What a reader meets outside the value range: how many samples far outside (a quarter of its width), and any NaN.
struct Watch {
    F32 low, high;
    int64_t far = 0;
    bool undefined = false;

    explicit Watch(const Codec& c) {
        const double margin = (c.high - c.low) / 4;
        low = splatf((float)(c.low - margin));
        high = splatf((float)(c.high + margin));
    }
    __attribute__((noinline)) void note(const float* p) {
        F32 x = load<F32>(p);
        I32 beyond = (I32)(x < low) | (I32)(x > high);
        for (int i = 0; i < HALF; i++) far -= beyond[i];
        undefined |= any((I32)(x != x));
    }
};

// Numbers in value_range to grey levels, rounded half to even, clamped, NaN to 0.
struct Levels {
    double low, scale;
    F32 high, factor;
    float first, last;  // the numbers between which the clamp does not act
    bool direct;        // low is 0 and factor exact: one fused multiply-add rounds correctly
    Watch* watch;

    explicit Levels(const Codec& c, Watch* watch) : low(c.low), scale(255 / (c.high - c.low)), watch(watch) {
        high = splatf((float)c.high);
        factor = splatf((float)scale);
        direct = FUSED && low == 0 && (float)scale == scale && (float)c.high == c.high && scale * c.high == 255;
        first = (float)c.low;
        while (level(first) < 0) first = __builtin_nextafterf(first, INFINITY);
        last = (float)c.high;
        while (level(last) > 255) last = __builtin_nextafterf(last, -INFINITY);
    }
    double level(float x) const { return ((double)x - low) * scale; }
};

// How a row of pixels is read: clamped; or as if it needed no clamp, which needs k.direct, and then `seen` tells
// whether that was right: of LEVELS it has other bits than the lowest eight where one lies outside 0...255, of NUMBERS
// it has the largest, as unsigned integers, of which negative numbers and NaN are the largest.
enum Reading { CLAMPED, LEVELS, NUMBERS };
template <Reading HOW> using As = std::integral_constant<Reading, HOW>;

// Grey levels of HALF pixels as floating-point integers.
template <Reading HOW> INLINE F32 read_levels(const float* p, const Levels& k, U32& seen) {
    if (HOW != CLAMPED) {
        F32 raised = mul_add(load<F32>(p), k.factor, splatf(MAGIC));
        if (HOW == LEVELS)
            seen |= (U32)raised ^ (U32)splatf(MAGIC);
        else
            seen = load<U32>(p) > seen ? load<U32>(p) : seen;
        return raised - MAGIC;
    }
    if (k.direct) {
        F32 clamped = minf(maxf(load<F32>(p), F32{}), k.high);
        return mul_add(clamped, k.factor, splatf(MAGIC)) - MAGIC;
    }
    F32 levels;
    for (int half = 0; half < 2; half++) {
        F64 x = (__builtin_convertvector(load<HalfF32>(p + half * HALF / 2), F64) - k.low) * k.scale;
        F64 zero = {}, full = zero + 255.0, clamped = x > zero ? x : zero;
        clamped = clamped < full ? clamped : full;
        HalfF32 rounded = __builtin_convertvector(clamped + MAGIC_WIDE - MAGIC_WIDE, HalfF32);
        __builtin_memcpy((char*)&levels + half * sizeof rounded, &rounded, sizeof rounded);
    }
    return levels;
}

template <Reading> INLINE F32 read_levels(const uint8_t* p, const Levels&, U32&) { return to_float(load_bytes(p)); }

// Whether the clamp acts on none of `n` numbers.
static bool row_is_inside(const float* x, int64_t n, const Levels& k) {
    I32 inside = splat32(-1);
    in_vectors<HALF>(n, [&](int64_t i, auto count) {
        float tail[HALF];
        F32 number = load<F32>(readable(x + i, count, tail, k.first));
        inside &= (I32)(number >= k.first) & (I32)(number <= k.last);
    });
    return !any(~inside);
}

// The flag of one channel of a pixel on which the input clamp may act.
INLINE uint8_t clip_flag(float x, const Levels& k, uint8_t bit) {
    bool finite = x - x == 0;
    return x >= k.first && x <= k.last ? 0 : finite ? bit : (uint8_t)(bit | UNDEFINED);
}

// The flags of a row on which the input clamp may act; the watch counts what lies far outside.
static __attribute__((noinline)) void note_row(const float* const x[], int channels, int64_t n, const Levels& k,
                                               uint8_t* flags) {
    for (int c = 0; c < channels; c++)
        in_vectors<HALF>(n, [&](int64_t i, auto count) {
            float tail[HALF];
            k.watch->note(readable(x[c] + i, count, tail, k.first));
        });
    for (int64_t i = 0; i < n && flags; i++) {
        for (int c = 0; c < channels; c++) flags[i] |= clip_flag(x[c][i], k, (uint8_t)(IN_R << c));
        for (int c = 0; c < channels; c++)
            if (x[c][i] != x[c][i]) flags[i] = UNDEFINED;
    }
}

// A row of the forward matrix: in float where every partial sum is an integer below 2^24, otherwise in int32.
struct Mix {
    F32 real[3], real_bias;
    I32 fixed[3], fixed_bias;
};

struct ForwardColor {
    Mix rows[3];
    bool real;

    explicit ForwardColor(const Codec& c) : real(true) {
        for (int i = 0; i < 3; i++) {
            double positive = c.forward_bias[i], negative = -(double)c.forward_bias[i];
            for (int j = 0; j < 3; j++) {
                int m = c.forward_matrix[3 * i + j];
                rows[i].real[j] = splatf((float)m);
                rows[i].fixed[j] = splat32(m);
                (m > 0 ? positive : negative) += 255.0 * (m > 0 ? m : -(double)m);
            }
            rows[i].real_bias = splatf((float)c.forward_bias[i]);
            rows[i].fixed_bias = splat32(c.forward_bias[i]);
            real = real && positive < 16777216 && negative < 16777216;
        }
    }
};

template <bool REAL> INLINE I32 mix(const Mix& m, F32 r, F32 g, F32 b) {
    if (REAL) return to_int(mul_add(r, m.real[0], mul_add(g, m.real[1], mul_add(b, m.real[2], m.real_bias)))) >> 16;
    return (to_int(r) * m.fixed[0] + to_int(g) * m.fixed[1] + to_int(b) * m.fixed[2] + m.fixed_bias) >> 16;
}

INLINE I16 clamp_sample(I16 x) { return min16(max16(x, I16{}), splat16(255)); }

struct Planes {
    int16_t* row[3];
};

// Reads a row of pixels by convert(how, seen), and writes its flags, if there are any.
template <class Convert>
INLINE void read_row(const float* const x[], int channels, int64_t n, const Levels& k, uint8_t* flags,
                     const Convert& convert) {
    U32 seen = {};
    if (flags) __builtin_memset(flags, 0, (size_t)n);
    if (k.direct && flags) {
        convert(As<NUMBERS>(), seen);
        if (!any((I32)(seen > (U32)splatf(k.last)))) return;
    } else if (k.direct) {
        convert(As<LEVELS>(), seen);
        if (!any((I32)seen & ~255)) return;
    }
    convert(As<CLAMPED>(), seen);
    bool inside = true;
    for (int c = 0; c < channels; c++) inside = inside && row_is_inside(x[c], n, k);
    if (!inside) note_row(x, channels, n, k, flags);
}

template <class Convert>
INLINE void read_row(const uint8_t* const[], int, int64_t n, const Levels&, uint8_t* flags, const Convert& convert) {
    U32 seen;
    convert(As<CLAMPED>(), seen);
    if (flags) __builtin_memset(flags, 0, (size_t)n);
}

// A row of `n` RGB pixels to three rows of samples (written in whole vectors).
template <bool REAL, class T>
static void encode_row(const T* const x[3], int64_t n, const Levels& k, const ForwardColor& color, const Planes& out,
                       uint8_t* flags) {
    read_row(x, 3, n, k, flags, [&](auto how, U32& seen) {
        in_vectors<LANES>(n, [&](int64_t i, auto count) {
            T tail[3][LANES];
            const T* p[3];
            for (int c = 0; c < 3; c++) p[c] = readable(x[c] + i, count, tail[c], (T)0);
            I32 parts[3][2];
            for (int half = 0; half < 2; half++) {
                F32 rgb[3];
                for (int c = 0; c < 3; c++) rgb[c] = read_levels<how>(p[c] + half * HALF, k, seen);
                for (int c = 0; c < 3; c++) parts[c][half] = mix<REAL>(color.rows[c], rgb[0], rgb[1], rgb[2]);
            }
            for (int c = 0; c < 3; c++) store(out.row[c] + i, clamp_sample(narrow(parts[c][0], parts[c][1])));
        });
    });
}

template <class T>
static void encode_gray_row(const T* x, int64_t n, const Levels& k, int16_t* out, uint8_t* flags) {
    read_row(&x, 1, n, k, flags, [&](auto how, U32& seen) {
        in_vectors<LANES>(n, [&](int64_t i, auto count) {
            T tail[LANES];
            const T* p = readable(x + i, count, tail, (T)0);
            F32 lo = read_levels<how>(p, k, seen);
            F32 hi = read_levels<how>(p + HALF, k, seen);
            store(out + i, narrow(to_int(lo), to_int(hi)));
        });
    });
}

// Samples 0...255 to numbers in value_range. The specification's low + s/255 * (high - low), rounded once to float, has
// 256 values; they are computed by fused arithmetic if that gives all of them, and looked up otherwise.
struct Values {
    float table[256];
    F32 scale, rest, low;
    bool arithmetic;

    explicit Values(const Codec& c) {
        double step = (c.high - c.low) / 255;
        scale = splatf((float)step);
        rest = splatf((float)(step - (double)(float)step));
        low = splatf((float)c.low);
        arithmetic = FUSED;
        for (int s = 0; s < 256; s++) table[s] = (float)(c.low + s / 255.0 * (c.high - c.low));
        for (int s = 0; s < 256; s += HALF) {
            F32 x;
            for (int i = 0; i < HALF; i++) x[i] = (float)(s + i);
            F32 y = convert(x);
            arithmetic = arithmetic && __builtin_memcmp(&y, table + s, sizeof y) == 0;
        }
    }
    INLINE_MEMBER F32 convert(F32 s) const { return mul_add(s, scale, mul_add(s, rest, low)); }
};

INLINE void write_values(float* p, I16 samples, const Values& values) {
    Halves s = widen(samples);
    if (values.arithmetic) {
        store(p, values.convert(to_float(s.lo)));
        store(p + HALF, values.convert(to_float(s.hi)));
    } else {
        for (int i = 0; i < LANES; i++) p[i] = values.table[(uint8_t)samples[i]];
    }
}

INLINE void write_values(uint8_t* p, I16 samples, const Values&) { store(p, to_bytes(samples)); }

// YCbCr samples of LANES pixels to RGB before the clamp. JFIF's factors are an integer and a 16-bit fraction each.
INLINE void to_rgb_jfif(I16 y, I16 cb, I16 cr, I16 rgb[3]) {
    cb -= (int16_t)128;
    cr -= (int16_t)128;
    rgb[0] = y + cr + ((mulhi(cr + cr, splat16(91881 - 65536)) + (int16_t)1) >> 1);
    rgb[1] = y - cr + pack((rotate(cb, cr, -22554, 65536 - 46802) + 32768) >> 16);
    rgb[2] = y + cb + cb + ((mulhi(cb + cb, splat16(116130 - 131072)) + (int16_t)1) >> 1);
}

INLINE void to_rgb(const Codec& c, I16 y, I16 cb, I16 cr, I16 rgb[3]) {
    Halves s[3] = {widen(y), widen(cb), widen(cr)};
    for (int i = 0; i < 3; i++) {
        const int32_t* m = c.inverse_matrix + 3 * i;
        int32_t bias = (int32_t)c.inverse_bias[i];
        rgb[i] = narrow((s[0].lo * m[0] + s[1].lo * m[1] + s[2].lo * m[2] + bias) >> 16,
                        (s[0].hi * m[0] + s[1].hi * m[1] + s[2].hi * m[2] + bias) >> 16);
    }
}

template <bool SAVE, bool IS_JFIF, class T>
INLINE void decode_pixels(const Codec& c, const int16_t* const s[3], int64_t i, const Values& values, T* const x[3],
                          uint8_t* flags) {
    I16 rgb[3], flag = {};
    if (IS_JFIF)
        to_rgb_jfif(load<I16>(s[0] + i), load<I16>(s[1] + i), load<I16>(s[2] + i), rgb);
    else
        to_rgb(c, load<I16>(s[0] + i), load<I16>(s[1] + i), load<I16>(s[2] + i), rgb);
    for (int j = 0; j < 3; j++) {
        I16 clamped = clamp_sample(rgb[j]);
        if (SAVE) flag |= (I16)(clamped != rgb[j]) & splat16(OUT_R << j);
        write_values(x[j], clamped, values);
    }
    if (SAVE) store(flags, load<U8>(flags) | to_bytes(flag));
}

// Clamp decoded samples; with SAVE, `flags` (a byte per sample) gets the bits that say where.
template <bool SAVE, bool FRESH> static void clamp_row(int16_t* samples, int64_t n, uint8_t* flags) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        I16 raw = load<I16>(samples + i), clamped = clamp_sample(raw);
        store(samples + i, clamped);
        if (!SAVE) continue;
        U8 flag = to_bytes((I16)(clamped != raw) & splat16(SAMPLE));
        store(flags + i, FRESH ? flag : flag | load<U8>(flags + i));
    }
    for (; i < n; i++) {
        int16_t clamped = samples[i] < 0 ? 0 : samples[i] > 255 ? 255 : samples[i];
        if (SAVE) flags[i] = (uint8_t)((FRESH ? 0 : flags[i]) | (clamped != samples[i] ? SAMPLE : 0));
        samples[i] = clamped;
    }
}

// Rows of YCbCr samples (readable in whole vectors) to `n` pixels.
template <bool SAVE, bool IS_JFIF, class T>
static void decode_row(const Codec& c, const int16_t* const s[3], int64_t n, const Values& values, T* const x[3],
                       uint8_t* flags) {
    in_vectors<LANES>(n, [&](int64_t i, auto count) {
        T tail[3][LANES], *p[3];
        uint8_t tail_flags[LANES], *flag = nullptr;
        for (int j = 0; j < 3; j++) {
            p[j] = writable(x[j] + i, count, tail[j]);
            will_write<LANES>(x[j] + i);
        }
        if (SAVE) flag = readable(flags + i, count, tail_flags, (uint8_t)0);
        decode_pixels<SAVE, IS_JFIF>(c, s, i, values, p, flag);
        for (int j = 0; j < 3; j++) write_back(x[j] + i, count, tail[j]);
        if (SAVE) write_back(flags + i, count, tail_flags);
    });
}

template <class T> static void decode_gray_row(const int16_t* s, int64_t n, const Values& values, T* x) {
    in_vectors<LANES>(n, [&](int64_t i, auto count) {
        T tail[LANES];
        write_values(writable(x + i, count, tail), load<I16>(s + i), values);
        write_back(x + i, count, tail);
    });
}

}  // namespace NAMESPACE
