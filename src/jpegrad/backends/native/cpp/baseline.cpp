// The kernel for every machine: 8 lanes, SSE2 on x86-64, NEON or plain code elsewhere.
#include "kernel.inc.h"

extern const Kernel baseline_kernel = baseline::KERNEL;
