// Threads that live for one call: nothing survives a fork, and any number of callers may overlap.
#pragma once
#include <system_error>
#include <thread>
#include <vector>

#include "api.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

// fn(begin, end) over parts of [0, total), in any order; it returns false if it failed. 0 means success.
template <class Fn> int parallel(int64_t total, int threads, const Fn& fn) {
    const int64_t count = threads < 1 ? 1 : threads < total ? threads : total;
    if (count <= 1) return fn((int64_t)0, total) ? 0 : 1;
    std::vector<std::thread> helpers;
    std::vector<char> ok((size_t)count, 0);
    auto part = [&](int64_t i) { ok[(size_t)i] = fn(total * i / count, total * (i + 1) / count); };
    int64_t started = 1;
    for (; started < count; started++) {
        try {
            helpers.emplace_back(part, started);
        } catch (const std::system_error&) {
            break;  // No thread to be had: this one does the rest.
        }
    }
    part(0);
    for (int64_t i = started; i < count; i++) part(i);
    for (auto& helper : helpers) helper.join();
    for (char each : ok)
        if (!each) return 1;
    return 0;
}
