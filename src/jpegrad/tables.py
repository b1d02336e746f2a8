"""Quantization tables: Annex K, the quality scaling of libjpeg, zigzag order.

Tables are natural order (row = vertical frequency), never transposed, never scaled behind your back.
Sources: ITU-T T.81 Annex K.1; libjpeg-turbo ``jcparam.c`` (``jpeg_quality_scaling``, ``jpeg_add_quant_table``).
"""

import functools
import json
import math
import os
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from jpegrad.data import table_names, table_path
from jpegrad.files import write_atomically
from jpegrad.home import at_home, constants, home
from jpegrad.surrogates import Elementwise, Surrogate, finite, identity, leaky_clamp, straight_through

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""T.81 Table K.1, natural order."""
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
)
"""T.81 Table K.2, natural order."""
ANNEX_K = (LUMINANCE, CHROMINANCE)
"""The tables of quality 50."""


def _zigzag() -> tuple[int, ...]:
    # Diagonals alternate: even ones run up (row falling), odd ones down.
    def key(i: int) -> tuple[int, int]:
        row, column = divmod(i, 8)
        diagonal = row + column
        return diagonal, row if diagonal % 2 else column

    return tuple(sorted(range(64), key=key))


ZIGZAG = _zigzag()
"""Natural index (8·row + column) of the k-th coefficient in zigzag order (T.81 Figure A.6)."""


def check_quality(quality: float | Tensor) -> None:
    """Raise unless ``quality`` is a number in 1…100 or a real tensor (whose values are clamped, not read)."""
    if isinstance(quality, Tensor):
        if quality.is_complex() or quality.dtype == torch.bool:
            raise TypeError(f"quality: expected a real tensor, got dtype {quality.dtype}")
        return
    # Real for the scalars of NumPy.
    if isinstance(quality, bool) or not isinstance(quality, (int, float, Real)):
        raise TypeError(f"quality: expected a number or a tensor, got {type(quality).__name__}")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality: expected 1 to 100, got {quality}")


def known(values: Tensor) -> bool:
    """Whether values may be read: at once, for this call alone, and with no gradient that would be lost."""
    return (
        not torch.compiler.is_compiling()
        and type(values) in (Tensor, torch.nn.Parameter)
        and values.device.type == "cpu"
        and not values.requires_grad
        and not torch._C._functorch.is_functorch_wrapped_tensor(values)
        and torch.autograd.forward_ad._current_level < 0
        and not torch._C._is_tracing()
    )


def is_whole(quality: Tensor) -> bool:
    """Whether all values are known integers 1…100, whose tables are looked up and not computed."""
    return known(quality) and all(1 <= q <= 100 and q % 1 == 0 for q in quality.reshape(-1).tolist())


def check_real(argument: str, value: Tensor) -> None:
    """Raise unless ``value`` is a tensor of real numbers."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{argument}: expected a torch.Tensor, got {type(value).__name__}")
    if value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{argument}: expected a real tensor, got dtype {value.dtype}")


def legal(
    tables: Tensor, *, forward: str = "exact", surrogate: Surrogate = identity, largest: int = 255
) -> Tensor:
    """Table entries as a file holds them: integers 1…255 (NaN becomes 1).

    The slope is 1 everywhere: an entry outside its range has the gradient of the nearest legal one, so that a learned
    entry which a step carries outside comes back when the loss wants it to. Nothing holds it near the range: where an
    optimiser goes on pushing outwards, clamp the parameter itself after its step.

    Args:
        tables: real numbers of any shape.
        forward: ``"exact"`` rounds and clamps; ``"soft"`` only clamps.
        surrogate: whose clip to use; with ``"soft"`` the presets of the paper have one that leaks, in the value too.
        largest: the largest entry: 255, which baseline files hold and ``tables=`` codes with, or 65535, which files of
            16-bit tables hold.

    Returns:
        A tensor of the same shape and dtype.

    Raises:
        TypeError: ``tables`` is not a real tensor.
        ValueError: ``largest`` is neither.

    Example:
        >>> legal(torch.tensor([0.2, 16.4, 300.0]))
        tensor([  1.,  16., 255.])
    """
    check_real("tables", tables)
    if largest not in (255, 65535):
        raise ValueError(f"largest: expected 255 or 65535, got {largest!r}")
    tables = finite(tables, 1.0, 1.0, float(largest))
    if forward == "soft" and surrogate.floor is not None:
        real = leaky_clamp(tables, 1.0, float(largest), _leak(surrogate))
        # The paper's own tables end at 0.999; a divisor far below 1 is none.
        return straight_through(real.clamp(min=0.5), real)
    real = tables if forward == "soft" else tables.round()
    return straight_through(real.clamp(1.0, float(largest)), tables)


