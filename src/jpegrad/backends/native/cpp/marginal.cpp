// What one step of one level costs in bits, everything else in its block held fixed: rate/marginal.py says how.
#include "parallel.h"
#include "t81.h"

namespace {
constexpr int SIZES = 12;

// Magnitudes as a file may hold them; 0 for NaN.
int magnitude(float x) {
    x = x < 0 ? -x : x;
    return x >= MAX_AC ? MAX_AC : x > 0 ? (int)x : 0;
}

void one_block(const float* levels, const float* lower, const uint8_t* where, const float (*bits)[SIZES], float* out) {
    int size[65], after[65];           // of each place; the first nonzero level from a place on
    size[64] = 0;
    after[64] = 64;
    for (int k = 63; k > 0; k--) {
        size[k] = bit_length(magnitude(levels[ZIGZAG[k]]));
        after[k] = size[k] ? k : after[k + 1];
    }
    out[0] = 0;
    for (int k = 1, before = 0; k < 64; k++) {
        const int i = ZIGZAG[k], run = k - before - 1, next = after[k + 1];
        out[i] = 0;
        if (where[i]) {
            const int m = magnitude(lower[i]);
            // A new nonzero level splits the run up to the next one, or to the end of the block.
            const float split = bits[next - k - 1][size[next]] - bits[next - before - 1][size[next]];
            out[i] = bits[run][bit_length(m + 1)] - (m ? bits[run][bit_length(m)] : -split);
        }
        if (size[k]) before = k;
    }
}
}  // namespace

EXPORT int jpegrad_step_costs(const void*, const StepCosts* c) {
    return parallel(c->blocks, c->threads, 256, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
            const float* table = c->bits + i * c->tables / c->blocks * 64 * SIZES;
            one_block(c->levels + 64 * i, c->lower + 64 * i, c->where + 64 * i, (const float (*)[SIZES])table,
                      c->out + 64 * i);
        }
        return true;
    });
}
