// The distance map of Butteraugli and its gradient: metrics/butteraugli.py has the formulas.
#pragma once
#include "lines.h"

namespace NAMESPACE {

class Distance {
    static constexpr int PLANES = 13, SMALLEST = 8;
    static constexpr float INTENSITY = 80, FINE_SHARE = 0.85f, COARSE_SHARE = 0.5f;
    const Comparison& call;
    Blur<2, MIRROR> adaptation{1.2};
    Blur<16, WEIGHTED> below_low{7.15593339443};
    Blur<7, WEIGHTED> below_medium{3.22489901262};
    Blur<3, WEIGHTED> below_high{1.56416327805};
    Blur<6, WEIGHTED> masking{2.7};

    // The original at one resolution, as prepare() leaves it; Python adds the weights.
    struct Original {
        float *low, *medium, *high, *finest, *activity, *low_weight, *weight;
        Original(float* p, int64_t n)
            : low(p),
              medium(p + 3 * n),
              high(p + 6 * n),
              finest(p + 8 * n),
              activity(p + 10 * n),
              low_weight(p + 11 * n),
              weight(p + 12 * n) {}
    };

    // Planes that a map leaves for its gradient: the bands and the squared map.
    static constexpr int SAVED = 16;

    // A picture on its way into its bands, before what is small or large in them is changed.
    struct Bands {
        static constexpr int COUNT = 15;
        const float* light;
        float *adapted, *low, *medium, *high, *blurred, *activity;
        Bands(const float* light_, float* p, int64_t n)
            : light(light_),
              adapted(p),
              low(p + 3 * n),
              medium(p + 6 * n),
              high(p + 9 * n),
              blurred(p + 12 * n),
              activity(p + 14 * n) {}
    };

  public:
    explicit Distance(const Comparison& c) : call(c) {}

    bool prepare(int64_t image) const {
        return each_resolution(image, [&](const float* light, const Size& s, float* planes, int64_t, bool) {
            const int64_t n = s.count();
            Room room(Bands::COUNT * n);
            if (!room) return false;
            const Original original(planes, n);
            const Bands bands(light, room.take(Bands::COUNT * n), n);
            if (!separate(bands, s)) return false;
            each_vector(n, [&](int64_t i) {
                F32 low[3];
                low_values(bands, n, i, low);
                for (int c = 0; c < 3; c++) {
                    store(original.low + c * n + i, low[c]);
                    store(original.medium + c * n + i, medium(bands, c, n, i));
                }
                for (int c = 0; c < 2; c++) {
                    store(original.high + c * n + i, high(bands, c, n, i));
                    store(original.finest + c * n + i, finest(bands, c, n, i));
                }
                store(original.activity + i, at(bands.activity + i));
            });
            return true;
        });
    }

    // The map.
    bool compare(int64_t image) const {
        const Size whole(call.height, call.width);
        float* out = call.map + image * whole.height * whole.width;
        return each_resolution(image, [&](const float* light, const Size& s, float* planes, int64_t before, bool half) {
            const int64_t n = s.count();
            Room room((2 + (call.saved ? 0 : SAVED)) * n);
            if (!room) return false;
            float* kept = call.saved ? call.saved + SAVED * before : room.take(SAVED * n);
            const Original original(planes, n);
            const Bands bands(light, kept, n);
            float *squared = kept + Bands::COUNT * n, *work = room.take(2 * n);
            if (!separate(bands, s) || !energies(original, bands, s, work, squared)) return false;
            each_vector(n, [&](int64_t i) { store(work + i, square_root(at(squared + i))); });
            add_map(work, s, half, out);
            return true;
        });
    }

