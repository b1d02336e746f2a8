"""How files are coded: tables and subsampling of quality rules, of headers, of whole folders."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from numbers import Real
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from jpegrad import arguments, notice
from jpegrad.coefficients import Coefficients
from jpegrad.files import SUFFIXES
from jpegrad.io import COLORS, naming, read_header
from jpegrad.jfif.errors import JPEGError
from jpegrad.jfif.header import Header
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import Color, check_choice
from jpegrad.tables import check_real, load

COMPONENTS = (1, 3, 4)
Kind = tuple[str, Color | None]
"""Subsampling and colour conversion."""
Like = str | os.PathLike[str] | Header | Coefficients


@dataclass(frozen=True, eq=False)
class Coding:
    """How a file is coded, but for its quality where it has one: what :class:`RandomJPEG` chooses from.

    Args:
        tables: ``[n, 8, 8]``, float32: of a file, or of quality 50, to be scaled; None is Annex K's.
        subsampling: the library's word.
        color: conversion; None is JFIF's.
        components: 1, 3 or 4 of a file; None where the coding suits all.
        files: how many files are coded so, its weight in the draw.
    """

    tables: Tensor | None
    subsampling: str
    color: Color | None = None
    components: int | None = None
    files: int = 1

    def suits(self, components: int) -> bool:
        """Whether an image of so many components can be coded so: gray ones by the luma table of any file."""
        return components == 1 or self.components in (None, components)


def modes_of(subsampling: Any) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Subsampling modes, and the lowest quality of each if they follow the quality."""
    if isinstance(subsampling, Mapping):
        qualities, modes = tuple(subsampling), tuple(subsampling.values())
        for quality in qualities:
            if isinstance(quality, bool) or not isinstance(quality, Real):
                raise TypeError(f"subsampling: expected qualities as keys, got {quality!r}")
        if not qualities or sorted(set(qualities)) != list(qualities) or not qualities[0] <= 1:
            raise ValueError(
                "subsampling: expected rising qualities as keys, the first of them 1, each with the mode from there "
                f"on; got {subsampling!r}"
            )
    else:
        qualities, modes = (), (subsampling,) if isinstance(subsampling, str) else tuple(subsampling)
    if not modes:
        raise ValueError("subsampling: expected at least one mode, got none")
    for mode in modes:
        check_choice("subsampling", mode, tuple(SUBSAMPLING))
    return qualities, modes


def bases_of(tables: Any) -> tuple[Tensor | None, ...]:
    """Tables of quality 50, one or several, as tensors ``[n, 8, 8]``; None is Annex K."""
    if tables is None:
        return (None,)
    several = isinstance(tables, (list, tuple)) and not _is_nested(tables)
    found = tuple(map(_base, tables if several else (tables,)))
    if not found:
        raise ValueError("tables: expected at least one set, got none")
    return found


def _is_nested(tables: Sequence[Any]) -> bool:
    """Whether these are tables as nested lists of numbers, and not several sets."""
    depth, value = 0, tables
    while isinstance(value, (list, tuple)) and value:
        depth, value = depth + 1, value[0]
    return depth == 3 and isinstance(value, Real)


def _base(tables: Any) -> Tensor:
    found = load(tables) if isinstance(tables, (str, os.PathLike)) else arguments.numbers("tables", tables)
    check_real("tables", found)
    if found.ndim != 3 or found.shape[0] not in (1, 2, 3) or found.shape[1:] != (8, 8):
        raise ValueError(
            "tables: expected names of jpegrad.tables.load, or tensors [1 to 3, 8, 8], each a set of quality 50; "
            f"got shape {list(found.shape)}"
        )
    if found.requires_grad:
        raise ValueError(
            "tables: expected without a gradient, which would go to a copy; jpegrad.nn.JPEG learns tables"
        )
    return found.detach().to("cpu", torch.float32)


def codings_like(like: Any) -> tuple[Coding, ...]:
    """The codings of files, each once."""
    sources = like if isinstance(like, (list, tuple)) else (like,)
    counts: dict[Any, Coding] = {}
    for coding in (found for source in sources for found in _codings_of(source)):
        assert coding.tables is not None
        key = coding.tables.numpy().tobytes(), coding.subsampling, id(coding.color), coding.components
        known = counts.get(key)
        counts[key] = coding if known is None else replace(known, files=known.files + coding.files)
    if not counts:
        raise ValueError("like: expected at least one file, got none")
    return tuple(counts.values())


