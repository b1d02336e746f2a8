// The backward pass, strip by strip: gradients of pixels -> of decoded samples -> (of coefficients) -> of encoded
// samples -> of pixels. It is the adjoint of the real-valued pipeline, with the quantiser's slope and the clamps'
// masks. Strips are independent.
#pragma once
#include "backward_rows.h"
#include "exact.h"
#include "float_dct.h"
#include "noise.h"
#include "quant.h"
#include "slopes.h"
#include "strips.h"

namespace NAMESPACE {

// Sums over blocks of d(loss)/d(table entry), one vector per coefficient.
struct TableSums {
    F32 at[64];
};

// Slopes of a group's coefficients by frequency and part, and what the table's gradient multiplies.
struct GroupSlopes {
    F32 image[64][2], table[64][2];
};

// Which columns of coefficients (bits 0...7; 8 higher in the second part) have a slope other than 0, and the slopes.
template <int KIND, bool TABLES>
INLINE uint32_t group_slopes(const int16_t* saved, const Quantizer& q, const SlopeTable& slopes, int table_kind,
                             const SlopeTable& table_slopes, GroupSlopes& out) {
    uint32_t columns = 0;
    for (int i = 0; i < 64; i++) {
        I16 c = load<I16>(saved + i * LANES), level = quantize(c, q, i), rest = c - level * (int16_t)(8 * q.step[i]);
        const SlopeConstants& k = slopes.at[i];
        int parts = 3;
        if (!TABLES && KIND == GAUSSIAN) {
            parts = any_halves((I16)(max16(rest, -rest) > k.least));
            if (!parts) {
                out.image[i][0] = out.image[i][1] = F32{};
                continue;
            }
        }
        Halves residual = widen(rest), coefficient = widen(c), levels = widen(level);
        F32 inverse = splatf(q.inverse[i]);
        for (int part = 0; part < 2; part++) {
            if (!(parts >> part & 1)) {
                out.image[i][part] = F32{};
                continue;
            }
            columns |= 1u << (8 * part + i % 8);
            F32 r = to_float(part ? residual.hi : residual.lo) * inverse;
            F32 u = to_float(part ? coefficient.hi : coefficient.lo) * inverse;
            out.image[i][part] = slope_of<KIND>(r, u, k) * (1.0f / 64);
            if (!TABLES) continue;
            F32 slope = slope_by_kind(table_kind, r, u, table_slopes.at[i]);
            out.table[i][part] = to_float(part ? levels.hi : levels.lo) - slope * u;
        }
    }
    return columns;
}

// The same of slopes that are saved.
template <bool TABLES> INLINE uint32_t load_slopes(const float* slopes, const float* factors, GroupSlopes& out) {
    uint32_t columns = 0;
    for (int i = 0; i < 64; i++)
        for (int part = 0; part < 2; part++) {
            const int64_t at = i * LANES + part * HALF;
            F32 slope = load<F32>(slopes + at);
            if (TABLES) out.table[i][part] = load<F32>(factors + at);
            columns |= (uint32_t)(TABLES || any((I32)slope)) << (8 * part + i % 8);
            out.image[i][part] = slope * (1.0f / 64);
        }
    return columns;
}

// From gradients at decoded samples to gradients at encoded ones, in place: transform, slopes of some columns, inverse.
template <bool TABLES>
INLINE void apply_slopes(float* samples, int64_t stride, const GroupSlopes& slope, uint32_t columns, TableSums& sums) {
    F32 r[64];
    for (int part = 0; part < 2; part++, columns >>= 8) {
        if (!(columns & 255)) {
            const F32 none[8] = {};
            for (int y = 0; y < 8; y++) store_row(samples + y * stride, part, none);
            continue;
        }
        forward_rows(samples, stride, part, r);
        for (int u = 0; u < 8; u++) {
            F32 x[8] = {};
            if (!(columns >> u & 1)) {
                store_column(r, u, x);
                continue;
            }
            load_column(r, u, x);
            scaled_dct(x);
            for (int v = 0; v < 8; v++) {
                int i = 8 * v + u;
                if (TABLES) sums.at[i] = mul_add(x[v], slope.table[i][part], sums.at[i]);
                x[v] *= slope.image[i][part];
            }
            scaled_idct(x);
            store_column(r, u, x);
        }
        inverse_rows(r, samples, stride, part);
    }
}

// The same with the slopes of saved coefficients.
template <int KIND, bool TABLES>
static void adjoint_group(float* samples, int64_t stride, const int16_t* saved, const Quantizer& q,
                          const SlopeTable& slopes, int table_kind, const SlopeTable& table_slopes, TableSums& sums) {
    GroupSlopes slope;
    const uint32_t columns = group_slopes<KIND, TABLES>(saved, q, slopes, table_kind, table_slopes, slope);
    apply_slopes<TABLES>(samples, stride, slope, columns, sums);
}

template <bool TABLES>
static void adjoint_group(float* samples, int64_t stride, const float* saved, const float* factors, TableSums& sums) {
    GroupSlopes slope;
    const uint32_t columns = load_slopes<TABLES>(saved, factors, slope);
    apply_slopes<TABLES>(samples, stride, slope, columns, sums);
}

class StripAdjoint : Strip<float> {
  public:
    StripAdjoint(const Codec& codec, const Call& call, const Layout& layout)
        : Strip(codec, call, layout), clips(call.clips) {}

