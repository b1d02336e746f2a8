// SSIMULACRA2 and its gradient: metrics/ssimulacra2.py has the formulas.
#pragma once
#include "planes.h"

namespace NAMESPACE {

class Structure {
    static constexpr int SCALES = 6, SMALLEST = 8, KINDS = 3;
    static constexpr float C2 = 0.0009f, BIAS = 0.0037930732552754493f;
    const Comparison& call;
    int scales = 0;
    int64_t offset[SCALES + 1] = {};   // of the scales in a stack of single planes
    Blur<4, ZERO> blur;

    Size size(int scale) const {
        Size found(call.height, call.width);
        for (int i = 0; i < scale; i++) found = found.half();
        return found;
    }

  public:
    explicit Structure(const Comparison& c) : call(c), blur(c.taps) {
        for (Size s(c.height, c.width);; s = s.half()) {
            offset[scales + 1] = offset[scales] + s.count();
            if (++scales == SCALES || s.height < SMALLEST || s.width < SMALLEST) break;
        }
    }

    // Room of the original at every scale: XYB, its mean, twice its variance.
    bool prepare(int64_t image) const {
        const int64_t all = offset[scales];
        Room room(3 * all + 3 * offset[1]);
        if (!room) return false;
        float *light = room.take(3 * all), *square = room.take(3 * offset[1]);
        read_pyramid(image, light);
        for (int scale = 0; scale < scales; scale++) {
            const Size s = size(scale);
            const int64_t n = 3 * s.count();
            float *xyb = prepared(image, scale), *mean = xyb + n, *activity = mean + n;
            to_xyb(light + 3 * offset[scale], s, xyb, nullptr, nullptr);
            each_vector(n, [&](int64_t i) { store(square + i, at(xyb + i) * at(xyb + i)); });
            if (!blur(xyb, mean, s, 3) || !blur(square, activity, s, 3)) return false;
            each_vector(n, [&](int64_t i) {
                store(activity + i, 2.0f * (at(activity + i) - at(mean + i) * at(mean + i)) + C2);
            });
        }
        return true;
    }

    bool compare(int64_t image) const {
        const int64_t all = offset[scales], plane = offset[1];
        Room room(6 * all + 10 * plane);
        if (!room) return false;
        float *light = room.take(3 * all), *gradient = room.take(3 * all);
        float *difference = room.take(3 * plane), *roots = room.take(3 * plane), *work = room.take(4 * plane);
        read_pyramid(image, light);
        double total = 0;
        for (int scale = scales - 1; scale >= 0; scale--) {
            const Size s = size(scale);
            const float* original = prepared(image, scale);
            to_xyb(light + 3 * offset[scale], s, difference, roots, original);
            for (int channel = 0; channel < 3; channel++)
                if (!one_channel(s, scale, channel, original, difference, work, &total)) return false;
            if (!call.out_gradient) continue;
            float* slope = gradient + 3 * offset[scale];
            from_xyb(difference, roots, s, slope);
            if (scale + 1 < scales)
                for (int channel = 0; channel < 3; channel++)
                    add_doubled(gradient + 3 * offset[scale + 1] + channel * size(scale + 1).count(), s,
                                slope + channel * s.count());
        }
        call.values[image] = (float)total;
        if (call.out_gradient) {
            const int64_t samples = 3 * call.height * call.width * image;
            write_gradient(call.image + samples, size(0), gradient, call.out_gradient + samples);
        }
        return true;
    }

  private:
    float* prepared(int64_t image, int scale) const {
        return call.prepared + 9 * (image * offset[scales] + offset[scale]);
    }
    void read_pyramid(int64_t image, float* light) const {
        read_light(call.image + 3 * call.height * call.width * image, size(0), light);
        for (int scale = 1; scale < scales; scale++)
            for (int channel = 0; channel < 3; channel++)
                halve(light + 3 * offset[scale - 1] + channel * size(scale - 1).count(), size(scale - 1),
                      light + 3 * offset[scale] + channel * size(scale).count());
    }

