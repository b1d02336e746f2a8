"""What a file shall meet: its bytes, its bits per pixel, its loss, or the trade of a quality."""

import math
import numbers
from dataclasses import dataclass

from jpegrad.tables import check_quality


@dataclass(frozen=True)
class LikeQuality:
    """Distortion and size traded as the default tables trade them at this quality, 1…100.

    The Lagrange multiplier is the slope of the distortion to the bits along the scale of Annex K's tables there.
    The file gets smaller at about equal distortion, or better at about equal size, as the picture will have it.

    Args:
        quality: 1…100, a number.

    Raises:
        TypeError, ValueError: ``quality`` is not such a number.

    Example:
        >>> LikeQuality(60)
        LikeQuality(quality=60)
    """

    quality: float = 75

    def __post_init__(self) -> None:
        _set_number(self, "quality", "a quality 1 to 100")
        check_quality(self.quality)


@dataclass(frozen=True)
class Bytes:
    """The least distortion in a file of at most so many bytes; of several images, all files together.

    Args:
        count: of the whole file with optimised Huffman tables, headers included; at least 1.

    Raises:
        TypeError, ValueError: ``count`` is not a positive integer.

    Example:
        >>> import jpegrad, torch
        >>> jpegrad.tune.compress(torch.rand(3, 32, 32), target=Bytes(1200), steps=1).size <= 1200
        True
    """

    count: int

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, numbers.Integral):
            raise TypeError(f"target: expected a whole number of bytes, got {self.count!r}")
        object.__setattr__(self, "count", int(self.count))
        if self.count < 1:
            raise ValueError(f"target: expected at least 1 byte, got {self.count}")


@dataclass(frozen=True)
class BitsPerPixel:
    """The least distortion in a file of at most so many bits per pixel, headers included.

    Args:
        bits: of the file / pixels of the image, above 0; of several images, all files / all pixels. More than the
            samples themselves have (24 in colour) and the headers is an error when the target is used.

    Raises:
        TypeError, ValueError: ``bits`` is not a finite number above 0.

    Example:
        >>> BitsPerPixel(0.8)
        BitsPerPixel(bits=0.8)
    """

    bits: float

    def __post_init__(self) -> None:
        _set_number(self, "bits", "a number of bits per pixel")
        if not 0 < self.bits < math.inf:
            raise ValueError(f"target: expected more than 0 bits per pixel, got {self.bits}")


@dataclass(frozen=True)
class Loss:
    """The smallest file whose loss, as the metric gives it, is at most so high; of several images, the mean loss.

    Args:
        value: in the unit of the metric; of ``"mse"`` the mean squared error of samples in [0, 1]. More than the
            metric's ``highest`` is an error when the target is used.

    Raises:
        TypeError, ValueError: ``value`` is not a finite number.

    Example:
        >>> import jpegrad, torch
        >>> jpegrad.tune.compress(torch.rand(3, 32, 32), metric="mse", target=Loss(0.07), steps=1).loss <= 0.07
        True
    """

    value: float

    def __post_init__(self) -> None:
        _set_number(self, "value", "a loss as a number")
        if not math.isfinite(self.value):
            raise ValueError(f"target: expected a finite loss, got {self.value}")


SCORES = {"ssimulacra2": -1, "butteraugli": 1}
"""By name, 1 where a lower score is better, and −1 where a higher one is."""


@dataclass(frozen=True)
class Score:
    """The smallest file that a judge finds good enough, whatever metric it is made for; of several images, their mean.

    Args:
        judge: ``"ssimulacra2"``, whose score is then at least ``value``, or ``"butteraugli"``, whose 3-norm is at most
            ``value``: see :mod:`jpegrad.metrics`.
        value: on the judge's own scale.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> Score("ssimulacra2", 80)
        Score(judge='ssimulacra2', value=80)
    """

    judge: str
    value: float

    def __post_init__(self) -> None:
        if self.judge not in SCORES:
            raise ValueError(f"target: expected a judge of {', '.join(SCORES)}, got {self.judge!r}")
        _set_number(self, "value", "a score as a number")
        # SSIMULACRA2 has no lower bound, and Butteraugli no upper one.
        highest = 100.0 if self.judge == "ssimulacra2" else math.inf
        lowest = -math.inf if self.judge == "ssimulacra2" else 0.0
        if not (math.isfinite(self.value) and lowest <= self.value <= highest):
            raise ValueError(f"target: expected a score {lowest:g} to {highest:g}, got {self.value}")


Target = LikeQuality | Bytes | BitsPerPixel | Loss | Score


def check_target(target: object) -> None:
    if not isinstance(target, Target):
        raise TypeError(
            f"target: expected LikeQuality, Bytes, BitsPerPixel, Loss or Score, got {type(target).__name__}"
        )


def _set_number(target: object, name: str, expected: str) -> None:
    """A field as a Python number; NumPy's numbers are taken too."""
    value = getattr(target, name)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"target: expected {expected}, got {value!r}")
    object.__setattr__(target, name, value if isinstance(value, int) else float(value))
