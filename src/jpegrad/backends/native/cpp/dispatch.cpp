// Plain C symbols over the best instruction set of the machine.
#include <cstdlib>
#include <cstring>

#include "kernel.h"
#include "parallel.h"

static const Kernel* choose() {
#if defined(__x86_64__)
    const char* wanted = std::getenv("JPEGRAD_NATIVE");
    auto is = [&](const Kernel& k) { return wanted && std::strcmp(wanted, k.name) == 0; };
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    // The first processors with AVX-512 lower their clock for it; those with VBMI do not.
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vbmi");
    if (avx512 && !is(avx2_kernel) && !is(baseline_kernel)) return &avx512_kernel;
    if (avx2 && !is(baseline_kernel)) return &avx2_kernel;
#endif
    return &baseline_kernel;
}

static const Kernel& kernel() {
    static const Kernel* const chosen = choose();
    return *chosen;
}

// Of the metrics.
static const Kernel& narrow_kernel() { return kernel().prepare_structure ? kernel() : avx2_kernel; }

static int run(Run part, const Codec* codec, const Call* call) {
    // A piece that ends within an image computes the chroma beyond once more.
    constexpr int64_t LEAST = 16;
    const int64_t each = kernel().units(*codec), grain = each < 2 * LEAST ? each : LEAST;
    return parallel(call->batch * each, call->threads, grain,
                    [&](int64_t begin, int64_t end) { return part(*codec, *call, begin, end); });
}

static int run(Compare part, const Comparison* call) {
    return parallel(call->batch, call->threads, 1, [&](int64_t begin, int64_t end) { return part(*call, begin, end); });
}

EXPORT const char* jpegrad_kernel() { return kernel().name; }
EXPORT int jpegrad_lanes() { return kernel().lanes; }
EXPORT int64_t jpegrad_sizeof(int what) {
    const int64_t sizes[] = {sizeof(Codec), sizeof(Call),      sizeof(Trellis),    sizeof(StepCosts),
                             sizeof(Scan),  sizeof(CodedScan), sizeof(Comparison), sizeof(BandCall)};
    return sizes[what];
}
EXPORT int jpegrad_jpeg(const Codec* codec, const Call* call) { return run(kernel().jpeg, codec, call); }
EXPORT int jpegrad_soft(const Codec* codec, const Call* call) { return run(kernel().soft, codec, call); }
EXPORT int jpegrad_encode(const Codec* codec, const Call* call) { return run(kernel().encode, codec, call); }
EXPORT int jpegrad_decode(const Codec* codec, const Call* call) { return run(kernel().decode, codec, call); }
EXPORT int jpegrad_jpeg_backward(const Codec* codec, const Call* call) {
    return run(kernel().jpeg_backward, codec, call);
}
EXPORT int jpegrad_encode_backward(const Codec* codec, const Call* call) {
    return run(kernel().encode_backward, codec, call);
}
EXPORT int jpegrad_decode_backward(const Codec* codec, const Call* call) {
    return run(kernel().decode_backward, codec, call);
}
EXPORT int jpegrad_prepare_structure(const void*, const Comparison* call) {
    return run(narrow_kernel().prepare_structure, call);
}
EXPORT int jpegrad_compare_structure(const void*, const Comparison* call) {
    return run(narrow_kernel().compare_structure, call);
}
EXPORT int jpegrad_prepare_distance(const void*, const Comparison* call) {
    return run(narrow_kernel().prepare_distance, call);
}
EXPORT int jpegrad_compare_distance(const void*, const Comparison* call) {
    return run(narrow_kernel().compare_distance, call);
}
EXPORT int jpegrad_compare_similarity(const void*, const Comparison* call) {
    return run(narrow_kernel().compare_similarity, call);
}
