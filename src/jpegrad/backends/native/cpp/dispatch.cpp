// Plain C symbols over the best instruction set of the machine.
#include <cstdlib>
#include <cstring>

#include "kernel.h"
#include "parallel.h"

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

static int run(Run part, const Codec* codec, const Call* call) {
    int64_t total = call->batch * kernel().units(*codec);
    return parallel(total, call->threads, [&](int64_t begin, int64_t end) { return part(*codec, *call, begin, end); });
}

static int run(Compare part, const Comparison* call) {
    return parallel(call->batch, call->threads, [&](int64_t begin, int64_t end) { return part(*call, begin, end); });
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
    return run(kernel().prepare_structure, call);
}
EXPORT int jpegrad_compare_structure(const void*, const Comparison* call) {
    return run(kernel().compare_structure, call);
}
EXPORT int jpegrad_prepare_distance(const void*, const Comparison* call) {
    return run(kernel().prepare_distance, call);
}
EXPORT int jpegrad_compare_distance(const void*, const Comparison* call) {
    return run(kernel().compare_distance, call);
}
EXPORT int jpegrad_compare_similarity(const void*, const Comparison* call) {
    return run(kernel().compare_similarity, call);
}
