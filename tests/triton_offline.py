"""Compile the Triton kernels for an H100 (sm_90) without a GPU; print registers and spills as JSON.

Run as ``python tests/triton_offline.py``, with ``--all`` for every variant; needs Triton, whose package carries ptxas.
"""

import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from jpegrad import surrogates
from jpegrad.backends.fused.settings import Settings, parse, settings_of
from jpegrad.backends.triton import backward, forward, kernels, launch, scan, soft
from jpegrad.spec import Spec

TARGET = GPUTarget("cuda", 90, 32)
# What `measured` allows a kernel's threads: of programs of four warps, 80 registers leave six on a multiprocessor, 96
# five, 128 four, 168 three, 255 two. Left alone, the assembler takes more than it needs, or spills a few to save some.
REGISTERS = {
    "gradient": 96,
    "gradient, tables": 128,
    "encode gradient": 128,
    "gradient, odd": 200,
    "soft, saving": 168,
    "soft, tables": 168,
    "soft gradient": 96,
    "soft gradient, tables": 128,
    "code": 224,
}
FEW, MANY = 80, 224
# Types of the arguments that are not i32, in colour.
TABLES = ("*i32", "*fp32", "i32", "i32", "i32")
THREE = ("*fp32",) * 3
ARGUMENTS = {
    "image": "*fp32", "gradient": "*fp32", "tables": TABLES, "planes": ("*u8", "*u8"), "seen": "*i32",
    "flags": ("*u8", "*u8"), "coefficients": ("*i16",) * 3, "levels": THREE, "ratios": THREE, "gradients": THREE,
    "out": "*fp32", "sums": "*fp32", "strides": ("i32",) * 4, "kept": ("*i16",) * 3, "slopes": THREE, "factors": THREE,
    "parameters": (("fp32",) * 3,) * 2,
}  # fmt: skip
SOFT = {
    **ARGUMENTS, "tables": ("*fp32", "*fp32", "i32", "i32", "i32"), "planes": ("*fp32", "*fp32"), "kept": THREE,
    "parameters": ("fp32",) * 3,
}  # fmt: skip
SCAN = {
    "levels": "*fp32", "zigzag": "*i32", "counts": "*i64", "book": "*i32", "lengths": "*i64", "words": "*i32",
}  # fmt: skip
PIXEL_FLAGS = {**ARGUMENTS, "flags": "*u8"}


def settings(spec: Spec, channels: int) -> Settings:
    return parse(settings_of(spec, channels, kernels))


def to_planes_of(s: Settings) -> tuple[int, ...]:
    return launch.fixed_rows(s.forward_matrix, s.forward_bias)


def to_image_of(s: Settings) -> tuple[int, ...]:
    return launch.fixed_rows(s.inverse_matrix, s.inverse_bias)


def without(*names: str) -> dict[str, None]:
    """No room for these."""
    return dict.fromkeys(names)


