// The distance map of Butteraugli: metrics/butteraugli.py has the formulas, distance_gradient.h the gradient.
//
// Each stage goes on as far as the rows of the stage before have come. So no plane is whole: of each are kept the last
// rows, as many as the last stage lies behind the first.
#pragma once
#include "lines.h"

namespace NAMESPACE {

class Distance {
    static constexpr int SMALLEST = 8;
    static constexpr float INTENSITY = 80, FINE_SHARE = 0.85f, COARSE_SHARE = 0.5f;
    // Rows at once; by how many the map lies behind the picture, its last filter reaches back, and the gradient lies
    // behind the map.
    static constexpr int64_t ROWS = 32, FORTH = 37, REACH = 4, BACK = 34;
    const Comparison& call;
    const Size whole;
    const bool two;
    const Blur<2, MIRROR> adaptation{1.2};
    const Blur<16, WEIGHTED> below_low{7.15593339443};
    const Blur<7, WEIGHTED> below_medium{3.22489901262};
    const Blur<3, WEIGHTED> below_high{1.56416327805};
    const Blur<6, WEIGHTED> masking{2.7};

    // A picture's bands before what is small or large in them is changed.
    struct Bands {
        static constexpr int COUNT = 18;
        float *light, *adapted, *low, *medium, *high, *blurred, *activity;
        Bands(float* p, int64_t n)
            : light(p),
              adapted(p + 3 * n),
              low(p + 6 * n),
              medium(p + 9 * n),
              high(p + 12 * n),
              blurred(p + 15 * n),
              activity(p + 17 * n) {}
    };
    // The original's as they are compared, and the weights that its mask gives to differences.
    struct Original {
        static constexpr int COUNT = 13;
        const Rows rows;
        const int64_t n;
        float *low, *medium, *high, *finest, *activity, *low_weight, *weight;
        Original(float* p, const Rows& r) : Original(p, r, r.plane()) {}

      private:
        Original(float* p, const Rows& r, int64_t n_)
            : rows(r),
              n(n_),
              low(p),
              medium(p + 3 * n),
              high(p + 6 * n),
              finest(p + 8 * n),
              activity(p + 10 * n),
              low_weight(p + 11 * n),
              weight(p + 12 * n) {}
    };

  public:
    explicit Distance(const Comparison& c) : call(c), whole(c.height, c.width), two(has_half(whole)) {}

    // The bands of the original, whole.
    bool prepare(int64_t image) const {
        return prepare_resolution<false>(image) && (!two || prepare_resolution<true>(image));
    }

    // The map, its loss, and the gradient of that; or the gradient of the image from that of the map.
    bool compare(int64_t image) const;

  private:
    static bool has_half(const Size& s) { return s.half().height >= SMALLEST && s.half().width >= SMALLEST; }

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

