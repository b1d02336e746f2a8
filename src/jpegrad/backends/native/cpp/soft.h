// The soft forward, strip by strip: the real-valued pipeline with a smooth function in place of the rounding. Samples
// are kept around 0, so that float32 resolves them finely.
#pragma once
#include "backward_rows.h"
#include "exact.h"
#include "float_dct.h"
#include "noise.h"
#include "strips.h"

namespace NAMESPACE {

constexpr float MIDDLE = 128;

// Clamped with a leak; an infinite number does not leak.
INLINE F32 leaky_clamp(F32 x, float leak, I32& acts) {
    F32 clamped = minf(maxf(x, F32{}), splatf(255));
    acts = (I32)(clamped != x);
    return leak == 0 ? clamped : clamped + leak * (F32)((I32)(x - clamped) & (I32)(x - x == 0));
}

// `in`: v rows; the box filter's mean, and of libjpeg's rounding what is left on average: it alternates along a row.
static void downsample_soft(const float* const in[2], int h, int v, int64_t n, float* out) {
    const float weight = 1.0f / (float)(h * v);
    F32 bias = splatf(0.5f * weight);
    for (int i = 0; i < HALF && h == 2; i += 2) bias[i] = -bias[i];
    auto read = [&](int64_t i) { return v == 2 ? load<F32>(in[0] + i) + load<F32>(in[1] + i) : load<F32>(in[0] + i); };
    auto pairs = [&](int64_t i) {
        F32 even, odd;
        split_pairs(read(i), read(i + HALF), even, odd);
        return even + odd;
    };
    for (int64_t i = 0; i < n; i += HALF) {
        F32 sum;
        if (h == 1) {
            sum = read(i);
        } else if (h == 2) {
            sum = pairs(2 * i);
        } else {
            F32 even, odd;
            split_pairs(pairs(4 * i), pairs(4 * i + 2 * HALF), even, odd);
            sum = even + odd;
        }
        store(out + i, mul_add(sum, splatf(weight), bias));
    }
}

// As upsample_row in chroma.h, without its roundings.
static void upsample_soft(const float* near, const float* far, int h, int v, bool triangle, int64_t n, float* work,
                          float* out) {
    if (!triangle) {
        for (int64_t i = 0; i < n; i++)
            for (int k = 0; k < h; k++) out[h * i + k] = near[i];
        return;
    }
    float* s = h == 1 ? out : work + LANES;
    for (int64_t i = 0; i < n; i += HALF) {
        F32 p = load<F32>(near + i);
        store(s + i, v == 2 ? 0.75f * p + 0.25f * load<F32>(far + i) : p);
    }
    if (h == 1) return;
    s[-1] = s[0];
    s[n] = s[n - 1];
    for (int64_t i = 0; i < n; i += HALF) {
        F32 p = 0.75f * load<F32>(s + i);
        interleave(p + 0.25f * load<F32>(s + i - 1), p + 0.25f * load<F32>(s + i + 1), out + 2 * i);
    }
}

// Between coefficients and steps, the transforms' own factors included; and what the rounding of each needs.
struct Steps {
    float to[64], from[64];
    float entry[64], inverse[64], squared[64];  // of the table
    float passed;                    // of a block's noise, what is wider than the steps
    SlopeTable slopes;

    void set(Slope kind, float parameter, const double* table, float variance) {
        passed = 0;
        for (int i = 0; i < 64; i++) {
            double factor = (double)FACTOR[i / 8] * (double)FACTOR[i % 8];
            to[i] = (float)(1 / (8 * factor * table[i]));
            from[i] = (float)(table[i] * factor / 8);
            entry[i] = (float)table[i];
            inverse[i] = (float)(1 / table[i]);
            squared[i] = (float)(table[i] * table[i]);
            if (variance > squared[i] / 12) passed += variance - squared[i] / 12;
        }
        slopes.set(kind, parameter, table);
        for (int i = 0; i < 64 && kind == SOFT_ROUND; i++)
            slopes.at[i].width = (float)(0.5 / tanh((double)parameter / 2));
    }
};

// The noise over which a call is the mean, in grey levels.
struct Noise {
    const bool exists;
    float deviation, root;                   // of a pixel: as its clamp sees it, and where no clamp acts
    float base[3], to_block[3];              // variance of a coefficient; what a pixel's adds to its block's
    float forward[9], inverse[9];            // the conversions' squares

