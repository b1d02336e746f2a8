// SSIMULACRA2 and its gradient: metrics/ssimulacra2.py has the formulas.
//
// Rows go from stage to stage as in distance.h, one scale after the other from the coarsest.
#pragma once
#include "planes.h"

namespace NAMESPACE {

class Structure {
    static constexpr int SCALES = 6, SMALLEST = 8, KINDS = 3;
    static constexpr int64_t ROWS = 32, REACH = 4;
    static constexpr float C2 = 0.0009f, BIAS = 0.0037930732552754493f, BIAS_ROOT = 0.15595420054924863f;
    const Comparison& call;
    int scales = 0;
    int64_t offset[SCALES + 1] = {};   // of the scales in a stack of single planes
    const Blur<REACH, ZERO> blur;

    Size size(int scale) const {
        Size found(call.height, call.width);
        for (int i = 0; i < scale; i++) found = found.half();
        return found;
    }

    // The original at one scale: XYB, its mean, twice its variance.
    struct Original {
        static constexpr int COUNT = 9;
        const Rows rows;
        float *xyb, *mean, *activity;
        Original(float* p, const Rows& r) : rows(r), xyb(p), mean(p + 3 * r.plane()), activity(p + 6 * r.plane()) {}
    };
    // Linear light at every scale. Below the whole resolution it is kept, and makes way for its gradient.
    class Pyramid {
        const Structure& s;
        float* const below;

      public:
        const Picture picture;

        static int64_t samples(const Structure& s) {
            return 3 * (s.offset[s.scales] - s.offset[1]) + 2 * s.size(0).stride;
        }
        Pyramid(const Structure& s_, const void* samples, bool bytes, int64_t image, Room& room)
            : s(s_),
              below(room.take(3 * (s_.offset[s_.scales] - s_.offset[1]))),
              picture(samples, bytes, s_.size(0), image) {
            const Size whole = s.size(0);
            float *top = room.take(whole.stride), *bottom = room.take(whole.stride);
            for (int c = 0; c < 3 && s.scales > 1; c++)
                for (int64_t y = 0; y < whole.half().height; y++) {
                    picture.read(c, 2 * y, top);
                    picture.read(c, smaller(2 * y + 1, whole.height - 1), bottom);
                    halve_row(top, bottom, whole, row(1, c, y));
                }
            for (int scale = 2; scale < s.scales; scale++)
                for (int c = 0; c < 3; c++) halve(row(scale - 1, c, 0), s.size(scale - 1), row(scale, c, 0));
        }
        // Of a scale below the first.
        float* row(int scale, int channel, int64_t y) const {
            const Size size = s.size(scale);
            return below + 3 * (s.offset[scale] - s.offset[1]) + channel * size.count() + y * size.stride;
        }
        void read(int scale, int channel, int64_t y, float* to) const {
            if (scale == 0) return picture.read(channel, y, to);
            __builtin_memcpy(to, row(scale, channel, y), (size_t)s.size(scale).stride * sizeof(float));
        }
    };

  public:
    explicit Structure(const Comparison& c) : call(c), blur(c.taps) {
        for (Size s(c.height, c.width);; s = s.half()) {
            offset[scales + 1] = offset[scales] + s.count();
            if (++scales == SCALES || s.height < SMALLEST || s.width < SMALLEST) break;
        }
    }

    // The original at every scale.
    bool prepare(int64_t image) const {
        Room room(Pyramid::samples(*this));
        if (!room) return false;
        const Pyramid light(*this, call.original, call.original_bytes, image, room);
        for (int scale = 0; scale < scales; scale++) {
            const Original original = prepared(image, scale);
            Room rest(Reference::samples(original.rows.size));
            if (!rest) return false;
            Reference reference(*this, light, scale, original, rest);
            for (int64_t end = 0; end < original.rows.size.height;) {
                end = smaller(end + ROWS, original.rows.size.height);
                reference.advance(end);
            }
        }
        return true;
    }

    bool compare(int64_t image) const {
        Room room((call.prepared ? 1 : 2) * Pyramid::samples(*this));
        if (!room) return false;
        const Pyramid light(*this, call.image, call.bytes, image, room);
        if (call.prepared) return compare(image, light, light);
        return compare(image, light, Pyramid(*this, call.original, call.original_bytes, image, room));
    }