def leaves(argument: Any, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Paths of the numbers and pointers of an argument, which may be a tuple of them."""
    if isinstance(argument, tuple):
        for i, part in enumerate(argument):
            yield from leaves(part, (*path, i))
    elif argument != "constexpr":
        yield path


def compiled(
    function: Any, constants: dict[str, Any], types: dict[str, Any] = ARGUMENTS, limit: int | None = None
) -> dict[str, int]:
    """Registers a thread, at most ``limit``; bytes of shared memory; bytes spilled."""
    unknown = {parameter.name for parameter in function.params if parameter.do_not_specialize}
    signature, constexprs, attributes = {}, {}, {}
    for i, name in enumerate(function.arg_names):
        if name in constants:
            signature[name], constexprs[(i,)] = "constexpr", constants[name]
            continue
        signature[name] = types.get(name, "i32")
        if name == "strides":
            # The last one is 1, which a launch makes a constant.
            signature[name], constexprs[(i, 3)] = (*types[name][:3], "constexpr"), 1
        # What a launch finds out about buffers of PyTorch and about images whose sides are multiples of 16.
        if name not in unknown:
            attributes.update({path: [["tt.divisibility", 16]] for path in leaves(signature[name], (i,))})
    source = ASTSource(function, signature, constexprs, attributes)
    options = {"num_warps": 4, "enable_fp_fusion": False, "maxnreg": limit}
    kernel = triton.compile(source, target=TARGET, options=options)
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


def measured(
    subsampling: str = "4:2:0", record: str = "gaussian", registers: int | None = None
) -> dict[str, dict[str, int]]:
    """The kernels of a call in colour: on whole MCUs, and ``odd``, with everything that other sizes and slopes need."""
    s = settings(Spec(subsampling=subsampling, surrogate=surrogates.get(record)), 3)
    g = launch.Grid(1, 3, 512, 512, s.h, s.v, s.triangle)
    shape = {"CHANNELS": 3, "H": s.h, "V": s.v, "FANCY": g.fancy, "N": 16, "ALIGNED": True}
    to_planes = {
        **shape,
        "COLOR": to_planes_of(s),
        "RANGE": ("unit", 0.0, 255.0),
    }
    pixels = {"ROWS": g.tile()[1], "COLUMNS": g.tile()[2]}
    to_image = {
        **shape,
        **pixels,
        "INVERSE": to_image_of(s),
        "RANGE": ("unit", 0.0, 1.0),
    }
    samples = {"ROWS": g.tile(s.h, s.v)[1], "COLUMNS": g.tile(s.h, s.v)[2]}
    real = {
        **shape, "RECORDS": (s.slope, s.table_slope), "factors": None,
        "INVERSE": s.inverse_real, "FORWARD": s.forward_real, "CLIP_SLOPE": 0.0,
    }  # fmt: skip
    odd = {**real, "ALIGNED": False, "CLIP_SLOPE": 0.1}
    encode, image, gradient = forward.encode_kernel, forward.image_kernel, backward.gradient_kernel
    levels = {**to_planes, **without("coefficients", "planes")}
    smooth = {
        **shape, "COLOR": launch.real_rows(s.forward_real, 1 / 255, (-128.0, 0.0, 0.0)), "RANGE": (0.0, 255.0),
        "LEAK": 0.0, "RECORD": s.slope,
    }  # fmt: skip
    smooth_image = {
        **shape, **pixels, "INVERSE": launch.real_rows(s.inverse_real, 255, (128.0,) * 3), "RANGE": (0.0, 1 / 255),
        "LEAK": 0.0,
    }  # fmt: skip
    smooth_gradient = {**real, "RECORDS": None, **without("tables", "parameters")}
    del smooth_gradient["factors"]
    calls: dict[str, tuple[Any, ...]] = {
        "jpeg": (encode, {**to_planes, **without("coefficients", "levels", "ratios", "flags")}),
        "jpeg, saving": (encode, {**to_planes, **without("levels", "ratios")}),
        "encode": (encode, {**levels, **without("ratios", "flags")}),
        "encode, saving": (encode, levels, {**ARGUMENTS, "flags": ("*u8",)}),
        "decode": (forward.decode_kernel, {**shape, **without("flags")}),
        "image": (image, {**to_image, **without("flags")}),
        "image, saving": (image, to_image, PIXEL_FLAGS),
        "image of levels": (image, {**to_image, **without("flags", "image", "seen")}),
        "gradient": (gradient, {**real, **without("sums")}),
        "gradient, tables": (gradient, real),
        "gradient, odd": (gradient, odd),
        "encode gradient": (backward.encode_gradient_kernel, odd, PIXEL_FLAGS),
        "decode gradient": (backward.decode_gradient_kernel, odd, {**ARGUMENTS, "out": THREE}),
        "stencil": (backward.stencil_kernel, {**real, **samples}),
        "soft": (soft.soft_kernel, {**smooth, **without("flags", "slopes", "factors")}, SOFT),
        "soft, saving": (soft.soft_kernel, {**smooth, "factors": None}, SOFT),
        "soft, tables": (soft.soft_kernel, smooth, SOFT),
        "soft image": (soft.soft_image_kernel, {**smooth_image, "flags": None}, SOFT),
        "soft image, saving": (soft.soft_image_kernel, smooth_image, {**SOFT, "flags": "*u8"}),
        "soft gradient": (gradient, {**smooth_gradient, **without("factors", "sums")}, SOFT),
        "soft gradient, tables": (gradient, smooth_gradient, SOFT),
        "count": (scan.count_kernel, shape, SCAN),
        "length": (scan.code_kernel, {**shape, "words": None}, SCAN),
        "code": (scan.code_kernel, shape, SCAN),
    }
    return {
        name: compiled(*call, limit=registers or REGISTERS.get(name, FEW)) for name, call in calls.items()
    }


def gray(record: str, value_range: tuple[float, float], image: str) -> dict[str, dict[str, int]]:
    """The kernels of a call in gray, for an image type and its range."""
    chosen = surrogates.get(record)
    s = settings(Spec("4:4:4", surrogate=chosen, table_surrogate=chosen), 1)
    name = launch.value_range(torch.uint8 if image == "*u8" else torch.float32, *value_range)
    low, span = value_range[0], value_range[1] - value_range[0]
    shape = {
        "CHANNELS": 1, "H": 1, "V": 1, "FANCY": True, "N": 16, "ALIGNED": False, "ROWS": 2, "COLUMNS": 512,
        "COLOR": to_planes_of(s), "INVERSE": to_image_of(s),
    }  # fmt: skip
    real = {
        **shape, "INVERSE": s.inverse_real, "FORWARD": s.forward_real, "CLIP_SLOPE": 0.1,
        "RECORDS": (s.slope, s.table_slope), "factors": None,
    }  # fmt: skip
    types = {
        **ARGUMENTS, "image": image, "out": image, "coefficients": ("*i16",), "flags": ("*u8", "*u8"),
        "kept": ("*i16",), "parameters": (("fp32",),) * 2,
    }  # fmt: skip
    to_planes, to_image = {"RANGE": (name, low, 255 / span)}, {"RANGE": (name, low, span)}
    seen = {"seen": None} if image == "*u8" else {}
    return {
        f"encode, {name}": compiled(
            forward.encode_kernel, {**shape, **to_planes, **seen, **without("levels", "ratios")}, types
        ),
        f"image, {name}": compiled(forward.image_kernel, {**shape, **to_image, **seen, "flags": None}, types),
        f"gradient, {record}": compiled(backward.gradient_kernel, real, {**types, "out": "*fp32"}),
    }


def everything() -> dict[str, dict[str, int]]:
    """Every way of sampling, every record, every range."""
    found = {}
    for subsampling, record in (
        ("4:4:4", "identity"),
        ("4:2:2", "sin"),
        ("4:4:0", "cubic"),
        ("4:1:1", "soft_round"),
    ):
        found.update(
            {f"{name}, {subsampling}": it for name, it in measured(subsampling, record, MANY).items()}
        )
    ranges = itertools.cycle((((0.0, 1.0), "*u8"), ((0.0, 255.0), "*fp32"), ((-17.3, 1.9), "*fp32")))
    for record, (value_range, image) in zip(surrogates.ALL, ranges, strict=False):
        found.update({f"gray, {name}": it for name, it in gray(record, value_range, image).items()})
    return found


if __name__ == "__main__":
    json.dump(everything() if "--all" in sys.argv else measured(), sys.stdout, indent=2)