    Noise(const Codec& codec, const Layout& layout, const Matrix& to, const Matrix& from) : exists(codec.noise > 0) {
        const float squared = codec.noise * codec.noise, twelfth = 1.0f / 12;
        deviation = __builtin_sqrtf(squared - twelfth > squared / 4 ? squared - twelfth : squared / 4);
        const float variance = squared + twelfth;
        root = __builtin_sqrtf(variance);
        for (int i = 0; i < 9; i++) {
            forward[i] = layout.count == 3 ? to.at[i][0] * to.at[i][0] : 1;
            inverse[i] = from.at[i][0] * from.at[i][0];
        }
        for (int c = 0; c < layout.count; c++) {
            const float n = (float)(c ? layout.h * layout.v : 1);
            const float gain = layout.count == 3 ? forward[3 * c] + forward[3 * c + 1] + forward[3 * c + 2] : 1;
            base[c] = (gain * variance + (layout.count == 3 ? twelfth : 0)) / n + (1 - 1 / (n * n)) * twelfth;
            to_block[c] = 1 / (64 * n * n);
        }
    }
};

// What is known of the noise in each block of a strip, the strip's number even or odd.
struct BlockNoise {
    float* lost[3];            // by how much the pixels' clamps lessen the variance of its coefficients
    float *decoded[3][2], *deviation[3];  // variance of its decoded samples, and its root
};

class SoftCoder : Strips<float> {
  public:
    SoftCoder(const Codec& codec, const Call& call, const Layout& layout)
        : Strips(codec, call, layout),
          watch(codec),
          scale((float)(255 / (codec.high - codec.low))),
          leak(codec.clip_slope),
          forward(scaled(codec.forward_real, 1 / scale)),
          inverse(scaled(codec.inverse_real, scale)),
          noise(codec, layout, forward, inverse),
          clips(call.clips) {
        for (int c = 0; c < 3; c++) shift[c] = 3 + (c && layout.h > 1 ? layout.h / 2 : 0);
    }
    ~SoftCoder() { report(watch.far); }

    bool reserve(Arena& arena) {
        int64_t blocks = 0;
        for (int c = 0; c < layout.count; c++) blocks += Arena::cost(layout.component[c].groups * LANES, sizeof(float));
        if (!Strips::reserve(arena, Arena::cost(3, sizeof(Steps)) + 4 * blocks +
                                        Arena::cost(layout.component[0].blocks_x + 1, sizeof(float)) * 6 +
                                        Arena::cost(row_length(), sizeof(float)) * 3))
            return false;
        steps = arena.take<Steps>(3);
        for (int c = 0; c < layout.count; c++) {
            const int64_t count = layout.component[c].groups * LANES;
            known.lost[c] = arena.take<float>(count);
            for (float*& each : known.decoded[c]) each = arena.take<float>(count);
            known.deviation[c] = arena.take<float>(count);
        }
        for (float*& each : spread) each = arena.take<float>(layout.component[0].blocks_x + 1);
        for (float*& each : lost)
            zero(each = arena.take<float>(layout.component[0].blocks_x + 1), layout.component[0].blocks_x + 1);
        for (float*& each : levels) each = take_row(arena);
        return true;
    }

    void jpeg(int64_t b, int64_t begin, int64_t end) {
        const Flushed tiny;
        for (int64_t& row : spread_of) row = -1;
        if (next_tables(b))
            for (int c = 0; c < layout.count; c++)
                steps[c].set((Slope)codec.slope, codec.slope_parameter[c], table(b, c), noise.base[c]);
        auto produce = [&](int64_t s, bool own) {
            read_strip(b, s, own);
            for (int c = own ? 0 : 1; c < layout.count; c++) {
                code(b, s, c, own);
                clamp_strip(b, s, c, own && call.flags);
            }
        };
        run(begin, end, produce, [&](int64_t s, int64_t y) { write_row(b, s, y); });
    }

  private:
    Watch watch;
    const float scale, leak;
    const Matrix forward, inverse;
    const Noise noise;
    const Clips clips;
    BlockNoise known;
    float* spread[3];               // deviations of R, G and B
    int64_t spread_of[3] = {-1, -1, -1};  // in these rows of blocks
    float *levels[3], *lost[3];     // of a row of pixels; by how much clamps lessen its variance, for every eight
    float last_lost[3] = {};        // of its last pixel
    bool lost_in_row = false;
    bool lessened;  // whether clamps of pixels lessen the noise of a block of this strip
    int shift[3];   // of a column, to the number of its block
    Steps* steps;