    // One picture on its way into its bands, from the top down.
    template <bool HALF> class Separation {
        const Size whole;
        const Picture picture;
        float *top, *bottom;
        Blur<2, MIRROR>::Pass adaptation;
        Blur<16, WEIGHTED>::Pass below_low;
        Blur<7, WEIGHTED>::Pass below_medium;
        Blur<3, WEIGHTED>::Pass below_high;
        Blur<6, WEIGHTED>::Pass masking;
        int64_t lit = 0, adapted = 0, lowered = 0, mediated = 0;

        void read(int64_t end) {
            for (; lit < end; lit++)
                for (int c = 0; c < 3; c++) {
                    float* to = bands.light + c * rows.plane() + rows.at(lit);
                    if (HALF) {
                        light(c, 2 * lit, top);
                        light(c, smaller(2 * lit + 1, whole.height - 1), bottom);
                        halve_row(top, bottom, whole, to);
                    } else {
                        light(c, lit, to);
                    }
                }
        }
        void light(int c, int64_t y, float* to) const {
            picture.read(c, y, to);
            each_vector(whole.stride, [&](int64_t x) { store(to + x, INTENSITY * at(to + x)); });
        }

      public:
        const Rows rows;
        const Bands bands;
        // How many rows of the bands are there, and of the activity.
        int64_t separated = 0, active = 0;

        static int64_t samples(const Rows& r, const Size& whole) {
            return Bands::COUNT * r.plane() + 2 * whole.stride + decltype(adaptation)::samples(r.size, 3) +
                   decltype(below_low)::samples(r.size, 3) + decltype(below_medium)::samples(r.size, 3) +
                   decltype(below_high)::samples(r.size, 2) + decltype(masking)::samples(r.size, 1);
        }
        Separation(const Distance& d_, const Picture& picture_, const Rows& r, Room& room)
            : whole(d_.whole),
              picture(picture_),
              top(room.take(d_.whole.stride)),
              bottom(room.take(d_.whole.stride)),
              adaptation(d_.adaptation, r.size, 3, room),
              below_low(d_.below_low, r.size, 3, room),
              below_medium(d_.below_medium, r.size, 3, room),
              below_high(d_.below_high, r.size, 2, room),
              masking(d_.masking, r.size, 1, room),
              rows(r),
              bands(room.take(Bands::COUNT * r.plane()), r.plane()) {}

        // As far as the rows before `end` lead.
        void advance(int64_t end) {
            const Bands& b = bands;
            const int64_t n = rows.plane();
            read(end);
            end = rows.behind(end, 2);
            adaptation.filter(b.light, b.adapted, rows, adapted, end);
            rows.each(adapted, end, [&](int64_t i) {
                F32 local[3], response[3];
                absorb(b.adapted, n, i, local);
                absorb(b.light, n, i, response);
                for (int c = 0; c < 3; c++) {
                    const float least = c < 2 ? BIAS : BIAS_B;
                    response[c] = response[c] * sensitivity(local[c]);
                    response[c] = response[c] < least ? splatf(least) : response[c];
                }
                store(b.high + i, response[0] - response[1]);
                store(b.high + n + i, response[0] + response[1]);
                store(b.high + 2 * n + i, response[2]);
            });
            adapted = end;

            end = rows.behind(end, 16);
            below_low.filter(b.high, b.low, rows, lowered, end);
            for (int c = 0; c < 3; c++)
                rows.each(lowered, end, [&](int64_t i) {
                    store(b.high + c * n + i, at(b.high + c * n + i) - at(b.low + c * n + i));
                });
            lowered = end;

            end = rows.behind(end, 7);
            below_medium.filter(b.high, b.medium, rows, mediated, end);
            rows.each(mediated, end, [&](int64_t i) {
                F32 y = at(b.high + n + i) - at(b.medium + n + i);
                store(b.high + i, (at(b.high + i) - at(b.medium + i)) * suppression(y));
                store(b.high + n + i, y);
            });
            mediated = end;

            end = rows.behind(end, 3);
            below_high.filter(b.high, b.blurred, rows, separated, end);
            const float offset = ACTIVITY_SCALE * ACTIVITY_OFFSET, root = std::sqrt(offset);
            rows.each(separated, end, [&](int64_t i) {
                store(b.activity + i, square_root(ACTIVITY_SCALE * raw_activity(b, n, i) + offset) - root);
            });
            separated = end;

            end = rows.behind(end, 6);
            masking.filter(b.activity, b.activity, rows, active, end);
            active = end;
        }
    };

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
    INLINE void squares(const Original& o, const Bands& b, int64_t n, int64_t i, int64_t j, F32* low_sum, F32* rest) {
        F32 low[3], d = at(o.activity + j) - at(b.activity + i);
        low_values(b, n, i, low);
        *low_sum = splatf(0);
        *rest = MASK * d * d;
        for (int c = 0; c < 3; c++) {
            d = at(o.low + c * o.n + j) - low[c];
            *low_sum = *low_sum + LOW[c] * d * d;
            d = at(o.medium + c * o.n + j) - medium(b, c, n, i);
            *rest = *rest + MEDIUM[c] * d * d;
            if (c < 2) *rest = *rest + HIGH[c] * asymmetric(at(o.high + c * o.n + j), high(b, c, n, i));
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
        INLINE const float* of(const Original& o) {
            return (BAND == FINEST ? o.finest : BAND == HIGH_BAND ? o.high : o.medium) + CHANNEL * o.n;
        }
        INLINE const Edges& edges(const Distance& d) {
            return (BAND == FINEST ? d.finest_edges : BAND == HIGH_BAND ? d.high_edges : d.medium_edges)[CHANNEL];
        }
    };
    // fn(plane, index) is true for all six planes with edges.
    template <class Fn> static bool all_planes(const Fn& fn) {
        return fn(Plane<FINEST, 0>(), 0) && fn(Plane<FINEST, 1>(), 1) && fn(Plane<HIGH_BAND, 0>(), 2) &&
               fn(Plane<HIGH_BAND, 1>(), 3) && fn(Plane<MEDIUM_BAND, 0>(), 4) && fn(Plane<MEDIUM_BAND, 1>(), 5);
    }

    // A mean of the three smallest of the nine activities that lie three apart, which stand in `rows`.
    INLINE F32 eroded(const float* const rows[3], int64_t x) {
        // The middle stands for two others at twice its size.
        F32 middle = at(rows[1] + x), least[3] = {middle, 2.0f * middle, 2.0f * middle};
        auto insert = [&](F32 more) {
            for (F32& each : least) {
                F32 larger = more < each ? each : more;
                each = more < each ? more : each;
                more = larger;
            }
        };
        for (int row = 0; row < 3; row++) {
            insert(at(rows[row] + x - 3));
            if (row != 1) insert(at(rows[row] + x));
            insert(at(rows[row] + x + 3));
        }
        return 0.45f * least[0] + 0.3f * least[1] + 0.25f * least[2];
    }
    INLINE F32 mask_weight(F32 mask, float multiplier, float slope, float offset) {
        F32 weight = (float)(1 / (17.83 * 0.79079917404)) * (1.0f + multiplier / (slope * mask + offset));
        return weight * weight;
    }

    // The original and its weights, beside the picture that is compared with it.
    template <bool HALF> class Reference {
        static constexpr int MARGIN = 8;
        float* lines[3];
        int64_t converted = 0;
        Separation<HALF> separation;

        static int64_t line(const Size& s) { return s.stride + 2 * MARGIN; }

      public:
        const Original& planes;
        int64_t weighed = 0;   // rows that are there

        static Rows own(const Size& s) { return {s, smaller(s.height, ROWS + FORTH + REACH)}; }
        static int64_t samples(const Size& s, const Size& whole) {
            return 3 * line(s) + Separation<HALF>::samples(own(s), whole);
        }
        Reference(const Distance& d, const Picture& picture, const Original& planes_, Room& room)
            : separation(d, picture, own(planes_.rows.size), room), planes(planes_) {
            const Size& s = planes.rows.size;
            for (float*& each : lines) {
                each = room.take(line(s)) + MARGIN;
                for (int64_t x = -MARGIN; x < s.stride + MARGIN; x++) each[x] = INFINITY;
            }
        }

        void advance(int64_t end) {
            const Original& o = planes;
            const Rows& rows = planes.rows;
            const int64_t n = o.n, m = separation.rows.plane();
            const Bands& b = separation.bands;
            separation.advance(end);
            for (; converted < separation.separated; converted++) {
                const int64_t to = rows.at(converted), from = separation.rows.at(converted);
                each_vector(rows.size.stride, [&](int64_t x) {
                    F32 low[3];
                    low_values(b, m, from + x, low);
                    for (int c = 0; c < 3; c++) {
                        store(o.low + c * n + to + x, low[c]);
                        store(o.medium + c * n + to + x, medium(b, c, m, from + x));
                    }
                    for (int c = 0; c < 2; c++) {
                        store(o.high + c * n + to + x, high(b, c, m, from + x));
                        store(o.finest + c * n + to + x, finest(b, c, m, from + x));
                    }
                });
            }
            for (const int64_t last = rows.behind(separation.active, 3); weighed < last; weighed++) weigh();
        }

      private:
        void weigh() {
            const Rows& rows = planes.rows;
            const float* around[3];
            for (int i = 0; i < 3; i++) {
                const int64_t y = weighed + 3 * (i - 1);
                const bool inside = y >= 0 && y < rows.size.height;
                for (int64_t x = 0; x < rows.size.width; x++)
                    lines[i][x] = inside ? separation.bands.activity[separation.rows.at(y) + x] : INFINITY;
                around[i] = lines[i];
            }
            const int64_t to = rows.at(weighed);
            each_vector(rows.size.stride, [&](int64_t x) {
                F32 mask = eroded(around, x);
                store(planes.activity + to + x, at(around[1] + x));
                store(planes.low_weight + to + x, mask_weight(mask, 0.505054525019f, 3.87449418804f, 0.20025578522f));
                store(planes.weight + to + x, mask_weight(mask, 2.5485944793f, 0.451936922203f, 0.829591754942f));
            });
            for (int64_t x = rows.size.width; x < rows.size.stride; x++)
                planes.activity[to + x] = planes.low_weight[to + x] = planes.weight[to + x] = 0;
        }
    };

    // The squared map.
    template <bool HALF> class Map {
        const Distance& d;
        float* low;
        int64_t weighted = 0;

      public:
        static constexpr int EDGES = 6;
        const Original& o;
        const Bands& b;
        const Rows rows;
        float *edges, *squared;
        int64_t begun = 0, done = 0;   // rows before and after the last call

        static int64_t samples(const Rows& r) { return (EDGES + 2) * r.plane(); }
        Map(const Distance& d_, const Original& o_, const Bands& b_, const Rows& r, Room& room)
            : d(d_),
              low(room.take(r.plane())),
              o(o_),
              b(b_),
              rows(r),
              edges(room.take(EDGES * r.plane())),
              squared(room.take(r.plane())) {}

        // Up to rows `separated` of the bands, and `end` of the map.
        bool advance(int64_t separated, int64_t end) {
            const int64_t n = rows.plane();
            all_planes([&](auto plane, int64_t index) {
                typedef decltype(plane) P;
                const float* original = P::of(o);
                const Edges& with = P::edges(d);
                float* to = edges + index * n;
                rows.each(weighted, separated, o.rows,
                          [&](int64_t i, int64_t j) { store(to + i, with(at(original + j), P::of(b, n, i))); });
                return true;
            });
            weighted = separated;
            begun = done;
            done = end;
            rows.each(begun, done, o.rows, [&](int64_t i, int64_t j) {
                F32 low_sum, rest;
                squares(o, b, n, i, j, &low_sum, &rest);
                store(low + i, low_sum);
                store(squared + i, rest);
            });
            const bool added = all_planes([&](auto plane, int64_t index) {
                return decltype(plane)::Lines::add(edges + index * n, rows, squared, begun, done);
            });
            rows.each(begun, done, o.rows, [&](int64_t i, int64_t j) {
                F32 total = at(low + i) * at(o.low_weight + j) + at(squared + i) * at(o.weight + j);
                store(squared + i, total);
            });
            return added;
        }

        // The last rows; those of half the resolution are added to those of the whole.
        void write(int64_t image) const {
            const Size& whole = d.whole;
            float* out = d.call.map + image * whole.height * whole.width;
            for (int64_t y = begun; y < done; y++) {
                const float* from = squared + rows.at(y);
                float* map = low + rows.at(y);
                each_vector(rows.size.stride, [&](int64_t x) { store(map + x, square_root(at(from + x))); });
                if (HALF) {
                    for (int64_t to = 2 * y; to < 2 * y + 2 && to < whole.height; to++)
                        for (int64_t x = 0; x < whole.width; x++)
                            out[to * whole.width + x] += COARSE_SHARE * map[x / 2];
                } else {
                    for (int64_t x = 0; x < whole.width; x++) out[y * whole.width + x] = d.fine_share() * map[x];
                }
            }
        }
    };
    float fine_share() const { return two ? FINE_SHARE : 1; }

    template <bool HALF> class Gradient;

    // One resolution of a picture beside its original, from the top down.
    template <bool HALF> class Way {
        const Distance& d;
        const int64_t image;
        const Picture pattern;
        const Original original;
        Room& room;

        static int64_t own(const Distance& d, const Rows& r) {
            return d.call.prepared ? 0 : Original::COUNT * r.plane() + Reference<HALF>::samples(r.size, d.whole);
        }

      public:
        const Picture picture;
        Separation<HALF> separation;
        Map<HALF> map;

        static int64_t samples(const Distance& d, const Rows& r) {
            return own(d, r) + Separation<HALF>::samples(r, d.whole) + Map<HALF>::samples(r);
        }
        Way(const Distance& d_, int64_t image_, const Rows& r, Room& room_)
            : d(d_),
              image(image_),
              pattern(d_.call.original, d_.call.original_bytes, d_.whole, image_),
              original(d_.call.prepared ? d_.prepared<HALF>(image_)
                                        : Original(room_.take(Original::COUNT * r.plane()), r)),
              room(room_),
              picture(d_.call.image, d_.call.bytes, d_.whole, image_),
              separation(d_, picture, r, room_),
              map(d_, original, separation.bands, r, room_) {}

        // step() after each part of the map.
        template <class Step> bool go(const Step& step) {
            const Rows& rows = map.rows;
            const int64_t height = rows.size.height;
            auto in_turn = [&](auto reference) {
                for (int64_t end = 0; end < height;) {
                    end = smaller(end + ROWS, height);
                    const int64_t weighed = reference(end);
                    separation.advance(end);
                    if (!map.advance(separation.separated, smaller(separation.active, weighed)) || !step())
                        return false;
                }
                return true;
            };
            if (d.call.prepared) return in_turn([&](int64_t) { return height; });
            Reference<HALF> reference(d, pattern, original, room);
            return in_turn([&](int64_t end) {
                reference.advance(end);
                return reference.weighed;
            });
        }
        bool write_map() {
            return go([&] {
                map.write(image);
                return true;
            });
        }
    };

    template <bool HALF> Size size() const { return HALF ? whole.half() : whole; }
    template <bool HALF> Rows last(int64_t back) const {
        return {size<HALF>(), smaller(size<HALF>().height, ROWS + FORTH + REACH + back)};
    }
    template <bool HALF> Original prepared(int64_t image) const {
        const int64_t fine = whole.count(), coarse = two ? whole.half().count() : 0;
        float* planes = call.prepared + Original::COUNT * (image * (fine + coarse) + (HALF ? fine : 0));
        return Original(planes, {size<HALF>(), size<HALF>().height});
    }

    template <bool HALF> bool prepare_resolution(int64_t image) const {
        const Size s = size<HALF>();
        Room room(Reference<HALF>::samples(s, whole));
        if (!room) return false;
        const Picture pattern(call.original, call.original_bytes, whole, image);
        const Original planes = prepared<HALF>(image);
        Reference<HALF> reference(*this, pattern, planes, room);
        for (int64_t end = 0; end < s.height;) {
            end = smaller(end + ROWS, s.height);
            reference.advance(end);
        }
        return true;
    }
    template <bool HALF> bool write_map(int64_t image) const {
        const Rows rows = last<HALF>(0);
        Room room(Way<HALF>::samples(*this, rows));
        return room && Way<HALF>(*this, image, rows, room).write_map();
    }
    template <bool HALF> bool differentiate(int64_t image, const float* slope) const;

    // The mean of the squared 3-, 6- and 12-norms of the map; its gradient in place of the map, if that is wanted.
    double loss(int64_t image) const {
        const int64_t count = whole.height * whole.width;
        float* map = call.map + image * count;
        float unit = 0;
        for (int64_t i = 0; i < count; i++) unit = map[i] > unit ? map[i] : unit;
        // A float has no room for twelfth powers of any number.
        const float inverse = unit > 0 ? 1 / unit : 0;
        double sums[3] = {};
        for (int64_t y = 0; y < whole.height; y++) {
            float powers[3] = {};
            for (int64_t x = 0; x < whole.width; x++) {
                const float m = map[y * whole.width + x] * inverse, cube = m * m * m, sixth = cube * cube;
                powers[0] += cube;
                powers[1] += sixth;
                powers[2] += sixth * sixth;
            }
            for (int k = 0; k < 3; k++) sums[k] += (double)powers[k];
        }
        double total = 0;
        float factors[3] = {};
        for (int k = 0; k < 3; k++) {
            const double exponent = 3 << k, mean = sums[k] / (double)count;
            const double norm = mean > 0 ? std::pow(mean, 1 / exponent) : 0;
            total += (double)unit * unit * norm * norm / 3;
            if (mean > 0) factors[k] = (float)(2.0 / 3 * unit * norm * norm / mean / (double)count);
        }
        if (!call.out_gradient) return total;
        for (int64_t i = 0; i < count; i++) {
            const float m = map[i] * inverse, square = m * m, cube = square * m;
            map[i] = square * (factors[0] + cube * (factors[1] + factors[2] * cube * cube));
        }
        return total;
    }
};
}  // namespace NAMESPACE
