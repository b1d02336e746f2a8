// Arithmetic decoding of one scan, sequential (T.81 F.2.4) or progressive (G.2), as libjpeg-turbo's jdarith.c. Data
// that ends early reads as zeros, which is legal: the encoder drops them (D.1.8). So damage is noticed only by
// impossible levels.
#include "intervals.h"
#include "parallel.h"
#include "t81.h"

namespace {
constexpr int SWITCH = 0x80, EVEN = 113, FIRST_SIZE = 20, LOW_SIZE = 189, HIGH_SIZE = 217, PATTERN = 14,
              TOO_LARGE = 0x8000;

struct State {
    uint16_t less;                     // the less probable symbol's part of the interval, Qe
    uint8_t after_less, after_more;    // the next state; SWITCH exchanges the symbols
};

// Table D.3; behind it, one that stays at even chances.
constexpr State STATES[114] = {{0x5a1d, SWITCH | 1, 1},
                               {0x2586, 14, 2},
                               {0x1114, 16, 3},
                               {0x080b, 18, 4},
                               {0x03d8, 20, 5},
                               {0x01da, 23, 6},
                               {0x00e5, 25, 7},
                               {0x006f, 28, 8},
                               {0x0036, 30, 9},
                               {0x001a, 33, 10},
                               {0x000d, 35, 11},
                               {0x0006, 9, 12},
                               {0x0003, 10, 13},
                               {0x0001, 12, 13},
                               {0x5a7f, SWITCH | 15, 15},
                               {0x3f25, 36, 16},
                               {0x2cf2, 38, 17},
                               {0x207c, 39, 18},
                               {0x17b9, 40, 19},
                               {0x1182, 42, 20},
                               {0x0cef, 43, 21},
                               {0x09a1, 45, 22},
                               {0x072f, 46, 23},
                               {0x055c, 48, 24},
                               {0x0406, 49, 25},
                               {0x0303, 51, 26},
                               {0x0240, 52, 27},
                               {0x01b1, 54, 28},
                               {0x0144, 56, 29},
                               {0x00f5, 57, 30},
                               {0x00b7, 59, 31},
                               {0x008a, 60, 32},
                               {0x0068, 62, 33},
                               {0x004e, 63, 34},
                               {0x003b, 32, 35},
                               {0x002c, 33, 9},
                               {0x5ae1, SWITCH | 37, 37},
                               {0x484c, 64, 38},
                               {0x3a0d, 65, 39},
                               {0x2ef1, 67, 40},
                               {0x261f, 68, 41},
                               {0x1f33, 69, 42},
                               {0x19a8, 70, 43},
                               {0x1518, 72, 44},
                               {0x1177, 73, 45},
                               {0x0e74, 74, 46},
                               {0x0bfb, 75, 47},
                               {0x09f8, 77, 48},
                               {0x0861, 78, 49},
                               {0x0706, 79, 50},
                               {0x05cd, 48, 51},
                               {0x04de, 50, 52},
                               {0x040f, 50, 53},
                               {0x0363, 51, 54},
                               {0x02d4, 52, 55},
                               {0x025c, 53, 56},
                               {0x01f8, 54, 57},
                               {0x01a4, 55, 58},
                               {0x0160, 56, 59},
                               {0x0125, 57, 60},
                               {0x00f6, 58, 61},
                               {0x00cb, 59, 62},
                               {0x00ab, 61, 63},
                               {0x008f, 61, 32},
                               {0x5b12, SWITCH | 65, 65},
                               {0x4d04, 80, 66},
                               {0x412c, 81, 67},
                               {0x37d8, 82, 68},
                               {0x2fe8, 83, 69},
                               {0x293c, 84, 70},
                               {0x2379, 86, 71},
                               {0x1edf, 87, 72},
                               {0x1aa9, 87, 73},
                               {0x174e, 72, 74},
                               {0x1424, 72, 75},
                               {0x119c, 74, 76},
                               {0x0f6b, 74, 77},
                               {0x0d51, 75, 78},
                               {0x0bb6, 77, 79},
                               {0x0a40, 77, 48},
                               {0x5832, SWITCH | 80, 81},
                               {0x4d1c, 88, 82},
                               {0x438e, 89, 83},
                               {0x3bdd, 90, 84},
                               {0x34ee, 91, 85},
                               {0x2eae, 92, 86},
                               {0x299a, 93, 87},
                               {0x2516, 86, 71},
                               {0x5570, SWITCH | 88, 89},
                               {0x4ca9, 95, 90},
                               {0x44d9, 96, 91},
                               {0x3e22, 97, 92},
                               {0x3824, 99, 93},
                               {0x32b4, 99, 94},
                               {0x2e17, 93, 86},
                               {0x56a8, SWITCH | 95, 96},
                               {0x4f46, 101, 97},
                               {0x47e5, 102, 98},
                               {0x41cf, 103, 99},
                               {0x3c3d, 104, 100},
                               {0x375e, 99, 93},
                               {0x5231, 105, 102},
                               {0x4c0f, 106, 103},
                               {0x4639, 107, 104},
                               {0x415e, 103, 99},
                               {0x5627, SWITCH | 105, 106},
                               {0x50e7, 108, 107},
                               {0x4b85, 109, 103},
                               {0x5597, 110, 109},
                               {0x504f, 111, 107},
                               {0x5a10, SWITCH | 110, 111},
                               {0x5522, 112, 109},
                               {0x59eb, SWITCH | 112, 111},
                               {0x5a1d, 113, 113}};

// The decoder of binary decisions (D.2). A context is a state with the more probable symbol in its highest bit.
class Decisions {
  public:
    void begin(const uint8_t* data, const uint8_t* stop) {
        at = data, end = stop;
        interval = 0x10000;
        code = 0;
        ahead = -16;
        fill();
    }
    const uint8_t* position() const { return at; }