    static Matrix scaled(const float* numbers, float factor) {
        Matrix found(numbers);
        for (F32& m : found.at) m *= factor;
        return found;
    }

    void read_strip(int64_t b, int64_t s, bool own) {
        lessened = false;
        for (int c = 0; c < layout.count && noise.exists; c++)
            for (int64_t i = 0; i < layout.component[c].groups * LANES; i++) known.lost[c][i] = 0;
        auto convert = [&](int64_t y, float* const out[3]) {
            const float* pixels[3];
            for (int c = 0; c < layout.count; c++)
                pixels[c] = input_row(call.input, b, c, y, layout.width, gathered[c]);
            uint8_t* flags = own ? flag_row(b, y) : nullptr;
            if (flags) __builtin_memset(flags, 0, (size_t)layout.width);
            for (int c = 0; c < layout.count; c++) read_levels(pixels[c], b, c, y, flags);
            note_lost(s, y);
            for (int c = 0; c < layout.count && flags && watch.undefined; c++)
                for (int64_t x = 0; x < layout.width; x++)
                    if (pixels[c][x] != pixels[c][x]) flags[x] = UNDEFINED;
            if (layout.count == 3) return to_samples(levels, layout.width, forward, codec.forward_offset, out);
            for (int64_t x = 0; x < layout.width; x += HALF) store(out[0] + x, load<F32>(levels[0] + x) - MIDDLE);
        };
        auto downsample = [&](float* const in[2], int64_t n, float* out) {
            downsample_soft(in, layout.h, layout.v, n, out);
        };
        read_rows(s, convert, downsample);
    }

    static __attribute__((noinline)) void to_samples(const float* const levels[3], int64_t n, const Matrix& matrix,
                                                     const float* offset, float* const out[3]) {
        const Matrix m = matrix;
        const F32 y0 = splatf(offset[0] - MIDDLE), cb0 = splatf(offset[1] - MIDDLE), cr0 = splatf(offset[2] - MIDDLE);
        const float *red = levels[0], *green = levels[1], *blue = levels[2];
        float *y = out[0], *cb = out[1], *cr = out[2];
        for (int64_t x = 0; x < n; x += HALF) {
            const F32 r = load<F32>(red + x), g = load<F32>(green + x), b = load<F32>(blue + x);
            store(y + x, mul_add(b, m.at[2], mul_add(g, m.at[1], mul_add(r, m.at[0], y0))));
            store(cb + x, mul_add(b, m.at[5], mul_add(g, m.at[4], mul_add(r, m.at[3], cb0))));
            store(cr + x, mul_add(b, m.at[8], mul_add(g, m.at[7], mul_add(r, m.at[6], cr0))));
        }
    }

    // Grey levels of one channel of a row, clamped or in the mean over their noise; flags, and what is kept.
    __attribute__((noinline)) void read_levels(const float* pixels, int64_t b, int c, int64_t y, uint8_t* flags) {
        const F32 low = splatf((float)codec.low), factor = splatf(scale);
        const float reach = noise.exists ? REACH * noise.root : 0;
        float* kept = flags ? pixel_row(clips.pixels, b, layout.count, c, y) : nullptr;
        in_vectors<HALF>(layout.width, [&](int64_t x, auto n) {
            float tail[HALF];
            const float* p = readable(pixels + x, n, tail, (float)codec.low + MIDDLE / scale);
            F32 level = (load<F32>(p) - low) * factor;
            I32 acts = ~((I32)(level >= reach) & (I32)(level <= 255 - reach));
            if (!any(acts)) return store(levels[c] + x, level);
            const I32 none = (I32)(level != level);
            F32 number = (F32)((I32)level & ~none), mean;
            if (any((I32)(number < 0) | (I32)(number > 255) | none)) watch.note(p);
            if (noise.exists) {
                F32 slope, less = (F32)((I32)lost_variance(number, splatf(noise.root)) & acts);
                mean = smoothed_clamp(number, splatf(noise.deviation), leak, slope);
                for (int i = n; i < HALF; i++) less[i] = 0;
                add_eights(lost[c], x, less);
                if (x + n == layout.width) last_lost[c] = less[n - 1];
                lost_in_row = true;
                if (kept) store_part(kept + x, slope, n);
            } else {
                I32 clamped;
                mean = leaky_clamp(number, leak, clamped);
            }
            store(levels[c] + x, acts ? mean : number);
            // A number that is not finite lets no gradient through, not even the leak's.
            const I32 infinite = (I32)(number - number != 0);
            if (flags) add_flags(flags + x, (acts & (IN_R << c)) | (infinite & (int)UNDEFINED), n);
        });
    }

