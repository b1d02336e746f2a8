// The kernel for every machine: 8 lanes, SSE2 on x86-64, NEON or plain code elsewhere.
#include <cmath>
#include <cstdlib>

#include "kernel.h"

#if defined(__x86_64__) && !defined(JPEGRAD_PLAIN)
#include <immintrin.h>
#define X86 1
#else
#define X86 0
#endif
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#define LANES 8
#define NAMESPACE baseline
#define NAME "baseline"
#include "kernel.inc.h"

extern const Kernel baseline_kernel = baseline::KERNEL;