  private:
    Original prepared(int64_t image, int scale) const {
        const Size s = size(scale);
        return Original(call.prepared + Original::COUNT * (image * offset[scales] + offset[scale]), {s, s.height});
    }
    bool compare(int64_t image, const Pyramid& light, const Pyramid& others) const {
        double total = 0;
        for (int scale = scales - 1; scale >= 0; scale--) {
            const Size s = size(scale);
            Slopes slopes;
            {
                const Rows rows = {s, smaller(s.height, ROWS + REACH)};
                Room room(Way::samples(*this, rows));
                if (!room) return false;
                Way way(*this, image, scale, light, others, rows, room);
                way.go([] {});
                slopes = slopes_of(way.sums, scale, &total);
            }
            if (!call.out_gradient) continue;
            const Rows rows = {s, smaller(s.height, ROWS + 2 * REACH)};
            Room room(Way::samples(*this, rows));
            if (!room) return false;
            Way way(*this, image, scale, light, others, rows, room);
            way.go([&] { way.back(slopes); });
        }
        call.values[image] = (float)total;
        return true;
    }

    INLINE F32 cube_root(F32 x) { return exp2_of(log2_of(x) * (1 / 3.0f)); }
    INLINE void to_xyb(F32 r, F32 g, F32 b, F32 xyb[3], F32 cones[3]) {
        F32 l = cube_root(0.30f * r + 0.622f * g + 0.078f * b + BIAS);
        F32 m = cube_root(0.23f * r + 0.692f * g + 0.078f * b + BIAS);
        F32 k = cube_root(0.24342268924547819f * r + 0.20476744424496821f * g + 0.5518098665095536f * b + BIAS);
        F32 luma = 0.5f * (l + m);
        cones[0] = l;
        cones[1] = m;
        cones[2] = k;
        xyb[0] = 7.0f * (l - m) + 0.42f;
        xyb[1] = luma + (0.01f - BIAS_ROOT);
        xyb[2] = k - luma + 0.55f;
    }

    class Reference {
        const Structure& s;
        const Pyramid& light;
        const int scale;
        const Original& o;
        const Rows own;
        float *read, *square;
        Blur<REACH, ZERO>::Pass means, squares;
        int64_t lit = 0;

      public:
        int64_t done = 0;   // rows that are there

        static Rows kept(const Size& s) { return {s, smaller(s.height, ROWS + REACH)}; }
        static int64_t samples(const Size& s) {
            return 3 * s.stride + 3 * kept(s).plane() + 2 * decltype(means)::samples(s, 3);
        }
        Reference(const Structure& s_, const Pyramid& light_, int scale_, const Original& o_, Room& room)
            : s(s_),
              light(light_),
              scale(scale_),
              o(o_),
              own(kept(o_.rows.size)),
              read(room.take(3 * own.size.stride)),
              square(room.take(3 * own.plane())),
              means(s_.blur, own.size, 3, room),
              squares(s_.blur, own.size, 3, room) {}

        void advance(int64_t end) {
            const Rows& rows = o.rows;
            const int64_t n = rows.plane(), m = own.plane(), stride = own.size.stride;
            for (; lit < end; lit++) {
                for (int c = 0; c < 3; c++) light.read(scale, c, lit, read + c * stride);
                const int64_t to = rows.at(lit), square_to = own.at(lit);
                each_vector(stride, [&](int64_t x) {
                    F32 xyb[3], cones[3];
                    to_xyb(at(read + x), at(read + stride + x), at(read + 2 * stride + x), xyb, cones);
                    for (int c = 0; c < 3; c++) {
                        store(o.xyb + c * n + to + x, xyb[c]);
                        store(square + c * m + square_to + x, xyb[c] * xyb[c]);
                    }
                });
            }
            end = rows.behind(end, REACH);
            means.filter(o.xyb, o.mean, rows, done, end);
            squares.filter(square, square, own, done, end);
            for (int c = 0; c < 3; c++)
                rows.each(done, end, own, [&](int64_t i, int64_t j) {
                    F32 mean = at(o.mean + c * n + i);
                    store(o.activity + c * n + i, 2.0f * (at(square + c * m + j) - mean * mean) + C2);
                });
            done = end;
        }
    };

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

    // Of a scale and channel and kind: the sums of the errors and of their fourth powers.
    struct Sums {
        double first[3][KINDS] = {}, fourth[3][KINDS] = {};
    };
    // What the weights make of them: slopes of the loss to an error, constant and cubic in it.
    struct Slopes {
        float constant[3][KINDS] = {}, cubic[3][KINDS] = {};
    };
    Slopes slopes_of(const Sums& sums, int scale, double* total) const {
        const double pixels = (double)size(scale).height * (double)size(scale).width;
        Slopes found;
        for (int c = 0; c < 3; c++) {
            const double* weights = call.weights + (c * scales + scale) * 2 * KINDS;
            for (int kind = 0; kind < KINDS; kind++) {
                const double norm = std::sqrt(std::sqrt(sums.fourth[c][kind] / pixels));
                *total += weights[kind] * sums.first[c][kind] / pixels + weights[KINDS + kind] * norm;
                found.constant[c][kind] = (float)(weights[kind] / pixels);
                if (norm > 0) found.cubic[c][kind] = (float)(weights[KINDS + kind] / (pixels * norm * norm * norm));
            }
        }
        return found;
    }

