// The exact forward, strip by strip: pixels -> samples -> (coefficients) -> samples -> pixels.
#pragma once
#include "chroma.h"
#include "color.h"
#include "dct.h"
#include "quant.h"
#include "strips.h"

namespace NAMESPACE {

// A row of numbers of 16 bits, in float32.
static __attribute__((noinline)) const float* wide_row(const Image& image, const uint16_t* p, int64_t width,
                                                       float* out) {
    in_vectors<HALF>(width, [&](int64_t x, auto n) {
        uint16_t some[HALF] = {};
        const uint16_t* from = p + x;
        if (image.column != 1 || n < HALF) {
            for (int i = 0; i < n; i++) some[i] = p[(x + i) * image.column];
            from = some;
        }
        float tail[HALF];
        store(writable(out + x, n, tail), image.type == FLOAT16 ? from_half(from) : from_bfloat(from));
        write_back(out + x, n, tail);
    });
    return out;
}

template <class T>
INLINE const T* input_row(const Image& image, int64_t b, int c, int64_t y, int64_t width, T* gathered) {
    const int64_t at = b * image.batch + c * image.channel + y * image.row;
    if constexpr (std::is_same_v<T, float>)
        if (image.type != FLOAT32) return wide_row(image, (const uint16_t*)image.data + at, width, gathered);
    const T* p = (const T*)image.data + at;
    if (image.column == 1) return p;
    for (int64_t x = 0; x < width; x++) gathered[x] = p[x * image.column];
    return gathered;
}

// The rows of all channels; of pixels whose channels lie side by side in one pass.
template <class T>
INLINE void input_rows(const Image& image, int64_t b, int count, int64_t y, int64_t width, T* const gathered[3],
                       const T* rows[3]) {
    const bool wide = std::is_same_v<T, float> && image.type != FLOAT32;
    if (count != 3 || image.column != 3 || image.channel != 1 || wide) {
        for (int c = 0; c < count; c++) rows[c] = input_row(image, b, c, y, width, gathered[c]);
        return;
    }
    const T* p = (const T*)image.data + b * image.batch + y * image.row;
    T* __restrict first = gathered[0], * __restrict second = gathered[1], * __restrict third = gathered[2];
    for (int64_t x = 0; x < width; x++) {
        first[x] = p[3 * x];
        second[x] = p[3 * x + 1];
        third[x] = p[3 * x + 2];
    }
    for (int c = 0; c < 3; c++) rows[c] = gathered[c];
}

// A pixel of the input that has a NaN is NaN in the output.
static __attribute__((noinline)) void restore_undefined(const Call& call, const Layout& layout, int64_t b, int64_t y,
                                                        float* const gathered[3], float* const out[3]) {
    for (int c = 0; c < layout.count; c++) {
        const float* pixels = input_row(call.input, b, c, y, layout.width, gathered[c]);
        for (int64_t x = 0; x < layout.width; x++)
            for (int j = 0; j < layout.count && pixels[x] != pixels[x]; j++) out[j][x] = pixels[x];
    }
}

// One thread's work on a range of strips of one image.
class StripCoder : Strips<int16_t> {
  public:
    StripCoder(const Codec& codec, const Call& call, const Layout& layout)
        : Strips(codec, call, layout), watch(codec), levels(codec, &watch), values(codec), color(codec) {}
    ~StripCoder() { report(watch.far); }

    bool reserve(Arena& arena) { return Strips::reserve(arena); }

    // Decoded pixels of strips [begin, end) of image b.
    template <bool SAVE> void jpeg(int64_t b, int64_t begin, int64_t end) {
        set_tables(b);
        auto produce = [&](int64_t s, bool own) {
            if (SAVE && own) {
                read_strip<true>(b, s);
                for (int c = 0; c < layout.count; c++) {
                    code<true>(b, s, c);
                    clamp_strip(b, s, c, true);
                }
            } else {
                read_strip<false>(b, s);
                for (int c = own ? 0 : 1; c < layout.count; c++) code<false>(b, s, c);
            }
        };
        run(begin, end, produce, [&](int64_t s, int64_t y) { write_row(b, s, y); });
    }

