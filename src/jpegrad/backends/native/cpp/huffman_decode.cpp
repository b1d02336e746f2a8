// Huffman decoding of one scan, sequential (T.81 F.2.2) or progressive (Annex G), as libjpeg-turbo's jdhuff.c and
// jdphuff.c. A table over the next bits of the data gives a short code's symbol together with the number behind it.
// Data that ends early reads as zeros, and is noticed after each block: no block reads more than a fixed number of
// bits.
#include "intervals.h"
#include "parallel.h"
#include "t81.h"

namespace {
#define ALWAYS inline __attribute__((always_inline))

constexpr int AHEAD = 10;              // bits that the tables look ahead
constexpr int ENOUGH = 32;             // a code of 16 bits and a number of 15 need no more
constexpr int NOT_A_CODE = 17;         // bits that libjpeg reads before it finds that they are none

// Natural order; a run may step up to 15 coefficients past the last one before it is noticed.
struct Places {
    uint8_t at[64 + 16];
    constexpr Places() : at() {
        for (int k = 0; k < 80; k++) at[k] = k < 64 ? ZIGZAG[k] : 63;
    }
};
constexpr Places PLACES;

// The next bits of an interval, highest first. Bits below the lowest of `count` are those that follow, or 0.
struct Bits {
    const uint8_t *at, *end;
    uint64_t buffer;
    int count;                         // bits in the buffer
    int zeros;                         // how many of them, the last ones, lie beyond the data

    bool overdrawn() const { return count < zeros; }
    void note(int& damages, int damage) const { ::note(damages, overdrawn() ? ENDS_EARLY : damage); }
    ALWAYS void skip(int n) { buffer <<= n, count -= n; }
    ALWAYS int take(int n) {           // 1 to 31
        const int value = (int)(buffer >> (64 - n));
        skip(n);
        return value;
    }
    // A number of `size` bits, 1 to 15 (T.81 F.2.2.1, EXTEND).
    ALWAYS int number(int size) {
        const int negative = (int)~((int64_t)buffer >> 63);
        return take(size) + (negative & (1 - (1 << size)));
    }
    ALWAYS void fill() {
        if (__builtin_expect(end - at >= 8, 1)) {
            uint64_t next;
            std::memcpy(&next, at, 8);
            // A byte of ones may be a marker.
            if (__builtin_expect(!(next & (~next - 0x0101010101010101) & 0x8080808080808080), 1)) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
                next = __builtin_bswap64(next);
#endif
                buffer |= next >> count;
                at += (63 - count) >> 3;
                count |= 56;
                return;
            }
        }
        *this = filled(*this);
    }
    ALWAYS void need(int n) {
        if (count < n) fill();
    }

  private:
    // By value, so that the caller's own stays in registers.
    static __attribute__((noinline)) Bits filled(Bits b) {
        while (b.count <= 56) {
            uint8_t byte = 0;
            if (!next_byte(b.at, b.end, byte)) b.zeros += 8;
            b.buffer |= (uint64_t)byte << (56 - b.count);
            b.count += 8;
        }
        return b;
    }
};

struct Code {
    int16_t number;                    // the decoded number, or 0 if there is none or it does not fit
    uint8_t step;                      // with a number its run + 1, else the symbol
    uint8_t length;                    // of all that was decoded; 0 if no code fits
};

class Table {
  public:
    void build(const uint8_t* counts, const uint8_t* listed) {
        symbols = listed;
        std::memset(codes, 0, sizeof codes);
        int code = 0, index = 0;
        for (int length = 1; length <= 16; length++) {
            first[length] = index - code;
            for (int i = 0; i < counts[length - 1]; i++, code++, index++)
                if (length <= AHEAD) enter(code, length, symbols[index]);
            limit[length] = code << (16 - length);
            code <<= 1;
        }
    }
    ALWAYS Code next(const Bits& b) const {
        const Code found = codes[b.buffer >> (64 - AHEAD)];
        return __builtin_expect(found.length != 0, 1) ? found : longer(b.buffer);
    }

  private:
    Code codes[1 << AHEAD];
    int32_t limit[17];                 // codes of this length or less begin 16 bits below it
    int32_t first[17];                 // a code + first is its place among the symbols
    const uint8_t* symbols;

    void enter(int code, int length, int symbol) {
        const int free = AHEAD - length, size = symbol & 15;
        Code* entry = codes + (code << free);
        for (int rest = 0; rest < 1 << free; rest++, entry++) {
            *entry = {0, (uint8_t)symbol, (uint8_t)length};
            if (size == 0 || size > free) continue;
            const int value = rest >> (free - size);
            const int number = value >> (size - 1) ? value : value - (1 << size) + 1;
            *entry = {(int16_t)number, (uint8_t)((symbol >> 4) + 1), (uint8_t)(length + size)};
        }
    }
    __attribute__((noinline)) Code longer(uint64_t buffer) const {
        const int window = (int)(buffer >> 48);
        for (int length = AHEAD + 1; length <= 16; length++)
            if (window < limit[length]) return {0, symbols[(window >> (16 - length)) + first[length]], (uint8_t)length};
        return {0, 0, 0};
    }
};

