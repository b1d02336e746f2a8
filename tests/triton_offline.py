"""Compile the Triton kernels without a GPU; print registers, spills and instructions as JSON.

Run as ``python tests/triton_offline.py``; needs Triton, whose package carries the assembler. ``--all`` compiles every
variant, ``--only`` those whose names begin so, ``--architecture 80`` is for an A100; unless given it is 90, an H100 or
H200.
"""

import argparse
import collections
import functools
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from jpegrad import surrogates
from jpegrad.backends.fused.settings import Settings, parse, settings_of
from jpegrad.backends.triton import backward, conversion, forward, kernels, launch, scaling, scan, soft
from jpegrad.spec import Spec

# Types of the arguments that are not i32, in colour.
TABLES = ("*i32", "*fp32", "i32", "i32", "i32")
THREE = ("*fp32",) * 3
ARGUMENTS = {
    "image": "*fp32", "gradient": "*fp32", "tables": TABLES, "planes": ("*u8", "*u8"), "seen": "*i32",
    "flags": ("*u8", "*u8"), "coefficients": ("*i16",) * 3, "levels": THREE, "ratios": THREE, "gradients": THREE,
    "out": "*fp32", "sums": "*fp32", "strides": ("i32",) * 4, "kept": ("*i16",) * 3, "slopes": THREE, "factors": THREE,
    "parameters": (("fp32",) * 3,) * 2, "colors": "*fp64",
}  # fmt: skip
SOFT = {
    **ARGUMENTS, "tables": ("*fp32", "*fp32", "i32", "i32", "i32"), "planes": ("*fp32", "*fp32"), "kept": THREE,
    "parameters": ("fp32",) * 3, "noise": ("fp32",) * 5, "spreads": ("*fp32", "*fp32"), "clips": ("*fp32",) * 4,
}  # fmt: skip
DECODE = {**SOFT, "noise": THREE}
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


Compile = Callable[[], dict[str, Any]]


def compiled(
    function: Any,
    constants: dict[str, Any],
    types: dict[str, Any] = ARGUMENTS,
    architecture: int = 90,
) -> dict[str, Any]:
    """Registers a thread; bytes of shared memory and of spills; what instructions there are."""
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
    file = function.__module__.rpartition(".")[2]
    # A thread has a row of eight of a block, or its share of the pixels of a tile.
    pixels = 8 * constants["H"] * constants["V"] if "N" in function.arg_names else launch.PIXELS / 128
    colored = "colors" in function.arg_names and "colors" not in constants
    options = {"num_warps": 4, **launch.compiler_options(f"{file}.{function.__name__}", colored)}
    kernel = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as binary:
        binary.write(kernel.asm["cubin"])
        binary.flush()
        usage = _asked("cuobjdump", "-res-usage", binary.name)
        code = _asked("nvdisasm", "-c", binary.name)
    return {
        "registers": int(re.findall(r"REG:(\d+)", usage)[0]),
        "shared": kernel.metadata.shared,
        "spilled": int(re.findall(r"STACK:(\d+)", usage)[0]) + int(re.findall(r"LOCAL:(\d+)", usage)[0]),
        **instructions(code, rounds_of(function, constants), pixels),
    }


