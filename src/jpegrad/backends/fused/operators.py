"""The operators of a backend made of kernels, as PyTorch's dispatcher and compiler see them.

An operator is room for its results, and a kernel that fills it; its schema, its run and its fake follow from these.
Images are ``[B, C, H, W]``, uint8, float32 or what else the kernels read, of any strides; tables
``[1 or B, n, 8, 8]``, contiguous float64; levels, unrounded levels and their gradients
``[B, blocks_y, blocks_x, 8, 8]`` per component, contiguous float32.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import Formulas, Settings, parse
from jpegrad.sampling import blocks
from jpegrad.spec import Spec

LIBRARY = torch.library.Library("jpegrad", "FRAGMENT")
_RUNS: dict[str, Callable[..., Any]] = {}


class SoftHalves(Protocol):
    """The soft forward from an image to mean levels, and from these to an image."""

    def encode_saved(self, image: Tensor, s: Settings, with_tables: bool) -> list[Tensor]:
        """Room for what ``encode`` keeps: the pixels' flags, more of the kernels' own; last, for each component, the
        slope of every level, and with tables what their gradient is multiplied by: -(slope · ratio + widening)."""

    def encode(
        self,
        image: Tensor,
        tables: Tensor,
        s: Settings,
        levels: list[Tensor],
        unrounded: list[Tensor],
        kept: list[Tensor],
    ) -> None:
        """Levels; coefficients in steps and what is kept, where there is room."""

    def encode_backward(self, gradients: list[Tensor], kept: list[Tensor], s: Settings, out: Tensor) -> None:
        """Gradients of coefficients to the gradient of the image; ``kept`` without the numbers of each level."""

    def decode_saved(self, out: Tensor, s: Settings, noisy: bool) -> list[Tensor]:
        """Room for what ``decode`` keeps."""

    def decode(
        self,
        levels: list[Tensor],
        noise: list[Tensor],
        tables: Tensor,
        s: Settings,
        out: Tensor,
        kept: list[Tensor],
    ) -> None:
        """The image; ``noise`` are variances per block ``[B, blocks_y, blocks_x, 1, 1]``, or none."""

    def decode_backward(self, gradient: Tensor, kept: list[Tensor], s: Settings, out: list[Tensor]) -> None:
        """Gradient of the image to gradients of dequantized coefficients."""


class Kernels(Formulas, Protocol):
    """What there is to write for a backend made of kernels: a module of six fills, the room that they keep, reasons."""

    @property
    def HALF(self) -> Collection[str]:
        """The operations in which they read and write images of 16-bit types too; others get float32."""

    @property
    def soft_halves(self) -> SoftHalves | None:
        """The same for ``encode`` and ``decode`` in the soft forward, if it has them."""

    @property
    def NAME(self) -> str:
        """Of the backend, before the names of its operators."""

    @property
    def KEYS(self) -> Collection[str]:
        """Keys of PyTorch's dispatcher: devices."""

    def reasons(self, operation: str, image: Tensor, spec: Spec) -> list[str]:
        """Why the kernels cannot run a call, beyond what no kernel can."""

    def saved(self, image: Tensor, s: Settings, with_tables: bool) -> list[Tensor]:
        """Room for what ``jpeg`` keeps for its backward pass."""

    def flags(self, shape: Sequence[int], s: Settings, like: Tensor) -> tuple[Tensor, Tensor]:
        """Room for which clamps acted, on pixels and on chroma samples of images of a shape."""

    def jpeg(self, image: Tensor, tables: Tensor, s: Settings, out: Tensor, saved: list[Tensor]) -> None:
        """The decoded image; nothing is kept if ``saved`` is empty."""

    def jpeg_backward(
        self,
        gradient: Tensor,
        tables: Tensor,
        saved: list[Tensor],
        s: Settings,
        out: Tensor,
        sums: Tensor | None,
    ) -> None:
        """Gradients of the image, and of the tables per image and component ``[B, C, 8, 8]``, float64."""

    def encode(
        self,
        image: Tensor,
        tables: Tensor,
        s: Settings,
        levels: list[Tensor],
        unrounded: list[Tensor],
        flags: Tensor | None,
    ) -> None:
        """Levels; for the backward pass, coefficients in steps and the pixels' flags, else [] and None."""

    def encode_backward(self, gradients: list[Tensor], flags: Tensor, s: Settings, out: Tensor) -> None:
        """Gradients of coefficients to the gradient of the image."""

    def decode(
        self, levels: list[Tensor], tables: Tensor, s: Settings, out: Tensor, flags: list[Tensor]
    ) -> None:
        """The image; ``flags`` are empty, or for pixels and chroma samples."""

    def decode_backward(self, gradient: Tensor, flags: list[Tensor], s: Settings, out: list[Tensor]) -> None:
        """Gradient of the image to gradients of dequantized coefficients."""


