// Huffman coding of one scan, sequential (T.81 F.1.2) or progressive (Annex G), as libjpeg-turbo's jchuff.c and
// jcphuff.c; and tables made for it (K.2). Each process is written once, for a sink that counts symbols and for one
// that writes them. A mask of the nonzero levels says where symbols are; levels are converted block by block.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "parallel.h"
#include "simd.h"
#include "t81.h"

namespace {
#define ALWAYS INLINE_MEMBER

constexpr int ZRL = 0xF0, EOB = 0x00, AC = 4;  // AC tables stand behind the four of DC
constexpr int64_t ROOM = 4096;         // bytes that no block exceeds, with the end-of-band runs and bits before it
constexpr int MAX_LEVEL = 32767;
constexpr int LONGEST_RUN = 0x7FFF;    // blocks in a run of ended bands
constexpr int PENDING = 1000;  // correction bits that wait for the end of such a run (libjpeg's MAX_CORR_BITS)

using namespace NAMESPACE;

int clamped(int x, int limit) { return x > limit ? limit : x < -limit ? -limit : x; }

// The nearest integer of 16 bits, 0 for NaN; false if that is another number.
template <class T> ALWAYS bool whole(T x, int16_t& out) {
    const T known = !(x == x) ? 0 : x < -MAX_LEVEL ? -MAX_LEVEL : x > MAX_LEVEL ? MAX_LEVEL : x;
    // The sum has no bit for a fraction: ties go to the even number.
    const T magic = sizeof(T) == 4 ? (T)MAGIC : (T)MAGIC_WIDE, rounded = (known + magic) - magic;
    out = (int16_t)rounded;
    return rounded == x;
}

// Bit of a place of the scan for every bit of a column of a block.
struct Columns {
    uint64_t places[8][256];
    constexpr Columns() : places() {
        for (int column = 0; column < 8; column++)
            for (int rows = 0; rows < 256; rows++)
                for (int row = 0; row < 8; row++)
                    if (rows >> row & 1) places[column][rows] |= (uint64_t)1 << PLACE[8 * row + column];
    }
};
constexpr Columns COLUMNS;

// A block in natural order, and which of its places in the scan are met.
struct Block {
    int16_t levels[64];

    template <class Test> ALWAYS uint64_t places(const Test& test) const {
        I16 found = {}, bit = {1, 1, 1, 1, 1, 1, 1, 1};
        for (int row = 0; row < 8; row++, bit += bit) found |= (I16)test(load<I16>(levels + 8 * row)) & bit;
        const U8 columns = to_bytes(found);
        uint64_t places = 0;
        for (int column = 0; column < 8; column++) places |= COLUMNS.places[column][columns[column]];
        return places;
    }
};

// How a scan's levels are read.
struct Source {
    const CodedScan& s;
    int fault = FITS;

    const void* at(const CodedComponent& c, int64_t block) const {
        const int64_t size = c.type == INT16 ? 2 : c.type == FLOAT32 ? 4 : 8;
        return (const char*)c.levels + 64 * size * block;
    }
    ALWAYS bool block(const CodedComponent& c, int64_t index, Block& block) {
        const void* from = at(c, index);
        if (c.type == FLOAT64) return each((const double*)from, block);
        I32 odd = {};
        I16 ends = {};
        for (int i = 0; i < 64; i += 8) {
            I16 row;
            if (c.type == INT16) {
                row = load<I16>((const int16_t*)from + i);
            } else {
                const F32 lo = load<F32>((const float*)from + i), hi = load<F32>((const float*)from + i + 4);
                const I32 low = to_int(lo), high = to_int(hi);
                odd |= (I32)(to_float(low) != lo) | (I32)(to_float(high) != hi);
                row = narrow(low, high);
            }
            // What is beyond them became one of them.
            ends |= (I16)(row == INT16_MAX) | (I16)(row == INT16_MIN);
            store(block.levels + i, row);
        }
        if (__builtin_expect(!any(odd | (I32)ends), 1)) return true;
        return c.type == INT16 ? each((const int16_t*)from, block) : each((const float*)from, block);
    }
    ALWAYS bool dc(const CodedComponent& c, int64_t index, int16_t& level) {
        const void* from = at(c, index);
        return c.type == INT16     ? one((float)*(const int16_t*)from, level)
               : c.type == FLOAT32 ? one(*(const float*)from, level)
                                   : one(*(const double*)from, level);
    }
    // The number of bits of a value, if a file can hold it.
    ALWAYS bool size(int& value, int limit, int& size) {
        int magnitude = value < 0 ? -value : value;
        if (__builtin_expect(magnitude > limit, 0)) {
            if (!s.clamp) {
                fault = BAD_LEVEL;
                return false;
            }
            value = clamped(value, limit);
            magnitude = limit;
        }
        // Of 0 too: the bit below is the lowest.
        size = 31 - __builtin_clz(2u * (uint32_t)magnitude + 1);
        return true;
    }

