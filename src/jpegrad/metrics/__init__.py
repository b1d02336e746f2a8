"""Metrics of the eye as losses: differentiable, and equal to the official tools."""

from jpegrad.metrics.butteraugli import Butteraugli as Butteraugli
from jpegrad.metrics.perceptual import Perceptual as Perceptual
from jpegrad.metrics.ssimulacra2 import SSIMULACRA2 as SSIMULACRA2

__all__ = ["SSIMULACRA2", "Butteraugli", "Perceptual"]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
