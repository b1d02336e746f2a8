// What an instruction set offers to dispatch.cpp.
#pragma once
#include "api.h"

// Units [begin, end) of a batch on the calling thread; false means out of memory.
typedef bool (*Run)(const Codec&, const Call&, int64_t begin, int64_t end);
typedef bool (*Compare)(const Comparison&, int64_t begin, int64_t end);

struct Kernel {
    const char* name;
    int lanes;
    int64_t (*units)(const Codec&);  // per image
    Run jpeg, soft, encode, decode, jpeg_backward, encode_backward, decode_backward;
    // The metrics have no code of 32 lanes.
    Compare prepare_structure, compare_structure, prepare_distance, compare_distance, compare_similarity;
};

extern const Kernel baseline_kernel;
extern const Kernel avx2_kernel;
extern const Kernel avx512_kernel;
