// The kernel for x86-64 with AVX-512: 32 lanes.
#include "kernel.h"

#if defined(__x86_64__)
#define LANES 32
#define NAMESPACE avx512
#define NAME "avx512"
#include "target.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,prfchw,avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,prfchw,avx512f,avx512bw,avx512dq,avx512vl")
#endif

#include "kernel.inc.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
extern const Kernel avx512_kernel = avx512::KERNEL;
#endif