class Operator(NamedTuple):
    """One operator of every backend: its schema, the room for its results, what fills the room.

    ``room(kernels, *arguments)`` is what PyTorch's compiler sees; ``fill(kernels, *arguments, room)`` runs.
    """

    name: str
    schema: str
    room: Callable[..., Any]
    fill: Callable[..., None]


def register(kernels: Kernels, operators: "Sequence[Operator] | None" = None) -> None:
    """Define operators of a backend, unless given the six ``jpegrad::NAME_jpeg`` and so on."""
    for each in OPERATORS if operators is None else operators:
        _register(kernels, each)


def _register(kernels: Kernels, operator: Operator) -> None:
    name = f"{kernels.NAME}_{operator.name}"

    def room(*arguments: Any) -> Any:
        return operator.room(kernels, *arguments)

    def run(*arguments: Any) -> Any:
        found = room(*arguments)
        if _first(found).numel():
            operator.fill(kernels, *arguments, found)
        return found

    _RUNS[name] = run
    LIBRARY.define(name + operator.schema)
    for key in kernels.KEYS:
        LIBRARY.impl(name, run, key)
    torch.library.register_fake(f"jpegrad::{name}", room)


def operator(name: str, *tensors: Tensor) -> Callable[..., Any]:
    """``torch.ops.jpegrad.NAME``; what it runs, where nobody listens to PyTorch's dispatcher, which takes its time."""
    if is_watched(*tensors) or torch._C._autograd._profiler_enabled():
        found: Callable[..., Any] = getattr(torch.ops.jpegrad, name)
        return found
    return _RUNS[name]


def is_watched(*tensors: Tensor) -> bool:
    """Whether a compiler, a tracer, a transform or a mode is to see every operation on tensors."""
    return (
        torch.compiler.is_compiling()
        or any(map(_is_special, tensors))
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._get_tracing_state() is not None
    )


def _is_special(x: Tensor) -> bool:
    # A transform's tensors may outlive it.
    plain = type(x) is Tensor or type(x) is torch.nn.Parameter
    return not plain or x.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(x)


def _first(room: Any) -> Tensor:
    return room if isinstance(room, Tensor) else _first(room[0])


def _image(like: Tensor) -> Tensor:
    return torch.empty_like(like, memory_format=torch.contiguous_format)


def planes(shape: Sequence[int], s: Settings, like: Tensor) -> list[Tensor]:
    """Room for a number per coefficient of every component of images of a shape."""
    batch, channels, height, width = shape
    counts = [blocks((height, width), ratio) for ratio in ((1, 1), (s.h, s.v), (s.h, s.v))[:channels]]
    return [like.new_empty((batch, *count, 8, 8), dtype=torch.float32) for count in counts]


def _jpeg_room(
    k: Kernels, image: Tensor, tables: Tensor, settings: str, keep: bool, with_tables: bool
) -> Any:
    return _image(image), k.saved(image, parse(settings), with_tables) if keep else []


def _jpeg(
    k: Kernels, image: Tensor, tables: Tensor, settings: str, keep: bool, with_tables: bool, room: Any
) -> None:
    k.jpeg(image, tables, parse(settings), *room)


def _jpeg_backward_room(
    k: Kernels, gradient: Tensor, tables: Tensor, saved: list[Tensor], settings: str, with_tables: bool
) -> Any:
    batch, channels = gradient.shape[:2] if with_tables else (0, 0)
    return _image(gradient), gradient.new_empty((batch, channels, 8, 8), dtype=torch.float64)


def _jpeg_backward(
    k: Kernels,
    gradient: Tensor,
    tables: Tensor,
    saved: list[Tensor],
    settings: str,
    with_tables: bool,
    room: Any,
) -> None:
    out, sums = room
    k.jpeg_backward(gradient, tables, saved, parse(settings), out, sums if with_tables else None)


def _halves(k: Kernels) -> SoftHalves:
    if k.soft_halves is None:
        raise RuntimeError(f"{k.NAME} has no encode and no decode in the soft forward")
    return k.soft_halves


