// The kernel for x86-64 with AVX2 and FMA: 16 lanes.
#include "kernel.h"

#if defined(__x86_64__)
#define LANES 16
#define NAMESPACE avx2
#define NAME "avx2"
#include "target.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,prfchw"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,prfchw")
#endif

#include "kernel.inc.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
extern const Kernel avx2_kernel = avx2::KERNEL;
#endif