    int next(uint8_t& context) {
        const State& state = STATES[context & 0x7F];
        int symbol = context >> 7;
        interval -= state.less;
        const uint64_t split = (uint64_t)interval << ahead;
        bool less;  // is it the less probable one? Where its part is the larger, they change places
        if (code < split) {
            if (interval >= 0x8000) return symbol;
            less = interval < state.less;
        } else {
            code -= split;
            less = interval >= state.less;
            interval = state.less;
        }
        context = (uint8_t)((context & SWITCH) ^ (less ? state.after_less : state.after_more));
        const int shift = __builtin_clz(interval) - 16;
        interval <<= shift;
        ahead -= shift;
        if (ahead < 0) fill();
        return symbol ^ (int)less;
    }
    int even() {
        uint8_t context = EVEN;
        return next(context);
    }

  private:
    const uint8_t *at, *end;
    uint64_t code;  // from the interval's bottom, with `ahead` bits more than it
    uint32_t interval;  // 0x8000 to 0x10000 before each decision
    int ahead;

    void fill() {
        while (ahead <= 32) {
            uint8_t byte = 0;
            next_byte(at, end, byte);
            code = code << 8 | byte;
            ahead += 8;
        }
    }
};

struct Arithmetic {
    static constexpr bool ARITHMETIC = true;
    const Scan& s;
    Decisions decisions;
    bool lost;                         // the data have no meaning
    uint8_t dc[16][64], ac[16][256];
    int before[4], context[4];

    explicit Arithmetic(const Scan& scan) : s(scan) {}
    void begin(const uint8_t* at, const uint8_t* end) {
        std::memset(dc, 0, sizeof dc);
        std::memset(ac, 0, sizeof ac);
        std::memset(before, 0, sizeof before);
        std::memset(context, 0, sizeof context);
        lost = false;
        decisions.begin(at, end);
    }
    bool stopped() const { return lost; }
    int finish() const { return NONE; }
    const uint8_t* position() const { return decisions.position(); }

  protected:
    void lose(int& damages, int damage) {
        lost = true;
        note(damages, damage);
    }
    static int16_t fitting(int level, int damage, int& damages) {
        if (level != (int16_t)level) note(damages, damage);
        return (int16_t)level;
    }

    // From the sizes of a magnitude, each twice the one before: the magnitude less 1, or -1 if it is too large.
    int magnitude(uint8_t* bin, int size) {
        while (decisions.next(*bin)) {
            size <<= 1;
            if (size == TOO_LARGE) return -1;
            bin++;
        }
        return pattern(bin, size);
    }
    int pattern(uint8_t* bin, int size) {
        int value = size;
        while (size >>= 1)
            if (decisions.next(bin[PATTERN])) value |= size;
        return value;
    }