    // The gradient of the image, from that of the map.
    bool differentiate(int64_t image) const {
        const Size whole(call.height, call.width), small = whole.half();
        const int64_t samples = whole.height * whole.width;
        Room room(3 * (whole.count() + small.count()));
        if (!room) return false;
        float *fine = room.take(3 * whole.count()), *coarse = room.take(3 * small.count());
        const bool done =
            each_resolution(image, [&](const float* light, const Size& s, float* planes, int64_t before, bool half) {
                const int64_t n = s.count();
                Room rest(15 * n);
                if (!rest) return false;
                float *kept = call.saved + SAVED * before, *slope = rest.take(n);
                spread(call.gradient + image * samples, s, half, slope);
                return backward(Original(planes, n), Bands(light, kept, n), s, kept + Bands::COUNT * n, slope, rest,
                                half ? coarse : fine);
            });
        if (!done) return false;
        if (has_half(whole))
            for (int c = 0; c < 3; c++) add_doubled(coarse + c * small.count(), whole, fine + c * whole.count());
        write_gradient(call.image + 3 * samples * image, whole, fine, call.out_gradient + 3 * samples * image);
        return true;
    }

  private:
    static bool has_half(const Size& s) { return s.half().height >= SMALLEST && s.half().width >= SMALLEST; }

    // fn(light, size, the original's planes, samples of all planes of one kind before, whether it is half the
    // resolution).
    template <class Fn> bool each_resolution(int64_t image, const Fn& fn) const {
        const Size whole(call.height, call.width), half = whole.half();
        const bool two = has_half(whole);
        Room room(3 * (whole.count() + half.count()));
        if (!room) return false;
        float *light = room.take(3 * whole.count()), *small = room.take(3 * half.count());
        const int64_t before = image * (whole.count() + (two ? half.count() : 0));
        float* planes = call.prepared + PLANES * before;
        read_light(call.image + 3 * whole.height * whole.width * image, whole, light);
        each_vector(3 * whole.count(), [&](int64_t i) { store(light + i, INTENSITY * at(light + i)); });
        if (!fn(light, whole, planes, before, false)) return false;
        if (!two) return true;
        for (int c = 0; c < 3; c++) halve(light + c * whole.count(), whole, small + c * half.count());
        return fn(small, half, planes + PLANES * whole.count(), before + whole.count(), true);
    }

    void add_map(const float* map, const Size& s, bool half, float* out) const {
        const float share = has_half(Size(call.height, call.width)) ? FINE_SHARE : 1;
        for (int64_t y = 0; y < call.height; y++)
            for (int64_t x = 0; x < call.width; x++) {
                float& to = out[y * call.width + x];
                if (half)
                    to += COARSE_SHARE * map[y / 2 * s.stride + x / 2];
                else
                    to = share * map[y * s.stride + x];
            }
    }
    // The gradient of the map of one resolution.
    void spread(const float* gradient, const Size& s, bool half, float* out) const {
        const float share = has_half(Size(call.height, call.width)) ? FINE_SHARE : 1;
        for (int64_t i = 0; i < s.count(); i++) out[i] = 0;
        for (int64_t y = 0; y < call.height; y++)
            for (int64_t x = 0; x < call.width; x++) {
                const float from = gradient[y * call.width + x];
                if (half)
                    out[y / 2 * s.stride + x / 2] += COARSE_SHARE * from;
                else
                    out[y * s.stride + x] = share * from;
            }
    }

    // Cone responses before adaptation.
    INLINE void absorb(const float* light, int64_t n, int64_t i, F32 out[3]) {
        F32 r = at(light + i), g = at(light + n + i), b = at(light + 2 * n + i);
        out[0] = 0.29956550340058319f * r + 0.63373087833825936f * g + 0.077705617820981968f * b + BIAS;
        out[1] = 0.22158691104574774f * r + 0.69391388044116142f * g + 0.0987313588422f * b + BIAS;
        out[2] = 0.02f * r + 0.02f * g + 0.20480129041026129f * b + BIAS_B;
    }
    INLINE void absorb_adjoint(const F32 cone[3], F32 out[3]) {
        out[0] = 0.29956550340058319f * cone[0] + 0.22158691104574774f * cone[1] + 0.02f * cone[2];
        out[1] = 0.63373087833825936f * cone[0] + 0.69391388044116142f * cone[1] + 0.02f * cone[2];
        out[2] = 0.077705617820981968f * cone[0] + 0.0987313588422f * cone[1] + 0.20480129041026129f * cone[2];
    }
    static constexpr float BIAS = 1.7557483643287353f, BIAS_B = 12.226454707163354f;
    static constexpr float GAIN = 19.245013259874995f, SHIFT = 9.9710635769299145f, DROP = 23.16046239805755f;
    INLINE F32 sensitivity(F32 adapted) {
        return (GAIN * 0.69314718055994531f * log2_of(adapted + SHIFT) - DROP) / adapted;
    }

