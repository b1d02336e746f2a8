#!/usr/bin/env bash
# Measure the CUDA kernels on a bare machine with torch, triton, numpy and Pillow, in a few minutes: the GPU tests where
# pytest is installed, then the speed study. Figures go to $OUT (or ./device), one JSON beside what was printed.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-$PWD/device}
mkdir -p "$out"
export PYTHONPATH=$PWD/src:$PWD/tests TORCHINDUCTOR_FX_GRAPH_CACHE=0
python=${PYTHON:-python3}
failed=0
"$python" -m jpegrad_studies.speed --gpu --out "$out/speed.json" 2>&1 | tee "$out/speed.txt" || failed=1
if "$python" -c "import pytest" 2>/dev/null; then
    REQUIRE_GPU=1 timeout 200 "$python" -m pytest -q -m "gpu and not slow" tests -p no:cacheprovider 2>&1 | tee "$out/tests.txt" || failed=1
fi
exit $failed