    // Add the difference of the next DC level of a component (F.2.4.1).
    void read_dc(int i, int& damages) {
        const int table = s.components[i].dc;
        uint8_t* bin = dc[table] + context[i];
        if (!decisions.next(bin[0])) {
            context[i] = 0;
            return;
        }
        const int negative = decisions.next(bin[1]);
        int less = decisions.next(bin[2 + negative]);
        if (less) less = magnitude(dc[table] + FIRST_SIZE, 1);
        if (less < 0) return lose(damages, BAD_DC);
        // The size of the difference conditions the next one (F.1.4.4.1.2).
        const int size = 1 << bit_length(less) >> 1;
        const int lower = 1 << s.tables[table] >> 1, upper = 1 << s.tables[16 + table] >> 1;
        context[i] = size < lower ? 0 : (size > upper ? 12 : 4) + 4 * negative;
        before[i] = fitting(before[i] + (negative ? -less - 1 : less + 1), BAD_DC, damages);
    }

    // The AC levels of a band (F.2.4.2).
    void read_ac(int table, int first, int last, int low, int16_t* levels, int& damages) {
        const int knee = s.tables[32 + table];
        for (int k = first; k <= last; k++) {
            uint8_t* bin = ac[table] + 3 * (k - 1);
            if (decisions.next(bin[0])) break;
            while (!decisions.next(bin[1])) {
                bin += 3;
                if (++k > last) return lose(damages, BAD_RUN);
            }
            const int negative = decisions.even();
            int less = decisions.next(bin[2]);
            if (less && decisions.next(bin[2])) less = magnitude(ac[table] + (k <= knee ? LOW_SIZE : HIGH_SIZE), 2);
            if (less < 0) return lose(damages, BAD_AC);
            levels[ZIGZAG[k]] = fitting((negative ? -less - 1 : less + 1) * (1 << low), BAD_AC, damages);
        }
    }
};

struct Sequential : Arithmetic {
    using Arithmetic::Arithmetic;

    int block(int i, int16_t* levels) {
        int damages = NONE;
        read_dc(i, damages);
        if (lost) return damages;
        levels[0] = (int16_t)before[i];
        read_ac(s.components[i].ac, 1, 63, 0, levels, damages);
        return damages;
    }
};

struct FirstDC : Arithmetic {
    using Arithmetic::Arithmetic;

    int block(int i, int16_t* levels) {
        int damages = NONE;
        read_dc(i, damages);
        if (!lost) levels[0] = fitting(before[i] * (1 << s.low), BAD_DC, damages);
        return damages;
    }
};

struct RefineDC : Arithmetic {
    using Arithmetic::Arithmetic;

    int block(int, int16_t* levels) {
        levels[0] = (int16_t)(levels[0] | decisions.even() << s.low);
        return NONE;
    }
};

struct FirstAC : Arithmetic {
    using Arithmetic::Arithmetic;

    int block(int, int16_t* levels) {
        int damages = NONE;
        read_ac(s.components[0].ac, s.first, s.last, s.low, levels, damages);
        return damages;
    }
};

struct RefineAC : Arithmetic {
    using Arithmetic::Arithmetic;

    int block(int, int16_t* levels) {
        const int bit = 1 << s.low;
        int damages = NONE;
        int ended = s.last;  // where the block ended in the scans before
        while (ended > 0 && !levels[ZIGZAG[ended]]) ended--;
        for (int k = s.first; k <= s.last; k++) {
            uint8_t* bin = ac[s.components[0].ac] + 3 * (k - 1);
            if (k > ended && decisions.next(bin[0])) break;
            while (!levels[ZIGZAG[k]] && !decisions.next(bin[1])) {
                bin += 3;
                if (++k > s.last) {
                    lose(damages, BAD_RUN);
                    return damages;
                }
            }
            int16_t& level = levels[ZIGZAG[k]];
            if (!level) {
                level = (int16_t)(decisions.even() ? -bit : bit);
            } else if (decisions.next(bin[2])) {
                level = fitting(level + (level < 0 ? -bit : bit), BAD_AC, damages);
            }
        }
        return damages;
    }
};

template <class Decoder> int run(Scan& s) {
    Decoder decoder(s);
    return decode_intervals(s, decoder);
}
}  // namespace

EXPORT int jpegrad_decode_arithmetic_scan(const void*, Scan* s) {
    if (s->process == SEQUENTIAL) return run<Sequential>(*s);
    if (s->first == 0) return s->high ? run<RefineDC>(*s) : run<FirstDC>(*s);
    return s->high ? run<RefineAC>(*s) : run<FirstAC>(*s);
}