def _asked(tool: str, *arguments: str) -> str:
    command = [str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


SLOW = {
    "double": r"D(ADD|MUL|FMA|SETP|MNMX)|F2F.*64|I2F.*64|F2I.*64",
    "special": r"MUFU",
    "exchange": r"(LD|ST)S\b|BAR|SHFL|LDSM|STSM",
    "local": r"(LD|ST)L\b",
}
"""Instructions that take more than a slot of a scheduler."""


class Line(NamedTuple):
    """An instruction, whether something decides if it runs, and the line that it may jump to."""

    name: str
    conditional: bool
    target: int | None


def parsed(code: str) -> list[Line]:
    places: dict[str, int] = {}
    found: list[tuple[str, bool, str | None]] = []
    for text in code.splitlines():
        if label := re.match(r"(\.L_x_\d+):", text):
            places[label[1]] = len(found)
        line = re.search(r"/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)(.*)", text)
        if line and line[2] != "NOP":
            # The assembler for sm_80 leaves its loops by calls that do not come back.
            jumps = line[2].startswith(("BRA", "CALL.REL.NOINC"))
            target = re.search(r"\.L_x_\d+", line[3]) if jumps else None
            found.append((line[2], bool(line[1]), target and target[0]))
    return [Line(name, conditional, places.get(to or "")) for name, conditional, to in found]


def executed(lines: list[Line], rounds: Iterator[int]) -> tuple[int, int]:
    """Instructions on the shortest and on the longest way through a kernel; its loops' rounds in their order."""
    weights = [1] * len(lines)
    for i, line in enumerate(lines):
        # The last line of a kernel jumps to itself.
        if line.target is not None and line.target < i:
            count = next(rounds)
            weights[line.target : i + 1] = [count * x for x in weights[line.target : i + 1]]
    least, most = [0] * (len(lines) + 1), [0] * (len(lines) + 1)
    for i in reversed(range(len(lines))):
        name, conditional, target = lines[i]
        back = target is not None and target < i
        ways = [i + 1] if conditional or back or not name.startswith(("EXIT", "BRA", "RET")) else []
        if name.startswith("EXIT"):
            ways.append(len(lines))
        elif target is not None and target > i:
            ways.append(target)
        least[i] = weights[i] + min((least[way] for way in ways), default=0)
        most[i] = weights[i] + max((most[way] for way in ways), default=0)
    return least[0], most[0]


def rounds_of(function: Any, constants: dict[str, Any]) -> Iterator[int]:
    """Of a kernel's loops: over what a chroma sample is upsampled to, then over an MCU's blocks."""
    if not {"H", "V"} <= constants.keys():
        return itertools.repeat(1)
    h, v = constants["H"], constants["V"]
    fancy = constants.get("FANCY", False)
    taps = [4 if fancy and ratio == 2 else ratio for ratio in (h, v)]
    first = [taps[0] * taps[1]] if "gradient" in function.arg_names and constants["CHANNELS"] == 3 else []
    return itertools.chain(first, itertools.repeat(h * v if "N" in function.arg_names else 1))


def instructions(code: str, rounds: Iterator[int], pixels: float) -> dict[str, Any]:
    """Instructions a pixel, least and most; how many lines there are in all, and of slow ones, loads and stores."""
    lines = parsed(code)
    counts: collections.Counter[str] = collections.Counter()
    for line in lines:
        for kind, pattern in SLOW.items():
            counts[kind] += bool(re.match(pattern, line.name))
        if access := re.match(r"(LD|ST)G", line.name):
            width = re.search(r"\.(U8|S8|U16|S16|64|128)\b", line.name)
            counts[f"{access[0]}.{width[1] if width else 32}"] += 1
    least, most = executed(lines, rounds)
    return {
        "per pixel": [round(least / pixels, 1), round(most / pixels, 1)],
        "lines": len(lines),
        **{name: n for name, n in sorted(counts.items()) if n},
    }


def measured(
    subsampling: str = "4:2:0", record: str = "gaussian", architecture: int = 90, long: bool = False
) -> dict[str, Compile]:
    """The kernels of a call in colour: on whole MCUs, and ``odd``, with everything that other sizes and slopes need."""
    s = settings(Spec(subsampling=subsampling, surrogate=surrogates.get(record)), 3)
    g = launch.Grid(1, 3, 512, 512, s.h, s.v, s.triangle)
    shape = {
        "CHANNELS": 3, "H": s.h, "V": s.v, "FANCY": g.fancy, "N": 16, "ALIGNED": True, "LONG": long,
        "colors": None,
    }  # fmt: skip
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
        **shape, "RECORDS": (s.slope, s.table_slope), **without("factors", "clips"),
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
    without_clips = dict(real)
    for made in (smooth_gradient, without_clips):
        del made["factors"], made["clips"]
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
        "encode gradient": (backward.encode_gradient_kernel, {**odd, "clips": None}, PIXEL_FLAGS),
        "decode gradient": (
            backward.decode_gradient_kernel,
            {**odd, "clips": None},
            {**ARGUMENTS, "out": THREE},
        ),
        "soft encode gradient": (
            backward.encode_gradient_kernel,
            without_clips,
            {**PIXEL_FLAGS, "clips": "*fp32"},
        ),
        "soft decode gradient": (
            backward.decode_gradient_kernel,
            without_clips,
            {**SOFT, "gradient": "*fp32", "out": THREE},
        ),
        "stencil": (backward.stencil_kernel, {**real, **samples}),
        "soft": (
            soft.soft_kernel,
            {**smooth, **without("flags", "clips", "slopes", "factors", "levels", "ratios")},
            SOFT,
        ),
        "soft, saving": (soft.soft_kernel, {**smooth, **without("factors", "levels", "ratios")}, SOFT),
        "soft, tables": (soft.soft_kernel, {**smooth, **without("levels", "ratios")}, SOFT),
        "soft encode": (
            soft.soft_kernel,
            {**smooth, **without("planes", "spreads", "seen", "flags", "clips", "slopes", "factors")},
            SOFT,
        ),
        "soft encode, saving": (
            soft.soft_kernel,
            {**smooth, **without("planes", "spreads", "seen")},
            {**SOFT, "flags": ("*u8",), "clips": ("*fp32",)},
        ),
        "soft decode": (soft.soft_decode_kernel, {**shape, "LEAK": 0.0, **without("flags", "clips")}, DECODE),
        "soft decode, saving": (soft.soft_decode_kernel, {**shape, "LEAK": 0.0}, DECODE),
        "soft image": (soft.soft_image_kernel, {**smooth_image, **without("flags", "clips")}, SOFT),
        "soft image, saving": (
            soft.soft_image_kernel,
            smooth_image,
            {**SOFT, "flags": "*u8", "clips": "*fp32"},
        ),
        "soft gradient": (gradient, {**smooth_gradient, **without("factors", "sums")}, SOFT),
        "soft gradient, tables": (gradient, smooth_gradient, SOFT),
        **colored(levels, to_image, smooth, smooth_image, without_clips, pixels),
        "scale": (
            scaling.scale_kernel,
            shape,
            dict.fromkeys(("base", "quality", "entries", "slopes"), "*fp64"),
        ),
        "count": (scan.count_kernel, shape, SCAN),
        "length": (scan.code_kernel, {**shape, "words": None}, SCAN),
        "code": (scan.code_kernel, shape, SCAN),
    }
    return {
        name: functools.partial(compiled, *call, architecture=architecture) for name, call in calls.items()
    }