    // One scale of a picture beside its original, from the top down.
    class Way {
        const Structure& s;
        const int64_t image;
        const int scale;
        const Pyramid &light, &others;
        const Rows rows;
        const int64_t n;
        const Original original;
        Room& room;
        float *read, *difference, *roots, *work, *direct;
        Blur<REACH, ZERO>::Pass forth, adjoint;
        int64_t lit = 0, written = 0;

        static int64_t own(const Structure& s, const Rows& r) {
            return s.call.prepared ? 0 : Original::COUNT * r.plane() + Reference::samples(r.size);
        }
        // Of channel c: what the filter has made of the difference, its square, and its product with the original.
        float* filtered(int c, int kind) const { return work + (3 * c + kind) * n; }

      public:
        Sums sums;
        int64_t begun = 0, done = 0;   // rows before and after the last step

        static int64_t samples(const Structure& s, const Rows& r) {
            return own(s, r) + 3 * r.size.stride + 18 * r.plane() + 2 * decltype(forth)::samples(r.size, 9);
        }
        Way(const Structure& s_, int64_t image_, int scale_, const Pyramid& light_, const Pyramid& others_,
            const Rows& r, Room& room_)
            : s(s_),
              image(image_),
              scale(scale_),
              light(light_),
              others(others_),
              rows(r),
              n(r.plane()),
              original(s_.call.prepared ? s_.prepared(image_, scale_) : Original(room_.take(Original::COUNT * n), r)),
              room(room_),
              read(room_.take(3 * r.size.stride)),
              difference(room_.take(3 * n)),
              roots(room_.take(3 * n)),
              work(room_.take(9 * n)),
              direct(room_.take(3 * n)),
              forth(s_.blur, r.size, 9, room_),
              adjoint(s_.blur, r.size, 9, room_) {}

        // The errors; step() after each part.
        template <class Step> void go(const Step& step) {
            const int64_t height = rows.size.height;
            auto in_turn = [&](auto prepare) {
                for (int64_t end = 0; end < height;) {
                    end = smaller(end + ROWS, height);
                    prepare(end);
                    advance(end);
                    step();
                }
            };
            if (s.call.prepared) return in_turn([](int64_t) {});
            Reference reference(s, others, scale, original, room);
            in_turn([&](int64_t end) { reference.advance(end); });
        }

        // The gradient, as far as the rows of the errors lead.
        void back(const Slopes& slopes) {
            const Original& o = original;
            const int64_t m = o.rows.plane();
            for (int c = 0; c < 3; c++) {
                F32 constant[KINDS], cubic[KINDS];
                for (int kind = 0; kind < KINDS; kind++) {
                    constant[kind] = splatf(slopes.constant[c][kind]);
                    cubic[kind] = splatf(slopes.cubic[c][kind]);
                }
                rows.each(begun, done, o.rows, [&](int64_t i, int64_t j) {
                    const Errors e = errors_at(c, i, j);
                    F32 d = e.structure, slope = d > 0 ? constant[0] + cubic[0] * d * d * d : splatf(0);
                    // Of the ratio to its numerator, through its denominator too.
                    F32 to_square = slope * e.share * (1.0f - e.ratio), to_product = -2.0f * slope * e.share * e.ratio;
                    F32 to_shift = slope * (1.0f - e.ratio) - to_square;
                    F32 gained = constant[1] + cubic[1] * e.change * e.change * e.change;
                    F32 lost = cubic[2] * e.change * e.change * e.change - constant[2];
                    F32 to_edges = e.change > 0 ? gained : e.change < 0 ? lost : splatf(0);
                    to_edges = to_edges * e.inverse_edges * e.sign;
                    F32 shifted = at(filtered(c, 0) + i), mean = at(o.mean + c * m + j);
                    store(filtered(c, 0) + i, 2.0f * shifted * to_shift - mean * to_product - to_edges);
                    store(filtered(c, 1) + i, to_square);
                    store(filtered(c, 2) + i, to_product);
                    store(direct + c * n + i, to_edges);
                });
            }
            const int64_t end = rows.behind(done, REACH);
            adjoint.filter(work, work, rows, written, end);
            for (; written < end; written++) write(written);
        }

