// The native entropy decoders on arbitrary data, within buffers of exactly the sizes that Python promises.
//
// With clang: clang++ -fsanitize=fuzzer,address,undefined -DLIBFUZZER. Else main() below mutates and keeps what decodes best:
//     scan_target [ROUNDS] [SEED]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "api.h"

extern "C" int jpegrad_decode_scan(const void*, Scan*);
extern "C" int jpegrad_decode_arithmetic_scan(const void*, Scan*);

namespace {
struct Input {
    const uint8_t* at;
    const uint8_t* end;

    int byte() { return at < end ? *at++ : 0; }
    int within(int low, int high) { return low + byte() % (high - low + 1); }
};

void fail(const char* what) {
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

// A prefix code without the code of ones only, as jfif/lookup.py demands.
void make_table(Input& in, uint8_t* table, bool dc) {
    int room = (1 << 16) - 1, listed = 0;
    for (int length = 1; length <= 16; length++) {
        int count = in.within(0, length < 4 ? 1 : length < 9 ? 6 : 40);
        while (count && (count << (16 - length) > room || listed + count > 256)) count--;
        table[length - 1] = (uint8_t)count;
        room -= count << (16 - length);
        listed += count;
    }
    for (int i = 0; i < listed; i++) table[16 + i] = (uint8_t)(dc ? in.byte() & 15 : in.byte());
}

struct Case {
    Scan scan = {};
    bool arithmetic;
    std::vector<std::vector<int16_t>> levels;
    std::vector<uint8_t> data, tables;

    explicit Case(Input in) {
        arithmetic = in.byte() & 1;
        scan.lenient = in.byte() & 1;
        scan.process = in.within(SEQUENTIAL, PROGRESSIVE);
        scan.last = 63;
        scan.count = in.within(1, 4);
        if (scan.process == PROGRESSIVE) {
            scan.low = in.within(0, 13);
            if (scan.low < 13 && in.byte() & 1) scan.high = scan.low + 1;
            scan.first = scan.last = 0;
            if (in.byte() & 1) {
                scan.count = 1;
                scan.first = in.within(1, 63);
                scan.last = in.within(scan.first, 63);
            }
        }
        scan.mcu_rows = in.within(1, 5);
        scan.mcu_columns = in.within(1, 5);
        scan.restart_interval = in.within(0, 3) ? 0 : in.within(1, 9);
        const int values = in.byte();
        for (int i = 0, blocks = 0; i < scan.count; i++) {
            ScanComponent& c = scan.components[i];
            c.h = c.v = 1;
            if (scan.count > 1 && blocks + 4 + scan.count - i <= 10) c.h = in.within(1, 2), c.v = in.within(1, 2);
            blocks += c.h * c.v;
            c.rows = scan.mcu_rows * c.v - (c.v > 1 ? in.byte() & 1 : 0);
            c.columns = scan.mcu_columns * c.h - (c.h > 1 ? in.byte() & 1 : 0);
            c.dc = in.within(0, arithmetic ? 15 : 3);
            c.ac = in.within(0, arithmetic ? 15 : 3);
            levels.emplace_back((size_t)(64 * c.rows * c.columns));
            // What scans before this one may have left.
            if (scan.high)
                for (size_t k = 0; k < levels[(size_t)i].size(); k++)
                    if ((k * 2654435761u >> 13) % 256 < (unsigned)values)
                        levels[(size_t)i][k] = (int16_t)(((int)(k * 40503u % 65536) - 32768) / (1 << scan.high) * (1 << scan.high));
        }
        if (arithmetic) {
            tables.resize(48);
            for (size_t i = 0; i < 16; i++) {
                tables[i] = (uint8_t)in.within(0, 15);
                tables[i + 16] = (uint8_t)in.within(tables[i], 15);
                tables[i + 32] = (uint8_t)in.within(1, 63);
            }
        } else {
            tables.resize(8 * 272);
            for (int i = 0; i < 8; i++) make_table(in, tables.data() + 272 * i, i < 4);
        }
        data.assign(in.at, in.end);
    }
    int run() {
        // A buffer of its own, so that no byte behind it may be read.
        uint8_t* file = (uint8_t*)std::malloc(data.size());
        if (!data.empty()) std::memcpy(file, data.data(), data.size());
        scan.data = file;
        scan.size = (int64_t)data.size();
        scan.position = 0;
        scan.tables = tables.data();
        for (int i = 0; i < scan.count; i++) scan.components[i].levels = levels[(size_t)i].data();
        const int damage = arithmetic ? jpegrad_decode_arithmetic_scan(nullptr, &scan) : jpegrad_decode_scan(nullptr, &scan);
        std::free(file);
        if (damage < NONE || damage > RESTARTS_MISSING) fail("an unknown damage");
        if (scan.damages & ~(int64_t)((2 << RESTARTS_MISSING) - 2)) fail("unknown damages");
        if (damage && scan.lenient) fail("a lenient decoder that gives up");
        if (damage != NONE && !(scan.damages >> damage & 1)) fail("a damage that is not among the damages");
        if (scan.reached < 0 || scan.reached >= scan.mcu_rows) fail("a row that the scan does not have");
        if (scan.position < 0 || scan.position > scan.size) fail("the scan ends outside the file");
        if (scan.intervals < 1) fail("no restart interval");
        return damage;
    }
};

int decode(const uint8_t* data, size_t size) {
    Case once({data, data + size}), again({data, data + size});
    const int damage = once.run();
    if (again.run() != damage || again.levels != once.levels) fail("another result of the same data");
    // Without damage both ways are one.
    Case other({data, data + size});
    other.scan.lenient = !once.scan.lenient;
    const int other_damage = other.run();
    const bool whole = !once.scan.damages, other_whole = !other.scan.damages;
    if (whole != other_whole || (whole && other.levels != once.levels)) fail("strict and lenient decoders disagree");
    return damage | other_damage;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    decode(data, size);
    return 0;
}

#ifndef LIBFUZZER
namespace {
uint64_t state;

unsigned draw(unsigned below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((state >> 33) % below);
}

std::vector<uint8_t> fresh() {
    std::vector<uint8_t> bytes(draw(1200));
    for (auto& each : bytes) each = (uint8_t)draw(256);
    return bytes;
}

void mutate(std::vector<uint8_t>& bytes) {
    for (unsigned i = draw(6) + 1; i && !bytes.empty(); i--) {
        const size_t at = draw((unsigned)bytes.size());
        const uint8_t marks[] = {0x00, 0xFF, (uint8_t)(0xD0 + draw(8)), 0xD9};
        switch (draw(6)) {
            case 0: bytes[at] ^= (uint8_t)(1 << draw(8)); break;
            case 1: bytes[at] = (uint8_t)draw(256); break;
            case 2: bytes[at] = marks[draw(4)]; break;
            case 3: bytes.insert(bytes.begin() + (long)at, {0xFF, marks[draw(4)]}); break;
            case 4: bytes.erase(bytes.begin() + (long)at, bytes.begin() + (long)(at + draw((unsigned)(bytes.size() - at)) / 8)); break;
            default: bytes.insert(bytes.end(), draw(40), (uint8_t)draw(256));
        }
    }
}
}  // namespace

int main(int count, char** arguments) {
    const long rounds = count > 1 ? std::atol(arguments[1]) : 100000;
    state = count > 2 ? (uint64_t)std::atol(arguments[2]) : 0;
    std::vector<std::vector<uint8_t>> pool;
    long outcomes[RESTARTS_MISSING + 1] = {};
    for (long round = 0; round < rounds; round++) {
        std::vector<uint8_t> bytes = pool.empty() || draw(2) ? fresh() : pool[draw((unsigned)pool.size())];
        mutate(bytes);
        const int damage = decode(bytes.data(), bytes.size());
        outcomes[damage]++;
        if (damage != NONE) continue;
        if (pool.size() < 500) pool.emplace_back();
        pool[pool.size() < 500 ? pool.size() - 1 : draw(500)] = bytes;
    }
    for (int i = 0; i <= RESTARTS_MISSING; i++) std::printf("%ld %s", outcomes[i], i < RESTARTS_MISSING ? "· " : "\n");
    std::printf("%ld rounds: nothing found (outcomes in the order of Damage)\n", rounds);
}
#endif
