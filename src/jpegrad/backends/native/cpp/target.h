// The instruction set that a translation unit compiles the kernel for: what it says before it includes this, or else
// every machine's. Each set has a namespace of its own, and LANES 16-bit numbers in a vector.
#pragma once
// Before any code of the kernel: inline functions of these headers must not be compiled for one instruction set.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <type_traits>

#ifndef LANES
#define LANES 8
#define NAMESPACE baseline
#define NAME "baseline"
#endif

#if defined(__x86_64__) && (LANES > 8 || !defined(JPEGRAD_PLAIN))
#include <immintrin.h>
#define X86 1
#else
#define X86 0
#endif
#if defined(__aarch64__)
#include <arm_neon.h>
#endif