    bool reserve(Arena& arena) {
        if (!Strip::reserve(arena, 2 * RING + 3, 2 * Arena::cost(3, sizeof(SlopeTable)))) return false;
        for (int c = 0; c < layout.count; c++) clear_lanes_without_block(c, 0);
        for (int c = 0; c < 2; c++)
            for (int i = 0; i < RING; i++) ring[c][i] = take_row(arena);
        for (int j = 0; j < 3; j++) full[j] = take_row(arena);
        slopes = arena.take<SlopeTable>(3);
        table_slopes = arena.take<SlopeTable>(3);
        return true;
    }

    void jpeg(int64_t b, int64_t begin, int64_t end) {
        const Flushed tiny;
        const bool tables = call.table_gradient != nullptr, transform = codec.slope != IDENTITY || tables;
        if (transform && !call.slopes) set_tables(b);
        for (int64_t s = begin; s < end; s++) {
            read_gradients(b, s);
            if (transform)
                for (int c = 0; c < layout.count; c++) through_quantizer(b, s, c, tables);
            write_gradients(b, s);
        }
    }

    void encode(int64_t b, int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; s++) {
            for (int c = 0; c < layout.count; c++) load_blocks(b, s, c);
            write_gradients(b, s);
        }
    }

    void decode(int64_t b, int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; s++) {
            read_gradients(b, s);
            for (int c = 0; c < layout.count; c++) store_blocks(b, s, c);
        }
    }

  private:
    static constexpr int RING = 4;
    const Clips clips;
    Quantizer quantizer[3];
    SlopeTable *slopes, *table_slopes;
    float *ring[2][RING], *full[3];  // full: what chroma adds to R, G and B

    void set_tables(int64_t b) {
        if (!next_tables(b)) return;
        for (int c = 0; c < layout.count; c++) {
            quantizer[c].set(table(b, c));
            slopes[c].set((Slope)codec.slope, codec.slope_parameter[c], quantizer[c].step);
            if (call.table_gradient)
                table_slopes[c].set((Slope)codec.table_slope, codec.table_parameter[c], quantizer[c].step);
        }
    }

    // What the clamps of a row let through; of several planes, that of the first.
    Outside outside_pixels(const float* kept, int64_t b, int64_t y) const {
        return {codec.clip_slope, kept ? pixel_row(kept, b, layout.count, 0, y) : nullptr,
                layout.height * layout.width};
    }
    Outside outside_luma(int64_t b, int64_t y) const {
        return {codec.clip_slope, clips.luma ? pixel_row(clips.luma, b, 1, 0, y) : nullptr, 0};
    }
    Outside outside_chroma(int64_t b, int c, int64_t y) const {
        return {codec.clip_slope, clips.chroma ? chroma_row(clips.chroma, b, c, y) : nullptr, 0};
    }

    const float* input_row(int64_t b, int c, int64_t y) {
        return NAMESPACE::input_row(call.input, b, c, y, layout.width, gathered[c]);
    }

    // Gradients of decoded samples of one strip, zero where a block reaches beyond the decoder's component.
    void read_gradients(int64_t b, int64_t s) {
        const int v = layout.v;
        const int64_t width = layout.width, first = s * layout.rows();
        if (layout.count == 1) {
            for (int64_t y = 0; y < 8; y++) read_gray_row(b, first + y, row(0, y));
            return;
        }
        const bool halo = layout.chroma_needs_neighbours(), direct = layout.h == 1 && v == 1;
        int64_t last = first + layout.rows() + (halo ? 1 : 0), chroma = 0;
        for (int64_t y = first - (halo && s > 0 ? 1 : 0); y < last; y++) {
            int64_t in_strip = y - first;
            bool own = in_strip >= 0 && in_strip < layout.rows();
            if (y < layout.height) {
                const float* g[3] = {input_row(b, 0, y), input_row(b, 1, y), input_row(b, 2, y)};
                const uint8_t* flags = flag_row(b, y);
                float* out[3] = {own ? row(0, in_strip) : nullptr, direct ? row(1, in_strip) : ring[0][y & (RING - 1)],
                                 direct ? row(2, in_strip) : ring[1][y & (RING - 1)]};
                const Outside rgb = outside_pixels(clips.rgb, b, y), sample = outside_luma(b, y);
                const auto decode = rgb.kept ? own ? decode_adjoint_row<true, true> : decode_adjoint_row<false, true>
                                    : own    ? decode_adjoint_row<true, false>
                                             : decode_adjoint_row<false, false>;
                decode(g, flags, width, codec.inverse_real, rgb, sample, out);
                if (!direct)
                    for (int c = 1; c < 3; c++)
                        for (int k = 0; k < 4; k++) store(out[c] + width + k * HALF, F32{});
            }
            if (own) zero(row(0, in_strip), y < layout.height ? width : 0, layout.component[0].blocks_x * 8);
            // A chroma row is complete once the last pixel row that it touches has been read.
            while (chroma < 8 && (8 * s + chroma) * v + v - 1 + (halo ? 1 : 0) == y) finish_chroma_row(b, s, chroma++);
        }
    }

    static void zero(float* row, int64_t from, int64_t to) {
        if (from < to) __builtin_memset(row + from, 0, (size_t)(to - from) * sizeof(float));
    }

    void read_gray_row(int64_t b, int64_t y, float* out) {
        const int64_t width = layout.width;
        if (y < layout.height) {
            const float* g = input_row(b, 0, y);
            const uint8_t* flags = flag_row(b, y);
            const Outside sample = outside_luma(b, y);
            for (int64_t x = 0; x < width; x++)
                out[x] = g[x] * codec.inverse_real[0] * (flags[x] & SAMPLE ? sample.at(x) : 1.0f);
        }
        zero(out, y < layout.height ? width : 0, layout.component[0].blocks_x * 8);
    }

    void finish_chroma_row(int64_t b, int64_t s, int64_t in_strip) {
        const Component& k = layout.component[1];
        const int64_t y = 8 * s + in_strip, columns = k.blocks_x * 8;
        for (int c = 1; c < 3; c++) {
            float* out = row(c, in_strip);
            if (y >= k.height) {
                zero(out, 0, columns);
                continue;
            }
            if (layout.v == 2)
                gather_rows<4>(c, y, out);
            else if (layout.h != 1)
                gather_rows<1>(c, y, out);
            mask_row(chroma_flag_row(b, c, y), k.width, outside_chroma(b, c, y), out);
            zero(out, k.width, columns);
        }
    }

    // Pixel rows 2y - 1 ... 2y + 2 meet in chroma row y; at borders, and without a triangle, the nearest takes it all.
    template <int ROWS> void gather_rows(int c, int64_t y, float* out) {
        const Component& k = layout.component[c];
        float* const* pixels = ring[c - 1];
        const float* rows[ROWS] = {pixels[y & (RING - 1)]};
        float weights[ROWS] = {1};
        if (ROWS == 4) {
            const bool triangle = layout.chroma_needs_neighbours();
            const float near = triangle ? 0.75f : 1, far = triangle ? 0.25f : 0;
            const float wanted[4] = {far, y == 0 ? 1 : near, y == k.height - 1 ? 1 : near, far};
            for (int i = 0; i < ROWS; i++) {
                int64_t pixel_row = 2 * y - 1 + i;
                bool exists = pixel_row >= 0 && pixel_row < layout.height && wanted[i] != 0;
                rows[i] = pixels[(exists ? pixel_row : 2 * y) & (RING - 1)];
                weights[i] = exists ? wanted[i] : 0;
            }
        }
        if (layout.h == 2 && layout.triangle)
            triangle_adjoint<ROWS>(rows, weights, k.width, out);
        else
            replication_adjoint<ROWS>(rows, weights, layout.width, layout.h, k.width, out);
    }

    template <int KIND> void through_quantizer(int64_t b, int64_t s, int c, bool tables, TableSums& sums) {
        const Component& k = layout.component[c];
        const int16_t* saved = coefficients(call.coefficients, b, s, c);
        for (int64_t g = 0; g < k.groups; g++) {
            float* p = samples[c] + g * 8 * LANES;
            const int16_t* group = saved + g * 64 * LANES;
            if (tables)
                adjoint_group<KIND, true>(p, k.stride, group, quantizer[c], slopes[c], codec.table_slope,
                                          table_slopes[c], sums);
            else
                adjoint_group<KIND, false>(p, k.stride, group, quantizer[c], slopes[c], 0, slopes[c], sums);
        }
    }

    // The soft forward has saved its slopes.
    void through_rounding(int64_t b, int64_t s, int c, bool tables, TableSums& sums) {
        const Component& k = layout.component[c];
        const float* slopes = coefficients(call.slopes, b, s, c);
        const float* factors = tables ? coefficients(call.factors, b, s, c) : nullptr;
        for (int64_t g = 0; g < k.groups; g++) {
            const int64_t at = g * 64 * LANES;
            float* p = samples[c] + g * 8 * LANES;
            tables ? adjoint_group<true>(p, k.stride, slopes + at, factors + at, sums)
                   : adjoint_group<false>(p, k.stride, slopes + at, nullptr, sums);
        }
    }

    void through_quantizer(int64_t b, int64_t s, int c, bool tables) {
        TableSums sums = {};
        if (call.slopes)
            through_rounding(b, s, c, tables, sums);
        else
            through_kind(b, s, c, tables, sums);
        if (!tables) return;
        double* out = call.table_gradient + ((b * layout.strips + s) * layout.count + c) * 64;
        for (int i = 0; i < 64; i++) {
            double sum = 0;
            for (int lane = 0; lane < HALF; lane++) sum += sums.at[i][lane];
            out[i] = sum / (8.0 * FACTOR[i / 8] * FACTOR[i % 8]);
        }
    }

    void through_kind(int64_t b, int64_t s, int c, bool tables, TableSums& sums) {
        for_kind(codec.slope, [&](auto kind) { through_quantizer<kind>(b, s, c, tables, sums); });
    }

    // Gradients of encoded samples to gradients of pixels, padding folded back onto the border.
    void write_gradients(int64_t b, int64_t s) {
        const int v = layout.v, h = layout.h;
        const int64_t width = layout.width, first = s * layout.rows();
        fold_rows(s);
        for (int64_t y = first; y < first + layout.rows() && y < layout.height; y++) {
            float* pixels[3];
            begin_row(b, y, pixels);
            const uint8_t* flags = flag_row(b, y);
            const Outside pixels_outside = outside_pixels(clips.pixels, b, y);
            float* luma = row(0, y - first);
            for (int64_t x = width; x < layout.component[0].blocks_x * 8; x++) luma[width - 1] += luma[x];
            if (layout.count == 1) {
                for (int64_t x = 0; x < width; x++) {
                    float outside = flags[x] & UNDEFINED ? 0 : pixels_outside.at(x),
                          inside = flags[x] & UNDEFINED ? NAN : 1;
                    pixels[0][x] = luma[x] * codec.forward_real[0] * (flags[x] & IN_R ? outside : inside);
                }
                finish_row(b, y);
                continue;
            }
            if (y % v == 0) {
                // The last pixel row of an odd height stands for two.
                const float weight = (v == 2 && y + 1 == layout.height ? 2.0f : 1.0f) / (float)(h * v);
                const int64_t columns = layout.component[1].blocks_x * 8, in_strip = (y - first) / v;
                encode_chroma_row(row(1, in_strip), row(2, in_strip), columns, h, codec.forward_real, weight, width,
                                  full);
            }
            encode_adjoint_row(luma, full, flags, width, codec.forward_real, pixels_outside, pixels);
            finish_row(b, y);
        }
    }

    // Rows below a component's last one repeat it.
    void fold_rows(int64_t s) {
        for (int c = 0; c < layout.count; c++) {
            const Component& k = layout.component[c];
            int64_t rows = 8 * k.block_rows, last = k.height - 1 - s * rows;
            if (last >= rows - 1) continue;
            float* to = row(c, last);
            for (int64_t y = last + 1; y < rows; y++) {
                const float* from = row(c, y);
                for (int64_t x = 0; x < k.blocks_x * 8; x++) to[x] += from[x];
            }
        }
    }

    template <class Fn> void for_blocks(int64_t b, int64_t s, int c, int64_t group, const Fn& fn) {
        const Component& k = layout.component[c];
        for (int lane = 0; lane < LANES; lane++) {
            int64_t block = k.block_index(s, group, lane);
            fn(lane, block < 0 ? nullptr : call.planes[c] + (b * k.blocks_y * k.blocks_x + block) * 64);
        }
    }

    void load_blocks(int64_t b, int64_t s, int c) {
        const Component& k = layout.component[c];
        F32 in[2][64];
        for (int64_t g = 0; g < k.groups; g++) {
            for_blocks(b, s, c, g, [&](int lane, const float* block) {
                for (int i = 0; i < 64; i++) in[lane / HALF][i][lane % HALF] = block ? block[i] : 0;
            });
            adjoint_forward(in, samples[c] + g * 8 * LANES, k.stride);
        }
    }

    void store_blocks(int64_t b, int64_t s, int c) {
        const Component& k = layout.component[c];
        F32 out[2][64];
        for (int64_t g = 0; g < k.groups; g++) {
            adjoint_inverse(samples[c] + g * 8 * LANES, k.stride, out);
            for_blocks(b, s, c, g, [&](int lane, float* block) {
                if (block)
                    for (int i = 0; i < 64; i++) block[i] = out[lane / HALF][i][lane % HALF];
            });
        }
    }
};

}  // namespace NAMESPACE
