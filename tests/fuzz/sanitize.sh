#!/bin/sh
# The fuzz of the native kernel under AddressSanitizer and UndefinedBehaviorSanitizer, on every instruction set it has.
# usage: tests/fuzz/sanitize.sh [ROUNDS] [SEED]
set -eu
cd "$(dirname "$0")/../.."
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
compiler=${CXX:-g++}
"$compiler" -O1 -g -std=c++17 -fPIC -shared -pthread -ffp-contract=off -fwrapv -Wno-psabi -fno-omit-frame-pointer \
    -fsanitize=address,undefined -fno-sanitize-recover=all -o "$build/native.so" src/jpegrad/backends/native/cpp/*.cpp
asan=$("$compiler" -print-file-name=libasan.so)
ubsan=$("$compiler" -print-file-name=libubsan.so)
for kernel in best baseline; do
    LD_PRELOAD="$asan $ubsan" ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 \
        JPEGRAD_NATIVE_LIBRARY="$build/native.so" JPEGRAD_NATIVE=$kernel PYTHONPATH=src \
        "${PYTHON:-python}" -m tests.fuzz.native --rounds "${1:-300}" --seed "${2:-0}"
done