    template <bool SAVE> void encode(int64_t b, int64_t begin, int64_t end) {
        set_tables(b);
        for (int64_t s = begin; s < end; s++) {
            read_strip<SAVE>(b, s);
            for (int c = 0; c < layout.count; c++) encode_blocks(b, s, c);
        }
    }

    void decode(int64_t b, int64_t begin, int64_t end) {
        auto produce = [&](int64_t s, bool own) {
            for (int c = own ? 0 : 1; c < layout.count; c++) {
                decode_blocks(b, s, c);
                clamp_strip(b, s, c, own);
            }
        };
        run(begin, end, produce, [&](int64_t s, int64_t y) { write_row(b, s, y); });
    }

  private:
    Watch watch;
    const Levels levels;
    const Values values;
    const ForwardColor color;
    Quantizer quantizer[3];

    void set_tables(int64_t b) {
        if (!next_tables(b)) return;
        for (int c = 0; c < layout.count; c++) quantizer[c].set(table(b, c));
    }

    template <bool SAVE> void read_strip(int64_t b, int64_t s) {
        if (call.input.type == UINT8)
            read_strip<SAVE, uint8_t>(b, s);
        else
            read_strip<SAVE, float>(b, s);
    }

    template <bool SAVE, class T> void read_strip(int64_t b, int64_t s) {
        const int64_t width = layout.width;
        auto convert = [&](int64_t y, int16_t* const out[3]) {
            uint8_t* flags = SAVE ? flag_row(b, y) : nullptr;
            const T* pixels[3];
            T* const room[3] = {(T*)gathered[0], (T*)gathered[1], (T*)gathered[2]};
            input_rows(call.input, b, layout.count, y, width, room, pixels);
            if (layout.count == 1) return encode_gray_row(pixels[0], width, levels, out[0], flags);
            Planes planes = {{out[0], out[1], out[2]}};
            if (color.real)
                encode_row<true>(pixels, width, levels, color, planes, flags);
            else
                encode_row<false>(pixels, width, levels, color, planes, flags);
        };
        auto downsample = [&](int16_t* const in[2], int64_t n, int16_t* out) {
            downsample_row(in, layout.h, layout.v, n, out);
        };
        read_rows(s, convert, downsample);
    }

    int16_t* saved(int64_t b, int64_t s, int c) {
        return call.coefficients ? coefficients(call.coefficients, b, s, c) : nullptr;
    }

    template <bool SAVE> void code(int64_t b, int64_t s, int c) {
        const Component& k = layout.component[c];
        int16_t* keep = SAVE ? saved(b, s, c) : nullptr;
        if (keep) clear_lanes_without_block(c, 128);
        for (int64_t g = 0; g < k.groups; g++) {
            int16_t* p = samples[c] + g * 8 * LANES;
            if (keep)
                code_group<true, false>(p, k.stride, quantizer[c], keep + g * 64 * LANES);
            else
                code_group<false, !SAVE>(p, k.stride, quantizer[c], nullptr);
        }
    }

