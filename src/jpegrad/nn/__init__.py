"""The codec as modules."""

from jpegrad.nn.augmentation import Drawn as Drawn
from jpegrad.nn.augmentation import RandomJPEG as RandomJPEG
from jpegrad.nn.codings import Coding as Coding
from jpegrad.nn.history import History as History
from jpegrad.nn.history import RandomHistory as RandomHistory
from jpegrad.nn.history import Step as Step
from jpegrad.nn.layer import JPEG as JPEG

__all__ = ["JPEG", "Coding", "Drawn", "History", "RandomHistory", "RandomJPEG", "Step"]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
