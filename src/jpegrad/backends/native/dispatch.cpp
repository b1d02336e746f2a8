// Plain C symbols: choice of the instruction set, and threads.
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "kernel.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

static const Kernel* choose() {
    const char* wanted = std::getenv("JPEGRAD_NATIVE");
#if defined(__x86_64__)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && !(wanted && std::strcmp(wanted, "baseline") == 0)) return &avx2_kernel;
#endif
    (void)wanted;
    return &baseline_kernel;
}

static const Kernel& kernel() {
    static const Kernel* const chosen = choose();
    return *chosen;
}

// Threads live for one call: nothing survives a fork, and any number of callers may overlap.
template <class Fn> static int parallel(int64_t total, int threads, const Fn& fn) {
    int64_t count = threads < 1 ? 1 : threads < total ? threads : total;
    if (count <= 1) return fn(0, total) ? 0 : 1;
    std::vector<std::thread> helpers;
    std::vector<char> ok((size_t)count, 0);
    int64_t started = 1;
    for (; started < count; started++) {
        int64_t i = started;
        try {
            helpers.emplace_back([&, i] { ok[(size_t)i] = fn(total * i / count, total * (i + 1) / count); });
        } catch (const std::system_error&) {
            break;
        }
    }
    ok[0] = fn(0, total / count);
    for (int64_t i = started; i < count; i++) ok[(size_t)i] = fn(total * i / count, total * (i + 1) / count);
    for (auto& helper : helpers) helper.join();
    for (char each : ok)
        if (!each) return 1;
    return 0;
}

static int run(Run part, const Codec* codec, const Call* call) {
    int64_t total = call->batch * kernel().units(*codec);
    return parallel(total, call->threads, [&](int64_t begin, int64_t end) { return part(*codec, *call, begin, end); });
}

EXPORT const char* jpegrad_kernel() { return kernel().name; }
EXPORT int jpegrad_lanes() { return kernel().lanes; }
EXPORT int64_t jpegrad_sizeof(int what) { return what == 0 ? sizeof(Codec) : sizeof(Call); }
EXPORT int64_t jpegrad_saved_size(const Codec* codec) { return kernel().saved_size(*codec); }
EXPORT int jpegrad_jpeg(const Codec* codec, const Call* call) { return run(kernel().jpeg, codec, call); }
EXPORT int jpegrad_encode(const Codec* codec, const Call* call) { return run(kernel().encode, codec, call); }
EXPORT int jpegrad_decode(const Codec* codec, const Call* call) { return run(kernel().decode, codec, call); }
EXPORT int jpegrad_jpeg_backward(const Codec* codec, const Call* call) { return run(kernel().jpeg_backward, codec, call); }
EXPORT int jpegrad_encode_backward(const Codec* codec, const Call* call) { return run(kernel().encode_backward, codec, call); }
EXPORT int jpegrad_decode_backward(const Codec* codec, const Call* call) { return run(kernel().decode_backward, codec, call); }
