// The memory of the work, and the order in which strips become pixels.
#pragma once
#include "api.h"
#include "geometry.h"

namespace NAMESPACE {

// Bump allocator over one block of memory that a thread keeps.
struct Arena {
    char* memory = nullptr;
    size_t size = 0, used = 0;

    ~Arena() { free(memory); }
    bool reserve(size_t bytes) {
        used = 0;
        if (bytes <= size) return true;
        free(memory);
        memory = nullptr;
        size = 0;
        void* p = nullptr;
        if (posix_memalign(&p, 64, bytes)) return false;
        memory = (char*)p;
        size = bytes;
        __builtin_memset(memory, 0, size);
        return true;
    }
    template <class T> T* take(int64_t count) {
        T* p = (T*)(memory + used);
        used += ((size_t)count * sizeof(T) + 63) / 64 * 64;
        return p;
    }
    static int64_t cost(int64_t count, int64_t element) { return (count * element + 63) / 64 * 64; }
};

// A strip's samples, of type S, and where the call has what belongs to them.
template <class S> class Strip {
  protected:
    Strip(const Codec& codec, const Call& call, const Layout& layout) : codec(codec), call(call), layout(layout) {}

    const Codec& codec;
    const Call& call;
    const Layout& layout;
    S* samples[3];
    float *gathered[3], *written[3];
    int64_t tables_of = -1;

    // Room for the samples, for `rows` rows to take, and for more bytes.
    bool reserve(Arena& arena, int rows, int64_t more = 0) {
        int64_t bytes = more + Arena::cost(row_length(), sizeof(S)) * rows + Arena::cost(row_length(), 4) * 6;
        for (int c = 0; c < layout.count; c++) bytes += Arena::cost(room(c), sizeof(S));
        if (!arena.reserve((size_t)bytes)) return false;
        for (int c = 0; c < layout.count; c++) samples[c] = arena.take<S>(room(c));
        for (int c = 0; c < 3; c++) gathered[c] = arena.take<float>(row_length());
        for (int c = 0; c < 3; c++) written[c] = arena.take<float>(row_length());
        return true;
    }

    // Where the rows of an image are written in float32: its result, or rows that finish_row() brings there.
    bool direct() const { return call.output.type == FLOAT32; }
    void begin_row(int64_t b, int64_t y, float* rows[3]) const {
        const int64_t plane = layout.height * layout.width;
        for (int c = 0; c < layout.count; c++)
            rows[c] =
                direct() ? (float*)call.output.data + (b * layout.count + c) * plane + y * layout.width : written[c];
    }
    void finish_row(int64_t b, int64_t y) const {
        const int64_t plane = layout.height * layout.width;
        for (int c = 0; c < layout.count && !direct(); c++) {
            uint16_t* to = (uint16_t*)call.output.data + (b * layout.count + c) * plane + y * layout.width;
            in_vectors<HALF>(layout.width, [&](int64_t x, auto n) {
                uint16_t tail[HALF], *p = writable(to + x, n, tail);
                const F32 number = load<F32>(written[c] + x);
                call.output.type == FLOAT16 ? to_half(number, p) : to_bfloat(number, p);
                write_back(to + x, n, tail);
            });
        }
    }

    S* take_row(Arena& arena) const { return arena.take<S>(row_length()); }
    int64_t row_length() const { return round_up(layout.width, LANES) + 80 * 4 + 4 * LANES; }
    int64_t room(int c) const { return 8 * layout.component[c].stride + LANES; }

    // Lanes without a block are transformed too. A number whose coefficients are 0 keeps what was there before out of
    // what is saved, and of what the lanes of a vector decide together.
    void clear_lanes_without_block(int c, S number) {
        const Component& k = layout.component[c];
        const int64_t used = k.block_rows * k.blocks_x * 8;
        for (int y = 0; y < 8; y++)
            for (int64_t x = used; x < k.stride; x++) samples[c][y * k.stride + x] = number;
    }

    const double* table(int64_t b, int c) const {
        int index = c < codec.table_count ? c : codec.table_count - 1;
        return call.tables + b * call.table_stride + 64 * index;
    }

    // Whether image b has other tables than the image before.
    bool next_tables(int64_t b) {
        if (tables_of >= 0 && (b == tables_of || call.table_stride == 0)) return false;
        tables_of = b;
        return true;
    }

    S* row(int c, int64_t y) { return samples[c] + layout.row(c, y); }

    // What is saved of image b: there are `count` numbers of each.
    template <class T> T* of_image(T* saved, int64_t b, int64_t count) const {
        return (T*)((char*)saved + b * (call.kept_stride ? call.kept_stride : count * (int64_t)sizeof(T)));
    }
    // Row y of one of `planes` of an image.
    template <class T> T* pixel_row(T* saved, int64_t b, int planes, int plane, int64_t y) const {
        const int64_t size = layout.height * layout.width;
        return of_image(saved, b, planes * size) + plane * size + y * layout.width;
    }
    template <class T> T* chroma_row(T* saved, int64_t b, int c, int64_t y) const {
        const Component& k = layout.component[c];
        return of_image(saved, b, 2 * k.height * k.width) + ((c - 1) * k.height + y) * k.width;
    }
    template <class T> T* coefficients(T* saved, int64_t b, int64_t s, int c) const {
        return of_image(saved, b, layout.saved()) + layout.saved(s, c);
    }

    uint8_t* flag_row(int64_t b, int64_t y) { return call.flags ? pixel_row(call.flags, b, 1, 0, y) : nullptr; }
    uint8_t* chroma_flag_row(int64_t b, int c, int64_t y) { return chroma_row(call.chroma_flags, b, c, y); }
};

// A coder's strips: from pixel rows, and in order to pixel rows.
template <class S> class Strips : protected Strip<S> {
  protected:
    using Strip<S>::call, Strip<S>::layout, Strip<S>::row, Strip<S>::take_row;
    S *full[2][2], *carried[3], *work, *up[2];

    Strips(const Codec& codec, const Call& call, const Layout& layout) : Strip<S>(codec, call, layout) {}

    bool reserve(Arena& arena, int64_t more = 0) {
        if (!Strip<S>::reserve(arena, 4 + 3 + 1 + 2, more)) return false;
        for (int c = 0; c < 2; c++)
            for (int j = 0; j < 2; j++) full[c][j] = take_row(arena);
        for (int c = 0; c < 3; c++) carried[c] = take_row(arena);
        work = take_row(arena);
        for (int c = 0; c < 2; c++) up[c] = take_row(arena);
        return true;
    }

    // Samples far outside the value range, of one thread.
    void report(int64_t far) {
        if (call.far && far) __atomic_fetch_add(call.far, far, __ATOMIC_RELAXED);
    }

    static void extend(S* row, int64_t from, int64_t to) {
        for (int64_t x = from; x < to; x++) row[x] = row[from - 1];
    }

    // Reads the pixel rows of a strip into component samples: `convert` fills one row of luma and of chroma at full
    // resolution, `downsample` averages chroma rows; replicated beyond the image as libjpeg does.
    template <class Convert, class Downsample>
    void read_rows(int64_t s, const Convert& convert, const Downsample& downsample) {
        const int v = layout.v, h = layout.h;
        const int64_t width = layout.width, luma_width = layout.component[0].blocks_x * 8;
        const bool direct = layout.count == 3 && h == 1 && v == 1;
        for (int64_t y = 0; y < 8; y++) {
            S* rows[2][2] = {{full[0][0], full[0][1]}, {full[1][0], full[1][1]}};
            for (int j = 0; j < v; j++) {
                int64_t in_strip = y * v + j, in_image = s * layout.rows() + in_strip;
                S* luma = row(0, in_strip);
                if (in_image >= layout.height) {
                    __builtin_memcpy(luma, row(0, in_strip - 1), (size_t)luma_width * sizeof(S));
                    for (int c = 0; c < 2; c++) rows[c][j] = rows[c][0];
                    continue;
                }
                S* out[3] = {luma, direct ? row(1, y) : rows[0][j], direct ? row(2, y) : rows[1][j]};
                convert(in_image, out);
                extend(luma, width, luma_width);
                for (int c = 1; c < layout.count; c++) extend(out[c], width, layout.component[c].blocks_x * 8 * h);
            }
            for (int c = 1; c < layout.count; c++) {
                int64_t columns = layout.component[c].blocks_x * 8;
                if ((8 * s + y) * v >= layout.height)
                    __builtin_memcpy(row(c, y), row(c, y - 1), (size_t)columns * sizeof(S));
                else if (!direct)
                    downsample(rows[c - 1], columns, row(c, y));
            }
        }
    }

    // Produces strips in order and writes every pixel row as soon as its chroma neighbours are there. At the ends of a
    // range inside an image, the chroma of the strip beyond is computed too, not owned.
    template <class Produce, class Write>
    void run(int64_t begin, int64_t end, const Produce& produce, const Write& write) {
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
            for (int64_t y = first; y < last && y < layout.height; y++) write(s, y);
            if (halo) carry();
        }
        if (halo && end < layout.strips) {
            produce(end, false);
            write(end, end * rows - 1);
        }
    }