  private:
    template <class T> ALWAYS bool one(T level, int16_t& out) {
        if (__builtin_expect(whole(level, out) || s.clamp, 1)) return true;
        fault = BAD_LEVEL;
        return false;
    }
    template <class T> __attribute__((noinline)) bool each(const T* levels, Block& block) {
        bool fits = true;
        for (int i = 0; i < 64; i++)
            fits &= one((std::conditional_t<sizeof(T) == 2, float, T>)levels[i], block.levels[i]);
        return fits;
    }
};

// Sinks. The lower half of a symbol says how many bits of `value`, its last ones, follow the code; `bits` takes up
// to 32.
struct Counts {
    int64_t counts[8][256] = {};

    ALWAYS void symbol(int table, int symbol, int) { counts[table][symbol]++; }
    ALWAYS void bits(uint32_t, int) {}
    bool room() const { return true; }
    bool finish() { return true; }
};

// The last n bits of a number.
constexpr uint32_t MASKS[16] = {0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 2047, 4095, 8191, 16383, 32767};

// A symbol's code with room for the bits behind it, and the length of both.
struct Code {
    uint32_t code, length;
};

class Writer {
  public:
    explicit Writer(CodedScan& scan) : s(scan), at(scan.data), end(scan.data + scan.capacity) {
        for (int table = 0; table < 8; table++) {
            const uint8_t *counts = s.tables + 272 * table, *symbol = counts + 16;
            uint32_t code = 0;
            for (uint32_t length = 1; length <= 16; length++, code <<= 1)
                for (int i = 0; i < counts[length - 1]; i++, symbol++, code++)
                    codes[table][*symbol] = {code << (*symbol & 15), length + (*symbol & 15)};
        }
    }
    ALWAYS void symbol(int table, int symbol, int value) {
        const Code code = codes[table][symbol];
        bits(code.code | ((uint32_t)value & MASKS[symbol & 15]), (int)code.length);
    }
    ALWAYS void bits(uint32_t value, int length) {
        left -= length;
        if (__builtin_expect(left < 0, 0)) {
            flush(buffer << (length + left) | (uint64_t)value >> -left);
            left += 64;
            buffer = value;
        } else {
            buffer = buffer << length | value;
        }
    }
    ALWAYS bool room() { return __builtin_expect(end - at >= ROOM, 1) || grow(); }
    bool finish() {
        if (!room()) return false;
        const int padding = left & 7;
        bits((1u << padding) - 1, padding);
        for (int shift = 56 - left; shift >= 0; shift -= 8) byte((uint8_t)(buffer >> shift));
        s.size = at - s.data;
        return true;
    }

  private:
    CodedScan& s;
    uint8_t *at, *end;
    uint64_t buffer = 0;  // its last bits are not written yet
    int left = 64;  // bits that still fit
    Code codes[8][256] = {};

