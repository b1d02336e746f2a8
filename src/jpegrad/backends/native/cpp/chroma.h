// Chroma downsampling (box filter) and upsampling (triangle filter or replication) of one row of samples.
#pragma once
#include "geometry.h"
#include "simd.h"

namespace NAMESPACE {

// Sums of neighbouring pairs, one int32 each.
INLINE I32 pair_sums(I16 x) { return ((I32)x & 0xffff) + (I32)((U32)(I32)x >> 16); }

// `in`: v rows, readable in whole vectors; `n` output samples, written in whole vectors.
static void downsample_row(const int16_t* const in[2], int h, int v, int64_t n, int16_t* out) {
    I32 alternate = {};
    for (int i = 1; i < HALF; i += 2) alternate[i] = 1;
    if (h == 1) {
        for (int64_t i = 0; i < n; i += LANES)
            store(out + i, (load<I16>(in[0] + i) + load<I16>(in[1] + i) + (int16_t)1) >> 1);
    } else if (h == 2) {
        int shift = v;
        I32 bias = alternate + (v - 1);
        for (int64_t i = 0; i < n; i += LANES) {
            I16 a = load<I16>(in[0] + 2 * i), b = load<I16>(in[0] + 2 * i + LANES);
            if (v == 2) {
                a += load<I16>(in[1] + 2 * i);
                b += load<I16>(in[1] + 2 * i + LANES);
            }
            store(out + i, narrow((pair_sums(a) + bias) >> shift, (pair_sums(b) + bias) >> shift));
        }
    } else {
        for (int64_t i = 0; i < n; i += LANES) {
            I16 pairs[2];
            for (int k = 0; k < 2; k++) {
                const int16_t* p = in[0] + 4 * i + 2 * k * LANES;
                pairs[k] = narrow(pair_sums(load<I16>(p)), pair_sums(load<I16>(p + LANES)));
            }
            store(out + i, narrow((pair_sums(pairs[0]) + 2) >> 2, (pair_sums(pairs[1]) + 2) >> 2));
        }
    }
}

// One output row of n >= 1 component samples from the nearer row and its vertical neighbour. `lower` is which of the
// two output rows of `near`. `work` has room for n + 2 * LANES samples. Writes h * n samples in whole vectors.
static void upsample_row(const int16_t* near, const int16_t* far, int h, int v, bool triangle, bool lower, int64_t n,
                         int16_t* work, int16_t* out) {
    if (!triangle) {
        for (int64_t i = 0; i < n; i++)
            for (int k = 0; k < h; k++) out[h * i + k] = near[i];
        return;
    }
    if (h == 1) {
        int16_t bias = lower ? 2 : 1;
        for (int64_t i = 0; i < n; i += LANES) {
            I16 p = load<I16>(near + i);
            store(out + i, (p + p + p + load<I16>(far + i) + bias) >> 2);
        }
        return;
    }
    int16_t* s = work + LANES;
    for (int64_t i = 0; i < n; i += LANES) {
        I16 p = load<I16>(near + i);
        store(s + i, v == 2 ? p + p + p + load<I16>(far + i) : p);
    }
    s[-1] = s[0];
    s[n] = s[n - 1];
    int shift = v == 2 ? 4 : 2;
    int16_t left = v == 2 ? 8 : 1, right = v == 2 ? 7 : 2;
    for (int64_t i = 0; i < n; i += LANES) {
        I16 p = load<I16>(s + i);
        p += p + p;
        interleave((p + load<I16>(s + i - 1) + left) >> shift, (p + load<I16>(s + i + 1) + right) >> shift,
                   out + 2 * i);
    }
}

}  // namespace NAMESPACE