    // The clamps of some pixels of row y leave less noise in their blocks; pixels at the border stand for more than
    // one.
    void note_lost(int64_t s, int64_t y) {
        if (!lost_in_row) return;
        lost_in_row = false;
        lessened = true;
        for (int c = 0; c < layout.count; c++) {
            const Component& k = layout.component[c];
            const int h = c ? layout.h : 1, v = c ? layout.v : 1;
            const int64_t row = y / v;
            float down = y == layout.height - 1 ? (float)((row + 1) * v - y) : 1;
            if (row == k.height - 1) down *= (float)(8 * k.blocks_y - row);
            const float more = (float)(k.blocks_x * 8 * h - layout.width), *squares = noise.forward + 3 * c;
            float* blocks = known.lost[c] + (row / 8 - s * k.block_rows) * k.blocks_x;
            for (int64_t i = 0; i < layout.component[0].blocks_x; i++) {
                float sum = 0;
                for (int j = 0; j < layout.count; j++) sum += squares[j] * lost[j][i];
                blocks[8 * i >> shift[c]] += sum * down * noise.to_block[c];
            }
            for (int j = 0; j < layout.count; j++)
                blocks[k.blocks_x - 1] += squares[j] * more * last_lost[j] * down * noise.to_block[c];
        }
        for (int j = 0; j < layout.count; j++) {
            zero(lost[j], layout.component[0].blocks_x);
            last_lost[j] = 0;
        }
    }

    static void zero(float* p, int64_t n) { __builtin_memset(p, 0, (size_t)n * sizeof *p); }

    void code(int64_t b, int64_t s, int c, bool own) {
        for_kind(codec.slope, [&](auto kind) { code<kind>(b, s, c, own); });
    }

    template <int KIND> void code(int64_t b, int64_t s, int c, bool own) {
        const Component& k = layout.component[c];
        const bool save = own && call.slopes, with_factors = save && call.factors;
        float* all_slopes = save ? coefficients(call.slopes, b, s, c) : nullptr;
        float* all_factors = with_factors ? coefficients(call.factors, b, s, c) : nullptr;
        clear_lanes_without_block(c, 0);
        for (int64_t g = 0; g < k.groups; g++) {
            float* p = samples[c] + g * 8 * LANES;
            const int64_t at = g * 64 * LANES;
            if (with_factors)
                code_group<KIND, true>(p, k.stride, c, s, g, all_slopes + at, all_factors + at);
            else
                code_group<KIND, false>(p, k.stride, c, s, g, save ? all_slopes + at : nullptr, nullptr);
        }
    }

    // Where what is known of the blocks in half `part` of a group stands.
    static int64_t block_of(int64_t group, int part, int lane) {
        return group * LANES + block_of_lane(part * HALF + lane);
    }

    template <int KIND, bool TABLES>
    void code_group(float* samples, int64_t stride, int c, int64_t s, int64_t group, float* slopes, float* factors) {
        // The Gaussian alone knows of noise.
        if constexpr (KIND == GAUSSIAN) {
            bool less = false;
            for (int i = 0; i < LANES && lessened; i++) less |= known.lost[c][group * LANES + i] > 0;
            if (noise.exists && less)
                return code_group<KIND, TABLES, true, true>(samples, stride, c, s, group, slopes, factors);
            if (noise.exists)
                return code_group<KIND, TABLES, true, false>(samples, stride, c, s, group, slopes, factors);
        }
        code_group<KIND, TABLES, false, false>(samples, stride, c, s, group, slopes, factors);
    }