    void encode_blocks(int64_t b, int64_t s, int c) {
        const Component& k = layout.component[c];
        const Quantizer& q = quantizer[c];
        alignas(64) float steps[64];
        for (int i = 0; i < 64; i++) steps[i] = (float)(8 * q.step[i]);
        alignas(64) int16_t coefficients[64 * LANES], quantized[64 * LANES], blocks[LANES * 64];
        for (int64_t g = 0; g < k.groups; g++) {
            encode_group(samples[c] + g * 8 * LANES, k.stride, coefficients);
            for (int i = 0; i < 64; i++)
                store(quantized + i * LANES, quantize(load<I16>(coefficients + i * LANES), q, i));
            to_blocks(quantized, blocks);
            write_blocks(b, s, c, g, call.planes[c], [&](float* out, int lane) {
                for (int i = 0; i < 64; i += LANES) {
                    Halves levels = widen(load<I16>(blocks + lane * 64 + i));
                    store(out + i, to_float(levels.lo));
                    store(out + i + HALF, to_float(levels.hi));
                }
            });
            if (!call.unrounded[c]) continue;
            to_blocks(coefficients, blocks);
            write_blocks(b, s, c, g, call.unrounded[c], [&](float* out, int lane) {
                for (int i = 0; i < 64; i += LANES) {
                    Halves eighths = widen(load<I16>(blocks + lane * 64 + i));
                    store(out + i, to_float(eighths.lo) / load<F32>(steps + i));
                    store(out + i + HALF, to_float(eighths.hi) / load<F32>(steps + i + HALF));
                }
            });
        }
    }

    // Writes the blocks of a group that are in the image.
    template <class Write>
    INLINE_MEMBER void write_blocks(int64_t b, int64_t s, int c, int64_t g, float* plane, const Write& write) const {
        const Component& k = layout.component[c];
        for (int lane = 0; lane < LANES; lane++) {
            int64_t block = k.block_index(s, g, lane);
            if (block >= 0) write(plane + (b * k.blocks_y * k.blocks_x + block) * 64, lane);
        }
    }

    void decode_blocks(int64_t b, int64_t s, int c) {
        const Component& k = layout.component[c];
        const double* step = table(b, c);
        float steps[64];
        for (int i = 0; i < 64; i++) steps[i] = (float)step[i];
        alignas(64) int16_t blocks[LANES * 64], dequantized[64 * LANES];
        for (int64_t g = 0; g < k.groups; g++) {
            int16_t* out = samples[c] + g * 8 * LANES;
            bool plain[LANES];
            for (int lane = 0; lane < LANES; lane++) {
                int64_t block = k.block_index(s, g, lane);
                int16_t* to = blocks + lane * 64;
                plain[lane] = block < 0 || dequantize(block_levels(b, c, block), steps, to);
                if (block < 0 || !plain[lane]) __builtin_memset(to, 0, 64 * sizeof *to);
            }
            to_lanes(blocks, dequantized);
            decode_group(dequantized, out, k.stride);
            for (int lane = 0; lane < LANES; lane++) {
                if (plain[lane]) continue;
                double wide[64];
                dequantize(block_levels(b, c, k.block_index(s, g, lane)), step, wide);
                decode_block(wide, out + 8 * block_of_lane(lane), k.stride);
            }
        }
    }

    const float* block_levels(int64_t b, int c, int64_t block) const {
        const Component& k = layout.component[c];
        return call.planes[c] + (b * k.blocks_y * k.blocks_x + block) * 64;
    }

    // A block for the 16-bit transform. Returns whether that is exact: integers whose columns sum to at most 2950, so
    // that pass 1 stays in 2^14.
    static bool dequantize(const float* level, const float* step, int16_t* out) {
        constexpr int PARTS = HALF < 8 ? 8 / HALF : 1;
        F32 column[PARTS] = {};
        I32 other = {};
        for (int i = 0; i < 64; i += LANES) {
            I32 product[2];
            for (int half = 0; half < 2; half++) {
                F32 x = load<F32>(level + i + half * HALF), w = x * load<F32>(step + i + half * HALF);
                other |= (I32)((x + MAGIC) - MAGIC != x);
                column[half % PARTS] += maxf(w, -w);
                product[half] = to_int(w);
            }
            store(out + i, narrow(product[0], product[1]));
        }
#if LANES == 32
        column[0] += (F32)_mm512_shuffle_f32x4(column[0], column[0], 0x4E);
#endif
        for (F32 sum : column) other |= ~(I32)(sum <= 2950);
        return !any(other);
    }