    void byte(uint8_t value) {
        *at++ = value;
        if (value == 0xFF) *at++ = 0;
    }
    ALWAYS void flush(uint64_t word) {
        // A byte of ones may be there.
        if (__builtin_expect(!(word & (~word - 0x0101010101010101) & 0x8080808080808080), 1)) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            word = __builtin_bswap64(word);
#endif
            std::memcpy(at, &word, 8);
            at += 8;
        } else {
            for (int shift = 56; shift >= 0; shift -= 8) byte((uint8_t)(word >> shift));
        }
    }
    __attribute__((noinline)) bool grow() {
        const int64_t used = at - s.data, capacity = 2 * s.capacity + 16 * ROOM;
        uint8_t* data = (uint8_t*)std::realloc(s.data, (size_t)capacity);
        if (!data) return false;
        s.data = data;
        s.capacity = capacity;
        at = data + used;
        end = data + capacity;
        return true;
    }
};

// Coders have block(component, index) for each real block, dummy(component) for those beyond it, and finish() at the
// end of the scan. A dummy has no AC, and the DC of the block before it.
template <class Sink> struct Sequential {
    Source& source;
    Sink& sink;
    int before[4] = {};

    ALWAYS bool block(int i, int64_t index) {
        const CodedComponent& c = source.s.components[i];
        Block block;
        if (!source.block(c, index, block)) return false;
        int size, difference = block.levels[0] - before[i];
        before[i] = block.levels[0];
        if (!source.size(difference, MAX_DC_DIFFERENCE, size)) return false;
        sink.symbol(c.dc, size, difference + (difference >> 31));
        int last = 0;
        for (uint64_t rest = block.places([](I16 x) { return x != 0; }) & ~(uint64_t)1; rest; rest &= rest - 1) {
            const int k = __builtin_ctzll(rest);
            int value = block.levels[ZIGZAG[k]], run = k - last - 1;
            if (!source.size(value, MAX_AC, size)) return false;
            for (; run > 15; run -= 16) sink.symbol(AC + c.ac, ZRL, 0);
            sink.symbol(AC + c.ac, run << 4 | size, value + (value >> 31));
            last = k;
        }
        if (last != 63) sink.symbol(AC + c.ac, EOB, 0);
        return true;
    }
    void dummy(int i) {
        const CodedComponent& c = source.s.components[i];
        sink.symbol(c.dc, 0, 0);
        sink.symbol(AC + c.ac, EOB, 0);
    }
    void finish() {}
};

template <class Sink> struct FirstDC {
    Source& source;
    Sink& sink;
    int before[4] = {};

    ALWAYS bool block(int i, int64_t index) {
        const CodedComponent& c = source.s.components[i];
        int16_t level;
        if (!source.dc(c, index, level)) return false;
        const int value = level >> source.s.low;
        int size, difference = value - before[i];
        before[i] = value;
        if (!source.size(difference, MAX_DC_DIFFERENCE, size)) return false;
        sink.symbol(c.dc, size, difference + (difference >> 31));
        return true;
    }
    void dummy(int i) { sink.symbol(source.s.components[i].dc, 0, 0); }
    void finish() {}
};

template <class Sink> struct RefineDC {
    Source& source;
    Sink& sink;
    int before = 0;

    ALWAYS bool block(int i, int64_t index) {
        int16_t level;
        if (!source.dc(source.s.components[i], index, level)) return false;
        before = level >> source.s.low & 1;
        sink.bits((uint32_t)before, 1);
        return true;
    }
    void dummy(int) { sink.bits((uint32_t)before, 1); }
    void finish() {}
};

// The end of a scan's bands: how many blocks in succession have nothing more, and the correction bits that they owe.
template <class Sink> class Ends {
  public:
    Ends(Sink& sink, int table) : sink(sink), table(table) {}

    void add(uint64_t bits, int count) {
        run++;
        if (count) {
            owed[entries] = bits;
            counts[entries++] = (uint8_t)count;
            total += count;
        }
        if (run == LONGEST_RUN || total > PENDING - 64 + 1) put();
    }
    ALWAYS void put() {
        if (run) put_run();
    }

  private:
    Sink& sink;
    int table, run = 0, entries = 0, total = 0;
    uint64_t owed[PENDING];
    uint8_t counts[PENDING];

    __attribute__((noinline)) void put_run() {
        const int size = bit_length(run) - 1;
        sink.symbol(table, size << 4, 0);
        sink.bits((uint32_t)run & MASKS[size], size);
        for (int i = 0; i < entries; i++) put_bits(sink, owed[i], counts[i]);
        run = entries = total = 0;
    }
};