    // NOISE: also the variance of the decoded samples. LESS: with less noise in some blocks than clamps leave
    // elsewhere.
    template <int KIND, bool TABLES, bool NOISE, bool LESS>
    void code_group(float* samples, int64_t stride, int c, int64_t s, int64_t group, float* slopes, float* factors) {
        const Steps& steps = this->steps[c];
        F32 r[64];
        for (int part = 0; part < 2; part++) {
            F32 variance = splatf(noise.base[c]), deviation, sharpness, decoded = splatf(LESS ? 0 : steps.passed);
            for (int i = 0; i < HALF && LESS; i++) variance[i] -= known.lost[c][block_of(group, part, i)];
            if (LESS) {
                deviation = root(variance);
                sharpness = 1 / maxf(deviation, splatf(1e-6f));
            }
            forward_rows(samples, stride, part, r);
            for (int column = 0; column < 8; column++) {
                F32 x[8];
                load_column(r, column, x);
                scaled_dct(x);
                for (int v = 0; v < 8; v++) {
                    const int i = 8 * v + column;
                    F32 u = x[v] * steps.to[i];
                    Soft soft;
                    if (LESS) {
                        F32 level = u + MAGIC - MAGIC, r = u - level;
                        soft = Soft();
                        if (any((I32)(absolute(r) > steps.slopes.at[i].quiet))) {
                            F32 width = minf(maxf(deviation * steps.inverse[i], splatf(1e-3f)), splatf(1));
                            F32 inverse = minf(maxf(sharpness * steps.entry[i], splatf(1)), splatf(1e3f));
                            soft = smoothed_by<TABLES>(width, inverse, r, steps.slopes.at[i]);
                        }
                        soft.value += level;
                    } else {
                        soft = soft_of<KIND, TABLES>(u, steps.slopes.at[i]);
                    }
                    if (NOISE) {
                        F32 share = absolute(soft.value - (soft.value + MAGIC - MAGIC)),
                            squared = splatf(steps.squared[i]);
                        decoded = mul_add(squared, share - share * share, decoded);
                        if (LESS) decoded += maxf(variance - squared * (1.0f / 12), F32{});
                    }
                    if (slopes) store(slopes + i * LANES + part * HALF, soft.slope);
                    if (TABLES) store(factors + i * LANES + part * HALF, soft.value - soft.slope * u - soft.widening);
                    x[v] = soft.value * steps.from[i];
                }
                scaled_idct(x);
                store_column(r, column, x);
            }
            inverse_rows(r, samples, stride, part);
            for (int i = 0; i < HALF && NOISE; i++) {
                const int64_t block = block_of(group, part, i);
                known.decoded[c][s & 1][block] = decoded[i] * (1.0f / 64);
                known.deviation[c][block] = quiet_root(decoded[i] * (1.0f / 64));
            }
        }
    }

    static void add_flags(uint8_t* flags, I32 bits, int64_t n) {
        uint8_t tail[HALF];
        const uint8_t* before = n >= HALF ? flags : readable(flags, (int)n, tail, (uint8_t)0);
        store_bytes(flags, load_bytes(before) | bits, n);
    }

    static F32 root(F32 x) {
        for (int i = 0; i < HALF; i++) x[i] = __builtin_sqrtf(x[i] > 0 ? x[i] : 0);
        return x;
    }

    static float quiet_root(float variance) { return __builtin_sqrtf(variance > QUIET ? variance : QUIET); }

    // Clamp decoded samples; with `save`, flags say where the clamp acts.
    void clamp_strip(int64_t b, int64_t s, int c, bool save) {
        const Component& k = layout.component[c];
        for (int64_t y = 0; y < 8 * k.block_rows; y++) {
            const int64_t in_image = s * 8 * k.block_rows + y;
            float* p = row(c, y);
            uint8_t* flags = nullptr;
            if (save && in_image < k.height) flags = c ? chroma_flag_row(b, c, in_image) : flag_row(b, in_image);
            if (flags && c) __builtin_memset(flags, 0, (size_t)k.width);
            const float* deviations = known.deviation[c] + y / 8 * k.blocks_x;
            float* slopes = nullptr;
            if (flags) slopes = c ? chroma_row(clips.chroma, b, c, in_image) : pixel_row(clips.luma, b, 1, 0, in_image);
            for (int64_t x = 0; x < k.width; x += HALF) {
                I32 acts;
                F32 sample = load<F32>(p + x) + MIDDLE;
                if (noise.exists) {
                    const F32 deviation = of_eight(deviations, x);
                    acts = near_bounds(sample, deviation);
                    if (!any(acts)) continue;
                    F32 slope, mean = smoothed_clamp(sample, deviation, leak, slope);
                    store_part(p + x, (acts ? mean : sample) - MIDDLE, 8 * k.blocks_x - x);
                    if (flags) store_part(slopes + x, slope, k.width - x);
                } else {
                    store_part(p + x, leaky_clamp(sample, leak, acts) - MIDDLE, 8 * k.blocks_x - x);
                }
                if (flags && any(acts)) add_flags(flags + x, acts & (int)SAMPLE, k.width - x);
            }
        }
    }