    // Contrast in Y hides that in X.
    static constexpr float SHARE = 0.653020556257f, SUPPRESS = 46;
    INLINE F32 suppression(F32 y) { return SHARE + (1 - SHARE) * SUPPRESS / (y * y + SUPPRESS); }

    INLINE F32 without_small(F32 x, float width) { return absolute(x) > width ? x - sign_of(x) * width : splatf(0); }
    INLINE F32 without_small_slope(F32 x, float width) { return absolute(x) > width ? splatf(1) : splatf(0); }
    INLINE F32 with_large_small(F32 x, float width) { return absolute(x) > width ? x + sign_of(x) * width : 2.0f * x; }
    INLINE F32 with_large_small_slope(F32 x, float width) { return absolute(x) > width ? splatf(1) : splatf(2); }
    static constexpr float COMPRESSION = 0.724216145665f;
    INLINE F32 compressed(F32 x, float limit) {
        return absolute(x) > limit ? COMPRESSION * x + sign_of(x) * ((1 - COMPRESSION) * limit) : x;
    }
    INLINE F32 compressed_slope(F32 x, float limit) { return absolute(x) > limit ? splatf(COMPRESSION) : splatf(1); }

    static constexpr float MEDIUM_X = 0.29f, MEDIUM_Y = 0.1f, HIGH_X = 1.5f, HIGH_Y = 0.132f, FINEST_X = 0.04f;
    static constexpr float HIGH_LIMIT = 28.4691806922f, FINEST_LIMIT = 5.19175294647f;
    static constexpr float HIGH_SCALE = 2.155f, FINEST_SCALE = 2.69313763794f;

    // The bands as they are compared.
    INLINE void low_values(const Bands& b, int64_t n, int64_t i, F32 out[3]) {
        F32 y = at(b.low + n + i);
        out[0] = 33.832837186260f * at(b.low + i);
        out[1] = 14.458268100570f * y;
        out[2] = 49.87984651440f * (at(b.low + 2 * n + i) - 0.362267051518f * y);
    }
    INLINE F32 medium(const Bands& b, int channel, int64_t n, int64_t i) {
        F32 x = at(b.medium + channel * n + i);
        return channel == 0 ? without_small(x, MEDIUM_X) : channel == 1 ? with_large_small(x, MEDIUM_Y) : x;
    }
    INLINE F32 high(const Bands& b, int channel, int64_t n, int64_t i) {
        F32 x = at(b.blurred + channel * n + i);
        if (channel == 0) return without_small(x, HIGH_X);
        return with_large_small(HIGH_SCALE * compressed(x, HIGH_LIMIT), HIGH_Y);
    }
    INLINE F32 finest(const Bands& b, int channel, int64_t n, int64_t i) {
        F32 x = at(b.high + channel * n + i), below = at(b.blurred + channel * n + i);
        if (channel == 0) return without_small(x - below, FINEST_X);
        return FINEST_SCALE * compressed(x - compressed(below, HIGH_LIMIT), FINEST_LIMIT);
    }
    static constexpr float ACTIVITY_SCALE = 6.19424080439f, ACTIVITY_OFFSET = 12.61050594197f;
    INLINE F32 raw_activity(const Bands& b, int64_t n, int64_t i) {
        F32 x = 2.5f * (finest(b, 0, n, i) + high(b, 0, n, i)), y = 0.4f * (finest(b, 1, n, i) + high(b, 1, n, i));
        return square_root(x * x + y * y);
    }