    // XYB, less that of the original if there is one; and the cube roots of the cone responses.
    static void to_xyb(const float* light, const Size& s, float* out, float* roots, const float* original) {
        const int64_t n = s.count();
        const float y_offset = 0.01f - std::cbrt(BIAS);
        each_vector(n, [&](int64_t i) {
            F32 r = at(light + i), g = at(light + n + i), b = at(light + 2 * n + i);
            F32 l = cube_root(0.30f * r + 0.622f * g + 0.078f * b + BIAS);
            F32 m = cube_root(0.23f * r + 0.692f * g + 0.078f * b + BIAS);
            F32 k = cube_root(0.24342268924547819f * r + 0.20476744424496821f * g + 0.5518098665095536f * b + BIAS);
            F32 luma = 0.5f * (l + m);
            F32 xyb[3] = {7.0f * (l - m) + 0.42f, luma + y_offset, k - luma + 0.55f}, cones[3] = {l, m, k};
            for (int c = 0; c < 3; c++) {
                store(out + c * n + i, original ? xyb[c] - at(original + c * n + i) : xyb[c]);
                if (roots) store(roots + c * n + i, cones[c]);
            }
        });
    }
    INLINE F32 cube_root(F32 x) { return exp2_of(log2_of(x) * (1 / 3.0f)); }

    static void from_xyb(const float* gradient, const float* roots, const Size& s, float* out) {
        const int64_t n = s.count();
        each_vector(n, [&](int64_t i) {
            F32 x = 7.0f * at(gradient + i), b = at(gradient + 2 * n + i), y = 0.5f * (at(gradient + n + i) - b);
            F32 cones[3] = {y + x, y - x, b};
            for (int c = 0; c < 3; c++) {
                F32 cone = at(roots + c * n + i);
                cones[c] = cones[c] / (3.0f * cone * cone);
            }
            F32 l = cones[0], m = cones[1], k = cones[2];
            store(out + i, 0.30f * l + 0.23f * m + 0.24342268924547819f * k);
            store(out + n + i, 0.622f * l + 0.692f * m + 0.20476744424496821f * k);
            store(out + 2 * n + i, 0.078f * (l + m) + 0.5518098665095536f * k);
        });
    }

    struct Errors {
        F32 shift, share, ratio, structure, sign, inverse_edges, change;
    };
    // Of the filtered difference, its square, and its product with the original.
    INLINE Errors errors(F32 xyb, F32 mean, F32 activity, F32 difference, F32 moved, F32 square, F32 product) {
        Errors e;
        e.shift = moved * moved;
        F32 variance = square - e.shift;
        F32 inverse = 1.0f / (activity + 2.0f * (product - mean * moved) + variance);
        e.share = (1.0f - e.shift) * inverse;
        e.ratio = variance * inverse;
        e.structure = positive_part(e.shift + variance * e.share);
        F32 detail = xyb - mean, changed = detail + (difference - moved), edges = absolute(detail);
        e.inverse_edges = 1.0f / (1.0f + edges);
        e.change = (absolute(changed) - edges) * e.inverse_edges;
        e.sign = sign_of(changed);
        return e;
    }

