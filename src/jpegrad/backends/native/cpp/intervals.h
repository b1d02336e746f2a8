// What all entropy decoders share: markers in the data of a scan, and the walk through restart intervals, MCUs and
// blocks.
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

constexpr int SOF0 = 0xC0, RST0 = 0xD0, RST7 = 0xD7, EOI = 0xD9;

// The marker at `at`; a file that has no more ends with EOI.
inline int marker_code(const uint8_t* at, const uint8_t* end) { return at < end ? at[1] : EOI; }

inline bool is_restart(int code) { return code >= RST0 && code <= RST7; }

// From a marker to the data of the interval behind the restart that is due. False if `at` stays at a marker, because
// the interval is lost: libjpeg's jpeg_resync_to_restart.
inline bool find_interval(const uint8_t*& at, const uint8_t* end, int due) {
    for (;; at = find_marker(at + 2, end)) {
        const int code = marker_code(at, end);
        if (is_restart(code)) {
            const int ahead = (code - RST0 - due) & 7;
            if (ahead == 1 || ahead == 2) return false;
            if (ahead < 6) {
                at += 2;
                return true;
            }
        } else if (code >= SOF0) {
            return false;
        }
    }
}

// The damages of a block: the first, and above it a bit for each kind.
inline void note(int& damages, int damage) {
    if (!damages) damages = damage;
    damages |= 256 << damage;
}

// Decoders have begin(at, end), block(component index, levels), stopped(), finish() at the end of an interval, and
// position(). A block returns its damages, and is decoded to its end all the same, as libjpeg does. A decoder
// stops where its data end (Huffman: behind the MCU) or have no meaning (arithmetic: at once), until the next interval.
template <class Decoder> int decode_intervals(Scan& s, Decoder& decoder) {
    int16_t dropped[64] = {};
    const uint8_t* const end = s.data + s.size;
    const uint8_t* at = s.data + s.position;
    const int64_t mcus = s.mcu_rows * s.mcu_columns;
    const auto refuses = [&s](int damage) {
        s.damages |= (int64_t)1 << damage;
        return !s.lenient;
    };
    const auto due = [&s] { return (int)((s.intervals - 1) % 8); };
    s.intervals = 1;
    s.damages = s.reached = 0;
    bool stopped = false;
    for (int64_t mcu = 0;;) {
        const int64_t left = mcus - mcu;
        const int64_t stop = s.restart_interval && s.restart_interval < left ? mcu + s.restart_interval : mcus;
        // libjpeg notes the row before it looks for the restart.
        bool noted = !stopped;
        if (mcu) {
            const int code = marker_code(at, end), damage = is_restart(code) ? RESTART_ORDER : RESTARTS_MISSING;
            if (code != RST0 + due() && refuses(damage)) return damage;
            const bool found = find_interval(at, end, due());
            stopped = stopped && !found && !Decoder::ARITHMETIC;
            s.intervals++;
        }
        decoder.begin(at, end);
        int64_t row = mcu / s.mcu_columns, column = mcu % s.mcu_columns;
        for (; mcu < stop && !stopped; mcu++) {
            if (noted) s.reached = row;
            noted = true;
            for (int i = 0; i < s.count; i++) {
                const ScanComponent& c = s.components[i];
                for (int y = 0; y < c.v; y++)
                    for (int x = 0; x < c.h; x++) {
                        if (Decoder::ARITHMETIC && decoder.stopped()) continue;
                        const int64_t block_row = row * c.v + y, block_column = column * c.h + x;
                        const bool real = block_row < c.rows && block_column < c.columns;
                        int16_t* levels = real ? c.levels + (block_row * c.columns + block_column) * 64 : dropped;
                        if (const int damages = decoder.block(i, levels)) {
                            s.damages |= damages >> 8;
                            if (!s.lenient) return damages & 255;
                        }
                    }
            }
            stopped = decoder.stopped();
            if (++column == s.mcu_columns) column = 0, row++;
        }
        if (const int damage = decoder.finish())
            if (refuses(damage)) return damage;
        at = find_marker(decoder.position(), end);
        mcu = stop;
        if (mcu >= mcus) break;
    }
    // Markers that follow the last interval count on as well.
    for (; is_restart(marker_code(at, end)); at = find_marker(at + 2, end)) {
        if (at[1] != RST0 + due() && refuses(RESTART_ORDER)) return RESTART_ORDER;
        s.intervals++;
    }
    s.position = at - s.data;
    return NONE;
}