// Up to 63 bits, the last ones of a number.
template <class Sink> ALWAYS void put_bits(Sink& sink, uint64_t bits, int count) {
    if (count > 32) sink.bits((uint32_t)(bits >> 32), count - 32);
    sink.bits((uint32_t)bits, count > 32 ? 32 : count);
}

// |level| without its lower bits.
ALWAYS U16 shifted(I16 x, int low) {
    const I16 sign = x >> 15;
    return (U16)((x ^ sign) - sign) >> low;
}
ALWAYS int shifted(int x, int low) { return (x < 0 ? -x : x) >> low; }

inline uint64_t band_of(const CodedScan& s) { return ~(uint64_t)0 >> (63 - s.last) & ~(uint64_t)0 << s.first; }

template <class Sink> struct FirstAC {
    Source& source;
    Sink& sink;
    const int table = AC + source.s.components[0].ac;
    const uint64_t band = band_of(source.s);
    Ends<Sink> ends = {sink, table};

    ALWAYS bool block(int i, int64_t index) {
        const CodedScan& s = source.s;
        Block block;
        if (!source.block(s.components[i], index, block)) return false;
        int last = s.first - 1;
        for (uint64_t rest = block.places([&](I16 x) { return shifted(x, s.low) != 0; }) & band; rest;
             rest &= rest - 1) {
            const int k = __builtin_ctzll(rest), level = block.levels[ZIGZAG[k]];
            int value = shifted(level, s.low), run = k - last - 1, size;
            if (!source.size(value, MAX_AC, size)) return false;
            ends.put();
            for (; run > 15; run -= 16) sink.symbol(table, ZRL, 0);
            sink.symbol(table, run << 4 | size, level < 0 ? ~value : value);
            last = k;
        }
        if (last != s.last) ends.add(0, 0);
        return true;
    }
    void dummy(int) {}
    void finish() { ends.put(); }
};

template <class Sink> struct RefineAC {
    Source& source;
    Sink& sink;
    const int table = AC + source.s.components[0].ac;
    const uint64_t band = band_of(source.s);
    Ends<Sink> ends = {sink, table};

    ALWAYS bool block(int i, int64_t index) {
        const CodedScan& s = source.s;
        Block block;
        if (!source.block(s.components[i], index, block)) return false;
        const uint64_t nonzero = block.places([&](I16 x) { return shifted(x, s.low) != 0; }) & band;
        const uint64_t fresh = block.places([&](I16 x) { return shifted(x, s.low) == 1; }) & band;
        const int last_fresh = fresh ? 63 - __builtin_clzll(fresh) : 0;
        uint64_t corrections = 0;
        int count = 0, run = 0, last = s.first - 1;
        for (uint64_t rest = nonzero; rest; rest &= rest - 1) {
            const int k = __builtin_ctzll(rest), level = block.levels[ZIGZAG[k]];
            run += k - last - 1;
            last = k;
            // A run of zeros that no fresh level follows is part of the end of the band.
            for (; run > 15 && k <= last_fresh; run -= 16) {
                ends.put();
                sink.symbol(table, ZRL, 0);
                put_bits(sink, corrections, count);
                corrections = 0, count = 0;
            }
            if (!(fresh >> k & 1)) {
                corrections = corrections << 1 | (shifted(level, s.low) & 1);
                count++;
                continue;
            }
            ends.put();
            sink.symbol(table, run << 4 | 1, level >= 0);
            put_bits(sink, corrections, count);
            corrections = 0, count = 0, run = 0;
        }
        if (run || count || last != s.last) ends.add(corrections, count);
        return true;
    }
    void dummy(int) {}
    void finish() { ends.put(); }
};