    // Adds the channel's errors to the total, and puts the gradient in place of the difference.
    bool one_channel(const Size& s, int scale, int channel, const float* original, float* differences, float* work,
                     double* total) const {
        const int64_t n = s.count(), all = 3 * n;
        const float *xyb = original + channel * n, *mean = xyb + all, *activity = mean + all;
        float *difference = differences + channel * n, *moved = work, *square = work + n, *product = work + 2 * n,
              *direct = work + 3 * n;
        each_vector(n, [&](int64_t i) {
            F32 e = at(difference + i);
            store(moved + i, e);
            store(square + i, e * e);
            store(product + i, e * at(xyb + i));
        });
        if (!blur(work, work, s, 3)) return false;
        auto errors_at = [&](int64_t i) {
            return errors(at(xyb + i), at(mean + i), at(activity + i), at(difference + i), at(moved + i),
                          at(square + i), at(product + i));
        };
        double first[KINDS] = {}, fourth[KINDS] = {};
        for (int64_t y = 0; y < s.height; y++) {
            F32 sums[KINDS] = {}, powers[KINDS] = {};
            auto step = [&](int64_t i, F32 inside) {
                const Errors e = errors_at(i);
                const F32 kinds[KINDS] = {e.structure * inside, positive_part(e.change) * inside,
                                          positive_part(-e.change) * inside};
                for (int kind = 0; kind < KINDS; kind++) {
                    F32 squared = kinds[kind] * kinds[kind];
                    sums[kind] += kinds[kind];
                    powers[kind] += squared * squared;
                }
            };
            int64_t x = 0;
            for (; x + HALF <= s.width; x += HALF) step(y * s.stride + x, splatf(1));
            for (; x < s.stride; x += HALF) {
                F32 inside;
                for (int i = 0; i < HALF; i++) inside[i] = x + i < s.width ? 1.0f : 0.0f;
                step(y * s.stride + x, inside);
            }
            for (int kind = 0; kind < KINDS; kind++) {
                first[kind] += (double)sum(sums[kind]);
                fourth[kind] += (double)sum(powers[kind]);
            }
        }
        const double pixels = (double)s.height * (double)s.width;
        const double* weights = call.weights + (channel * scales + scale) * 2 * KINDS;
        F32 constant[KINDS], cubic[KINDS];
        for (int kind = 0; kind < KINDS; kind++) {
            const double norm = std::sqrt(std::sqrt(fourth[kind] / pixels));
            *total += weights[kind] * first[kind] / pixels + weights[KINDS + kind] * norm;
            constant[kind] = splatf((float)(weights[kind] / pixels));
            cubic[kind] = splatf(norm > 0 ? (float)(weights[KINDS + kind] / (pixels * norm * norm * norm)) : 0.0f);
        }
        if (!call.out_gradient) return true;
        each_vector(n, [&](int64_t i) {
            const Errors e = errors_at(i);
            F32 d = e.structure, slope = d > 0 ? constant[0] + cubic[0] * d * d * d : splatf(0);
            // Of the ratio to its numerator, through its denominator too.
            F32 to_square = slope * e.share * (1.0f - e.ratio), to_product = -2.0f * slope * e.share * e.ratio;
            F32 to_shift = slope * (1.0f - e.ratio) - to_square;
            F32 gained = constant[1] + cubic[1] * e.change * e.change * e.change;
            F32 lost = cubic[2] * e.change * e.change * e.change - constant[2];
            F32 to_edges = e.change > 0 ? gained : e.change < 0 ? lost : splatf(0);
            to_edges = to_edges * e.inverse_edges * e.sign;
            F32 shifted = at(moved + i);
            store(moved + i, 2.0f * shifted * to_shift - at(mean + i) * to_product - to_edges);
            store(square + i, to_square);
            store(product + i, to_product);
            store(direct + i, to_edges);
        });
        if (!blur(work, work, s, 3)) return false;
        each_vector(n, [&](int64_t i) {
            F32 e = at(difference + i);
            F32 slope = at(direct + i) + at(moved + i) + 2.0f * e * at(square + i) + at(xyb + i) * at(product + i);
            store(difference + i, slope);
        });
        return true;
    }
};

static bool prepare_structure(const Comparison& call, int64_t begin, int64_t end) {
    const Structure structure(call);
    for (int64_t image = begin; image < end; image++)
        if (!structure.prepare(image)) return false;
    return true;
}
static bool compare_structure(const Comparison& call, int64_t begin, int64_t end) {
    const Structure structure(call);
    for (int64_t image = begin; image < end; image++)
        if (!structure.compare(image)) return false;
    return true;
}
}  // namespace NAMESPACE