    void write_row(int64_t b, int64_t s, int64_t y) {
        const float* rows[3];
        pixel_rows(s, y, rows, [&](const float* near, const float* far, bool, int64_t n, float* up) {
            upsample_soft(near, far, layout.h, layout.v, layout.triangle, n, work, up);
        });
        float* out[3];
        begin_row(b, y, out);
        uint8_t* flags = flag_row(b, y);
        if (noise.exists && layout.count == 3) spread_noise(y);
        for (int j = 0; j < layout.count; j++) write_levels(rows, j, y, b, out[j], flags);
        if (watch.undefined) restore_undefined(call, layout, b, y, gathered, out);
        finish_row(b, y);
    }

    // Deviations of R, G and B in a row of pixels: one for every eight.
    void spread_noise(int64_t y) {
        const float* variances[3];
        bool known_already = true;
        for (int c = 0; c < 3; c++) {
            const Component& k = layout.component[c];
            const int64_t block_row = y / (c ? layout.v : 1) / 8;
            variances[c] = known.decoded[c][block_row / k.block_rows & 1] + block_row % k.block_rows * k.blocks_x;
            known_already = known_already && spread_of[c] == block_row;
            spread_of[c] = block_row;
        }
        if (known_already) return;
        for (int64_t i = 0; i < layout.component[0].blocks_x; i++)
            for (int j = 0; j < 3; j++) {
                float variance = 0;
                for (int c = 0; c < 3; c++) variance += variances[c][8 * i >> shift[c]] * noise.inverse[3 * j + c];
                spread[j][i] = quiet_root(variance);
            }
        // Vectors of two blocks read one beyond the last.
        for (float* each : spread) each[layout.component[0].blocks_x] = each[layout.component[0].blocks_x - 1];
    }

    // One channel of a row of pixels.
    __attribute__((noinline)) void write_levels(const float* const rows[3], int j, int64_t y, int64_t b, float* out,
                                                uint8_t* flags) {
        const F32 low = splatf((float)codec.low), factor = splatf((float)((codec.high - codec.low) / 255));
        if (layout.count == 1) {
            in_vectors<HALF>(layout.width, [&](int64_t x, auto n) {
                float tail[HALF];
                store(writable(out + x, n, tail), mul_add(load<F32>(rows[0] + x) + MIDDLE, factor, low));
                write_back(out + x, n, tail);
            });
            return;
        }
        float* slopes = flags ? pixel_row(clips.rgb, b, 3, j, y) : nullptr;
        F32 offset = F32{};
        for (int i = 0; i < 3; i++) offset += (MIDDLE - codec.inverse_offset[i]) * inverse.at[3 * j + i];
        const float *first = rows[0], *second = rows[1], *third = rows[2];
        in_vectors<HALF>(layout.width, [&](int64_t x, auto n) {
            will_write<HALF>(out + x);
            F32 level = mul_add(load<F32>(first + x), inverse.at[3 * j], offset);
            level = mul_add(load<F32>(second + x), inverse.at[3 * j + 1], level);
            level = mul_add(load<F32>(third + x), inverse.at[3 * j + 2], level);
            const F32 deviation = noise.exists ? of_eight(spread[j], x) : F32{}, reach = REACH * deviation;
            I32 acts = ~((I32)(level >= reach) & (I32)(level <= 255 - reach));
            if (any(acts)) {
                if (noise.exists) {
                    F32 slope, mean = smoothed_clamp(level, deviation, leak, slope);
                    level = acts ? mean : level;
                    if (flags) store_part(slopes + x, slope, n);
                } else {
                    level = leaky_clamp(level, leak, acts);
                }
                if (flags) add_flags(flags + x, acts & (OUT_R << j), n);
            }
            float tail[HALF];
            store(writable(out + x, n, tail), mul_add(level, factor, low));
            write_back(out + x, n, tail);
        });
    }
};

}  // namespace NAMESPACE
