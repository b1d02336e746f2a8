// Levels that weigh squared error against bits: in each block the cheapest path over its nonzero AC levels, then one
// over the chain of DC levels of each component. Arithmetic and choice of equal paths are those of tune/levels.py.
#include <cmath>
#include <memory>
#include <new>

#include "parallel.h"
#include "t81.h"

namespace {
constexpr int SIZES = 12, MIN_DC = -1024, MAX_DC = 1023;

// One component of one image.
template <class T> struct Component {
    const T* unrounded;
    T* levels;
    const double* table;
    const T* weights;
    const int64_t* stride;             // of the weights: block row, block, row, column
    const double (*ac)[64];            // price of every size after every run; of size 0: the end of the block
    const double* dc;                  // price of every size
    int blocks_x, blocks_y, h, v;

    // What a squared error of one step costs.
    double scale(int64_t y, int64_t x, int i) const {
        const double square = table[i] * table[i];
        if (!weights) return square;
        return square * (double)weights[y * stride[0] + x * stride[1] + (i >> 3) * stride[2] + (i & 7) * stride[3]];
    }
};

template <class T> Component<T> component(const Codec& c, const Trellis& t, int64_t image, int i) {
    Component<T> found;
    found.h = i ? 1 : c.h;
    found.v = i ? 1 : c.v;
    found.blocks_x = ceil_div(c.width, i ? 8 * c.h : 8);
    found.blocks_y = ceil_div(c.height, i ? 8 * c.v : 8);
    const int64_t offset = image * found.blocks_x * found.blocks_y * 64;
    found.unrounded = (const T*)t.unrounded[i] + offset;
    found.levels = (T*)t.levels[i] + offset;
    found.table = t.tables + image * t.table_stride + 64 * (i < c.table_count ? i : c.table_count - 1);
    found.stride = t.weight_strides[i] + 1;
    found.weights = (const T*)t.weights[i] + (t.weights[i] ? image * t.weight_strides[i][0] : 0);
    const int64_t kind = image * (c.channels == 1 ? 1 : 2) + (i > 0);
    found.ac = (const double (*)[64])t.ac_prices + kind * SIZES;
    found.dc = t.dc_prices + kind * SIZES;
    return found;
}

// A half is rounded away from zero, as by the encoder.
int rounded(double magnitude, int limit) {
    if (!(magnitude < limit)) return limit;
    const int below = (int)magnitude;
    return below + (magnitude - below >= 0.5);
}

// (u - other)^2 - (u - nearest)^2, never negative and without cancellation.
double growth(double u, int nearest, int other) { return (nearest - other) * (2 * u - (nearest + other)); }

// Costs count from those of plain rounding. A state is a nonzero level; what the states before a place cost, less the
// price of leaving out all levels up to theirs, does not change from one place to the next.
struct Path {
    int place[64], magnitude[64], before[64], count = 1;
    double cost[64], least[64];        // of each state; of it and all states before it

