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

from jpegrad.backends import triton as backend
from jpegrad.backends import triton_kernels as kernels
from jpegrad.backends import triton_ops as ops
from jpegrad.spec import Spec

TARGET = GPUTarget("cuda", 90, 32)
POINTERS = {
    "image": "fp32", "out": "fp32", "gradient": "fp32", "levels": "fp32", "tables": "i32", "reciprocals": "fp32",
    "luma": "u8", "chroma": "u8", "coefficients": "i16", "flags": "u8", "chroma_flags": "u8", "sums": "fp32",
}  # fmt: skip


def compiled(function: Any, constants: dict[str, Any], pointers: dict[str, str]) -> dict[str, int]:
    """Registers a thread, bytes of shared memory, bytes spilled."""
    signature, constexprs, attributes = {}, {}, {}
    for i, name in enumerate(function.arg_names):
        if name in constants:
            signature[name], constexprs[(i,)] = "constexpr", constants[name]
            continue
        signature[name] = f"*{pointers[name]}" if name in pointers else "i32"
        # What a launch finds out about buffers of PyTorch and about images whose sides are multiples of 16.
        if not name.startswith(("mcus", "height")):
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(function, signature, constexprs, attributes)
    kernel = triton.compile(source, target=TARGET, options={"num_warps": 4, "enable_fp_fusion": False})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(kernel.asm["ptx"])
        ptxas = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
        command = [
            str(ptxas),
            "-v",
            "--gpu-name=sm_90a",
            "--fmad=false",
            str(path),
            "-o",
            str(path.with_suffix(".o")),
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {
        "registers": int(re.findall(r"Used (\d+) registers", said)[0]),
        "shared": kernel.metadata.shared,
        "spilled": sum(map(int, re.findall(r"(\d+) bytes spill", said))),
    }


def main(subsampling: str = "4:2:0") -> dict[str, dict[str, int]]:
    """Every kernel as the default call needs it, with gradients to image and tables."""
    s = ops.parse(backend._settings(Spec(subsampling=subsampling), 3))
    shape = {"CHANNELS": 3, "H": s.h, "V": s.v}
    tile = {"ROWS": 2, "COLUMNS": 512}
    slopes = {
        "RECORD": s.slope, "P": s.slope_parameters, "TABLE_RECORD": s.table_slope, "TABLE_P": s.table_parameters,
    }  # fmt: skip
    floats = {**POINTERS, "luma": "fp32", "chroma": "fp32"}
    encode = {
        **shape, "COLOR": s.forward, "RANGE": "unit", "LOW": 0.0, "SCALE": 255.0, "ALIGNED": True, "N": 16,
        "LEVELS": False, "levels": None, "stride_x": 1, "KEEP": True,
    }  # fmt: skip
    image = {**shape, **tile, "FANCY": True, "INVERSE": s.inverse, "RANGE": "unit", "LOW": 0.0, "SPAN": 1.0}
    gradient = {
        **shape,
        **slopes,
        "FANCY": True,
        "INVERSE": s.inverse_real,
        "CLIP_SLOPE": 0.0,
        "N": 16,
        "stride_x": 1,
    }
    spread = {**shape, **tile, "FORWARD": s.forward_real, "CLIP_SLOPE": 0.0}
    return {
        "encode": compiled(kernels.encode_kernel, encode, POINTERS),
        "image": compiled(kernels.image_kernel, {**image, "KEEP": True}, POINTERS),
        "decode": compiled(kernels.decode_kernel, {**shape, "N": 16}, POINTERS),
        "gradient": compiled(kernels.gradient_kernel, {**gradient, "TABLES": True}, floats),
        "spread": compiled(kernels.spread_kernel, spread, floats),
    }


if __name__ == "__main__":
    json.dump(main(*sys.argv[1:]), sys.stdout, indent=2)