    void carry() {
        for (int c = 0; c < 3; c++) {
            const Component& k = layout.component[c];
            __builtin_memcpy(carried[c], row(c, 8 * k.block_rows - 1), (size_t)k.width * sizeof(S));
        }
    }

    // Row of a component's samples, which may be the last one of the strip before.
    const S* sample_row(int c, int64_t s, int64_t y) {
        int64_t in_strip = y - s * 8 * layout.component[c].block_rows;
        return in_strip < 0 ? carried[c] : row(c, in_strip);
    }

    // The samples of all components at pixel row y; `upsample(near, far, lower, n, out)` where chroma is coarser.
    template <class Upsample> void pixel_rows(int64_t s, int64_t y, const S* rows[3], const Upsample& upsample) {
        const int v = layout.v, h = layout.h;
        const bool lower = v == 2 && y % 2 == 1;
        rows[0] = sample_row(0, s, y);
        for (int c = 1; c < layout.count; c++) {
            const Component& k = layout.component[c];
            int64_t near = y / v, far = near;
            if (layout.chroma_needs_neighbours()) {
                far += lower ? 1 : -1;
                far = far < 0 ? 0 : far >= k.height ? k.height - 1 : far;
            }
            rows[c] = sample_row(c, s, near);
            if (h == 1 && v == 1) continue;
            upsample(rows[c], sample_row(c, s, far), lower, k.width, up[c - 1]);
            rows[c] = up[c - 1];
        }
    }
};

}  // namespace NAMESPACE