    Path() {
        place[0] = 0;
        cost[0] = least[0] = 0;
    }
    // The state that a symbol at a place follows at the least cost, the nearest of equals.
    int best(int at, const double* price, double* total) const {
        int found = count - 1;
        double low = cost[found] + price[at - place[found] - 1];
        for (int i = count - 2; i >= 0 && least[i] < low; i--) {
            const double sum = cost[i] + price[at - place[i] - 1];
            if (sum < low) {
                low = sum;
                found = i;
            }
        }
        *total = low;
        return found;
    }
    void add(int at, int level, int from, double total) {
        place[count] = at;
        magnitude[count] = level;
        before[count] = from;
        cost[count] = total;
        least[count] = total < least[count - 1] ? total : least[count - 1];
        count++;
    }
};

template <class T> void choose_ac(const Component<T>& c, int64_t y, int64_t x) {
    const T* unrounded = c.unrounded + (y * c.blocks_x + x) * 64;
    T* levels = c.levels + (y * c.blocks_x + x) * 64;
    Path path;
    double skipped = 0;
    for (int k = 1; k < 64; k++) {
        const int i = ZIGZAG[k];
        levels[i] = 0;
        const double u = std::fabs((double)unrounded[i]);
        if (!(u >= 0.5)) continue;
        const int level = rounded(u, MAX_AC), size = bit_length(level);
        const double scale = c.scale(y, x, i);
        double reach, total;
        int chosen = level, from = path.best(k, c.ac[size], &reach);
        total = reach + skipped;
        if (level > 1) {
            const int lower = bit_length(level - 1);
            int lower_from = from;
            if (lower != size) lower_from = path.best(k, c.ac[lower], &reach);
            const double other = reach + (skipped + scale * growth(u, level, level - 1));
            if (other < total) {
                total = other;
                chosen = level - 1;
                from = lower_from;
            }
        }
        skipped += scale * growth(u, level, 0);
        path.add(k, chosen, from, total - skipped);
    }
    double total;
    for (int at = path.best(64, c.ac[0], &total); at > 0; at = path.before[at]) {
        const int i = ZIGZAG[path.place[at]];
        levels[i] = (T)(unrounded[i] < 0 ? -path.magnitude[at] : path.magnitude[at]);
    }
}

// Candidates of a DC level: the rounded one, one below, one above.
int candidate(double u, int which) {
    const int magnitude = rounded(std::fabs(u), -MIN_DC);
    const int level = (u < 0 ? -magnitude : magnitude) + (which == 1 ? -1 : which == 2 ? 1 : 0);
    return level < MIN_DC ? MIN_DC : level > MAX_DC ? MAX_DC : level;
}

// Blocks of a component as the scan has them; a dummy block repeats the DC before it, at the same cost for any.
template <class T> void scan_order(const Component<T>& c, int32_t* order) {
    int64_t count = 0;
    for (int top = 0; top < c.blocks_y; top += c.v)
        for (int left = 0; left < c.blocks_x; left += c.h)
            for (int y = top; y < top + c.v && y < c.blocks_y; y++)
                for (int x = left; x < left + c.h && x < c.blocks_x; x++) order[count++] = y * c.blocks_x + x;
}

template <class T> bool choose_dc(const Component<T>& c) {
    const int64_t blocks = (int64_t)c.blocks_x * c.blocks_y;
    std::unique_ptr<int32_t[]> order(new (std::nothrow) int32_t[(size_t)blocks]);
    std::unique_ptr<uint8_t[]> before(new (std::nothrow) uint8_t[3 * (size_t)blocks]);
    if (!order || !before) return false;
    scan_order(c, order.get());
    double cost[3] = {0, INFINITY, INFINITY};
    int level[3] = {};
    for (int64_t at = 0; at < blocks; at++) {
        const int64_t block = order[at];
        const double u = (double)c.unrounded[64 * block], scale = c.scale(block / c.blocks_x, block % c.blocks_x, 0);
        const int nearest = candidate(u, 0);
        double next[3];
        int next_level[3];
        for (int i = 0; i < 3; i++) {
            next_level[i] = candidate(u, i);
            int from = 0;
            for (int j = 0; j < 3; j++) {
                const int difference = next_level[i] - level[j];
                const double sum = cost[j] + c.dc[bit_length(difference < 0 ? -difference : difference)];
                if (j == 0 || sum < next[i]) {
                    next[i] = sum;
                    from = j;
                }
            }
            next[i] += scale * growth(u, nearest, next_level[i]);
            before[3 * at + i] = (uint8_t)from;
        }
        for (int i = 0; i < 3; i++) {
            cost[i] = next[i];
            level[i] = next_level[i];
        }
    }
    int last = cost[1] < cost[0] ? 1 : 0;
    if (cost[2] < cost[last]) last = 2;
    for (int64_t at = blocks - 1; at >= 0; at--) {
        const int64_t i = 64 * (int64_t)order[at];
        c.levels[i] = (T)candidate((double)c.unrounded[i], last);
        last = before[3 * at + last];
    }
    return true;
}

template <class T> int run(const Codec& codec, const Trellis& call) {
    const int64_t rows_y = ceil_div(codec.height, 8),
                  rows_c = codec.channels == 1 ? 0 : ceil_div(codec.height, 8 * codec.v);
    const int64_t rows = rows_y + 2 * rows_c;
    const int failed = parallel(call.batch * rows, call.threads, 4, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at++) {
            const int64_t row = at % rows, i = row < rows_y ? 0 : row < rows_y + rows_c ? 1 : 2;
            const int64_t y = i == 0 ? row : (row - rows_y) % rows_c;
            const Component<T> c = component<T>(codec, call, at / rows, (int)i);
            for (int64_t x = 0; x < c.blocks_x; x++) choose_ac(c, y, x);
        }
        return true;
    });
    if (failed) return failed;
    return parallel(call.batch * codec.channels, call.threads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at++)
            if (!choose_dc(component<T>(codec, call, at / codec.channels, (int)(at % codec.channels)))) return false;
        return true;
    });
}
}  // namespace

EXPORT int jpegrad_trellis(const Codec* codec, const Trellis* call) {
    return call->type == FLOAT64 ? run<double>(*codec, *call) : run<float>(*codec, *call);
}
