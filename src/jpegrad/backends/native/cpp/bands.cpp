// What the bands of frequencies in blocks send, and what that costs in bits: rate/bands.py has the prices.
#include <cmath>

#include "parallel.h"
#include "t81.h"

namespace {
constexpr int SIZES = 12, ZRL = 0xF0;

// fn(zeros before, size) for each level of a band that is not 0; returns the zeros after the last.
template <class Fn> int each_level(const float* block, int first, int last, const Fn& fn) {
    int run = 0;
    for (int k = first; k <= last; k++) {
        float x = block[ZIGZAG[k]];
        x = std::nearbyint(x < 0 ? -x : x);
        const int magnitude = x >= MAX_AC ? MAX_AC : x > 0 ? (int)x : 0;
        if (magnitude) {
            fn(run, bit_length(magnitude));
            run = 0;
        } else {
            run++;
        }
    }
    return run;
}
}  // namespace

EXPORT int jpegrad_count_band(const void*, const BandCall* c) {
    for (int64_t i = 0; i < c->blocks; i++) {
        bool any = false;
        const int rest = each_level(c->levels + 64 * i, c->first, c->last, [&](int run, int size) {
            any = true;
            c->counts[(run & 15) << 4 | size]++;
            c->counts[ZRL] += run >> 4;
        });
        c->ends[i] = !any ? EMPTY : rest ? ENDS : COMPLETE;
    }
    return 0;
}

EXPORT int jpegrad_band_bits(const void*, const BandCall* c) {
    return parallel(c->blocks, c->threads, 256, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
            double bits = 0;
            const int rest = each_level(c->levels + 64 * i, c->first, c->last,
                                        [&](int run, int size) { bits += c->prices[run * SIZES + size]; });
            // Places behind the band count as zeros.
            c->bits[i] = bits + c->prices[(rest + 63 - (c->last - c->first + 1)) * SIZES];
        }
        return true;
    });
}
