// Planes of float samples for the metrics: rows padded to whole vectors, elementary functions, separable filters.
#pragma once
#include <memory>
#include <new>

#include "api.h"
#include "simd.h"
#include "slopes.h"

namespace NAMESPACE {

// Whatever is written into the padding of a row stays there: filters know the width.
struct Size {
    int64_t height, width, stride;

    Size(int64_t h, int64_t w) : height(h), width(w), stride((w + 7) / 8 * 8) {}
    int64_t count() const { return height * stride; }
    Size half() const { return Size((height + 1) / 2, (width + 1) / 2); }
};

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Memory for planes, or none.
class Room {
    std::unique_ptr<float[]> memory;
    float* free = nullptr;

  public:
    explicit Room(int64_t samples) : memory(new (std::nothrow) float[(size_t)samples]), free(memory.get()) {}
    explicit operator bool() const { return (bool)memory; }
    float* take(int64_t samples) {
        float* found = free;
        free += samples;
        return found;
    }
};

template <class Fn> INLINE void each_vector(int64_t samples, const Fn& fn) {
    for (int64_t i = 0; i < samples; i += HALF) fn(i);
}
INLINE F32 at(const float* p) { return load<F32>(p); }
INLINE F32 positive_part(F32 x) { return x > 0 ? x : splatf(0); }
INLINE F32 sign_of(F32 x) { return x > 0 ? splatf(1) : x < 0 ? splatf(-1) : splatf(0); }
INLINE float sum(F32 x) {
    float total = 0;
    for (int i = 0; i < HALF; i++) total += x[i];
    return total;
}
INLINE F32 square_root(F32 x) {
#if X86
    return MM(sqrt_ps)(x);
#else
    F32 y;
    for (int i = 0; i < HALF; i++) y[i] = std::sqrt(x[i]);
    return y;
#endif
}

// Of positive numbers. The mantissa lies between 1/sqrt 2 and sqrt 2, where the series of the inverse hyperbolic
// tangent is short.
INLINE F32 log2_of(F32 x) {
    I32 bits = (I32)x, exponent = (bits - 0x3f3504f3) >> 23;
    F32 m = (F32)(bits - (exponent << 23));
    F32 z = (m - 1.0f) / (m + 1.0f), z2 = z * z;
    F32 series = splatf(1 / 9.0f);
    series = mul_add(series, z2, splatf(1 / 7.0f));
    series = mul_add(series, z2, splatf(1 / 5.0f));
    series = mul_add(series, z2, splatf(1 / 3.0f));
    series = mul_add(series, z2, splatf(1));
    return mul_add(series, z * 2.8853900817779268f, to_float(exponent));
}

constexpr float LINEAR_BELOW = 0.04045f, LINEAR_SCALE = 1 / 12.92f;

// sRGB as linear light.
INLINE F32 to_light(F32 x) {
    x = x > 0 ? x : splatf(0);
    x = x < 1 ? x : splatf(1);
    return x <= LINEAR_BELOW ? x * LINEAR_SCALE : exp2_of(2.4f * log2_of((x + 0.055f) * (1 / 1.055f)));
}
INLINE F32 to_light_slope(F32 x, F32 light) {
    F32 inside = x <= LINEAR_BELOW ? splatf(LINEAR_SCALE) : 2.4f * light / (x + 0.055f);
    return x < 0 || x > 1 ? splatf(0) : inside;
}

// A picture [3, height, width], sRGB in 0 to 1: float, or bytes that stand for 255ths.
class Picture {
    const float* const floats;
    const uint8_t* const bytes;
    const Size size;
    float light_of[256], slope_of[256];

  public:
    Picture(const void* samples, bool are_bytes, const Size& s, int64_t index)
        : floats(are_bytes ? nullptr : (const float*)samples + 3 * s.height * s.width * index),
          bytes(are_bytes ? (const uint8_t*)samples + 3 * s.height * s.width * index : nullptr),
          size(s) {
        for (int i = 0; are_bytes && i < 256; i += HALF) {
            F32 x;
            for (int lane = 0; lane < HALF; lane++) x[lane] = (float)(i + lane) / 255;
            F32 light = to_light(x);
            store(light_of + i, light);
            store(slope_of + i, to_light_slope(x, light));
        }
    }

    // A row in linear light, padded.
    void read(int channel, int64_t y, float* to) const {
        const int64_t from = (channel * size.height + y) * size.width;
        int64_t x = 0;
        if (bytes) {
            for (; x < size.width; x++) to[x] = light_of[bytes[from + x]];
            for (; x < size.stride; x++) to[x] = 0;
            return;
        }
        for (; x + HALF <= size.width; x += HALF) store(to + x, to_light(at(floats + from + x)));
        float rest[8] = {};
        if (x < size.width) __builtin_memcpy(rest, floats + from + x, (size_t)(size.width - x) * sizeof(float));
        for (int i = 0; x < size.stride; x += HALF, i += HALF) store(to + x, to_light(at(rest + i)));
    }

