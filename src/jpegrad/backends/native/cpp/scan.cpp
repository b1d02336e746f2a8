// The length of a baseline scan in bytes, stuffed zeros included, and its symbols' frequencies: T.81 F.1.2.
#include <cstring>

#include "parallel.h"
#include "t81.h"

namespace {
constexpr int ZRL = 0xF0, EOB = 0x00;
constexpr float MAX_LEVEL = 32767, MAGIC = 12582912;  // the sum of MAGIC and a level has no bit for a fraction

typedef float F32 __attribute__((vector_size(16)));
typedef int32_t I32 __attribute__((vector_size(16)));
typedef uint32_t U32 __attribute__((vector_size(16)));

int clamped(int x, int limit) { return x > limit ? limit : x < -limit ? -limit : x; }

// The nearest integers, of ties the even ones; clamped; 0 for NaN.
I32 whole(F32 x) {
    const F32 high = F32{} + MAX_LEVEL, low = -high, magic = F32{} + MAGIC;
    x = (F32)((I32)x & (I32)(x == x));
    x = x < high ? x : high;
    x = x > low ? x : low;
    return (I32)(x + magic) - (I32)magic;
}

int whole(float x) { return whole(F32{x, 0, 0, 0})[0]; }

// Counts the bytes of a growing bit string, and those equal to 0xFF.
class ByteCounter {
  public:
    void put(uint32_t value, int length) {
        bits = bits << length | value;
        pending += length;
        if (pending >= 32) {
            pending -= 32;
            take((uint32_t)(bits >> pending));
        }
    }
    int64_t finish() {
        int filled = (pending + 7) / 8 * 8;
        bits = bits << (filled - pending) | ((1u << (filled - pending)) - 1);
        for (int at = filled - 8; at >= 0; at -= 8) bytes += (bits >> at & 0xFF) == 0xFF ? 2 : 1;
        return bytes;
    }

  private:
    uint64_t bits = 0;
    int pending = 0;
    int64_t bytes = 0;

    void take(uint32_t word) {
        uint32_t inverse = ~word, zero = ~(((inverse & 0x7F7F7F7F) + 0x7F7F7F7F) | inverse | 0x7F7F7F7F);
        bytes += 4 + __builtin_popcount(zero);
    }
};

// Where symbols go: to the counter, or to a histogram.
struct Measure {
    const int32_t (*book)[256][2];  // per table (DC, AC of luma; of chroma): code and length
    ByteCounter counter;

    void symbol(int table, int symbol, int value, int size) {
        const int32_t* code = book[table][symbol];
        uint32_t amplitude = (uint32_t)(value < 0 ? value + (1 << size) - 1 : value);
        counter.put((uint32_t)code[0] << size | amplitude, code[1] + size);
    }
};

struct Histogram {
    int64_t (*counts)[256];

    void symbol(int table, int symbol, int, int) { counts[table][symbol]++; }
};

template <class Sink> void code_dc(Sink& sink, int chroma, int difference) {
    int value = clamped(difference, MAX_DC_DIFFERENCE), size = bit_length(value < 0 ? -value : value);
    sink.symbol(2 * chroma, size, value, size);
}

// The levels of a block as integers; bit k says that the one at place k of the zigzag, an AC level, is not 0.
uint64_t read_block(const float* block, int32_t* levels) {
    uint64_t nonzero = 0;
    for (int half = 0; half < 64; half += 32) {
        U32 bits = {1, 2, 4, 8}, found = {};
        for (int i = half; i < half + 32; i += 4, bits <<= 4) {
            F32 x;
            std::memcpy(&x, block + i, sizeof x);
            const I32 level = whole(x);
            std::memcpy(levels + i, &level, sizeof level);
            found |= (U32)(level != 0) & bits;
        }
        for (uint32_t raster = found[0] | found[1] | found[2] | found[3]; raster; raster &= raster - 1)
            nonzero |= (uint64_t)1 << PLACE[half + __builtin_ctz(raster)];
    }
    return nonzero & ~(uint64_t)1;
}

template <class Sink> void code_ac(Sink& sink, int chroma, const float* block) {
    const int table = 2 * chroma + 1;
    int32_t levels[64];
    int last = 0;
    for (uint64_t nonzero = read_block(block, levels); nonzero; nonzero &= nonzero - 1) {
        const int k = __builtin_ctzll(nonzero);
        const int value = clamped(levels[ZIGZAG[k]], MAX_AC), size = bit_length(value < 0 ? -value : value);
        int run = k - last - 1;
        for (; run > 15; run -= 16) sink.symbol(table, ZRL, 0, 0);
        sink.symbol(table, run << 4 | size, value, size);
        last = k;
    }
    if (last != 63) sink.symbol(table, EOB, 0, 0);
}

// One image: MCUs in raster order, in each the blocks of Y, Cb, Cr. A dummy block, beyond the component, has no AC and
// the DC of the block before it: of the row's last, or, below the image, of the last one above it in the same MCU.
template <class Sink> void code_scan(Sink& sink, const Codec& c, const Call& call, int64_t image) {
    const float* planes[3];
    int blocks_x[3], blocks_y[3];
    int before[3] = {};
    for (int i = 0; i < c.channels; i++) {
        blocks_x[i] = ceil_div(c.width, i ? 8 * c.h : 8);
        blocks_y[i] = ceil_div(c.height, i ? 8 * c.v : 8);
        planes[i] = call.planes[i] + image * blocks_x[i] * blocks_y[i] * 64;
    }
    const int columns = ceil_div(c.width, 8 * c.h), rows = ceil_div(c.height, 8 * c.v);
    for (int64_t mcu = 0; mcu < (int64_t)rows * columns; mcu++) {
        const int mcu_y = (int)(mcu / columns), mcu_x = (int)(mcu % columns);
        for (int i = 0; i < c.channels; i++) {
            const int h = i ? 1 : c.h, v = i ? 1 : c.v;
            for (int j = 0; j < v * h; j++) {
                int y = mcu_y * v + j / h, x = mcu_x * h + j % h;
                bool below = y >= blocks_y[i], right = x >= blocks_x[i];
                if (below) x = mcu_x * h + h - 1;
                if (below) y = blocks_y[i] - 1;
                if (x >= blocks_x[i]) x = blocks_x[i] - 1;
                const float* block = planes[i] + ((int64_t)y * blocks_x[i] + x) * 64;
                const int dc = whole(block[0]);
                code_dc(sink, i > 0, dc - before[i]);
                before[i] = dc;
                if (below || right)
                    sink.symbol(2 * (i > 0) + 1, EOB, 0, 0);
                else
                    code_ac(sink, i > 0, block);
            }
        }
    }
}
}  // namespace

EXPORT int jpegrad_scan_bytes(const Codec* codec, const Call* call) {
    const int tables = codec->channels == 1 ? 2 : 4;
    return parallel(call->batch, call->threads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t image = begin; image < end; image++) {
            Measure measure = {(const int32_t (*)[256][2])call->book + image * call->book_stride * tables, {}};
            code_scan(measure, *codec, *call, image);
            call->counts[image] = measure.counter.finish();
        }
        return true;
    });
}

EXPORT int jpegrad_scan_counts(const Codec* codec, const Call* call) {
    const int tables = codec->channels == 1 ? 2 : 4;
    return parallel(call->batch, call->threads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t image = begin; image < end; image++) {
            Histogram histogram = {(int64_t (*)[256])call->counts + image * tables};
            std::memset(histogram.counts, 0, sizeof(int64_t) * 256 * (size_t)tables);
            code_scan(histogram, *codec, *call, image);
        }
        return true;
    });
}