    // From light to bands.
    bool separate(const Bands& b, const Size& s) const {
        const int64_t n = s.count();
        if (!adaptation(b.light, b.adapted, s, 3)) return false;
        each_vector(n, [&](int64_t i) {
            F32 adapted[3], response[3];
            absorb(b.adapted, n, i, adapted);
            absorb(b.light, n, i, response);
            for (int c = 0; c < 3; c++) {
                const float least = c < 2 ? BIAS : BIAS_B;
                response[c] = response[c] * sensitivity(adapted[c]);
                response[c] = response[c] < least ? splatf(least) : response[c];
            }
            store(b.high + i, response[0] - response[1]);
            store(b.high + n + i, response[0] + response[1]);
            store(b.high + 2 * n + i, response[2]);
        });
        if (!below_low(b.high, b.low, s, 3)) return false;
        each_vector(3 * n, [&](int64_t i) { store(b.high + i, at(b.high + i) - at(b.low + i)); });
        if (!below_medium(b.high, b.medium, s, 3)) return false;
        each_vector(n, [&](int64_t i) {
            F32 y = at(b.high + n + i) - at(b.medium + n + i);
            store(b.high + i, (at(b.high + i) - at(b.medium + i)) * suppression(y));
            store(b.high + n + i, y);
        });
        if (!below_high(b.high, b.blurred, s, 2)) return false;
        const float offset = ACTIVITY_SCALE * ACTIVITY_OFFSET, root = std::sqrt(offset);
        each_vector(n, [&](int64_t i) {
            store(b.activity + i, square_root(ACTIVITY_SCALE * raw_activity(b, n, i) + offset) - root);
        });
        return masking(b.activity, b.activity, s, 1);
    }

    // How differences of one plane count along lines.
    struct Edges {
        float scale, both, part, norm;
        Edges(bool dense, double weight, double norm_)
            : scale((float)((dense ? 0.39905817637 : 0.611612573796) * norm_ / 8.5)),
              both((float)std::sqrt(0.5 * weight)),
              part((float)std::sqrt(0.33 * weight)),
              norm((float)norm_) {}

        INLINE_MEMBER F32 operator()(F32 original, F32 image) const {
            F32 size = absolute(original), sign = original < 0 ? splatf(-1) : splatf(1), along = sign * image;
            return scale * sign * difference(size, along) / (norm + 0.5f * (size + absolute(image)));
        }
        INLINE_MEMBER F32 slope(F32 original, F32 image) const {
            F32 size = absolute(original), sign = original < 0 ? splatf(-1) : splatf(1), along = sign * image;
            F32 inverse = 1.0f / (norm + 0.5f * (size + absolute(image)));
            F32 steep = along < 0.55f * size || along > 1.05f * size ? splatf(both + part) : splatf(both);
            return -scale * inverse * (steep + 0.5f * sign_of(along) * difference(size, along) * inverse);
        }

      private:
        INLINE_MEMBER F32 difference(F32 size, F32 along) const {
            F32 more = positive_part(0.55f * size - along) - positive_part(along - 1.05f * size);
            return both * (size - along) + part * more;
        }
    };
    const Edges finest_edges[2] = {{true, 173.5, 5.0}, {true, 1.10039032555, 71.7800275169}};
    const Edges high_edges[2] = {{false, 6923.99476109, 8051.15833247}, {false, 18.7237414387, 4498534.45232}};
    const Edges medium_edges[2] = {{false, 8246.75321353, 1009002.70582}, {false, 37.0819870399, 130262059.556}};

    static constexpr float LOW[3] = {29.2353797994f, 0.844626970982f, 0.703646627719f};
    static constexpr float MEDIUM[3] = {2150.0f, 10.6195433239f, 16.2176043152f};
    static constexpr float HIGH[2] = {0.8f * 400.0f, 0.8f * 1.50815703118f};
    static constexpr float MASK = 10;

