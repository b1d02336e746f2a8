"""Warnings that point at the user's own line."""

import sys
import warnings
from pathlib import Path

import torch

_INNER = tuple(str(Path(file).parent) for file in (__file__, torch.__file__))
_told: set[object] = set()


def call_site() -> tuple[tuple[str, int], int]:
    """The place (file, line), outside this package and PyTorch, from which the library was called.

    And how many frames it stands above the caller of this function.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INNER):
        frame, level = frame.f_back, level + 1
    return (frame.f_code.co_filename, frame.f_lineno), level


def warn(message: str) -> None:
    """A UserWarning at the user's line."""
    warnings.warn(message, UserWarning, stacklevel=call_site()[1])


def warn_once(key: object, message: str) -> None:
    """The same, the first time only for each ``key``."""
    if key not in _told:
        _told.add(key)
        warnings.warn(message, UserWarning, stacklevel=call_site()[1])