@at_home
def scale(
    base: Tensor, quality: float | Tensor, *, forward: str = "exact", surrogate: Surrogate = identity
) -> Tensor:
    """Scale base tables to a quality as libjpeg does.

    s = 5000//q below 50, 200 − 2q above; entry = (base·s + 50)//100, clipped to 1…255.
    The floors have slope 1. To the quality, an entry that is clipped within ±2 of it has the slope of the chord over
    that interval, in place of a derivative that is 0 or soon will be: at quality 1 all are clipped. To the base, a
    clipped entry has slope 0, as one quality of several must not move what it cannot see; only a base outside 1…255 has
    the slope s/100 there too. A quality outside 1…100 has the gradient of the nearest of these.

    Args:
        base: tables at quality 50, ``[..., 8, 8]`` or ``[n, 8, 8]``, entries 1…255; may require grad.
        quality: 1…100, a number or a tensor ``[...]`` of any shape; values of a tensor are clamped to 1…100 (NaN to 1).
            ``[..., 1, 1, 1]`` multiplies the base, as it would an image: each quality with tables of its own.
        forward: ``"soft"`` matters to the presets of the paper alone: their soft floors then make the value, for
            ``jpegrad.jpeg`` of the same preset, which clips it.
        surrogate: whose floors to use; only the presets of the paper have slopes other than the above.

    Returns:
        ``quality.shape + base.shape``, or what ``[..., 1, 1, 1]`` and ``base.shape`` broadcast to, in the dtype of
        ``base`` (float32 for integers, so that gradients pass).

    Raises:
        TypeError, ValueError: ``base`` is not a real tensor, ``quality`` not a number in 1…100 or a real tensor, or a
            quality ``[..., 1, 1, 1]`` does not broadcast.

    Source: libjpeg-turbo ``jcparam.c``; fractional qualities follow the same formulas.

    Example:
        >>> scale(torch.tensor(ANNEX_K), 25)[0, 0, :4]
        tensor([32., 22., 20., 32.])
        >>> bases = torch.tensor(ANNEX_K).expand(4, 2, 8, 8)
        >>> scale(bases, torch.tensor([10, 30, 75, 95])[:, None, None, None]).shape
        torch.Size([4, 2, 8, 8])
    """
    check_quality(quality)
    check_real("base", base)
    dtype, device = base.dtype if base.is_floating_point() else torch.float32, base.device
    base = base.to(torch.float64)
    q = torch.as_tensor(quality, dtype=torch.float64, device=device)
    q = finite(q, 1.0, 1.0, 100.0)
    if q.shape[-3:] == (1, 1, 1):
        _check_pairs(q.shape, base.shape)
    else:
        q = q.reshape(q.shape + (1,) * base.ndim)
    q = straight_through(q.clamp(1.0, 100.0), q)
    soft = surrogate.floor
    if soft is not None and forward == "soft":
        return _floors(base, q, soft).to(dtype)
    percent = _percent(q.detach(), torch.floor)
    entries = ((base * percent + 50) / 100).floor().clamp(1.0, 255.0)
    if soft is not None:
        carrier = leaky_clamp(_floors(base, q, _straight(soft)), 1.0, 255.0, _leak(surrogate))
    else:
        real = base * percent / 100
        moves = (real >= 1) & (real <= 255) | (base < 1) | (base > 255)
        carrier = _chord(base.detach(), q.detach()) * q + moves * real
    return straight_through(entries, carrier).to(dtype)


def _check_pairs(quality: torch.Size, base: torch.Size) -> None:
    try:
        torch.broadcast_shapes(quality, base)
    except RuntimeError:
        raise ValueError(
            f"quality: expected a shape that broadcasts to the tables' {list(base)}, got {list(quality)}"
        ) from None


def _percent(q: Tensor, floor: Elementwise) -> Tensor:
    return torch.where(q < 50, floor(_coarse(q)), 200 - 2 * q)


def _coarse(q: Tensor) -> Tensor:
    # Not 5000 / q: torch multiplies by the reciprocal, which rounds twice.
    return torch.full_like(q, 5000.0) / q


def _floors(base: Tensor, q: Tensor, floor: Elementwise) -> Tensor:
    """The scaling as the paper writes it, with a floor above 50 too."""
    percent = floor(torch.where(q < 50, _coarse(q), 200 - 2 * q))
    return floor((base * percent + 50) / 100)


def _straight(soft: Elementwise) -> Elementwise:
    """The floor itself with the slope of a soft one."""
    return lambda x: straight_through(x.floor(), soft(x))