// MCUs in raster order, in each the blocks of every component.
template <template <class> class Coder, class Sink> int walk(const CodedScan& s, Sink& sink) {
    Source source = {s};
    Coder<Sink> coder = {source, sink};
    for (int64_t row = 0; row < s.mcu_rows; row++)
        for (int64_t column = 0; column < s.mcu_columns; column++) {
            for (int i = 0; i < s.count; i++) {
                const CodedComponent& c = s.components[i];
                for (int y = 0; y < c.v; y++)
                    for (int x = 0; x < c.h; x++) {
                        if (!sink.room()) return NO_MEMORY;
                        const int64_t block_row = row * c.v + y, block_column = column * c.h + x;
                        if (block_row >= c.rows || block_column >= c.columns)
                            coder.dummy(i);
                        else if (!coder.block(i, block_row * c.columns + block_column))
                            return source.fault;
                    }
            }
        }
    coder.finish();
    return sink.finish() ? FITS : NO_MEMORY;
}

template <class Sink> int code(const CodedScan& s, Sink& sink) {
    if (s.process == SEQUENTIAL) return walk<Sequential>(s, sink);
    if (s.first == 0) return s.high ? walk<RefineDC>(s, sink) : walk<FirstDC>(s, sink);
    return s.high ? walk<RefineAC>(s, sink) : walk<FirstAC>(s, sink);
}

// The table of least size for these counts, none of its codes longer than 16 bits or of ones only (T.81 K.2, Figure
// K.3), with libjpeg's choices: of two equal counts the larger symbol goes first, and a merged node keeps the name of
// its less frequent part.
void make_table(const int64_t* counts, uint8_t* table) {
    std::memset(table, 0, 272);
    int64_t heap[257];  // count and 511 - name
    int count = 0, next[257], depth[257] = {};
    for (int i = 0; i <= 256; i++) {
        next[i] = -1;
        const int64_t frequency = i < 256 ? counts[i] : 1;
        if (frequency) heap[count++] = -(frequency << 9 | (511 - i));
    }
    if (count == 1) return;
    std::make_heap(heap, heap + count);
    while (count > 1) {
        std::pop_heap(heap, heap + count--);
        const int64_t first = -heap[count];
        std::pop_heap(heap, heap + count);
        const int64_t second = -heap[count - 1];
        const int name = 511 - (int)(first & 511), other = 511 - (int)(second & 511);
        int tail = name;
        for (int i = name; i >= 0; i = next[i]) depth[i]++, tail = i;
        for (int i = other; i >= 0; i = next[i]) depth[i]++;
        next[tail] = other;
        heap[count - 1] = -(((first >> 9) + (second >> 9)) << 9 | (511 - name));
        std::push_heap(heap, heap + count);
    }
    int lengths[258] = {}, deepest = 0;
    for (int i = 0; i <= 256; i++) lengths[depth[i]]++, deepest = std::max(deepest, depth[i]);
    lengths[0] = 0;
    for (int length = deepest; length > 16; length--)
        while (lengths[length] > 0) {
            int leaf = length - 2;
            while (lengths[leaf] == 0) leaf--;
            lengths[length] -= 2;
            lengths[length - 1]++;
            lengths[leaf + 1] += 2;
            lengths[leaf]--;
        }
    // Pseudo-symbol 256 took a code so that the code of ones only stays free; its place is one of the longest.
    int longest = 16;
    while (lengths[longest] == 0) longest--;
    lengths[longest]--;
    for (int length = 1; length <= 16; length++) table[length - 1] = (uint8_t)lengths[length];
    uint8_t* symbol = table + 16;
    for (int length = 1; length <= deepest; length++)
        for (int i = 0; i < 256; i++)
            if (depth[i] == length) *symbol++ = (uint8_t)i;
}
}  // namespace

EXPORT int jpegrad_encode_scan(const void*, CodedScan* s) {
    if (s->optimize) {
        Counts counts;
        if (const int fault = code(*s, counts)) return fault;
        for (int table = 0; table < 8; table++) make_table(counts.counts[table], s->tables + 272 * table);
    }
    Writer writer(*s);
    return code(*s, writer);
}

EXPORT int jpegrad_release_scan(const void*, CodedScan* s) {
    std::free(s->data);
    s->data = nullptr;
    return 0;
}
