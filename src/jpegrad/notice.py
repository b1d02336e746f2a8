"""Warnings that point at the user's own line."""

import sys
import warnings
from pathlib import Path

import torch

_INNER = tuple(str(Path(file).parent) for file in (__file__, torch.__file__))


def warn(message: str) -> None:
    """A UserWarning at the line, outside this package and PyTorch, from which the library was called."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INNER):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