    // The same of any numbers.
    static void dequantize(const float* level, const double* step, double* wide) {
        for (int i = 0; i < 64; i++) {
            // 16 bits as in a file; NaN is 0.
            const float x = level[i] <= 32767 ? level[i] >= -32768 ? level[i] : -32768 : level[i] > 32767 ? 32767 : 0;
            wide[i] = (double)x * step[i];
        }
    }

    // Blocks one after the other to their numbers side by side.
    static void to_lanes(const int16_t* blocks, int16_t* out) {
        for (int row = 0; row < 64; row += 8) {
            I16 tile[8];
            for (int i = 0; i < 8; i++)
                for (int part = 0; part < LANES / 8; part++)
                    __builtin_memcpy((int16_t*)&tile[i] + 8 * part, blocks + (8 * part + i) * 64 + row, 16);
            transpose(tile);
            for (int i = 0; i < 8; i++) store(out + (row + i) * LANES, tile[i]);
        }
    }

    // The way back.
    static void to_blocks(const int16_t* lanes, int16_t* out) {
        for (int row = 0; row < 64; row += 8) {
            I16 tile[8];
            for (int i = 0; i < 8; i++) tile[i] = load<I16>(lanes + (row + i) * LANES);
            transpose(tile);
            for (int i = 0; i < 8; i++)
                for (int part = 0; part < LANES / 8; part++)
                    __builtin_memcpy(out + (8 * part + i) * 64 + row, (const int16_t*)&tile[i] + 8 * part, 16);
        }
    }

    // Clamp decoded samples; where the clamp acts, set flags (of an owned strip, if the call has flags).
    void clamp_strip(int64_t b, int64_t s, int c, bool own) {
        const Component& k = layout.component[c];
        for (int64_t y = 0; y < 8 * k.block_rows; y++) {
            int64_t in_image = s * 8 * k.block_rows + y;
            int16_t* p = row(c, y);
            if (!own || !call.flags || in_image >= k.height)
                clamp_row<false, false>(p, k.width, nullptr);
            else if (c == 0)
                clamp_row<true, false>(p, k.width, flag_row(b, in_image));
            else
                clamp_row<true, true>(p, k.width, chroma_flag_row(b, c, in_image));
        }
    }

    void write_row(int64_t b, int64_t s, int64_t y) {
        if (call.output.type == UINT8) {
            uint8_t* first = (uint8_t*)call.output.data + (b * layout.count * layout.height + y) * layout.width;
            const int64_t plane = layout.height * layout.width;
            uint8_t* const pixels[3] = {first, first + plane, first + 2 * plane};
            return write_row(b, s, y, pixels);
        }
        float* pixels[3];
        begin_row(b, y, pixels);
        write_row(b, s, y, pixels);
        if (watch.undefined) restore_undefined(call, layout, b, y, gathered, pixels);
        finish_row(b, y);
    }

    template <class T> void write_row(int64_t b, int64_t s, int64_t y, T* const pixels[3]) {
        const int64_t width = layout.width;
        const int16_t* rows[3];
        pixel_rows(s, y, rows, [&](const int16_t* near, const int16_t* far, bool lower, int64_t n, int16_t* up) {
            upsample_row(near, far, layout.h, layout.v, layout.triangle, lower, n, work, up);
        });
        if (layout.count == 1) return decode_gray_row(rows[0], width, values, pixels[0]);
        uint8_t* flags = flag_row(b, y);
        if (flags) {
            if (codec.jfif)
                decode_row<true, true>(codec, rows, width, values, pixels, flags);
            else
                decode_row<true, false>(codec, rows, width, values, pixels, flags);
        } else {
            if (codec.jfif)
                decode_row<false, true>(codec, rows, width, values, pixels, flags);
            else
                decode_row<false, false>(codec, rows, width, values, pixels, flags);
        }
    }
};

}  // namespace NAMESPACE