    INLINE F32 asymmetric(F32 original, F32 image) {
        F32 difference = original - image, more = asymmetric_part(original, image);
        return difference * difference + more * more;
    }
    INLINE F32 asymmetric_part(F32 original, F32 image) {
        F32 size = absolute(original), along = original < 0 ? -image : image;
        return positive_part(0.4f * size - along) - positive_part(along - size);
    }
    INLINE F32 asymmetric_slope(F32 original, F32 image) {
        F32 part = asymmetric_part(original, image);
        return -2.0f * (original - image) - 2.0f * (original < 0 ? -part : part);
    }

    // Squared differences of the low band, and of the others apart from lines.
    INLINE void squares(const Original& o, const Bands& b, int64_t n, int64_t i, F32* low_sum, F32* rest) {
        F32 low[3], d = at(o.activity + i) - at(b.activity + i);
        low_values(b, n, i, low);
        *low_sum = splatf(0);
        *rest = MASK * d * d;
        for (int c = 0; c < 3; c++) {
            d = at(o.low + c * n + i) - low[c];
            *low_sum = *low_sum + LOW[c] * d * d;
            d = at(o.medium + c * n + i) - medium(b, c, n, i);
            *rest = *rest + MEDIUM[c] * d * d;
            if (c < 2) *rest = *rest + HIGH[c] * asymmetric(at(o.high + c * n + i), high(b, c, n, i));
        }
    }

    enum Band { FINEST, HIGH_BAND, MEDIUM_BAND };
    template <int BAND, int CHANNEL> struct Plane {
        static constexpr int band = BAND, channel = CHANNEL;
        typedef std::conditional_t<BAND == FINEST, Dense, Sparse> Lines;

        INLINE F32 of(const Bands& b, int64_t n, int64_t i) {
            return BAND == FINEST      ? finest(b, CHANNEL, n, i)
                   : BAND == HIGH_BAND ? high(b, CHANNEL, n, i)
                                       : medium(b, CHANNEL, n, i);
        }
        INLINE const float* of(const Original& o, int64_t n) {
            return (BAND == FINEST ? o.finest : BAND == HIGH_BAND ? o.high : o.medium) + CHANNEL * n;
        }
        INLINE const Edges& edges(const Distance& d) {
            return (BAND == FINEST ? d.finest_edges : BAND == HIGH_BAND ? d.high_edges : d.medium_edges)[CHANNEL];
        }
        // What counts along lines.
        static void weighted(const Distance& d, const Original& o, const Bands& b, int64_t n, float* out) {
            const float* original = of(o, n);
            const Edges& with = edges(d);
            each_vector(n, [&](int64_t i) { store(out + i, with(at(original + i), of(b, n, i))); });
        }
    };
    // fn(plane) is true for all six planes with edges.
    template <class Fn> static bool all_planes(const Fn& fn) {
        return fn(Plane<FINEST, 0>()) && fn(Plane<FINEST, 1>()) && fn(Plane<HIGH_BAND, 0>()) &&
               fn(Plane<HIGH_BAND, 1>()) && fn(Plane<MEDIUM_BAND, 0>()) && fn(Plane<MEDIUM_BAND, 1>());
    }

    // The squared map into `map`, its two parts summed.
    bool energies(const Original& o, const Bands& b, const Size& s, float* work, float* map) const {
        const int64_t n = s.count();
        float* low = work + n;
        each_vector(n, [&](int64_t i) {
            F32 low_sum, rest;
            squares(o, b, n, i, &low_sum, &rest);
            store(low + i, low_sum);
            store(map + i, rest);
        });
        const bool done = all_planes([&](auto plane) {
            plane.weighted(*this, o, b, n, work);
            return decltype(plane)::Lines::add(work, s, map);
        });
        each_vector(n, [&](int64_t i) {
            F32 total = at(low + i) * at(o.low_weight + i) + at(map + i) * at(o.weight + i);
            store(map + i, total);
        });
        return done;
    }