def _codings_of(source: Like) -> Iterator[Coding]:
    if isinstance(source, Coefficients):
        if source.tables.ndim != 3:
            raise ValueError(
                f"like: expected coefficients of one picture, got tables {list(source.tables.shape)}"
            )
        tables = source.tables.detach().to("cpu", torch.float32)
        yield Coding(tables, source.subsampling, source.color, source.channels)
    elif isinstance(source, Header):
        yield _coding(source)
    elif isinstance(source, str) and source in _presets():
        yield _preset(source)
    elif not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "like: expected files, folders, headers, coefficients or names of Pillow's presets, "
            f"got {type(source).__name__}"
        )
    elif Path(source).is_dir():
        yield from _folder(Path(source))
    else:
        try:
            header = read_header(source)
        except FileNotFoundError:
            names = ", ".join(_presets())
            raise FileNotFoundError(
                f"{os.fspath(source)}: expected a file, a folder or one of {names}"
            ) from None
        with naming(source):
            coding = _coding(header)
        yield coding


def _folder(folder: Path) -> Iterator[Coding]:
    """The codings of all .jpg files in a folder and below; those that say of none are named in a warning."""
    paths = [path for path in sorted(folder.rglob("*")) if _is_file(path, folder)]
    faults = []
    for path in paths:
        try:
            header = read_header(path)
            with naming(path):
                coding = _coding(header)
        except (JPEGError, OSError) as error:
            faults.append(str(error))
        else:
            yield coding
    if len(faults) == len(paths):
        about = f", none of which can be coded like: {faults[0]}" if faults else ""
        raise ValueError(f"like: expected a folder with .jpg files, got {folder} with {len(paths)}{about}")
    if faults:
        notice.warn(f"like: left out {len(faults)} of {len(paths)} files of {folder}, the first {faults[0]}")


def _is_file(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def _coding(header: Header) -> Coding:
    """How a file is coded.

    Raises:
        JPEGError: an image of 8 bits cannot be coded so.
    """
    if header.precision != 8 or header.process in ("lossless", "hierarchical"):
        raise JPEGError(f"not supported: {header.process} of {header.precision} bits")
    if header.subsampling is None:
        raise JPEGError(f"not supported: sampling factors {header.sampling}")
    if header.tables is None or not (header.tables > 0).all():
        raise JPEGError("corrupt: a quantization table is missing or has an entry of 0")
    return Coding(header.tables, header.subsampling, COLORS.get(header.color), header.components)


def _presets() -> dict[str, Any]:
    """Those of Pillow, the settings of Photoshop."""
    from PIL.JpegPresets import presets

    return cast(dict[str, Any], presets)


def _preset(name: str) -> Coding:
    preset = _presets()[name]
    tables = torch.tensor(preset["quantization"], dtype=torch.float32).view(-1, 8, 8)
    return Coding(tables, ("4:4:4", "4:2:2", "4:2:0")[preset["subsampling"]], components=3)


def stacked(codings: Sequence[Coding]) -> Tensor | None:
    """``[K, 4, 8, 8]``, the table of each component; None of codings by Annex K."""
    tables = [coding.tables for coding in codings if coding.tables is not None]
    if not tables:
        return None
    return torch.stack([x[[min(i, len(x) - 1) for i in range(4)]] for x in tables])


def kinds_of(codings: Sequence[Coding], components: int) -> tuple[list[Kind], list[int]]:
    """What the codings of so many components differ in but for tables, and which kind each coding is; -1 is none."""
    if components == 1:
        return [("4:4:4", None)], [0] * len(codings)
    # By identity: a conversion of your own may hold tensors.
    keys = [
        (coding.subsampling, id(coding.color)) if coding.suits(components) else None for coding in codings
    ]
    kinds = {
        key: (coding.subsampling, coding.color) for key, coding in zip(keys, codings, strict=True) if key
    }
    places = {key: i for i, key in enumerate(kinds)}
    return list(kinds.values()), [-1 if key is None else places[key] for key in keys]


def files_of(codings: Sequence[Coding], components: int) -> tuple[int, Tensor]:
    """How many files of so many components there are, and with which of them in a row each coding ends."""
    ends = list(accumulate(coding.files * coding.suits(components) for coding in codings))
    return ends[-1], torch.tensor(ends, device="cpu")


def as_file(tables: Tensor, subsampling: str, color: Color | None) -> Coefficients:
    """Coefficients to code like: these tables ``[..., n, 8, 8]`` of n components."""
    block = torch.zeros(1, 1, 8, 8, device="cpu")
    return Coefficients((block,) * tables.shape[-3], tables, (1, 1), subsampling, color)