def _encode_room(
    k: Kernels,
    image: Tensor,
    tables: Tensor,
    settings: str,
    unrounded: bool,
    keep: bool,
    with_tables: bool,
) -> Any:
    s = parse(settings)
    kept: list[Tensor] = []
    if s.soft and keep:
        kept = _halves(k).encode_saved(image, s, with_tables)
    elif unrounded and not s.soft:
        kept = [k.flags(image.shape, s, image)[0]]
    return planes(image.shape, s, image), planes(image.shape, s, image) if unrounded else [], kept


def _encode(
    k: Kernels,
    image: Tensor,
    tables: Tensor,
    settings: str,
    with_ratios: bool,
    keep: bool,
    with_tables: bool,
    room: Any,
) -> None:
    levels, unrounded, kept = room
    s = parse(settings)
    if s.soft:
        _halves(k).encode(image, tables, s, levels, unrounded, kept)
    else:
        k.encode(image, tables, s, levels, unrounded, kept[0] if kept else None)


def _encode_backward_room(k: Kernels, gradients: list[Tensor], kept: list[Tensor], settings: str) -> Any:
    batch, height, width = kept[0].shape
    return kept[0].new_empty((batch, len(gradients), height, width), dtype=torch.float32)


def _encode_backward(
    k: Kernels, gradients: list[Tensor], kept: list[Tensor], settings: str, out: Tensor
) -> None:
    s = parse(settings)
    if s.soft:
        _halves(k).encode_backward(gradients, kept, s, out)
    else:
        k.encode_backward(gradients, kept[0], s, out)


def _decode_room(
    k: Kernels,
    levels: list[Tensor],
    noise: list[Tensor],
    tables: Tensor,
    height: int,
    width: int,
    dtype: torch.dtype,
    settings: str,
    keep: bool,
) -> Any:
    out = levels[0].new_empty((levels[0].shape[0], len(levels), height, width), dtype=dtype)
    s = parse(settings)
    if not keep:
        return out, []
    if s.soft:
        return out, _halves(k).decode_saved(out, s, bool(noise))
    return out, list(k.flags(out.shape, s, out))


def _decode(
    k: Kernels,
    levels: list[Tensor],
    noise: list[Tensor],
    tables: Tensor,
    height: int,
    width: int,
    dtype: torch.dtype,
    settings: str,
    keep: bool,
    room: Any,
) -> None:
    s = parse(settings)
    if s.soft:
        _halves(k).decode(levels, noise, tables, s, *room)
    else:
        k.decode(levels, tables, s, *room)


def _decode_backward_room(k: Kernels, gradient: Tensor, kept: list[Tensor], settings: str) -> Any:
    return planes(gradient.shape, parse(settings), gradient)


def _decode_backward(
    k: Kernels, gradient: Tensor, kept: list[Tensor], settings: str, out: list[Tensor]
) -> None:
    s = parse(settings)
    if s.soft:
        _halves(k).decode_backward(gradient, kept, s, out)
    else:
        k.decode_backward(gradient, kept, s, out)


OPERATORS = (
    Operator(
        "jpeg",
        "(Tensor image, Tensor tables, str settings, bool keep, bool with_tables) -> (Tensor, Tensor[])",
        _jpeg_room,
        _jpeg,
    ),
    Operator(
        "jpeg_backward",
        "(Tensor gradient, Tensor tables, Tensor[] saved, str settings, bool with_tables) -> (Tensor, Tensor)",
        _jpeg_backward_room,
        _jpeg_backward,
    ),
    Operator(
        "encode",
        "(Tensor image, Tensor tables, str settings, bool unrounded, bool keep, bool with_tables)"
        " -> (Tensor[], Tensor[], Tensor[])",
        _encode_room,
        _encode,
    ),
    Operator(
        "encode_backward",
        "(Tensor[] gradients, Tensor[] kept, str settings) -> Tensor",
        _encode_backward_room,
        _encode_backward,
    ),
    Operator(
        "decode",
        "(Tensor[] levels, Tensor[] noise, Tensor tables, SymInt height, SymInt width, ScalarType dtype,"
        " str settings, bool keep) -> (Tensor, Tensor[])",
        _decode_room,
        _decode,
    ),
    Operator(
        "decode_backward",
        "(Tensor gradient, Tensor[] kept, str settings) -> Tensor[]",
        _decode_backward_room,
        _decode_backward,
    ),
)
