"""The coefficient calls of ``jpeglib``: levels and tables of .jpg files as arrays of int16."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jpegrad.coefficients import Coefficients, Segment
from jpegrad.io import read, read_structure, write
from jpegrad.sampling import ceil_div, sampling_factors, sampling_name
from jpegrad.spec import CMYK, RGB
from jpegrad.tables import annex_k

Array = np.ndarray[Any, Any]
_SPACES = {"gray": "JCS_GRAYSCALE"}
_COLORS = {"JCS_RGB": RGB, "JCS_CMYK": CMYK}
_SHARED = {1: (0, 0, 0, 0), 2: (0, 1, 1, 0), 3: (0, 1, 2, 2), 4: (0, 1, 2, 3)}
"""Which of so many tables each component has."""


@dataclass
class DCTJPEG:
    """As ``jpeglib.DCTJPEG``: the levels and tables of a file, which may be changed and written again.

    Args:
        path: where it was read from, or None.
        height, width: in pixels.
        samp_factor: ``[C, 2]``, (vertical, horizontal) of each component.
        jpeg_color_space: ``"JCS_YCbCr"``, ``"JCS_GRAYSCALE"``, ``"JCS_RGB"``, ``"JCS_CMYK"`` or ``"JCS_YCCK"``.
        Y, Cb, Cr, K: levels ``[blocks_y, blocks_x, 8, 8]`` int16, or None.
        qt: ``[n, 8, 8]`` uint16; or a quality.
        quant_tbl_no: which of them each component has.
        markers: metadata to carry along, (marker, payload).
        progressive_mode: whether the file is progressive.
        num_scans: how many scans it has.
    """

    path: str | None
    height: int
    width: int
    samp_factor: Array
    jpeg_color_space: str
    Y: Array
    Cb: Array | None
    Cr: Array | None
    K: Array | None
    qt: Array | int
    quant_tbl_no: Array
    markers: Sequence[Segment] = ()
    progressive_mode: bool = False
    num_scans: int = 1
    content: bytes | None = field(default=None, repr=False)

    @property
    def num_components(self) -> int:
        """1, 3 or 4."""
        return len(self._planes())

    @property
    def has_chrominance(self) -> bool:
        """Whether there is more than Y."""
        return self.num_components > 1

    @property
    def has_black(self) -> bool:
        """Whether there is K."""
        return self.num_components > 3

    @property
    def block_dims(self) -> Array:
        """``[C, 2]``, (rows, columns) of blocks."""
        return np.array([plane.shape[:2] for plane in self._planes()])

    def height_in_blocks(self, component: int) -> int:
        """Rows of blocks of a component."""
        return int(self.block_dims[component][0])

    def width_in_blocks(self, component: int) -> int:
        """Columns of blocks of a component."""
        return int(self.block_dims[component][1])

    def get_component_qt(self, idx: int) -> Array:
        """The table of a component, ``[8, 8]``."""
        found: Array = self._tables()[self.quant_tbl_no[idx]]
        return found

    def copy(self) -> "DCTJPEG":
        """One that can be changed without changing this."""
        return copy.deepcopy(self)

    def load(self) -> tuple[Array, tuple[Array | None, Array | None], Array | int]:
        """Y, (Cb, Cr) and the tables; all is read already."""
        return self.Y, (self.Cb, self.Cr), self.qt

    def write_dct(
        self, path: str | os.PathLike[str] | None = None, quality: int = -1, flags: Any = ()
    ) -> None:
        """Write a .jpg file.

        Args:
            path: where to; None is where it was read from.
            quality: 1…100, for Annex K's tables in place of ``qt``; −1 keeps ``qt``.
            flags: of jpeglib's, ``"+PROGRESSIVE_MODE"`` alone; without it the file is baseline.

        Raises:
            OSError: there is no path, or the file cannot be written.
            TypeError, ValueError: the levels do not belong together, or a flag is another.
        """
        target = self.path if path is None else path
        if target is None:
            raise OSError(
                "path: expected where to write, because these levels were read from no file; got None"
            )
        known = {"+PROGRESSIVE_MODE", "-PROGRESSIVE_MODE"}
        if wrong := {*flags} - known:
            raise ValueError(
                f"flags: expected some of {', '.join(sorted(known))}, got {', '.join(sorted(wrong))}"
            )
        chosen = self
        if quality != -1:
            chosen = replace(self, qt=quality, quant_tbl_no=np.array(_SHARED[2][: self.num_components]))
        write(target, chosen.coefficients(), progressive="+PROGRESSIVE_MODE" in flags)

    def coefficients(self) -> Coefficients:
        """The same as :class:`jpegrad.Coefficients`."""
        if self.jpeg_color_space == "JCS_GRAYSCALE":
            subsampling = "4:4:4"
        else:
            subsampling = sampling_name([(int(h), int(v)) for v, h in np.asarray(self.samp_factor)])
        tables = self._tables()[np.asarray(self.quant_tbl_no, dtype=int)]
        found = torch.from_numpy(tables.astype(np.float32))
        while len(found) > 1 and torch.equal(found[-1], found[-2]):
            found = found[:-1]
        return Coefficients(
            levels=tuple(torch.from_numpy(np.asarray(plane, dtype=np.int16)) for plane in self._planes()),
            tables=found,
            size=(self.height, self.width),
            subsampling=subsampling,
            color=_COLORS.get(self.jpeg_color_space),
            metadata=tuple(self.markers),
        )

    def _planes(self) -> list[Array]:
        return [plane for plane in (self.Y, self.Cb, self.Cr, self.K) if plane is not None]

    def _tables(self) -> Array:
        if isinstance(self.qt, int):
            return annex_k(self.qt).numpy().astype(np.uint16)
        return np.asarray(self.qt)


def read_dct(path: str | os.PathLike[str]) -> DCTJPEG:
    """As ``jpeglib.read_dct``.

    Args:
        path: of a .jpg file.

    Raises:
        JPEGError: not a JPEG file, corrupt, or not supported.
        OSError: the file cannot be opened.

    Source: jpeglib, ``functional.py``.

    Example:
        >>> import jpegrad
        >>> jpegrad.write("a.jpg", jpegrad.encode(torch.rand(3, 40, 24), 75))
        >>> jpeg = read_dct("a.jpg")
        >>> jpeg.Y.shape, jpeg.Cb.shape, jpeg.qt.shape, jpeg.samp_factor.tolist()
        ((5, 3, 8, 8), (3, 2, 8, 8), (2, 8, 8), [[2, 2], [1, 1], [1, 1]])
        >>> jpeg.Y[0, 0, 0, 0] += 1
        >>> jpeg.write_dct("b.jpg")
    """
    content = Path(path).read_bytes()
    c, structure = read(content, level_dtype=torch.int16), read_structure(content)
    planes = dict(zip(("Y", "Cb", "Cr", "K"), (plane.numpy() for plane in c.levels), strict=False))
    count = len(c.tables)
    return DCTJPEG(
        path=str(path),
        height=c.size[0],
        width=c.size[1],
        samp_factor=np.array([(v, h) for h, v in sampling_factors(c.channels, c.subsampling)]),
        jpeg_color_space=_SPACES.get(c.space, f"JCS_{c.space}"),
        Y=planes["Y"],
        Cb=planes.get("Cb"),
        Cr=planes.get("Cr"),
        K=planes.get("K"),
        qt=c.tables.numpy().astype(np.uint16),
        quant_tbl_no=np.array([min(i, count - 1) for i in range(c.channels)]),
        markers=c.metadata,
        progressive_mode=structure.process == "progressive",
        num_scans=len(structure.scans),
        content=content,
    )


def from_dct(
    Y: Array,
    Cb: Array | None = None,
    Cr: Array | None = None,
    K: Array | None = None,
    qt: Array | int | None = None,
    quant_tbl_no: Sequence[int] | None = None,
) -> DCTJPEG:
    """As ``jpeglib.from_dct``: a file of levels alone, of whole blocks.

    Args:
        Y, Cb, Cr, K: levels ``[blocks_y, blocks_x, 8, 8]``, of Y alone, YCbCr or YCCK.
        qt: ``[n, 8, 8]`` or ``[8, 8]``; or a quality, and None is 75.
        quant_tbl_no: which table each component has; None is as libjpeg has them.

    Raises:
        OSError: one of Cb and Cr is missing.
        TypeError, ValueError: the levels do not belong together.

    Source: jpeglib, ``functional.py``.

    Example:
        >>> levels = np.random.randint(-9, 9, (4, 4, 8, 8), dtype=np.int16)
        >>> from_dct(levels, levels[:2, :2], levels[:2, :2], qt=75).write_dct("c.jpg")
        >>> read_dct("c.jpg").width
        32
    """
    if (Cb is None) != (Cr is None):
        raise OSError("Cb, Cr: expected both or none of them, got one")
    planes = [plane for plane in (Y, Cb, Cr, K) if plane is not None]
    rows, columns = (max(plane.shape[axis] for plane in planes) for axis in (0, 1))
    factors = [(ceil_div(rows, plane.shape[0]), ceil_div(columns, plane.shape[1])) for plane in planes]
    most = np.array(factors).max(0)
    tables = 75 if qt is None else qt if isinstance(qt, int) else np.asarray(qt).reshape(-1, 8, 8)
    count = 2 if isinstance(tables, int) else len(tables)
    if count not in _SHARED:
        raise ValueError(f"qt: expected 1 to 4 tables, got {count}")
    chosen = _SHARED[count][: len(planes)] if quant_tbl_no is None else quant_tbl_no
    found = DCTJPEG(
        None,
        8 * rows,
        8 * columns,
        most // np.array(factors),
        {1: "JCS_GRAYSCALE", 3: "JCS_YCbCr"}.get(len(planes), "JCS_YCCK"),
        Y,
        Cb,
        Cr,
        K,
        tables,
        np.array(chosen),
    )
    found.coefficients()
    return found
