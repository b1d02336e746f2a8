"""The native kernel as ctypes sees it: the shared library and the structures of ``cpp/api.h``."""

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from ctypes import addressof, byref, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

FUNCTIONS = (
    "jpeg",
    "soft",
    "encode",
    "decode",
    "jpeg_backward",
    "encode_backward",
    "decode_backward",
    "scan_bytes",
    "scan_counts",
    "trellis",
    "step_costs",
    "count_band",
    "band_bits",
    "decode_scan",
    "decode_arithmetic_scan",
    "encode_scan",
    "release_scan",
    "prepare_structure",
    "compare_structure",
    "prepare_distance",
    "compare_distance",
    "compare_similarity",
)
TYPES = {torch.uint8: 0, torch.float32: 1, torch.float16: 4, torch.bfloat16: 5}
"""Of images, as the kernel's enum Type numbers them."""
Filled = TypeVar("Filled", bound=ctypes.Structure)
PIXELS_PER_THREAD = 1 << 16
"""Starting a thread takes as long as coding a tenth of this."""


class Codec(ctypes.Structure):
    _fields_ = [
        ("height", c_int64),
        ("width", c_int64),
        ("channels", c_int32),
        ("h", c_int32),
        ("v", c_int32),
        ("triangle", c_int32),
        ("table_count", c_int32),
        ("jfif", c_int32),
        ("forward_matrix", c_int32 * 9),
        ("forward_bias", c_int32 * 3),
        ("inverse_matrix", c_int32 * 9),
        ("inverse_bias", c_int64 * 3),
        ("forward_real", c_float * 9),
        ("inverse_real", c_float * 9),
        ("forward_offset", c_float * 3),
        ("inverse_offset", c_float * 3),
        ("low", c_double),
        ("high", c_double),
        ("clip_slope", c_float),
        ("slope", c_int32),
        ("slope_parameter", c_float * 3),
        ("table_slope", c_int32),
        ("table_parameter", c_float * 3),
        ("noise", c_float),
    ]


class Image(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("batch", c_int64),
        ("channel", c_int64),
        ("row", c_int64),
        ("column", c_int64),
        ("type", c_int32),
    ]


class Call(ctypes.Structure):
    _fields_ = [
        ("batch", c_int64),
        ("input", Image),
        ("output", Image),
        ("tables", c_void_p),
        ("table_stride", c_int64),
        ("kept_stride", c_int64),
        ("coefficients", c_void_p),
        ("slopes", c_void_p),
        ("factors", c_void_p),
        ("clips", c_void_p * 4),
        ("flags", c_void_p),
        ("chroma_flags", c_void_p),
        ("planes", c_void_p * 3),
        ("unrounded", c_void_p * 3),
        ("table_gradient", c_void_p),
        ("book", c_void_p),
        ("book_stride", c_int64),
        ("counts", c_void_p),
        ("far", c_void_p),
        ("threads", c_int32),
    ]


class Trellis(ctypes.Structure):
    _fields_ = [
        ("batch", c_int64),
        ("unrounded", c_void_p * 3),
        ("levels", c_void_p * 3),
        ("type", c_int32),
        ("tables", c_void_p),
        ("table_stride", c_int64),
        ("weights", c_void_p * 3),
        ("weight_strides", c_int64 * 5 * 3),
        ("ac_prices", c_void_p),
        ("dc_prices", c_void_p),
        ("threads", c_int32),
    ]


class StepCosts(ctypes.Structure):
    _fields_ = [
        ("blocks", c_int64),
        ("tables", c_int64),
        ("levels", c_void_p),
        ("lower", c_void_p),
        ("where", c_void_p),
        ("bits", c_void_p),
        ("out", c_void_p),
        ("threads", c_int32),
    ]


class ScanComponent(ctypes.Structure):
    _fields_ = [
        ("levels", c_void_p),
        ("rows", c_int64),
        ("columns", c_int64),
        ("h", c_int32),
        ("v", c_int32),
        ("dc", c_int32),
        ("ac", c_int32),
    ]


class Scan(ctypes.Structure):
    _fields_ = [
        ("data", c_char_p),
        ("size", c_int64),
        ("position", c_int64),
        ("mcu_rows", c_int64),
        ("mcu_columns", c_int64),
        ("restart_interval", c_int64),
        ("intervals", c_int64),
        ("damages", c_int64),
        ("reached", c_int64),
        ("lenient", c_int32),
        ("count", c_int32),
        ("process", c_int32),
        ("first", c_int32),
        ("last", c_int32),
        ("high", c_int32),
        ("low", c_int32),
        ("components", ScanComponent * 4),
        ("tables", c_char_p),
    ]


class CodedComponent(ScanComponent):
    _fields_ = [("type", c_int32)]


class CodedScan(ctypes.Structure):
    _fields_ = [
        ("mcu_rows", c_int64),
        ("mcu_columns", c_int64),
        ("count", c_int32),
        ("process", c_int32),
        ("first", c_int32),
        ("last", c_int32),
        ("high", c_int32),
        ("low", c_int32),
        ("optimize", c_int32),
        ("clamp", c_int32),
        ("components", CodedComponent * 4),
        ("tables", c_void_p),
        ("data", c_void_p),
        ("size", c_int64),
        ("capacity", c_int64),
    ]