def _leak(surrogate: Surrogate) -> float:
    return 1.0 if surrogate.clip_slope is None else surrogate.clip_slope


def _chord(base: Tensor, q: Tensor) -> Tensor:
    """d(entry)/d(quality): the derivative where the entry stays unclipped within q ± 2, else the chord's slope."""
    below, above = (q - _REACH).clamp(min=1.0), (q + _REACH).clamp(max=100.0)
    low, high = (base * _percent(x, _unchanged) / 100 for x in (above, below))
    chord = (low.clamp(1.0, 255.0) - high.clamp(1.0, 255.0)) / (above - below)
    derivative = base / 100 * torch.where(q < 50, -5000 / q**2, -2.0)
    return torch.where((low > 1) & (high < 255), derivative, chord)


_REACH = 2.0


def _unchanged(x: Tensor) -> Tensor:
    return x


def annex_k(
    quality: float | Tensor, *, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Tensor:
    """The tables of T.81 Annex K at a quality, as libjpeg, Pillow and OpenCV use them.

    Args:
        quality: 1…100, a number or a tensor ``[...]``, which may require grad.
        dtype: of the result; the quality's own if that is floating point, else float32.
        device: of the result; the quality's own.

    Returns:
        ``[..., 2, 8, 8]``: luminance, chrominance; integers 1…255 with a gradient to the quality.

    Raises:
        TypeError, ValueError: ``quality`` is not a number in 1…100 or a real tensor.

    Source: ITU-T T.81 Tables K.1 and K.2.

    Example:
        >>> annex_k(50).shape
        torch.Size([2, 8, 8])
    """
    check_quality(quality)
    if isinstance(quality, Tensor):
        device = device or quality.device
        dtype = dtype or (quality.dtype if quality.is_floating_point() else None)
        quality = quality.to(home(quality.device))
    dtype = dtype or torch.float32
    if not isinstance(quality, Tensor) and not torch.compiler.is_compiling():
        # A buffer is read at once, a list by the number; but to the modes that watch the dispatcher it is no tensor.
        if is_in_torch_dispatch_mode():
            return torch.tensor(list(_entries(quality)), dtype=dtype, device=device).view(2, 8, 8)
        if device is not None and device.type == "cuda":
            return constants(tuple(_entries(quality)), dtype, device).view(2, 8, 8).clone()
        entries = torch.frombuffer(_entries(quality), dtype=torch.uint8).view(2, 8, 8)
        return entries.to(device=device, dtype=dtype, copy=True)
    if isinstance(quality, Tensor) and quality.numel() and is_whole(quality):
        joined = b"".join(_entries(q) for q in quality.reshape(-1).tolist())
        found = torch.frombuffer(bytearray(joined), dtype=torch.uint8).view(*quality.shape, 2, 8, 8)
        return found.to(device, non_blocking=True).to(dtype)
    place = None if device is None else home(torch.device(device))
    base = constants(ANNEX_K, torch.float64, place)
    return scale(base, quality).to(dtype).to(device=device)


@functools.lru_cache(256)
def _entries(quality: float) -> bytearray:
    """:func:`scale` of Annex K without PyTorch, which small images would wait for."""
    percent = math.floor(5000 / quality) if quality < 50 else 200 - 2 * quality
    entries = np.floor((_ANNEX_K * percent + 50) / 100)
    return bytearray(entries.clip(1, 255).astype(np.uint8).tobytes())


_ANNEX_K = np.array(ANNEX_K, np.float64)


class QualityEstimate(NamedTuple):
    """The quality at which Annex K, or another base, comes nearest to given tables; ``exact`` means ``distance`` 0."""

    quality: int
    exact: bool
    distance: float


def estimate_quality(tables: Tensor, base: Tensor | None = None) -> QualityEstimate:
    """The quality that libjpeg, Pillow or OpenCV would be told to get these tables, or tables most like them.

    Args:
        tables: ``[n, 8, 8]``, n = 1 (luma), 2 (luma, chroma) or 3 (luma, Cb, Cr), positive; natural order.
        base: ``[2, 8, 8]``, tables of quality 50 that an encoder scales, such as :func:`load` gives by name; None is
            Annex K.

    Returns:
        The quality 1…100 of the nearest tables of that base (of several the highest), whether they are equal,
        and the distance: the mean of |log(entry / theirs)| over all entries. Scaling multiplies all entries by one
        factor, so that a ratio weighs the same at every quality and every frequency.

    Raises:
        TypeError, ValueError: ``tables`` has another type or shape, or an entry that is not positive.

    Example:
        >>> estimate_quality(annex_k(83))
        QualityEstimate(quality=83, exact=True, distance=0.0)
        >>> estimate_quality(scale(load("klein"), 83), load("klein")).exact
        True
    """
    check_real("tables", tables)
    if tables.ndim != 3 or tables.shape[0] not in (1, 2, 3) or tables.shape[1:] != (8, 8):
        raise ValueError(f"tables: expected shape [1 to 3, 8, 8], got {list(tables.shape)}")
    given = tables.detach().to("cpu").double()
    wrong = ~(given > 0) | given.isinf()
    if wrong.any():
        raise ValueError(f"tables: expected positive entries, got {given[wrong][0].item():g}")
    if base is not None:
        check_real("base", base)
        if base.shape != (2, 8, 8):
            raise ValueError(f"base: expected shape [2, 8, 8], got {list(base.shape)}")
    every = _every_quality() if base is None else scale(base.detach().cpu().double(), _falling())
    candidates = every[:, [0, 1, 1][: len(given)]]
    distances = (given.log() - candidates.log()).abs().mean((1, 2, 3))
    nearest = int(distances.argmin())
    distance = float(distances[nearest])
    return QualityEstimate(100 - nearest, distance == 0, distance)


@functools.cache
def _every_quality() -> Tensor:
    """Annex K's tables at the qualities 100 to 1."""
    return annex_k(_falling(), dtype=torch.float64)


def _falling() -> Tensor:
    return torch.arange(100, 0, -1)


def save(path: str | os.PathLike[str], tables: Tensor, **about: str) -> None:
    """Write tables as JSON: ``{"tables": [[[16, 11, ...], ...], ...]}``, natural order.

    Args:
        path: where; the file appears complete or not at all.
        tables: ``[n, 8, 8]``, integers 1…255.
        about: further entries of the file, such as how the tables were made.

    Raises:
        TypeError, ValueError: the tables are not as described.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> save(f"{folder.name}/tables.json", annex_k(50), made="by hand")
        >>> bool((load(f"{folder.name}/tables.json") == annex_k(50)).all())
        True
    """
    _check_whole(tables)
    entries = tables.to(torch.int64).tolist()
    write_atomically(path, (json.dumps({**about, "tables": entries}) + "\n").encode())


def load(path: str | os.PathLike[str]) -> Tensor:
    """Read tables that :func:`save` wrote, or a bare nested list; or tables that ship with the package.

    Args:
        path: of the file; or a name of tables for quality 50, to be scaled by :func:`scale`: ``"mse"``, ``"ms-ssim"``,
            ``"mix"``, learned for that metric; ``"flat"``, ``"robidoux"`` (the default of mozjpeg), ``"klein"``,
            ``"watson"``, ``"ahumada"``, ``"peterson"``, ``"mozjpeg-ms-ssim"``, ``"mozjpeg-psnr-hvs"``, published by
            others. Only the plain string is such a name: ``"./mse"`` and ``Path("mse")`` are files.

    Returns:
        ``[n, 8, 8]``, float32. Of the published ones robidoux and klein have entries above 255, which scaling to
        the qualities of their use brings below.

    Raises:
        ValueError: the file does not hold tables of integers 1…255.
        OSError: the file cannot be read; of a name without a file, with the names that ship.

    Source: of the published ones, their files in the package; mozjpeg ``jcparam.c``.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> save(f"{folder.name}/tables.json", annex_k(75))
        >>> load(f"{folder.name}/tables.json").shape
        torch.Size([2, 8, 8])
        >>> scale(load("robidoux"), 75)[0, 0]
        tensor([ 8.,  8.,  8.,  9., 13., 19., 28., 43.])
    """
    highest = 255
    if isinstance(path, str) and path in table_names():
        path, highest = table_path(path), 65535
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        tables = torch.tensor(
            content["tables"] if isinstance(content, dict) else content, dtype=torch.float32
        )
        _check_whole(tables, highest)
    except FileNotFoundError:
        names = ", ".join(table_names())
        raise FileNotFoundError(f"{os.fspath(path)}: expected a file of tables or one of {names}") from None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)}: expected JSON with tables [n, 8, 8]: {error}") from None
    return tables


def _check_whole(tables: Tensor, highest: int = 255) -> None:
    check_real("tables", tables)
    if tables.ndim != 3 or tables.shape[0] not in (1, 2, 3) or tables.shape[1:] != (8, 8):
        raise ValueError(f"tables: expected shape [1 to 3, 8, 8], got {list(tables.shape)}")
    wrong = (tables != tables.round()) | (tables < 1) | (tables > highest)
    if wrong.any():
        raise ValueError(f"tables: expected integers 1 to {highest}, got {tables[wrong][0].item():g}")
