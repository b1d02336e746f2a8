// The exact forward, strip by strip: pixels -> samples -> (coefficients) -> samples -> pixels.

template <class T> INLINE const T* input_row(const Image& image, int64_t b, int c, int64_t y, int64_t width, T* gathered) {
    const T* p = (const T*)image.data + b * image.batch + c * image.channel + y * image.row;
    if (image.column == 1) return p;
    for (int64_t x = 0; x < width; x++) gathered[x] = p[x * image.column];
    return gathered;
}

// One thread's work on a range of strips of one image.
class StripCoder {
  public:
    StripCoder(const Codec& codec, const Call& call, const Layout& layout)
        : codec(codec), call(call), layout(layout), levels(codec), values(codec), color(codec) {}

    bool reserve(Arena& arena) {
        int64_t row = round_up(layout.width, LANES) + 80 * 4 + 4 * LANES, bytes = 0;
        for (int c = 0; c < layout.count; c++) bytes += Arena::cost(8 * layout.component[c].stride + LANES, 2);
        bytes += Arena::cost(row, 2) * (4 + 3 + 1 + 2) + Arena::cost(row, 4) * 3;
        if (!arena.reserve((size_t)bytes)) return false;
        for (int c = 0; c < layout.count; c++) samples[c] = arena.take<int16_t>(8 * layout.component[c].stride + LANES);
        for (int c = 0; c < 2; c++)
            for (int j = 0; j < 2; j++) full[c][j] = arena.take<int16_t>(row);
        for (int c = 0; c < 3; c++) carried[c] = arena.take<int16_t>(row);
        work = arena.take<int16_t>(row);
        for (int c = 0; c < 2; c++) up[c] = arena.take<int16_t>(row);
        for (int c = 0; c < 3; c++) gathered[c] = arena.take<float>(row);
        return true;
    }

    // Decoded pixels of strips [begin, end) of image b.
    template <bool SAVE> void jpeg(int64_t b, int64_t begin, int64_t end) {
        set_tables(b);
        run(b, begin, end, [&](int64_t s, bool own) {
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
        });
    }

    template <bool SAVE> void encode(int64_t b, int64_t begin, int64_t end) {
        set_tables(b);
        for (int64_t s = begin; s < end; s++) {
            read_strip<SAVE>(b, s);
            for (int c = 0; c < layout.count; c++) encode_blocks(b, s, c);
        }
    }

    void decode(int64_t b, int64_t begin, int64_t end) {
        run(b, begin, end, [&](int64_t s, bool own) {
            for (int c = own ? 0 : 1; c < layout.count; c++) {
                decode_blocks(b, s, c);
                clamp_strip(b, s, c, own);
            }
        });
    }

  private:
    const Codec& codec;
    const Call& call;
    const Layout& layout;
    const Levels levels;
    const Values values;
    const ForwardColor color;
    Quantizer quantizer[3];
    int16_t *samples[3], *full[2][2], *carried[3], *work, *up[2];
    float* gathered[3];
    int64_t tables_of = -1;

    const double* table(int64_t b, int c) const {
        int index = c < codec.table_count ? c : codec.table_count - 1;
        return call.tables + b * call.table_stride + 64 * index;
    }

    void set_tables(int64_t b) {
        if (tables_of >= 0 && (b == tables_of || call.table_stride == 0)) return;
        tables_of = b;
        for (int c = 0; c < layout.count; c++) quantizer[c].set(table(b, c));
    }

    int16_t* row(int c, int64_t y) { return samples[c] + layout.row(c, y); }

    uint8_t* flag_row(int64_t b, int64_t y) {
        return call.flags ? call.flags + (b * layout.height + y) * layout.width : nullptr;
    }

    // Produces strips in order and writes every pixel row as soon as its chroma neighbours are there. At the ends of a range
    // inside an image, the chroma of the strip beyond is computed too, not owned.
    template <class Produce> void run(int64_t b, int64_t begin, int64_t end, const Produce& produce) {
        const bool halo = layout.chroma_needs_neighbours();
        const int64_t rows = layout.rows();
        if (halo && begin > 0) {
            produce(begin - 1, false);
            carry();
        }
        for (int64_t s = begin; s < end; s++) {
            produce(s, true);
            int64_t first = halo && s > begin ? s * rows - 1 : s * rows;
            int64_t last = halo && s + 1 < layout.strips ? (s + 1) * rows - 1 : (s + 1) * rows;
            for (int64_t y = first; y < last && y < layout.height; y++) write_row(b, s, y);
            if (halo) carry();
        }
        if (halo && end < layout.strips) {
            produce(end, false);
            write_row(b, end, end * rows - 1);
        }
    }

