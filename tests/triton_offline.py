"""Compile the Triton kernels for an H100 (sm_90) without a GPU; print registers and spills as JSON.

Run as ``python tests/triton_offline.py``; needs Triton, whose package carries ptxas.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from jpegrad import surrogates
from jpegrad.backends import triton as backend
from jpegrad.backends import triton_backward as backward
from jpegrad.backends import triton_forward as forward
from jpegrad.backends import triton_launch as launch
from jpegrad.spec import Spec

TARGET = GPUTarget("cuda", 90, 32)
POINTERS = {
    "image": "fp32", "out": "fp32", "gradient": "fp32", "tables": "i32", "reciprocals": "fp32", "sums": "fp32",
    "luma": "u8", "chroma": "u8", "flags": "u8", "chroma_flags": "u8",
    **{f"coefficients_{c}": "i16" for c in ("y", "cb", "cr")},
    **{f"{name}_{c}": "fp32" for name in ("levels", "ratios", "gradient", "out") for c in ("y", "cb", "cr")},
}  # fmt: skip


def without(*names: str) -> dict[str, None]:
    """No room for these, per component."""
    return {f"{name}_{c}": None for name in names for c in ("y", "cb", "cr")}


def compiled(function: Any, constants: dict[str, Any]) -> dict[str, int]:
    """Registers a thread, bytes of shared memory, bytes spilled."""
    constants = {name: value for name, value in constants.items() if name in function.arg_names}
    unknown = {parameter.name for parameter in function.params if parameter.do_not_specialize}
    signature, constexprs, attributes = {}, {}, {}
    for i, name in enumerate(function.arg_names):
        if name in constants:
            signature[name], constexprs[(i,)] = "constexpr", constants[name]
            continue
        signature[name] = f"*{POINTERS[name]}" if name in POINTERS else "i32"
        # What a launch finds out about buffers of PyTorch and about images whose sides are multiples of 16.
        if name not in unknown:
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(function, signature, constexprs, attributes)
    kernel = triton.compile(source, target=TARGET, options={"num_warps": 4, "enable_fp_fusion": False})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(kernel.asm["ptx"])
        ptxas = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
        command = [
            *(str(ptxas), "-v", "--gpu-name=sm_90a", "--fmad=false"),
            *(str(path), "-o", str(path.with_suffix(".o"))),
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {
        "registers": int(re.findall(r"Used (\d+) registers", said)[0]),
        "shared": kernel.metadata.shared,
        "spilled": sum(map(int, re.findall(r"(\d+) bytes spill", said))),
    }


def main(subsampling: str = "4:2:0", record: str = "gaussian") -> dict[str, dict[str, int]]:
    """Every kernel as the default call on whole MCUs needs it, and as it is at its largest."""
    s = launch.parse(backend._settings(Spec(subsampling=subsampling, surrogate=surrogates.get(record)), 3))
    g = launch.Grid(1, 3, 512, 512, s.h, s.v)
    shape = {"CHANNELS": 3, "H": s.h, "V": s.v, "FANCY": g.fancy, "N": 16, "ALIGNED": True, "stride_x": 1}
    to_planes = {**shape, "COLOR": s.forward, "RANGE": "unit", "LOW": 0.0, "SCALE": 255.0}
    pixels = {"ROWS": g.tile()[1], "COLUMNS": g.tile()[2]}
    to_image = {**shape, **pixels, "INVERSE": s.inverse, "RANGE": "unit", "LOW": 0.0, "SPAN": 1.0}
    real = {**shape, "INVERSE": s.inverse_real, "FORWARD": s.forward_real, "CLIP_SLOPE": 0.0}
    slopes = {
        "RECORD": s.slope, "P": s.slope_parameters, "TABLE_RECORD": s.table_slope, "TABLE_P": s.table_parameters,
    }  # fmt: skip
    samples = {"ROWS": g.tile(s.h, s.v)[1], "COLUMNS": g.tile(s.h, s.v)[2]}
    none = without("coefficients", "levels", "ratios")
    nowhere = {"luma": None, "chroma": None, "flags": None, "chroma_flags": None}
    odd = {"ALIGNED": False, "CLIP_SLOPE": 0.1}
    return {
        "jpeg": compiled(forward.encode_kernel, {**to_planes, **none, "flags": None, "chroma_flags": None}),
        "jpeg, saving": compiled(forward.encode_kernel, {**to_planes, **without("levels", "ratios")}),
        "encode, saving": compiled(
            forward.encode_kernel,
            {**to_planes, **without("coefficients"), "luma": None, "chroma": None, "chroma_flags": None},
        ),
        "encode": compiled(
            forward.encode_kernel, {**to_planes, **nowhere, **without("coefficients", "ratios")}
        ),
        "image": compiled(forward.image_kernel, {**to_image, "flags": None}),
        "image, saving": compiled(forward.image_kernel, to_image),
        "decode": compiled(forward.decode_kernel, shape),
        "gradient": compiled(backward.gradient_kernel, {**real, **slopes, "TABLES": False}),
        "gradient, tables": compiled(backward.gradient_kernel, {**real, **slopes, "TABLES": True}),
        "gradient, odd": compiled(backward.gradient_kernel, {**real, **slopes, **odd, "TABLES": True}),
        "encode gradient": compiled(backward.encode_gradient_kernel, {**real, **odd}),
        "decode gradient": compiled(backward.decode_gradient_kernel, {**real, **odd}),
        "stencil": compiled(backward.stencil_kernel, {**real, **samples}),
    }


if __name__ == "__main__":
    json.dump(main(*sys.argv[1:]), sys.stdout, indent=2)
