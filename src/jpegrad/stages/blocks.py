"""Planes to 8×8 blocks and back (T.81 A.2)."""

from torch import Tensor


def split(plane: Tensor) -> Tensor:
    """``[..., 8·by, 8·bx]`` → ``[..., by, bx, 8, 8]``."""
    height, width = plane.shape[-2:]
    return plane.reshape(*plane.shape[:-2], height // 8, 8, width // 8, 8).transpose(-3, -2)


def merge(blocks: Tensor) -> Tensor:
    """``[..., by, bx, 8, 8]`` → ``[..., 8·by, 8·bx]``."""
    by, bx = blocks.shape[-4:-2]
    return blocks.transpose(-3, -2).reshape(*blocks.shape[:-4], 8 * by, 8 * bx)