// The difference of a DC level, for which ENOUGH bits must be there.
ALWAYS int read_difference(Bits& b, const Table& table, int& damages) {
    const Code code = table.next(b);
    b.skip(code.length);
    if (!code.length) {
        b.note(damages, NO_CODE);
        b.skip(NOT_A_CODE);
        return 0;
    }
    // The lower half of the symbol: without a check in Python it could have an upper one.
    return code.number || !(code.step & 15) ? code.number : b.number(code.step & 15);
}

struct Huffman {
    static constexpr bool ARITHMETIC = false;
    const Scan& s;
    Table dc[4], ac[4];
    Bits bits;
    int before[4];
    int64_t skipped;                   // blocks, the current one included, whose band has ended

    explicit Huffman(const Scan& scan) : s(scan) {
        for (int i = 0; i < s.count; i++) {
            const ScanComponent& c = s.components[i];
            if (s.first == 0 && s.high == 0) build(dc[c.dc], c.dc);
            if (s.last > 0) build(ac[c.ac], 4 + c.ac);
        }
    }
    void begin(const uint8_t* at, const uint8_t* end) {
        bits = {at, end, 0, 0, 0};
        std::memset(before, 0, sizeof before);
        skipped = 0;
    }
    bool stopped() const { return bits.overdrawn(); }
    int finish() const { return skipped && !stopped() ? BAD_RUN : NONE; }
    const uint8_t* position() const { return bits.at; }

  private:
    void build(Table& table, int index) { table.build(s.tables + 272 * index, s.tables + 272 * index + 16); }
};

struct Sequential : Huffman {
    using Huffman::Huffman;

    ALWAYS int block(int i, int16_t* levels) {
        const Table& table = ac[s.components[i].ac];
        int damages = NONE;
        Bits b = bits;
        b.need(ENOUGH);
        const int level = before[i] += read_difference(b, dc[s.components[i].dc], damages);
        if (level != (int16_t)level) b.note(damages, BAD_DC);
        levels[0] = (int16_t)level;
        int k = 0;
        while (k < 63) {
            b.need(ENOUGH);
            const Code code = table.next(b);
            b.skip(code.length);
            if (__builtin_expect(code.number != 0, 1)) {
                k += code.step;
                levels[PLACES.at[k]] = code.number;
            } else if (code.step & 15) {
                k += (code.step >> 4) + 1;
                levels[PLACES.at[k]] = (int16_t)b.number(code.step & 15);
            } else if (code.step == 0xF0) {
                k += 16;
            } else {
                if (!code.length || code.step) b.note(damages, code.length ? BAD_SYMBOL : NO_CODE);
                if (!code.length) b.skip(NOT_A_CODE);
                break;
            }
        }
        bits = b;
        if (b.overdrawn() || k > 63) b.note(damages, BAD_RUN);
        return damages;
    }
};

struct FirstDC : Huffman {
    using Huffman::Huffman;

    ALWAYS int block(int i, int16_t* levels) {
        int damages = NONE;
        Bits b = bits;
        b.need(ENOUGH);
        before[i] += read_difference(b, dc[s.components[i].dc], damages);
        const int64_t level = (int64_t)before[i] * (1 << s.low);
        if (b.overdrawn() || level != (int16_t)level) b.note(damages, BAD_DC);
        levels[0] = (int16_t)level;
        bits = b;
        return damages;
    }
};

struct RefineDC : Huffman {
    using Huffman::Huffman;

    ALWAYS int block(int, int16_t* levels) {
        bits.need(1);
        levels[0] = (int16_t)(levels[0] | bits.take(1) << s.low);
        int damages = NONE;
        if (bits.overdrawn()) bits.note(damages, ENDS_EARLY);
        return damages;
    }
};

struct FirstAC : Huffman {
    using Huffman::Huffman;

    ALWAYS int block(int, int16_t* levels) {
        if (skipped) {
            skipped--;
            return NONE;
        }
        const Table& table = ac[s.components[0].ac];
        const int last = s.last, scale = 1 << s.low;
        int damages = NONE;
        Bits b = bits;
        int k = s.first - 1;
        while (k < last) {
            b.need(ENOUGH);
            const Code code = table.next(b);
            b.skip(code.length);
            int number = code.number;
            if (__builtin_expect(number != 0, 1)) {
                k += code.step;
            } else if (code.step & 15) {
                k += (code.step >> 4) + 1;
                number = b.number(code.step & 15);
            } else if (!code.length) {
                b.note(damages, NO_CODE);
                b.skip(NOT_A_CODE);
                break;
            } else if (code.step == 0xF0) {
                k += 16;
                continue;
            } else {
                const int run = code.step >> 4;
                skipped = (1 << run) - 1 + (run ? b.take(run) : 0);
                break;
            }
            number *= scale;
            if (number != (int16_t)number) b.note(damages, BAD_AC);
            levels[PLACES.at[k]] = (int16_t)number;
        }
        bits = b;
        if (b.overdrawn() || k > last) b.note(damages, BAD_RUN);
        return damages;
    }
};

