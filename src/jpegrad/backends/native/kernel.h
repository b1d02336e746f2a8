// What an instruction set offers to dispatch.cpp.
#pragma once
#include "api.h"

struct Kernel {
    const char* name;
    int lanes;
    int64_t (*saved_size)(const Codec&);
    // Each runs units [begin, end) of batch * units-per-image on the calling thread; false means out of memory.
    int64_t (*units)(const Codec&);
    bool (*jpeg)(const Codec&, const Call&, int64_t begin, int64_t end);
    bool (*encode)(const Codec&, const Call&, int64_t begin, int64_t end);
    bool (*decode)(const Codec&, const Call&, int64_t begin, int64_t end);
};

extern const Kernel baseline_kernel;
extern const Kernel avx2_kernel;
