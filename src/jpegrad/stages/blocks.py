"""Planes to 8×8 blocks and back (T.81 A.2)."""

from torch import Tensor


def split(plane: Tensor) -> Tensor:
    """``[..., 8·by, 8·bx]`` → ``[..., by, bx, 8, 8]``."""
    return plane.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)


def merge(blocks: Tensor) -> Tensor:
    """``[..., by, bx, 8, 8]`` → ``[..., 8·by, 8·bx]``."""
    return blocks.transpose(-3, -2).flatten(-2).flatten(-3, -2)