    void carry() {
        for (int c = 0; c < 3; c++) {
            const Component& k = layout.component[c];
            __builtin_memcpy(carried[c], row(c, 8 * k.block_rows - 1), (size_t)k.width * 2);
        }
    }

    template <bool SAVE> void read_strip(int64_t b, int64_t s) {
        if (call.input.type == UINT8)
            read_strip<SAVE, uint8_t>(b, s);
        else
            read_strip<SAVE, float>(b, s);
    }

    static void extend(int16_t* row, int64_t from, int64_t to) {
        for (int64_t x = from; x < to; x++) row[x] = row[from - 1];
    }

    template <bool SAVE, class T> void read_strip(int64_t b, int64_t s) {
        const int v = layout.v, h = layout.h;
        const int64_t width = layout.width, luma_width = layout.component[0].blocks_x * 8;
        for (int64_t y = 0; y < 8; y++) {
            int16_t* rows[2][2] = {{full[0][0], full[0][1]}, {full[1][0], full[1][1]}};
            const bool direct = h == 1 && v == 1;
            for (int j = 0; j < v; j++) {
                int64_t in_strip = y * v + j, in_image = s * layout.rows() + in_strip;
                int16_t* luma = row(0, in_strip);
                if (in_image >= layout.height) {
                    __builtin_memcpy(luma, row(0, in_strip - 1), (size_t)luma_width * 2);
                    for (int c = 0; c < 2; c++) rows[c][j] = rows[c][0];
                    continue;
                }
                uint8_t* flags = flag_row(b, in_image);
                if (layout.count == 1) {
                    encode_gray_row<SAVE>(input_row(call.input, b, 0, in_image, width, (T*)gathered[0]), width, levels, luma, flags);
                } else {
                    const T* pixels[3];
                    for (int c = 0; c < 3; c++) pixels[c] = input_row(call.input, b, c, in_image, width, (T*)gathered[c]);
                    Planes out = {{luma, direct ? row(1, y) : rows[0][j], direct ? row(2, y) : rows[1][j]}};
                    if (color.real)
                        encode_row<SAVE, true>(pixels, width, levels, color, out, flags);
                    else
                        encode_row<SAVE, false>(pixels, width, levels, color, out, flags);
                    for (int c = 1; c < 3; c++) extend(out.row[c], width, layout.component[c].blocks_x * 8 * h);
                }
                extend(luma, width, luma_width);
            }
            if (layout.count == 1) continue;
            for (int c = 1; c < 3; c++) {
                int64_t columns = layout.component[c].blocks_x * 8;
                if ((8 * s + y) * v >= layout.height)
                    __builtin_memcpy(row(c, y), row(c, y - 1), (size_t)columns * 2);
                else if (!direct)
                    downsample_row(rows[c - 1], h, v, columns, row(c, y));
            }
        }
    }

    int16_t* saved(int64_t b, int64_t s, int c) {
        int64_t group = (b * layout.strips + s) * layout.groups + layout.component[c].first_group;
        return call.coefficients ? call.coefficients + group * 64 * LANES : nullptr;
    }

    template <bool SAVE> void code(int64_t b, int64_t s, int c) {
        const Component& k = layout.component[c];
        int16_t* keep = SAVE ? saved(b, s, c) : nullptr;
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
        alignas(64) int16_t coefficients[64 * LANES], quantized[64 * LANES];
        for (int64_t g = 0; g < k.groups; g++) {
            encode_group(samples[c] + g * 8 * LANES, k.stride, coefficients);
            for (int i = 0; i < 64; i++)
                store(quantized + i * LANES, quantize(load<I16>(coefficients + i * LANES), q, i));
            for (int lane = 0; lane < LANES; lane++) {
                int64_t block = k.block_index(s, g, lane);
                if (block < 0) continue;
                int64_t at = (b * k.blocks_y * k.blocks_x + block) * 64;
                for (int i = 0; i < 64; i++) call.planes[c][at + i] = quantized[i * LANES + lane];
                if (call.ratios[c])
                    for (int i = 0; i < 64; i++)
                        call.ratios[c][at + i] = (float)coefficients[i * LANES + lane] / (float)(8 * q.step[i]);
            }
        }
    }