    // The gradient of linear light, from that of the map in `slope`.
    bool backward(const Original& o, const Bands& b, const Size& s, const float* squared, float* slope, Room& room,
                  float* out) const {
        const int64_t n = s.count();
        float *work = room.take(2 * n), *to_rest = room.take(n), *low = room.take(3 * n);
        float *medium_slope = room.take(3 * n), *high_slope = room.take(3 * n), *finest_slope = room.take(2 * n);
        float* to_activity = high_slope + 2 * n;
        each_vector(n, [&](int64_t i) {
            F32 total = at(squared + i);
            store(slope + i, total > 0 ? 0.5f * at(slope + i) / square_root(total) : splatf(0));
        });
        each_vector(n, [&](int64_t i) {
            F32 to_low = at(slope + i) * at(o.low_weight + i), rest = at(slope + i) * at(o.weight + i), values[3];
            store(to_rest + i, rest);
            low_values(b, n, i, values);
            for (int c = 0; c < 3; c++) values[c] = -2.0f * LOW[c] * to_low * (at(o.low + c * n + i) - values[c]);
            store(low + i, 33.832837186260f * values[0]);
            store(low + n + i, 14.458268100570f * values[1] - 0.362267051518f * 49.87984651440f * values[2]);
            store(low + 2 * n + i, 49.87984651440f * values[2]);
            for (int c = 0; c < 3; c++) {
                F32 d = at(o.medium + c * n + i) - medium(b, c, n, i);
                store(medium_slope + c * n + i, -2.0f * MEDIUM[c] * rest * d);
            }
            for (int c = 0; c < 2; c++) {
                store(high_slope + c * n + i,
                      HIGH[c] * rest * asymmetric_slope(at(o.high + c * n + i), high(b, c, n, i)));
                store(finest_slope + c * n + i, splatf(0));
            }
            store(to_activity + i, -2.0f * MASK * rest * (at(o.activity + i) - at(b.activity + i)));
        });
        if (!masking(to_activity, to_activity, s, 1, true)) return false;
        const bool done = all_planes([&](auto plane) {
            typedef decltype(plane) P;
            float* back = work + n;
            P::weighted(*this, o, b, n, work);
            if (!P::Lines::gradient(work, to_rest, s, back)) return false;
            const float* original = P::of(o, n);
            float* to = (P::band == FINEST ? finest_slope : P::band == HIGH_BAND ? high_slope : medium_slope);
            to += P::channel * n;
            const Edges& edges = P::edges(*this);
            each_vector(n, [&](int64_t i) {
                F32 more = at(back + i) * edges.slope(at(original + i), P::of(b, n, i));
                store(to + i, at(to + i) + more);
            });
            return true;
        });
        if (!done) return false;

        // From the bands as they are compared to those before.
        const float offset = ACTIVITY_SCALE * ACTIVITY_OFFSET;
        float* below = work;
        each_vector(n, [&](int64_t i) {
            F32 raw = raw_activity(b, n, i);
            F32 common = at(to_activity + i) * (0.5f * ACTIVITY_SCALE) / square_root(ACTIVITY_SCALE * raw + offset);
            common = raw > 0 ? common / raw : splatf(0);
            F32 x = common * 6.25f * (finest(b, 0, n, i) + high(b, 0, n, i));
            F32 y = common * 0.16f * (finest(b, 1, n, i) + high(b, 1, n, i));
            F32 to_finest_x = at(finest_slope + i) + x, to_high_x = at(high_slope + i) + x;
            F32 to_finest_y = at(finest_slope + n + i) + y, to_high_y = at(high_slope + n + i) + y;

            F32 blurred = at(b.blurred + i), sharp = at(b.high + i);
            F32 fine = to_finest_x * without_small_slope(sharp - blurred, FINEST_X);
            store(high_slope + i, fine);
            store(below + i, to_high_x * without_small_slope(blurred, HIGH_X) - fine);

            blurred = at(b.blurred + n + i);
            sharp = at(b.high + n + i);
            F32 limited = compressed(blurred, HIGH_LIMIT);
            fine = to_finest_y * FINEST_SCALE * compressed_slope(sharp - limited, FINEST_LIMIT);
            store(high_slope + n + i, fine);
            F32 to_limited = to_high_y * HIGH_SCALE * with_large_small_slope(HIGH_SCALE * limited, HIGH_Y) - fine;
            store(below + n + i, to_limited * compressed_slope(blurred, HIGH_LIMIT));
        });
        if (!below_high(below, below, s, 2, true)) return false;
        each_vector(n, [&](int64_t i) {
            F32 y = at(b.high + n + i), factor = suppression(y), suppressed = at(b.high + i);
            F32 to_x = at(high_slope + i) + at(below + i), to_y = at(high_slope + n + i) + at(below + n + i);
            F32 inverse = 1.0f / (y * y + SUPPRESS);
            to_y = to_y - 2.0f * (1 - SHARE) * SUPPRESS * y * inverse * inverse * to_x * suppressed / factor;
            to_x = to_x * factor;
            store(high_slope + i, to_x);
            store(high_slope + n + i, to_y);
            store(high_slope + 2 * n + i, splatf(0));
            F32 x = at(medium_slope + i) * without_small_slope(at(b.medium + i), MEDIUM_X);
            store(medium_slope + i, x - to_x);
            y = at(medium_slope + n + i) * with_large_small_slope(at(b.medium + n + i), MEDIUM_Y);
            store(medium_slope + n + i, y - to_y);
        });
        if (!below_medium(medium_slope, medium_slope, s, 3, true)) return false;
        each_vector(3 * n, [&](int64_t i) {
            F32 rest = at(high_slope + i) + at(medium_slope + i);
            store(high_slope + i, rest);
            store(low + i, at(low + i) - rest);
        });
        if (!below_low(low, low, s, 3, true)) return false;

        // Through the responses of the cones to light.
        each_vector(n, [&](int64_t i) {
            F32 x = at(high_slope + i) + at(low + i), y = at(high_slope + n + i) + at(low + n + i);
            F32 to_response[3] = {x + y, y - x, at(high_slope + 2 * n + i) + at(low + 2 * n + i)};
            F32 adapted[3], absorbed[3], to_light[3], to_adapted[3];
            absorb(b.adapted, n, i, adapted);
            absorb(b.light, n, i, absorbed);
            for (int c = 0; c < 3; c++) {
                F32 sensitive = sensitivity(adapted[c]);
                to_response[c] = absorbed[c] * sensitive < (c < 2 ? BIAS : BIAS_B) ? splatf(0) : to_response[c];
                F32 steep = (GAIN / (adapted[c] + SHIFT) - sensitive) / adapted[c];
                to_adapted[c] = to_response[c] * absorbed[c] * steep;
                to_response[c] = to_response[c] * sensitive;
            }
            absorb_adjoint(to_response, to_light);
            absorb_adjoint(to_adapted, adapted);
            for (int c = 0; c < 3; c++) {
                store(high_slope + c * n + i, to_light[c]);
                store(low + c * n + i, adapted[c]);
            }
        });
        if (!adaptation(low, low, s, 3)) return false;
        each_vector(3 * n, [&](int64_t i) { store(out + i, INTENSITY * (at(high_slope + i) + at(low + i))); });
        return true;
    }
};

static bool prepare_distance(const Comparison& call, int64_t begin, int64_t end) {
    const Distance distance(call);
    for (int64_t image = begin; image < end; image++)
        if (!distance.prepare(image)) return false;
    return true;
}
static bool differentiate_distance(const Comparison& call, int64_t begin, int64_t end) {
    const Distance distance(call);
    for (int64_t image = begin; image < end; image++)
        if (!distance.differentiate(image)) return false;
    return true;
}
static bool compare_distance(const Comparison& call, int64_t begin, int64_t end) {
    const Distance distance(call);
    for (int64_t image = begin; image < end; image++)
        if (!distance.compare(image)) return false;
    return true;
}
}  // namespace NAMESPACE
