// The gradient of Butteraugli's distance map, and of its loss: a second way through the picture, behind the map's.
#pragma once
#include "distance.h"

namespace NAMESPACE {

// The gradient of the image, from that of the map.
template <bool HALF> class Distance::Gradient {
    const Distance& d;
    const Map<HALF>& map;
    const Picture& picture;
    const int64_t image;
    const float* const gradient;
    const Rows rows;
    const int64_t n;
    float *slope, *back, *below, *low, *medium_slope, *high_slope, *finest_slope, *to_activity, *spread;
    Blur<6, WEIGHTED>::Pass masking;
    Blur<3, WEIGHTED>::Pass below_high;
    Blur<7, WEIGHTED>::Pass below_medium;
    Blur<16, WEIGHTED>::Pass below_low;
    Blur<2, MIRROR>::Pass adaptation;
    int64_t changed = 0, sharpened = 0, mediated = 0, lowered = 0, written = 0;

  public:
    static constexpr int COUNT = 16;
    static int64_t samples(const Rows& r, const Size& whole) {
        return COUNT * r.plane() + whole.stride + r.size.stride + decltype(masking)::samples(r.size, 1) +
               decltype(below_high)::samples(r.size, 2) + decltype(below_medium)::samples(r.size, 3) +
               decltype(below_low)::samples(r.size, 3) + decltype(adaptation)::samples(r.size, 3);
    }
    Gradient(const Distance& d_, const Map<HALF>& map_, const Picture& picture_, int64_t image_, const float* gradient_,
             Room& room)
        : d(d_),
          map(map_),
          picture(picture_),
          image(image_),
          gradient(gradient_),
          rows(map_.rows),
          n(rows.plane()),
          slope(room.take(n)),
          back(room.take(n)),
          below(room.take(2 * n)),
          low(room.take(3 * n)),
          medium_slope(room.take(3 * n)),
          high_slope(room.take(3 * n)),
          finest_slope(room.take(2 * n)),
          to_activity(room.take(n)),
          spread(room.take(d_.whole.stride + rows.size.stride)),
          masking(d_.masking, rows.size, 1, room, true),
          below_high(d_.below_high, rows.size, 2, room, true),
          below_medium(d_.below_medium, rows.size, 3, room, true),
          below_low(d_.below_low, rows.size, 3, room, true),
          adaptation(d_.adaptation, rows.size, 3, room, true) {}

    // As far as the rows of the map lead.
    bool advance() {
        const Original& o = map.o;
        const Bands& b = map.b;
        for (int64_t y = map.begun; y < map.done; y++) read(y);
        rows.each(map.begun, map.done, o.rows, [&](int64_t i, int64_t j) {
            F32 total = at(map.squared + i);
            F32 to = total > 0 ? 0.5f * at(slope + i) / square_root(total) : splatf(0);
            F32 to_low = to * at(o.low_weight + j), rest = to * at(o.weight + j), values[3];
            store(slope + i, rest);
            low_values(b, n, i, values);
            for (int c = 0; c < 3; c++) values[c] = -2.0f * LOW[c] * to_low * (at(o.low + c * o.n + j) - values[c]);
            store(low + i, 33.832837186260f * values[0]);
            store(low + n + i, 14.458268100570f * values[1] - 0.362267051518f * 49.87984651440f * values[2]);
            store(low + 2 * n + i, 49.87984651440f * values[2]);
            for (int c = 0; c < 3; c++) {
                F32 difference = at(o.medium + c * o.n + j) - medium(b, c, n, i);
                store(medium_slope + c * n + i, -2.0f * MEDIUM[c] * rest * difference);
            }
            for (int c = 0; c < 2; c++) {
                store(high_slope + c * n + i,
                      HIGH[c] * rest * asymmetric_slope(at(o.high + c * o.n + j), high(b, c, n, i)));
                store(finest_slope + c * n + i, splatf(0));
            }
            store(to_activity + i, -2.0f * MASK * rest * (at(o.activity + j) - at(b.activity + i)));
        });

        int64_t end = rows.behind(map.done, 6);
        masking.filter(to_activity, to_activity, rows, changed, end);
        const bool added = all_planes([&](auto plane, int64_t index) {
            typedef decltype(plane) P;
            if (!P::Lines::gradient(map.edges + index * n, slope, rows, back, changed, end)) return false;
            const float* original = P::of(o);
            float* to = (P::band == FINEST ? finest_slope : P::band == HIGH_BAND ? high_slope : medium_slope);
            to += P::channel * n;
            const Edges& edges = P::edges(d);
            rows.each(changed, end, o.rows, [&](int64_t i, int64_t j) {
                F32 more = at(back + i) * edges.slope(at(original + j), P::of(b, n, i));
                store(to + i, at(to + i) + more);
            });
            return true;
        });
        if (!added) return false;
        change(changed, end);
        changed = end;

        end = rows.behind(end, 3);
        below_high.filter(below, below, rows, sharpened, end);
        rows.each(sharpened, end, [&](int64_t i) {
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
        sharpened = end;

        end = rows.behind(end, 7);
        below_medium.filter(medium_slope, medium_slope, rows, mediated, end);
        for (int c = 0; c < 3; c++)
            rows.each(mediated, end, [&](int64_t i) {
                F32 rest = at(high_slope + c * n + i) + at(medium_slope + c * n + i);
                store(high_slope + c * n + i, rest);
                store(low + c * n + i, at(low + c * n + i) - rest);
            });
        mediated = end;

        end = rows.behind(end, 16);
        below_low.filter(low, low, rows, lowered, end);
        respond(lowered, end);
        lowered = end;

        end = rows.behind(end, 2);
        adaptation.filter(low, low, rows, written, end);
        for (; written < end; written++) write(written);
        return true;
    }

  private:
    // The map's gradient in a row.
    void read(int64_t y) const {
        const Size& whole = d.whole;
        const float* from = gradient + image * whole.height * whole.width;
        float* to = slope + rows.at(y);
        for (int64_t x = 0; x < rows.size.stride; x++) to[x] = 0;
        if (HALF) {
            for (int64_t row = 2 * y; row < 2 * y + 2 && row < whole.height; row++)
                for (int64_t x = 0; x < whole.width; x++) to[x / 2] += COARSE_SHARE * from[row * whole.width + x];
        } else {
            for (int64_t x = 0; x < whole.width; x++) to[x] = d.fine_share() * from[y * whole.width + x];
        }
    }

    // From the bands as they are compared to those before.
    void change(int64_t first, int64_t last) const {
        const Bands& b = map.b;
        const float offset = ACTIVITY_SCALE * ACTIVITY_OFFSET;
        rows.each(first, last, [&](int64_t i) {
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
    }

    // Through the responses of the cones to light.
    void respond(int64_t first, int64_t last) const {
        const Bands& b = map.b;
        rows.each(first, last, [&](int64_t i) {
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
    }

    void write(int64_t y) const {
        const Size& whole = d.whole;
        for (int c = 0; c < 3; c++) {
            const float *direct = high_slope + c * n + rows.at(y), *adapted = low + c * n + rows.at(y);
            float* light = spread + whole.stride;
            each_vector(rows.size.stride,
                        [&](int64_t x) { store(light + x, INTENSITY * (at(direct + x) + at(adapted + x))); });
            float* out = d.call.out_gradient + 3 * image * whole.height * whole.width;
            if (!HALF) picture.add_gradient(c, y, light, d.call.scale[image], out);
            for (int64_t row = 2 * y; HALF && row < 2 * y + 2 && row < whole.height; row++) {
                for (int64_t x = 0; x < whole.width; x++) spread[x] = 0;
                add_double_row(light, row, whole, spread);
                picture.add_gradient(c, row, spread, d.call.scale[image], out);
            }
        }
    }
};

template <bool HALF> bool Distance::differentiate(int64_t image, const float* slope) const {
    const Rows rows = last<HALF>(BACK);
    Room room(Way<HALF>::samples(*this, rows) + Gradient<HALF>::samples(rows, whole));
    if (!room) return false;
    Way<HALF> way(*this, image, rows, room);
    Gradient<HALF> gradient(*this, way.map, way.picture, image, slope, room);
    return way.go([&] { return gradient.advance(); });
}

inline bool Distance::compare(int64_t image) const {
    auto differentiate_all = [&](const float* slope) {
        return differentiate<false>(image, slope) && (!two || differentiate<true>(image, slope));
    };
    if (call.gradient) return differentiate_all(call.gradient);
    if (!write_map<false>(image) || (two && !write_map<true>(image))) return false;
    if (call.values) call.values[image] = (float)loss(image);
    return !call.out_gradient || differentiate_all(call.map);
}
}  // namespace NAMESPACE
