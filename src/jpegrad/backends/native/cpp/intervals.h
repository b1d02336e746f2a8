// What entropy decoders share: markers in the data of a scan, and the walk through restart intervals, MCUs and blocks.
#pragma once
#include <cstring>

#include "api.h"

// The marker at or behind `at`: the last of its FF bytes, or `end`. FF 00 is a data byte, and so is FF FF 00.
inline const uint8_t* find_marker(const uint8_t* at, const uint8_t* end) {
    while (at < end && (at = (const uint8_t*)std::memchr(at, 0xFF, (size_t)(end - at)))) {
        while (at < end && *at == 0xFF) at++;
        if (at < end && *at != 0) return at - 1;
    }
    return end;
}

// The next data byte of an interval; false, and `at` stays at the marker or end, if there is none.
inline bool next_byte(const uint8_t*& at, const uint8_t* end, uint8_t& byte) {
    if (at < end && *at != 0xFF) {
        byte = *at++;
        return true;
    }
    while (at < end && *at == 0xFF) at++;
    if (at == end) return false;
    if (*at != 0) {
        at--;
        return false;
    }
    at++;
    byte = 0xFF;
    return true;
}

inline bool is_restart(const uint8_t* marker, const uint8_t* end) {
    return marker < end && marker[1] >= 0xD0 && marker[1] <= 0xD7;
}

// Decoders have begin(at, end), block(component index, levels), finish() at the end of an interval, and position().
template <class Decoder> int decode_intervals(Scan& s, Decoder& decoder) {
    int16_t dropped[64] = {};
    const uint8_t* const end = s.data + s.size;
    const uint8_t* at = s.data + s.position;
    int64_t row = 0, column = 0, left = s.mcu_rows * s.mcu_columns;
    s.intervals = 1;
    for (;;) {
        decoder.begin(at, end);
        const int64_t here = s.restart_interval && s.restart_interval < left ? s.restart_interval : left;
        for (int64_t mcu = 0; mcu < here; mcu++) {
            for (int i = 0; i < s.count; i++) {
                const ScanComponent& c = s.components[i];
                for (int y = 0; y < c.v; y++)
                    for (int x = 0; x < c.h; x++) {
                        const int64_t block_row = row * c.v + y, block_column = column * c.h + x;
                        const bool real = block_row < c.rows && block_column < c.columns;
                        int16_t* levels = real ? c.levels + (block_row * c.columns + block_column) * 64 : dropped;
                        if (const int damage = decoder.block(i, levels)) return damage;
                    }
            }
            if (++column == s.mcu_columns) column = 0, row++;
        }
        if (const int damage = decoder.finish()) return damage;
        left -= here;
        at = find_marker(decoder.position(), end);
        if (!is_restart(at, end)) break;
        // Markers that follow the last interval count on as well.
        do {
            if (at[1] != 0xD0 + (s.intervals - 1) % 8) return RESTART_ORDER;
            s.intervals++;
            at += 2;
        } while (!left && is_restart(at = find_marker(at, end), end));
        if (!left) break;
    }
    s.position = at - s.data;
    return left ? RESTARTS_MISSING : NONE;
}
