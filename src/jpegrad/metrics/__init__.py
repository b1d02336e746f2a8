"""Metrics of the eye as losses: differentiable, and equal to the official tools."""

from jpegrad.metrics.comparison import Comparison
from jpegrad.metrics.joint import Perceptual
from jpegrad.metrics.psychovisual import Butteraugli, butteraugli
from jpegrad.metrics.structural import SSIMULACRA2, ssimulacra2

__all__ = ["SSIMULACRA2", "Butteraugli", "Comparison", "Perceptual", "butteraugli", "ssimulacra2"]