def colored(
    levels: dict[str, Any],
    image: dict[str, Any],
    smooth: dict[str, Any],
    smooth_image: dict[str, Any],
    gradient: dict[str, Any],
    pixels: dict[str, Any],
) -> dict[str, tuple[Any, ...]]:
    """The kernels whose colour conversion tensors give, saving for the gradient, and the two of its own gradient."""

    def given(constants: dict[str, Any], *without_: str) -> dict[str, Any]:
        found = {**constants, **without(*without_)}
        del found["colors"]
        return found

    sums = {
        **ARGUMENTS, "planes": "*fp32", "flags": "*u8", "clips": "*fp32", "noise": ("fp32",) * 5,
    }  # fmt: skip
    exact = {"SOFT": False, "CLIP_SLOPE": 0.0, **without("clips")}
    real = {"SOFT": True, "CLIP_SLOPE": 0.0}
    to_encoder = {**pixels, "LONG": gradient["LONG"], "FORWARD": (255.0,)}
    to_decoder = {**gradient, **pixels, "INVERSE": (1 / 255,)}
    return {
        "colored encode": (forward.encode_kernel, given(levels), {**ARGUMENTS, "flags": ("*u8",)}),
        "colored image": (forward.image_kernel, given(image, "image", "seen"), PIXEL_FLAGS),
        "colored soft encode": (
            soft.soft_kernel,
            given(smooth, "planes", "spreads", "seen"),
            {**SOFT, "flags": ("*u8",), "clips": ("*fp32",)},
        ),
        "colored soft image": (
            soft.soft_image_kernel,
            given(smooth_image, "image", "seen"),
            {**SOFT, "flags": "*u8", "clips": "*fp32"},
        ),
        "colored decode gradient": (
            backward.decode_gradient_kernel,
            {**given(to_decoder), "clips": None},
            {**ARGUMENTS, "out": THREE},
        ),
        "gradient of the encoder's colours": (
            conversion.encoder_kernel,
            {**to_encoder, **exact, "RANGE": levels["RANGE"], "noise": None},
            sums,
        ),
        "gradient of the decoder's colours": (
            conversion.decoder_kernel,
            {**given(to_decoder), **exact},
            PIXEL_FLAGS,
        ),
        "soft gradient of the encoder's colours": (
            conversion.encoder_kernel,
            {**to_encoder, **real, "RANGE": smooth["RANGE"]},
            sums,
        ),
        "soft gradient of the decoder's colours": (
            conversion.decoder_kernel,
            {**given(to_decoder), **real},
            {**SOFT, "gradient": "*fp32", "flags": "*u8"},
        ),
    }