      private:
        INLINE_MEMBER Errors errors_at(int c, int64_t i, int64_t j) const {
            const int64_t m = original.rows.plane();
            return errors(at(original.xyb + c * m + j), at(original.mean + c * m + j),
                          at(original.activity + c * m + j), at(difference + c * n + i), at(filtered(c, 0) + i),
                          at(filtered(c, 1) + i), at(filtered(c, 2) + i));
        }

        void advance(int64_t end) {
            const Original& o = original;
            const int64_t m = o.rows.plane(), stride = rows.size.stride;
            for (; lit < end; lit++) {
                for (int c = 0; c < 3; c++) light.read(scale, c, lit, read + c * stride);
                const int64_t to = rows.at(lit), from = o.rows.at(lit);
                each_vector(stride, [&](int64_t x) {
                    F32 xyb[3], cones[3];
                    to_xyb(at(read + x), at(read + stride + x), at(read + 2 * stride + x), xyb, cones);
                    for (int c = 0; c < 3; c++) {
                        F32 own = at(o.xyb + c * m + from + x), d = xyb[c] - own;
                        store(difference + c * n + to + x, d);
                        store(roots + c * n + to + x, cones[c]);
                        store(filtered(c, 0) + to + x, d);
                        store(filtered(c, 1) + to + x, d * d);
                        store(filtered(c, 2) + to + x, d * own);
                    }
                });
            }
            begun = done;
            done = rows.behind(end, REACH);
            forth.filter(work, work, rows, begun, done);
            for (int c = 0; c < 3; c++)
                for (int64_t y = begun; y < done; y++) add(c, y);
        }

        // The errors of a row.
        void add(int c, int64_t y) {
            F32 first[KINDS] = {}, fourth[KINDS] = {};
            const int64_t here = rows.at(y), there = original.rows.at(y);
            auto step = [&](int64_t x, F32 inside) {
                const Errors e = errors_at(c, here + x, there + x);
                const F32 kinds[KINDS] = {e.structure * inside, positive_part(e.change) * inside,
                                          positive_part(-e.change) * inside};
                for (int kind = 0; kind < KINDS; kind++) {
                    F32 squared = kinds[kind] * kinds[kind];
                    first[kind] += kinds[kind];
                    fourth[kind] += squared * squared;
                }
            };
            int64_t x = 0;
            for (; x + HALF <= rows.size.width; x += HALF) step(x, splatf(1));
            for (; x < rows.size.stride; x += HALF) {
                F32 inside;
                for (int i = 0; i < HALF; i++) inside[i] = x + i < rows.size.width ? 1.0f : 0.0f;
                step(x, inside);
            }
            for (int kind = 0; kind < KINDS; kind++) {
                sums.first[c][kind] += (double)sum(first[kind]);
                sums.fourth[c][kind] += (double)sum(fourth[kind]);
            }
        }

        // The gradient of a row: of its light, or of the picture.
        void write(int64_t y) {
            const int64_t stride = rows.size.stride, i = rows.at(y), j = original.rows.at(y), m = original.rows.plane();
            each_vector(stride, [&](int64_t x) {
                F32 slope[3];
                for (int c = 0; c < 3; c++) {
                    const int64_t to = c * n + i + x;
                    slope[c] = at(direct + to) + at(filtered(c, 0) + i + x) +
                               2.0f * at(difference + to) * at(filtered(c, 1) + i + x) +
                               at(original.xyb + c * m + j + x) * at(filtered(c, 2) + i + x);
                }
                F32 red = 7.0f * slope[0], b = slope[2], luma = 0.5f * (slope[1] - b);
                F32 cones[3] = {luma + red, luma - red, b};
                for (int c = 0; c < 3; c++) {
                    F32 cone = at(roots + c * n + i + x);
                    cones[c] = cones[c] / (3.0f * cone * cone);
                }
                F32 l = cones[0], m_ = cones[1], k = cones[2];
                store(read + x, 0.30f * l + 0.23f * m_ + 0.24342268924547819f * k);
                store(read + stride + x, 0.622f * l + 0.692f * m_ + 0.20476744424496821f * k);
                store(read + 2 * stride + x, 0.078f * (l + m_) + 0.5518098665095536f * k);
            });
            const int64_t samples = 3 * image * s.call.height * s.call.width;
            for (int c = 0; c < 3; c++) {
                float* slope = read + c * stride;
                if (scale + 1 < s.scales) add_double_row(light.row(scale + 1, c, y / 2), y, rows.size, slope);
                if (scale == 0)
                    light.picture.add_gradient(c, y, slope, s.call.scale[image], s.call.out_gradient + samples);
                else
                    __builtin_memcpy(light.row(scale, c, y), slope, (size_t)stride * sizeof(float));
            }
        }
    };
};
}  // namespace NAMESPACE
