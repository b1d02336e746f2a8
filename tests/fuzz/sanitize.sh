#!/bin/sh
# The fuzz of the native kernel under AddressSanitizer and UndefinedBehaviorSanitizer, on every instruction set it has;
# then its entropy decoders on arbitrary data and on damaged files.
# usage: tests/fuzz/sanitize.sh [ROUNDS] [SEED] [FILES]
set -eu
cd "$(dirname "$0")/../.."
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
compiler=${CXX:-g++}
"$compiler" -O1 -g -std=c++17 -fPIC -shared -pthread -ffp-contract=off -fwrapv -Wno-psabi -fno-omit-frame-pointer \
    -fsanitize=address,undefined -fno-sanitize-recover=all -o "$build/native.so" src/jpegrad/backends/native/cpp/*.cpp
asan=$("$compiler" -print-file-name=libasan.so)
ubsan=$("$compiler" -print-file-name=libubsan.so)
for kernel in best avx2 baseline; do
    LD_PRELOAD="$asan $ubsan" ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 \
        JPEGRAD_NATIVE_LIBRARY="$build/native.so" JPEGRAD_NATIVE=$kernel PYTHONPATH=src \
        "${PYTHON:-python}" -m tests.fuzz.native --rounds "${1:-300}" --seed "${2:-0}"
done

"$compiler" -O1 -g -std=c++17 -fwrapv -Wno-psabi -fsanitize=address,undefined -fno-sanitize-recover=all \
    -I src/jpegrad/backends/native/cpp -o "$build/target" tests/fuzz/scan_target.cpp \
    src/jpegrad/backends/native/cpp/*_decode.cpp -pthread
"$build/target" $((100 * ${1:-300})) "${2:-0}"

# Without Python's own allocator each file's bytes have an end that is watched.
LD_PRELOAD="$asan $ubsan" ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 PYTHONMALLOC=malloc \
    JPEGRAD_NATIVE_LIBRARY="$build/native.so" PYTHONPATH=src:tests \
    "${PYTHON:-python}" -m tests.fuzz.decoders --alone --count "${3:-20000}" --seed "${2:-0}"