def gray(
    record: str, value_range: tuple[float, float], image: str, architecture: int = 90
) -> dict[str, Compile]:
    """The kernels of a call in gray, for an image type and its range."""
    chosen = surrogates.get(record)
    s = settings(Spec("4:4:4", surrogate=chosen, table_surrogate=chosen), 1)
    name = launch.value_range(torch.uint8 if image == "*u8" else torch.float32, *value_range)
    low, span = value_range[0], value_range[1] - value_range[0]
    shape = {
        "CHANNELS": 1, "H": 1, "V": 1, "FANCY": True, "N": 16, "ALIGNED": False, "LONG": False, "ROWS": 2,
        "COLUMNS": 512, "colors": None, "COLOR": to_planes_of(s), "INVERSE": to_image_of(s),
    }  # fmt: skip
    real = {
        **shape, "INVERSE": s.inverse_real, "FORWARD": s.forward_real, "CLIP_SLOPE": 0.1,
        "RECORDS": (s.slope, s.table_slope), **without("factors", "clips"),
    }  # fmt: skip
    types = {
        **ARGUMENTS, "image": image, "out": image, "coefficients": ("*i16",), "flags": ("*u8", "*u8"),
        "kept": ("*i16",), "parameters": (("fp32",),) * 2,
    }  # fmt: skip
    floats = "*fp32" if image == "*u8" else image
    to_planes, to_image = {"RANGE": (name, low, 255 / span)}, {"RANGE": (name, low, span)}
    seen = {"seen": None} if image == "*u8" else {}
    calls: dict[str, tuple[Any, ...]] = {
        f"encode, {name}": (
            forward.encode_kernel,
            {**shape, **to_planes, **seen, **without("levels", "ratios")},
            types,
        ),
        f"image, {name}": (forward.image_kernel, {**shape, **to_image, **seen, "flags": None}, types),
        f"gradient, {record}": (backward.gradient_kernel, real, {**types, "gradient": floats, "out": floats}),
    }
    return {
        name: functools.partial(compiled, *call, architecture=architecture) for name, call in calls.items()
    }


def everything(architecture: int = 90) -> dict[str, Compile]:
    """Every way of sampling, every record, every range, 16-bit types, places of 64 bits."""
    found = {}
    for subsampling, record, long in (
        ("4:4:4", "identity", False),
        ("4:2:2", "sin", True),
        ("4:4:0", "cubic", False),
        ("4:1:1", "soft_round", True),
    ):
        calls = measured(subsampling, record, architecture, long)
        found.update({f"{name}, {subsampling}": it for name, it in calls.items()})
    ranges = itertools.cycle(
        (((0.0, 1.0), "*u8"), ((0.0, 255.0), "*fp16"), ((-17.3, 1.9), "*bf16"), ((-1.0, 1.0), "*fp32"))
    )
    for record, (value_range, image) in zip(surrogates.ALL, ranges, strict=False):
        calls = gray(record, value_range, image, architecture)
        found.update({f"gray, {name}": it for name, it in calls.items()})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", nargs="*", default=[""])
    parser.add_argument("--architecture", type=int, default=90)
    asked = parser.parse_args()
    calls = everything(asked.architecture) if asked.all else measured(architecture=asked.architecture)
    found = {}
    for name, call in calls.items():
        if name.startswith(tuple(asked.only)):
            found[name] = call()
            print(name, found[name], file=sys.stderr, flush=True)
    json.dump(found, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
