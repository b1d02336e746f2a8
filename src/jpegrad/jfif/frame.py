"""A frame: its components, their geometry, and the coefficients as scans fill them in (ITU-T T.81 A.1, A.2)."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from jpegrad.jfif.errors import JPEGError
from jpegrad.jfif.segments import FrameComponent, FrameHeader
from jpegrad.sampling import ceil_div, sampling_name
from jpegrad.tables import ZIGZAG

NEVER_SENT = -1
MAX_BLOCKS_IN_MCU = 10


@dataclass
class Component:
    """One component while it is decoded.

    Args:
        header: what SOF says.
        blocks: real blocks, rows and columns.
        padded: the same, filled up to whole MCUs.
        stored: ``[padded rows, blocks_x, 8, 8]``, int16, natural order, of which a decoder fills in what scans send.
        table: quantization table in zigzag order, taken when the component's first scan begins (None before).
        pending: per coefficient, how many low bits are still to come (-1 before the first).
        before: the same before the component's last scan.
        zigzag: where the decoder in Python works: padded blocks in zigzag order.
    """

    header: FrameComponent
    blocks: tuple[int, int]
    padded: tuple[int, int]
    stored: Tensor
    table: tuple[int, ...] | None = None
    pending: list[int] = field(default_factory=lambda: [NEVER_SENT] * 64)
    before: list[int] = field(default_factory=lambda: [NEVER_SENT] * 64)
    zigzag: "array[int] | None" = None

    @property
    def levels(self) -> Tensor:
        """Those of the real blocks."""
        return self.stored[: self.blocks[0]]


@dataclass
class Frame:
    """The components, and how far their scans have come.

    Args:
        size: (height, width) in pixels.
        subsampling: the library's name.
        progressive: or sequential.
        components: in the order of SOF.
        scans: how many began.
        reached: the row of MCUs at which the data of the last one ended.
        ended: whether one has sent everything, as the one scan of most sequential files does.
    """

    size: tuple[int, int]
    subsampling: str
    progressive: bool
    components: list[Component]
    scans: int = 0
    reached: int = 0
    ended: bool = False

    def complete(self) -> bool:
        """Whether a picture is there: of progressive files, the DC levels; further bits may never come."""
        sent = [
            component.pending[:1] if self.progressive else component.pending for component in self.components
        ]
        return all(min(pending) > NEVER_SENT for pending in sent)


def check_size(header: FrameHeader, max_pixels: int | None) -> None:
    """Refuse empty pictures and pictures above the limit."""
    height, width = header.height, header.width
    if not width:
        raise JPEGError("corrupt: a picture without columns")
    if not height:
        raise JPEGError("not supported: a height given after the first scan (DNL)")
    if max_pixels is not None and height * width > max_pixels:
        raise JPEGError(f"picture of {height} x {width} pixels exceeds max_pixels={max_pixels}")


def subsampling_of(components: Sequence[FrameComponent]) -> str | None:
    """The library's name of the sampling factors, of which only the ratios count; None if it has none."""
    try:
        return find_subsampling(components)
    except JPEGError:
        return None


_RGB = tuple(b"RGB")


def color_space(identifiers: Sequence[int], jfif: bool, adobe_transform: int | None) -> str:
    """What the components are, by libjpeg's rules (``jdapimin.c``, ``default_decompress_parms``)."""
    if len(identifiers) == 4:
        return "YCCK" if adobe_transform else "CMYK"
    if len(identifiers) != 3:
        return "gray" if len(identifiers) == 1 else "unknown"
    if jfif:
        return "YCbCr"
    if adobe_transform is not None:
        return "YCbCr" if adobe_transform else "RGB"
    return "RGB" if tuple(identifiers) == _RGB else "YCbCr"


def repair_tables(frame: Frame) -> None:
    """Entries that are 0 or never came become 1 and their levels 0, which decodes to the same picture."""
    for component in frame.components:
        table = component.table or (0,) * 64
        levels = component.stored.flatten(-2)
        for k in (k for k, entry in enumerate(table) if entry == 0):
            levels[..., ZIGZAG[k]] = 0
        component.table = tuple(entry or 1 for entry in table)


def natural_tables(used: Sequence[tuple[int, tuple[int, ...]]]) -> Tensor:
    """``[n, 8, 8]``, float32: of (slot, entries in zigzag order) per component.

    The last serves the components that remain, as many as share it.
    """
    while len(used) > 1 and used[-2] == used[-1]:
        used = used[:-1]
    tables = torch.empty(len(used), 64)
    tables[:, list(ZIGZAG)] = torch.tensor([entries for _, entries in used], dtype=torch.float32)
    return tables.view(-1, 8, 8)


def find_subsampling(components: Sequence[FrameComponent]) -> str:
    """The library's name of the sampling factors, or an error."""
    if len(components) not in (1, 3, 4):
        raise JPEGError(f"not supported: {len(components)} components; expected 1, 3 or 4")
    if any(not (1 <= c.h <= 4 and 1 <= c.v <= 4) for c in components):
        raise JPEGError("corrupt: sampling factors outside 1 to 4")
    try:
        return sampling_name([(c.h, c.v) for c in components])
    except ValueError as error:
        raise JPEGError(f"not supported: {error}; expected the largest to be a multiple of each") from None


def new_frame(header: FrameHeader, progressive: bool, data_length: int | None) -> Frame:
    """An empty frame.

    Raises:
        JPEGError: sampling that is not supported, or more blocks than ``data_length`` bytes can hold: a complete file
            with Huffman codes spends at least one bit on each block. This bounds memory in proportion to the file.
    """
    subsampling = find_subsampling(header.components)
    h_max = max(c.h for c in header.components)
    v_max = max(c.v for c in header.components)
    mcus = ceil_div(header.height, 8 * v_max), ceil_div(header.width, 8 * h_max)
    real = [
        (ceil_div(header.height * c.v, 8 * v_max), ceil_div(header.width * c.h, 8 * h_max))
        for c in header.components
    ]
    if data_length is not None and sum(rows * columns for rows, columns in real) > 8 * data_length:
        raise JPEGError(
            f"truncated: {data_length} bytes cannot hold a picture of {header.height} x {header.width} pixels"
        )
    components = []
    for c, blocks in zip(header.components, real, strict=True):
        padded = mcus[0] * c.v, mcus[1] * c.h
        components.append(
            Component(c, blocks, padded, torch.zeros(padded[0], blocks[1], 8, 8, dtype=torch.int16))
        )
    return Frame((header.height, header.width), subsampling, progressive, components)


def mcu_grid(components: Sequence[Component]) -> tuple[int, int]:
    """Rows and columns of MCUs in a scan.

    A scan of one component is not interleaved: its MCU is one block, and there are no dummy blocks (T.81 A.2.2).
    """
    component = components[0]
    if len(components) == 1:
        return component.blocks
    if sum(c.header.h * c.header.v for c in components) > MAX_BLOCKS_IN_MCU:
        raise JPEGError(f"corrupt: more than {MAX_BLOCKS_IN_MCU} blocks in an MCU")
    return component.padded[0] // component.header.v, component.padded[1] // component.header.h
