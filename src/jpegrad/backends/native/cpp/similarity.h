// SSIM of planes, without gradients: tune/metrics.py has the formulas.
#pragma once
#include "planes.h"

namespace NAMESPACE {

class Similarity {
    static constexpr int64_t ROWS = 32, REACH = 5;
    static constexpr int KINDS = 5;
    static constexpr float C1 = 0.01f * 0.01f, C2 = 0.03f * 0.03f;
    const Comparison& call;
    const Blur<REACH, ZERO> blur{1.5};

  public:
    explicit Similarity(const Comparison& c) : call(c) {}

    // Means over the windows that lie within: SSIM, and its part of contrast and structure.
    bool compare(int64_t plane) const {
        const Size s(call.height, call.width);
        const Rows rows = {s, smaller(s.height, ROWS + REACH)};
        const int64_t n = rows.plane(), samples = s.height * s.width * plane;
        Room room(KINDS * n + decltype(blur)::Pass::samples(s, KINDS));
        if (!room) return false;
        float* planes = room.take(KINDS * n);
        decltype(blur)::Pass pass(blur, s, KINDS, room);
        const float *first = (const float*)call.image + samples, *second = (const float*)call.original + samples;
        double whole = 0, part = 0;
        for (int64_t end = 0, lit = 0, done = 0; done < s.height;) {
            end = smaller(end + ROWS, s.height);
            for (; lit < end; lit++) read(first + lit * s.width, second + lit * s.width, s, n, planes + rows.at(lit));
            const int64_t begun = done;
            done = rows.behind(end, REACH);
            pass.filter(planes, planes, rows, begun, done);
            for (int64_t y = begun; y < done; y++)
                if (y >= REACH && y < s.height - REACH) add(planes + rows.at(y), n, s.width, &whole, &part);
        }
        const double windows = (double)((s.height - 2 * REACH) * (s.width - 2 * REACH));
        call.values[2 * plane] = (float)(whole / windows);
        call.values[2 * plane + 1] = (float)(part / windows);
        return true;
    }

  private:
    static void read(const float* first, const float* second, const Size& s, int64_t n, float* to) {
        auto step = [&](int64_t x, auto count) {
            float copy[2][HALF], room[HALF];
            F32 a = at(readable(first + x, count, copy[0], 0.0f)), b = at(readable(second + x, count, copy[1], 0.0f));
            const F32 kinds[KINDS] = {a, b, a * a, b * b, a * b};
            for (int kind = 0; kind < KINDS; kind++) {
                float* written = writable(to + kind * n + x, count, room);
                store(written, kinds[kind]);
                write_back(to + kind * n + x, count, room);
            }
        };
        in_vectors<HALF>(s.width, step);
    }
    static void add(const float* p, int64_t n, int64_t width, double* whole, double* part) {
        F32 sums[2] = {};
        for (int64_t x = 0; x < width; x += HALF) {
            F32 a = at(p + x), b = at(p + n + x), aa = a * a, bb = b * b, ab = a * b;
            F32 structure =
                (2.0f * (at(p + 4 * n + x) - ab) + C2) / (at(p + 2 * n + x) - aa + (at(p + 3 * n + x) - bb) + C2);
            F32 both = structure * (2.0f * ab + C1) / (aa + bb + C1);
            for (int i = 0; i < HALF; i++)
                if (x + i < REACH || x + i >= width - REACH) structure[i] = both[i] = 0;
            sums[0] += both;
            sums[1] += structure;
        }
        *whole += (double)sum(sums[0]);
        *part += (double)sum(sums[1]);
    }
};
}  // namespace NAMESPACE
