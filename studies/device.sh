#!/usr/bin/env bash
# Measure the CUDA kernels on a bare machine with torch, triton, numpy and Pillow, in less than six minutes: the speed
# study, which compares with the reference too, then as many GPU tests as two minutes hold, where pytest is installed.
# Figures go to $OUT (or ./device): speed-gpu.json, and what was printed beside it.
#
#     studies/device.sh
#     studies/device.sh --tune    # other sizes of programs instead, into tuned-gpu.json; longer
#     studies/device.sh --small   # everything once under Triton's interpreter, in minutes, on a machine without a GPU
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-$PWD/device}
mkdir -p "$out"
export PYTHONPATH=$PWD/src:$PWD/tests TORCHINDUCTOR_FX_GRAPH_CACHE=0
python=${PYTHON:-python3}
if [[ ${1:-} == --tune ]]; then
    exec "$python" -m jpegrad_studies.speed --gpu --tune --out "$out/speed.json"
fi
study=(-m jpegrad_studies.speed --gpu --out "$out/speed.json")
tests=(-q -p no:cacheprovider tests/test_triton_device.py tests/test_triton.py tests/test_triton_soft.py)
if [[ ${1:-} == --small ]]; then
    export TRITON_INTERPRET=1
    study+=(--quick)
    tests+=(-m "not slow and not gpu" -k "reasons or every_size")
else
    export REQUIRE_GPU=1
    tests+=(-m "gpu and not slow")
    "$python" -c "import xdist" 2>/dev/null && tests+=(-n "$(nproc)")
fi
failed=0
"$python" "${study[@]}" 2>&1 | tee "$out/speed.txt" || failed=1
if "$python" -c "import pytest" 2>/dev/null; then
    timeout 120 "$python" -m pytest "${tests[@]}" 2>&1 | tee "$out/tests.txt"
    case ${PIPESTATUS[0]} in
    0) ;;
    124) echo "the tests are not through" | tee -a "$out/tests.txt" ;;
    *) failed=1 ;;
    esac
fi
exit $failed