    // Adds the gradient of a row to `out`, from that of its light.
    void add_gradient(int channel, int64_t y, const float* slope, float scale, float* out) const {
        const int64_t from = (channel * size.height + y) * size.width;
        out += from;
        if (bytes) {
            for (int64_t x = 0; x < size.width; x++) out[x] += scale * slope[x] * slope_of[bytes[from + x]];
            return;
        }
        auto step = [&](int64_t x, auto count) {
            float copy[HALF], there[HALF], room[HALF];
            F32 v = at(readable(floats + from + x, count, copy, 0.0f));
            F32 more = scale * at(slope + x) * to_light_slope(v, to_light(v));
            more = more + at(readable(out + x, count, there, 0.0f));
            float* written = writable(out + x, count, room);
            store(written, more);
            write_back(out + x, count, room);
        };
        in_vectors<HALF>(size.width, step);
    }
};

// Means of 2 x 2 samples of two rows; the last of an odd side counts twice.
static void halve_row(const float* top, const float* bottom, const Size& size, float* to) {
    const Size half = size.half();
    for (int64_t x = 0; x < size.width / 2; x++)
        to[x] = 0.25f * (top[2 * x] + top[2 * x + 1] + bottom[2 * x] + bottom[2 * x + 1]);
    for (int64_t x = size.width / 2; x < half.stride; x++)
        to[x] = x < half.width ? 0.5f * (top[2 * x] + bottom[2 * x]) : 0.0f;
}

// Adds row y of its adjoint, of the row y / 2.
static void add_double_row(const float* from, int64_t y, const Size& size, float* to) {
    const float part = y == size.height - 1 && size.height % 2 ? 0.5f : 0.25f;
    for (int64_t x = 0; x < size.width / 2; x++) {
        to[2 * x] += part * from[x];
        to[2 * x + 1] += part * from[x];
    }
    if (size.width % 2) to[size.width - 1] += 2 * part * from[size.width / 2];
}

// Means of 2 x 2 samples; the last of an odd side counts twice.
static void halve(const float* in, const Size& size, float* out) {
    const Size half = size.half();
    for (int64_t y = 0; y < half.height; y++) {
        const float* top = in + 2 * y * size.stride;
        halve_row(top, 2 * y + 1 < size.height ? top + size.stride : top, size, out + y * half.stride);
    }
}

// Planes of which only the last rows are kept: row y lies where row y - kept did.
struct Rows {
    Size size;
    int64_t kept;

