"""Metrics of the eye as losses: differentiable, and equal to the official tools."""

from jpegrad.metrics.butteraugli import Butteraugli as Butteraugli
from jpegrad.metrics.perceptual import Perceptual as Perceptual
from jpegrad.metrics.ssimulacra2 import SSIMULACRA2 as SSIMULACRA2