typedef int16_t I16 __attribute__((vector_size(16)));
typedef uint8_t U8 __attribute__((vector_size(8)));

// Bit 8 · column + row of every level that is not 0.
ALWAYS uint64_t nonzero_columns(const int16_t* levels) {
    I16 found = {}, bit = {1, 1, 1, 1, 1, 1, 1, 1};
    for (int row = 0; row < 8; row++, bit += bit) {
        I16 x;
        std::memcpy(&x, levels + 8 * row, sizeof x);
        found |= (I16)(x != 0) & bit;
    }
    const U8 narrow = __builtin_convertvector(found, U8);
    uint64_t columns;
    std::memcpy(&columns, &narrow, sizeof columns);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    columns = __builtin_bswap64(columns);
#endif
    return columns;
}

struct RefineAC : Huffman {
    explicit RefineAC(const Scan& scan) : Huffman(scan) {
        band = ~(uint64_t)0 >> (63 - s.last) & ~(uint64_t)0 << s.first;
        for (int k = 0; k < 64; k++) place[ZIGZAG[k] % 8 * 8 + ZIGZAG[k] / 8] = (uint8_t)k;
    }

    ALWAYS int block(int, int16_t* levels) {
        // Bit k of a place in the scan whose level is not 0 and gets its next bit.
        uint64_t known = 0;
        for (uint64_t columns = nonzero_columns(levels); columns; columns &= columns - 1)
            known |= (uint64_t)1 << place[__builtin_ctzll(columns)];
        known &= band;
        if (skipped && !known) {
            skipped--;
            return NONE;
        }
        const Table& table = ac[s.components[0].ac];
        const int bit = 1 << s.low;
        int damages = NONE;
        Bits b = bits;
        uint64_t open = band;          // places that are still to come
        while (!skipped && open) {
            b.need(ENOUGH);
            const Code code = table.next(b);
            int number = code.number, run = code.step - 1;
            // libjpeg reads one bit of a number, whatever its size.
            const int size = number ? bit_length(number < 0 ? -number : number) : code.step & 15;
            b.skip(number ? code.length - size + 1 : code.length);
            if (number) {
                number = number > 0 ? 1 : -1;
            } else {
                run = code.step >> 4;
                if (size) {
                    number = b.take(1) ? 1 : -1;
                } else if (!code.length) {
                    b.note(damages, NO_CODE);
                    b.skip(NOT_A_CODE);
                    skipped = 1;
                    break;
                } else if (run < 15) {
                    skipped = (1 << run) + (run ? b.take(run) : 0);
                    break;
                }
            }
            if (__builtin_expect(size > 1, 0)) b.note(damages, BAD_SYMBOL);
            uint64_t zero = open & ~known;
            for (; run > 0; run--) zero &= zero - 1;
            // A run that leaves the band ends at the place behind it; then all were `passed`.
            const uint64_t here = zero & (~zero + 1), passed = here - 1;
            if (!refine(b, levels, known & open & passed, bit)) ::note(damages, BAD_AC);
            if (!zero) b.note(damages, BAD_RUN);
            if (number) levels[PLACES.at[zero ? __builtin_ctzll(here) : s.last + 1]] = (int16_t)(number * bit);
            open &= ~(here | passed);
        }
        if (skipped) {
            if (!refine(b, levels, known & open, bit)) ::note(damages, BAD_AC);
            skipped--;
        }
        bits = b;
        if (b.overdrawn()) b.note(damages, ENDS_EARLY);
        return damages;
    }

  private:
    uint64_t band;
    uint8_t place[64];

    // One bit more of each of these levels; false if one leaves 16 bits.
    static ALWAYS bool refine(Bits& b, int16_t* levels, uint64_t places, int bit) {
        bool fits = true;
        for (; places; places &= places - 1) {
            b.need(1);
            int16_t& level = levels[PLACES.at[__builtin_ctzll(places)]];
            // A scan that repeats another changes nothing.
            const int more = level & bit ? 0 : (level < 0 ? -bit : bit) & (int)((int64_t)b.buffer >> 63);
            const int grown = level + more;
            b.skip(1);
            fits &= grown == (int16_t)grown;
            level = (int16_t)grown;
        }
        return fits;
    }
};

template <class Decoder> int run(Scan& s) {
    Decoder decoder(s);
    return decode_intervals(s, decoder);
}
}  // namespace

EXPORT int jpegrad_decode_scan(const void*, Scan* s) {
    if (s->process == SEQUENTIAL) return run<Sequential>(*s);
    if (s->first == 0) return s->high ? run<RefineDC>(*s) : run<FirstDC>(*s);
    return s->high ? run<RefineAC>(*s) : run<FirstAC>(*s);
}
