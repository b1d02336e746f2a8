// The energy along short lines through every sample, and its gradient.
#pragma once
#include "planes.h"

namespace NAMESPACE {

// The middle and the samples Y, X and -Y, -X of each pair; a line is its own mirror image, and so its own adjoint.
template <int Y, int X, int... REST> struct Pairs {
    INLINE F32 sum(const float* const* rows, int64_t x, F32 total) {
        total = total + (at(rows[Y] + x + X) + at(rows[-Y] + x - X));
        if constexpr (sizeof...(REST) > 0)
            return Pairs<REST...>::sum(rows, x, total);
        else
            return total;
    }
};
template <int WEIGHT_, int... PAIRS> struct Line {
    static constexpr float WEIGHT = WEIGHT_;
    INLINE F32 sum(const float* const* rows, int64_t x) { return Pairs<PAIRS...>::sum(rows, x, at(rows[0] + x)); }
};

// Every line REACHES as far as four samples. Those close to the axes count twice.
template <class... LINES> class Energy {
    static constexpr int REACH = 4, WINDOW = 2 * REACH + 1, MARGIN = 8, COUNT = sizeof...(LINES);
    static constexpr int64_t TILE = 256, ROW = TILE + 4 * MARGIN;

    // Rows -REACH to REACH around the one that is written, of a ring of rows.
    struct Window {
        const float* rows[WINDOW];
        Window(const float* ring, int64_t y, const float* zeros, int64_t height) {
            for (int i = -REACH; i <= REACH; i++)
                rows[REACH + i] = y + i < 0 || y + i >= height ? zeros : ring + (y + i) % WINDOW * ROW;
        }
        const float* const* middle() const { return rows + REACH; }
    };
    // A row of the tile from `left` - 2 * MARGIN on; 0 lies outside of the picture.
    static void copy(const float* row, int64_t left, const Size& size, float* to) {
        const int64_t from = left - 2 * MARGIN, first = from < 0 ? -from : 0;
        const int64_t end = size.width - from < ROW ? size.width - from : ROW;
        for (int64_t i = 0; i < first; i++) to[i] = 0;
        __builtin_memcpy(to + first, row + from + first, (size_t)(end - first) * sizeof(float));
        for (int64_t i = end; i < ROW; i++) to[i] = 0;
    }

  public:
    // Adds the energy of rows [first, last).
    static bool add(const float* in, const Rows& rows, float* out, int64_t first, int64_t last) {
        const Size& size = rows.size;
        Room room((WINDOW + 1) * ROW);
        if (!room) return false;
        float *ring = room.take(WINDOW * ROW), *zeros = room.take(ROW);
        for (int64_t i = 0; i < ROW; i++) zeros[i] = 0;
        for (int64_t left = 0; left < size.stride; left += TILE) {
            const int64_t wide = size.stride - left < TILE ? size.stride - left : TILE;
            for (int64_t y = first, read = before(first, REACH); y < last; y++) {
                for (; read < size.height && read <= y + REACH; read++)
                    copy(in + rows.at(read), left, size, ring + read % WINDOW * ROW);
                const Window window(ring + 2 * MARGIN, y, zeros + 2 * MARGIN, size.height);
                float* to = out + rows.at(y) + left;
                each_vector(wide, [&](int64_t x) {
                    F32 total = at(to + x);
                    ((total = squared<LINES>(window.middle(), x, total)), ...);
                    store(to + x, total);
                });
            }
        }
        return true;
    }

    // The gradient of the samples in rows [first, last), from that of the energy.
    static bool gradient(const float* in, const float* gradient, const Rows& rows, float* out, int64_t first,
                         int64_t last) {
        const Size& size = rows.size;
        Room room((WINDOW * (1 + COUNT) + 1) * ROW);
        if (!room) return false;
        float *ring = room.take(WINDOW * ROW), *sums = room.take(WINDOW * COUNT * ROW), *zeros = room.take(ROW);
        for (int64_t i = 0; i < ROW; i++) zeros[i] = 0;
        for (int64_t left = 0; left < size.stride; left += TILE) {
            const int64_t wide = size.stride - left < TILE ? size.stride - left : TILE;
            for (int64_t y = first, read = before(first, 2 * REACH), summed = before(first, REACH); y < last; y++) {
                for (; summed < size.height && summed <= y + REACH; summed++) {
                    for (; read < size.height && read <= summed + REACH; read++)
                        copy(in + rows.at(read), left, size, ring + read % WINDOW * ROW);
                    const Window window(ring + 2 * MARGIN, summed, zeros + 2 * MARGIN, size.height);
                    const float* slope = gradient + rows.at(summed) + left;
                    float* to = sums + summed % WINDOW * ROW + 2 * MARGIN;
                    for (int64_t x = -MARGIN; x < wide + MARGIN; x += HALF) {
                        F32 factor = splatf(0);
                        if (left + x >= 0 && left + x < size.stride) factor = 2.0f * at(slope + x);
                        for (int64_t i = 0; i < HALF && left + x + HALF > size.width; i++)
                            if (left + x + i >= size.width) factor[i] = 0;
                        int line = 0;
                        ((store(to + line++ * WINDOW * ROW + x,
                                factor * LINES::WEIGHT * LINES::sum(window.middle(), x))),
                         ...);
                    }
                }
                float* to = out + rows.at(y) + left;
                const Window windows[COUNT] = {
                    Window(sums + line_of<LINES>() * WINDOW * ROW + 2 * MARGIN, y, zeros + 2 * MARGIN, size.height)...};
                each_vector(wide, [&](int64_t x) {
                    F32 total = splatf(0);
                    int line = 0;
                    ((total = total + LINES::sum(windows[line++].middle(), x)), ...);
                    store(to + x, total);
                });
            }
        }
        return true;
    }

  private:
    static int64_t before(int64_t row, int64_t reach) { return row < reach ? 0 : row - reach; }
    template <class LINE> INLINE F32 squared(const float* const* rows, int64_t x, F32 total) {
        F32 along = LINE::sum(rows, x);
        return mul_add(along * LINE::WEIGHT, along, total);
    }
    template <class LINE> static constexpr int line_of() {
        int found = 0, i = 0;
        ((std::is_same_v<LINE, LINES> ? void(found = i++) : void(i++)), ...);
        return found;
    }
};

typedef Energy<Line<1, 0, 1, 0, 2, 0, 3, 0, 4>, Line<1, 1, 0, 2, 0, 3, 0, 4, 0>, Line<1, 1, 1, 2, 2, 3, 3>,
               Line<1, 1, -1, 2, -2, 3, -3>, Line<1, 1, 1, 2, 1, 3, 2>, Line<1, 1, -1, 2, -1, 3, -2>,
               Line<1, 1, 1, 1, 2, 2, 3>, Line<1, 1, -1, 1, -2, 2, -3>, Line<2, 1, 0, 2, 1, 3, 1, 4, 1>,
               Line<2, 1, 0, 2, -1, 3, -1, 4, -1>, Line<2, 0, 1, 1, 2, 1, 3, 1, 4>, Line<2, 0, -1, 1, -2, 1, -3, 1, -4>>
    Dense;
typedef Energy<Line<1, 0, 2, 0, 4>, Line<1, 2, 0, 4, 0>, Line<1, 2, 2, 3, 3>, Line<1, 2, -2, 3, -3>,
               Line<1, 2, 1, 4, 1>, Line<1, 2, -1, 4, -1>, Line<1, 1, 2, 1, 4>, Line<1, 1, -2, 1, -4>,
               Line<1, 2, 1, 3, 2>, Line<1, 2, -1, 3, -2>, Line<1, 1, 2, 2, 3>, Line<1, 1, -2, 2, -3>,
               Line<1, 1, 2, 2, 4>, Line<1, 1, -2, 2, -4>, Line<1, 2, 1, 4, 2>, Line<1, 2, -1, 4, -2>>
    Sparse;
}  // namespace NAMESPACE