    int64_t plane() const { return kept * size.stride; }
    int64_t at(int64_t y) const { return y % kept * size.stride; }
    template <class Fn> INLINE_MEMBER void each(int64_t first, int64_t last, const Fn& fn) const {
        for (int64_t y = first; y < last; y++) {
            const int64_t from = at(y);
            each_vector(size.stride, [&](int64_t x) { fn(from + x); });
        }
    }
    // The same of planes of which other rows are kept: fn(here, there).
    template <class Fn> INLINE_MEMBER void each(int64_t first, int64_t last, const Rows& others, const Fn& fn) const {
        for (int64_t y = first; y < last; y++) {
            const int64_t here = at(y), there = others.at(y);
            each_vector(size.stride, [&](int64_t x) { fn(here + x, there + x); });
        }
    }
    // How far a filter gets whose input has come to row `end`.
    int64_t behind(int64_t end, int64_t reach) const {
        return end == size.height ? end : end < reach ? 0 : end - reach;
    }
};

enum Border { ZERO, MIRROR, WEIGHTED };

// A separable filter with taps for the middle and REACH neighbours on both sides. The matrix of ZERO and MIRROR is
// symmetric; WEIGHTED divides by what of the taps lies inside, after the filter, and its adjoint before.
template <int REACH, Border BORDER> struct Blur {
    static constexpr int WINDOW = 2 * REACH + 1, MARGIN = (REACH + 7) / 8 * 8;
    float taps[REACH + 1];

    explicit Blur(double sigma) {
        double total = 0, tap[REACH + 1];
        for (int i = 0; i <= REACH; i++) {
            tap[i] = std::exp(-i * i / (2 * sigma * sigma));
            total += (i ? 2 : 1) * tap[i];
        }
        for (int i = 0; i <= REACH; i++) taps[i] = (float)(tap[i] / total);
    }
    explicit Blur(const float* given) {
        for (int i = 0; i <= REACH; i++) taps[i] = given[i];
    }

    // One way of planes through the filter, from the top down.
    class Pass {
        const Blur& blur;
        const Size size;
        const int planes;
        const bool before, after;
        float *rings, *zeros, *padded, *across, *down;
        int64_t read = 0;

      public:
        static int64_t samples(const Size& s, int planes) {
            return (WINDOW * planes + 3) * s.stride + 2 * MARGIN + s.height;
        }
        Pass(const Blur& b, const Size& s, int planes_, Room& room, bool adjoint = false)
            : blur(b),
              size(s),
              planes(planes_),
              before(BORDER == WEIGHTED && adjoint),
              after(BORDER == WEIGHTED && !adjoint),
              rings(room.take(WINDOW * planes_ * s.stride)),
              zeros(room.take(s.stride)),
              padded(room.take(s.stride + 2 * MARGIN) + MARGIN),
              across(room.take(s.stride)),
              down(room.take(s.height)) {
            for (int64_t x = 0; x < size.stride; x++) zeros[x] = 0;
            for (int64_t x = -MARGIN; x < size.stride + MARGIN; x++) padded[x] = 0;
            blur.weigh(across, size.width, size.stride);
            blur.weigh(down, size.height, size.height);
        }

        // Rows [first, last), which follow those of the call before; of the input those up to last + REACH are there.
        // `out` may be `in`.
        void filter(const float* in, float* out, const Rows& rows, int64_t first, int64_t last) {
            const int64_t begin = read;
            float* ring = rings;
            for (int plane = 0; plane < planes; plane++, ring += WINDOW * size.stride) {
                read = begin;
                for (int64_t y = first; y < last; y++) {
                    for (; read < size.height && read <= y + REACH; read++)
                        take(in + plane * rows.plane() + rows.at(read), ring + read % WINDOW * size.stride);
                    give(ring, y, out + plane * rows.plane() + rows.at(y));
                }
            }
        }

      private:
        // A row of the input, filtered along itself.
        void take(const float* row, float* to) {
            if (before) {
                const F32 scale = splatf(down[read]);
                each_vector(size.stride, [&](int64_t x) { store(padded + x, at(row + x) * at(across + x) * scale); });
            } else {
                __builtin_memcpy(padded, row, (size_t)size.stride * sizeof(float));
            }
            for (int64_t x = size.width; x < size.stride; x++) padded[x] = 0;
            if (BORDER == MIRROR)
                for (int i = 0; i < REACH; i++) {
                    padded[-1 - i] = padded[i];
                    padded[size.width + i] = padded[size.width - 1 - i];
                }
            blur.along(padded, to, size.stride);
            if (BORDER == MIRROR)
                for (int i = 0; i < REACH; i++) padded[size.width + i] = 0;
        }
        // A row of the output.
        void give(const float* ring, int64_t y, float* to) const {
            const float* rows[WINDOW];
            for (int i = -REACH; i <= REACH; i++) {
                int64_t from = y + i;
                if (BORDER == MIRROR)
                    from = from < 0 ? -1 - from : from >= size.height ? 2 * size.height - 1 - from : from;
                rows[REACH + i] = from < 0 || from >= size.height ? zeros : ring + from % WINDOW * size.stride;
            }
            const F32 scale = splatf(after ? down[y] : 1.0f);
            each_vector(size.stride, [&](int64_t x) {
                F32 total = at(rows[REACH] + x) * blur.taps[0];
                for (int i = 1; i <= REACH; i++)
                    total = mul_add(at(rows[REACH - i] + x) + at(rows[REACH + i] + x), splatf(blur.taps[i]), total);
                store(to + x, after ? total * at(across + x) * scale : total);
            });
            for (int64_t x = size.width; x < size.stride; x++) to[x] = 0;
        }
    };

    // All rows of planes of one size.
    bool operator()(const float* in, float* out, const Size& size, int planes) const {
        Room room(Pass::samples(size, planes));
        if (!room) return false;
        Pass(*this, size, planes, room).filter(in, out, {size, size.height}, 0, size.height);
        return true;
    }

  private:
    INLINE_MEMBER void along(const float* in, float* out, int64_t stride) const {
        each_vector(stride, [&](int64_t x) {
            F32 total = at(in + x) * taps[0];
            for (int i = 1; i <= REACH; i++) total = mul_add(at(in + x - i) + at(in + x + i), splatf(taps[i]), total);
            store(out + x, total);
        });
    }
    void weigh(float* inverse, int64_t size, int64_t stride) const {
        for (int64_t x = 0; x < stride; x++) {
            double inside = 0;
            for (int64_t i = -REACH; i <= REACH; i++)
                if (x + i >= 0 && x + i < size) inside += (double)taps[i < 0 ? -i : i];
            inverse[x] = inside > 0 ? (float)(1 / inside) : 0.0f;
        }
    }
};
}  // namespace NAMESPACE