class BandCall(ctypes.Structure):
    _fields_ = [
        ("blocks", c_int64),
        ("levels", c_void_p),
        ("first", c_int32),
        ("last", c_int32),
        ("counts", c_void_p),
        ("ends", c_void_p),
        ("prices", c_void_p),
        ("bits", c_void_p),
        ("threads", c_int32),
    ]


class Comparison(ctypes.Structure):
    _fields_ = [
        ("batch", c_int64),
        ("height", c_int64),
        ("width", c_int64),
        ("image", c_void_p),
        ("original", c_void_p),
        ("bytes", c_int32),
        ("original_bytes", c_int32),
        ("prepared", c_void_p),
        ("weights", c_void_p),
        ("taps", c_float * 5),
        ("values", c_void_p),
        ("map", c_void_p),
        ("gradient", c_void_p),
        ("scale", c_void_p),
        ("out_gradient", c_void_p),
        ("threads", c_int32),
    ]


def fill(kind: type[Filled], **fields: Any) -> Filled:
    """A structure, whose arrays are given as tuples."""
    types: dict[str, Any] = {field[0]: field[1] for field in kind._fields_}
    return kind(**{name: types[name](*x) if isinstance(x, tuple) else x for name, x in fields.items()})


@functools.cache
def load() -> ctypes.CDLL | str:
    """The shared library, or the reason why there is none; ``JPEGRAD_NATIVE_LIBRARY`` names another build of it."""
    folder = Path(__file__).parent
    found = [path for pattern in ("_kernel*.so", "_kernel*.dylib") for path in sorted(folder.glob(pattern))]
    if chosen := os.environ.get("JPEGRAD_NATIVE_LIBRARY"):
        found = [Path(chosen)]
    if not found:
        return "the native kernel is not built (no C++ compiler at installation?)"
    try:
        library = ctypes.CDLL(str(found[0]))
        library.jpegrad_kernel.restype = c_char_p
        library.jpegrad_sizeof.restype = c_int64
        for name in FUNCTIONS:
            function = getattr(library, f"jpegrad_{name}")
            function.argtypes = (c_void_p, c_void_p)
            function.restype = c_int
    except (OSError, AttributeError) as error:
        return f"the native kernel does not load: {error}"
    structures = (Codec, Call, Trellis, StepCosts, Scan, CodedScan, Comparison, BandCall)
    if any(library.jpegrad_sizeof(i) != ctypes.sizeof(each) for i, each in enumerate(structures)):
        return "the native kernel is of another version of this package: reinstall it"
    return library


def library() -> ctypes.CDLL:
    loaded = load()
    if isinstance(loaded, str):
        raise RuntimeError(loaded)
    return loaded


@functools.cache
def _function(name: str) -> Callable[[Any, Any], int]:
    """``jpegrad_NAME``: to find it by its name takes longer than a call."""
    found: Callable[[Any, Any], int] = getattr(library(), f"jpegrad_{name}")
    return found


def describe(image: Tensor) -> Image:
    """A tensor ``[B, C, H, W]`` of one of :data:`TYPES`, with any strides."""
    b, c, y, x = image.stride()
    return Image(image.data_ptr(), b, c, y, x, TYPES[image.dtype])


def pointers(tensors: Sequence[Tensor], count: int = 3) -> ctypes.Array[c_void_p]:
    return (c_void_p * count)(*(tensor.data_ptr() for tensor in tensors))


def invoke(name: str, codec: Codec, batch: int, **fields: object) -> int:
    """Run one function of the kernel over a batch.

    Returns:
        How many of the samples that it read lie far outside the value range.

    Raises:
        MemoryError: there is no room for the working memory.
    """
    far = c_int64()
    threads = _threads(batch * codec.height * codec.width)
    _run(name, codec, Call(batch=batch, far=addressof(far), threads=threads, **fields))
    return far.value


def choose(codec: Codec, batch: int, **fields: object) -> None:
    """Run the trellis over a batch.

    Raises:
        MemoryError: there is no room for the working memory.
    """
    threads = _threads(batch * codec.height * codec.width)
    _run("trellis", codec, Trellis(batch=batch, threads=threads, **fields))


def step_costs(**fields: Any) -> None:
    """Cost one level more at every place of blocks."""
    call = StepCosts(**fields)
    call.threads = _threads(64 * call.blocks)
    _function("step_costs")(None, byref(call))


def band(name: str, **fields: Any) -> None:
    """Count, or price, what a band of blocks sends."""
    call = fill(BandCall, **fields)
    call.threads = _threads(64 * call.blocks)
    _function(name)(None, byref(call))


def compare(name: str, image: Tensor, **fields: Any) -> None:
    """Run one function of a metric over pictures ``[B, 3, H, W]``, contiguous float32.

    Raises:
        MemoryError: there is no room for the working memory.
    """
    batch, _, height, width = image.shape
    call = fill(Comparison, batch=batch, height=height, width=width, image=image.data_ptr(), **fields)
    call.threads = _threads(batch * height * width)
    if _function(name)(None, byref(call)) != 0:
        raise MemoryError(f"jpegrad native {name}: no memory for an image of {height}×{width}")


def _threads(pixels: int) -> int:
    return max(1, min(torch.get_num_threads(), pixels // PIXELS_PER_THREAD))


def _run(name: str, codec: Codec, call: Call | Trellis) -> None:
    if _function(name)(byref(codec), byref(call)) != 0:
        raise MemoryError(f"jpegrad native {name}: no memory for an image of {codec.height}×{codec.width}")