    void decode_blocks(int64_t b, int64_t s, int c) {
        const Component& k = layout.component[c];
        const double* step = table(b, c);
        alignas(64) int16_t dequantized[64 * LANES];
        for (int64_t g = 0; g < k.groups; g++) {
            int16_t* out = samples[c] + g * 8 * LANES;
            double wide[64];
            bool plain[LANES];
            for (int lane = 0; lane < LANES; lane++) {
                int64_t block = k.block_index(s, g, lane);
                plain[lane] = block < 0 || dequantize(block_levels(b, c, block), step, wide, dequantized + lane);
                if (block < 0 || !plain[lane])
                    for (int i = 0; i < 64; i++) dequantized[i * LANES + lane] = 0;
            }
            decode_group(dequantized, out, k.stride);
            for (int lane = 0; lane < LANES; lane++) {
                if (plain[lane]) continue;
                dequantize(block_levels(b, c, k.block_index(s, g, lane)), step, wide, nullptr);
                decode_block(wide, out + 8 * block_of_lane(lane), k.stride);
            }
        }
    }

    const float* block_levels(int64_t b, int c, int64_t block) const {
        const Component& k = layout.component[c];
        return call.planes[c] + (b * k.blocks_y * k.blocks_x + block) * 64;
    }

    // Whether the 16-bit transform is exact: integers whose columns sum to at most 2950, so that pass 1 stays within 2^14.
    static bool dequantize(const float* level, const double* step, double* wide, int16_t* narrow_lane) {
        float column[8] = {};
        bool integer = true;
        for (int i = 0; i < 64; i++) {
            wide[i] = (double)level[i] * step[i];
            integer = integer && wide[i] >= -2950 && wide[i] <= 2950 && wide[i] == (double)(int)wide[i];
            column[i % 8] += (float)(wide[i] < 0 ? -wide[i] : wide[i]);
        }
        for (int u = 0; u < 8; u++) integer = integer && column[u] <= 2950;
        if (integer && narrow_lane)
            for (int i = 0; i < 64; i++) narrow_lane[i * LANES] = (int16_t)wide[i];
        return integer;
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
                clamp_row<true, true>(p, k.width, call.chroma_flags + ((b * 2 + c - 1) * k.height + in_image) * k.width);
        }
    }

    // Row of a component's samples, which may be the last one of the strip before.
    const int16_t* sample_row(int c, int64_t s, int64_t y) {
        int64_t in_strip = y - s * 8 * layout.component[c].block_rows;
        return in_strip < 0 ? carried[c] : row(c, in_strip);
    }

    void write_row(int64_t b, int64_t s, int64_t y) {
        if (call.output.type == UINT8)
            write_row<uint8_t>(b, s, y);
        else
            write_row<float>(b, s, y);
    }

    template <class T> void write_row(int64_t b, int64_t s, int64_t y) {
        const int64_t width = layout.width, plane = layout.height * width;
        T* out = (T*)call.output.data + b * layout.count * plane + y * width;
        const int16_t* rows[3] = {sample_row(0, s, y)};
        if (layout.count == 1) return decode_gray_row(rows[0], width, values, out);
        const int v = layout.v, h = layout.h;
        const bool lower = v == 2 && y % 2 == 1;
        for (int c = 1; c < 3; c++) {
            const Component& k = layout.component[c];
            int64_t near = y / v, far = near;
            if (layout.chroma_needs_neighbours()) {
                far += lower ? 1 : -1;
                far = far < 0 ? 0 : far >= k.height ? k.height - 1 : far;
            }
            rows[c] = sample_row(c, s, near);
            if (h == 1 && v == 1) continue;
            upsample_row(rows[c], sample_row(c, s, far), h, v, lower, k.width, work, up[c - 1]);
            rows[c] = up[c - 1];
        }
        T* pixels[3] = {out, out + plane, out + 2 * plane};
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
