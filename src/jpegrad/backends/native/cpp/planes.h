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

// Three contiguous channels of an image into padded planes of linear light.
static void read_light(const float* image, const Size& size, float* out) {
    for (int64_t row = 0; row < 3 * size.height; row++) {
        const float* from = image + row * size.width;
        float* to = out + row * size.stride;
        int64_t x = 0;
        for (; x + HALF <= size.width; x += HALF) store(to + x, to_light(at(from + x)));
        float rest[8] = {};
        if (x < size.width) __builtin_memcpy(rest, from + x, (size_t)(size.width - x) * sizeof(float));
        for (int i = 0; x < size.stride; x += HALF, i += HALF) store(to + x, to_light(at(rest + i)));
    }
}

// The gradient of the image from that of its light.
static void write_gradient(const float* image, const Size& size, const float* gradient, float* out) {
    for (int64_t row = 0; row < 3 * size.height; row++) {
        const float *from = image + row * size.width, *slope = gradient + row * size.stride;
        float* to = out + row * size.width;
        auto step = [&](int64_t x, auto count) {
            float copy[HALF], room[HALF];
            F32 v = at(readable(from + x, count, copy, 0.0f));
            float* written = writable(to + x, count, room);
            store(written, at(slope + x) * to_light_slope(v, to_light(v)));
            write_back(to + x, count, room);
        };
        in_vectors<HALF>(size.width, step);
    }
}

// Means of 2 x 2 samples; the last of an odd side counts twice.
static void halve(const float* in, const Size& size, float* out) {
    const Size half = size.half();
    for (int64_t y = 0; y < half.height; y++) {
        const float* top = in + 2 * y * size.stride;
        const float* bottom = 2 * y + 1 < size.height ? top + size.stride : top;
        float* to = out + y * half.stride;
        for (int64_t x = 0; x < size.width / 2; x++)
            to[x] = 0.25f * (top[2 * x] + top[2 * x + 1] + bottom[2 * x] + bottom[2 * x + 1]);
        for (int64_t x = size.width / 2; x < half.stride; x++)
            to[x] = x < half.width ? 0.5f * (top[2 * x] + bottom[2 * x]) : 0.0f;
    }
}

// Adds the adjoint of halve().
static void add_doubled(const float* gradient, const Size& size, float* out) {
    const Size half = size.half();
    for (int64_t y = 0; y < size.height; y++) {
        const float* from = gradient + y / 2 * half.stride;
        float* to = out + y * size.stride;
        const float part = y == size.height - 1 && size.height % 2 ? 0.5f : 0.25f;
        for (int64_t x = 0; x < size.width / 2; x++) {
            to[2 * x] += part * from[x];
            to[2 * x + 1] += part * from[x];
        }
        if (size.width % 2) to[size.width - 1] += 2 * part * from[size.width / 2];
    }
}

enum Border { ZERO, MIRROR, WEIGHTED };

// A separable filter with taps for the middle and REACH neighbours on both sides; `planes` of one size, out may be in.
// The matrix of ZERO and MIRROR is symmetric; WEIGHTED divides by what of the taps lies inside, after the filter, and
// its adjoint before.
template <int REACH, Border BORDER> struct Blur {
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

    bool operator()(const float* in, float* out, const Size& size, int planes, bool adjoint = false) const {
        constexpr int WINDOW = 2 * REACH + 1, MARGIN = (REACH + 7) / 8 * 8;
        Room room((WINDOW + 1) * size.stride + 2 * MARGIN + size.stride + size.stride + size.height + 8);
        if (!room) return false;
        float* ring = room.take(WINDOW * size.stride);
        float* zeros = room.take(size.stride);
        float* padded = room.take(size.stride + 2 * MARGIN) + MARGIN;
        float *across = room.take(size.stride), *down = room.take(size.height);
        for (int64_t x = 0; x < size.stride; x++) zeros[x] = 0;
        for (int64_t x = -MARGIN; x < size.stride + MARGIN; x++) padded[x] = 0;
        weigh(across, size.width, size.stride);
        weigh(down, size.height, size.height);
        const bool before = BORDER == WEIGHTED && adjoint, after = BORDER == WEIGHTED && !adjoint;
        for (int plane = 0; plane < planes; plane++, in += size.count(), out += size.count()) {
            for (int64_t y = 0, read = 0; y < size.height; y++) {
                for (; read < size.height && read <= y + REACH; read++) {
                    const float* row = in + read * size.stride;
                    if (before) {
                        const F32 scale = splatf(down[read]);
                        each_vector(size.stride,
                                    [&](int64_t x) { store(padded + x, at(row + x) * at(across + x) * scale); });
                    } else {
                        __builtin_memcpy(padded, row, (size_t)size.stride * sizeof(float));
                    }
                    for (int64_t x = size.width; x < size.stride; x++) padded[x] = 0;
                    if (BORDER == MIRROR)
                        for (int i = 0; i < REACH; i++) {
                            padded[-1 - i] = padded[i];
                            padded[size.width + i] = padded[size.width - 1 - i];
                        }
                    along(padded, ring + read % WINDOW * size.stride, size.stride);
                    if (BORDER == MIRROR)
                        for (int i = 0; i < REACH; i++) padded[size.width + i] = 0;
                }
                const float* rows[WINDOW];
                for (int i = -REACH; i <= REACH; i++) {
                    int64_t from = y + i;
                    if (BORDER == MIRROR)
                        from = from < 0 ? -1 - from : from >= size.height ? 2 * size.height - 1 - from : from;
                    rows[REACH + i] = from < 0 || from >= size.height ? zeros : ring + from % WINDOW * size.stride;
                }
                float* to = out + y * size.stride;
                const F32 scale = splatf(after ? down[y] : 1.0f);
                each_vector(size.stride, [&](int64_t x) {
                    F32 total = at(rows[REACH] + x) * taps[0];
                    for (int i = 1; i <= REACH; i++)
                        total = mul_add(at(rows[REACH - i] + x) + at(rows[REACH + i] + x), splatf(taps[i]), total);
                    store(to + x, after ? total * at(across + x) * scale : total);
                });
                for (int64_t x = size.width; x < size.stride; x++) to[x] = 0;
            }
        }
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
