"""Distortions to learn for, and the qualities to report. ``ALL`` is at the bottom."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from jpegrad import backends
from jpegrad.codec import jpeg
from jpegrad.home import at_home
from jpegrad.inputs import shown
from jpegrad.metrics import SSIMULACRA2, Butteraugli, Perceptual, comparison
from jpegrad.metrics.comparison import ROWS, add_squared_error_slope, in_bytes, unit
from jpegrad.metrics.filters import inner, is_plain
from jpegrad.metrics.perceptual import SHARES
from jpegrad.spec import Range, check_value_range
from jpegrad.surrogates import leaky_clamp
from jpegrad.tune.samples import UNIT, check_one_image, in_unit_range

Distortion = Callable[[Tensor], Tensor]
"""A distortion to one original: reconstruction [1, C, H, W] in [0, 1] → a number, the lower the better.

One with a method ``slope`` as :meth:`jpegrad.metrics.SSIMULACRA2.slope` is asked that in place of a graph."""

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of MS-SSIM from the finest to the coarsest scale."""
SMALLEST = 11 * 2 ** (len(SCALES) - 1)
"""Shortest side on which the coarsest scale still holds one window."""
C1, C2 = 0.01**2, 0.03**2


class Unusable(ValueError):
    """A picture that nothing can be learned from, while others may do."""


@dataclass(frozen=True)
class Metric:
    """A distortion between a reconstruction and its original.

    Args:
        name: what ``metric=`` takes, of those in :data:`ALL`; of others, what messages and checkpoints call it.
        against: given an original ``[1, C, H, W]`` in [0, 1], the :data:`Distortion` to it.
        source: where it comes from, with its parameters: a checkpoint goes on only under the same.
        highest: no reconstruction has a higher loss.

    Raises:
        TypeError: ``name`` or ``source`` is not a string, ``against`` not callable, or ``highest`` not a number.

    Example:
        >>> def absolute(original):
        ...     return lambda image: (image - original).abs().mean()
        >>> metric = Metric("absolute", absolute, "mean absolute error")
        >>> float(metric.against(torch.zeros(1, 3, 8, 8))(torch.ones(1, 3, 8, 8)))
        1.0
    """

    name: str
    against: Callable[[Tensor], Distortion]
    source: str
    highest: float = math.inf

    def __post_init__(self) -> None:
        for name in ("name", "source"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name}: expected a string, got {getattr(self, name)!r}")
        if not callable(self.against):
            raise TypeError(f"against: expected a function of the original, got {self.against!r}")
        if isinstance(self.highest, bool) or not isinstance(self.highest, (int, float)):
            raise TypeError(f"highest: expected a number, got {self.highest!r}")


class _SquaredError:
    """The mean squared error to one original ``[1, C, H, W]``."""

    takes_bytes = True

    def __init__(self, original: Tensor) -> None:
        self.original = in_bytes(original)

    def __call__(self, reconstruction: Tensor) -> Tensor:
        return (reconstruction - unit(self.original)).square().mean()

    def slope(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`jpegrad.metrics.SSIMULACRA2.slope`."""
        gradient = torch.zeros(image.shape, device=image.device)
        one = torch.ones(1, device=image.device)
        return add_squared_error_slope(self.original, image, gradient, one)[0], gradient


class Structure:
    """SSIM at several scales against one original, whose own moments are computed once.

    Args:
        original: ``[B, C, H, W]`` in [0, 1].
        scales: how many.

    Source: Wang et al., Image quality assessment, 2004; Wang, Simoncelli, Bovik, Multiscale structural similarity,
        2003: Gaussian window of 11 × 11, σ 1.5, where it lies within the image; means over channels at each scale.
    """

    def __init__(self, original: Tensor, scales: int) -> None:
        window = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
        self.window = tuple((window / window.sum()).tolist())
        self.pyramid = [original]
        while len(self.pyramid) < scales:
            self.pyramid.append(F.avg_pool2d(self.pyramid[-1], 2))
        self.moments: dict[int, tuple[Tensor, Tensor]] = {}

    def similarities(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """SSIM, and its contrast · structure part alone, at each scale: two tensors ``[scales, B]``."""
        whole, part = [], []
        kernel = self._kernel(image)
        for scale, original in enumerate(self.pyramid):
            image = F.avg_pool2d(image, 2) if scale else image
            if kernel is not None:
                both = kernel(image, original).mean(1)
                whole.append(both[:, 0])
                part.append(both[:, 1])
                continue
            mean_y, var_y = self._moments(scale)
            mean_x, square, product = self._filtered(image, image.square(), image * original)
            var_x, covariance = square - mean_x.square(), product - mean_x * mean_y
            structure = (2 * covariance + C2) / (var_x + var_y + C2)
            luminance = (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
            whole.append((luminance * structure).mean((1, 2, 3)))
            part.append(structure.mean((1, 2, 3)))
        return torch.stack(whole), torch.stack(part)

    def _kernel(self, image: Tensor) -> Callable[[Tensor, Tensor], Tensor] | None:
        """A backend's kernel, which has no gradient, for pairs of float32."""
        if (torch.is_grad_enabled() and image.requires_grad) or image.shape != self.pyramid[0].shape:
            return None
        if not all(x.dtype is torch.float32 and is_plain(x) for x in (image, self.pyramid[0])):
            return None
        return backends.kernel("similarity", image)

    def _moments(self, scale: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of the original, computed when they are first needed."""
        if scale not in self.moments:
            with torch.no_grad():
                mean, square = self._filtered(self.pyramid[scale], self.pyramid[scale].square())
                self.moments[scale] = (mean, square - mean.square())
        return self.moments[scale]

    def _filtered(self, *images: Tensor) -> list[Tensor]:
        return list(inner(torch.cat(images, 1), self.window).split(images[0].shape[1], 1))


def _multiscale(original: Tensor) -> Callable[[Tensor], Tensor]:
    if min(original.shape[-2:]) < SMALLEST:
        raise Unusable(
            f"images: expected sides of at least {SMALLEST} for MS-SSIM, got {list(original.shape[-2:])}"
        )
    structure = Structure(original, len(SCALES))

    def similarity(image: Tensor) -> Tensor:
        whole, part = structure.similarities(image)
        terms = leaky_clamp(torch.cat([part[:-1], whole[-1:]]), low=1e-6)
        exponents = torch.tensor(SCALES, dtype=terms.dtype, device=terms.device).unsqueeze(-1)
        return (terms**exponents).prod(0).mean()

    return similarity


def _dissimilarity(original: Tensor) -> Distortion:
    similarity = _multiscale(original)
    return lambda reconstruction: 1 - similarity(reconstruction)


@dataclass(frozen=True)
class _ByEye:
    """A judge of :mod:`jpegrad.metrics` as ``against``: a picture that is too small for it is :class:`Unusable`."""

    takes_bytes = True
    judge: type[SSIMULACRA2] | type[Butteraugli] | type[Perceptual]
    name: str

    def __call__(self, original: Tensor) -> Distortion:
        least, sides = comparison.SMALLEST, list(original.shape[-2:])
        if min(sides) < least:
            raise Unusable(
                f"images: expected sides of at least {least} for {self.name}, got {sides}; 'mse' takes any"
            )
        return self.judge(original, copy=original.dtype is not torch.uint8)


def mix(weight: float = 0.35) -> Metric:
    """weight · squared error + (1 − weight) · (1 − MS-SSIM), each relative to that of the default tables at quality 50.

    Args:
        weight: 0…1.

    Raises:
        TypeError, ValueError: ``weight`` is not such a number.

    Example:
        >>> import jpegrad, torch
        >>> image = torch.rand(1, 3, 180, 180)
        >>> loss = mix(0.5).against(image)
        >>> round(float(loss(jpegrad.jpeg(image, quality=50))), 4)
        1.0
    """
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        raise TypeError(f"weight: expected a number 0 to 1, got {weight!r}")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight: expected a number 0 to 1, got {weight!r}")

    def against(original: Tensor) -> Distortion:
        parts = [
            (share, part(original))
            for share, part in ((weight, _SquaredError), (1 - weight, _dissimilarity))
            if share
        ]
        with torch.no_grad():
            coded = jpeg(original, quality=50)
            # A picture without any detail has no error; then there is nothing to be relative to.
            scaled = [(share / max(loss(coded).item(), 1e-9), loss) for share, loss in parts]
        return lambda image: torch.stack([factor * loss(image) for factor, loss in scaled]).sum()

    return Metric("mix", against, f"{weight:g} · squared error + {1 - weight:g} · (1 − MS-SSIM), relative")


def get(metric: "str | Metric | Callable[[Tensor, Tensor], Tensor]") -> Metric:
    """The record for a name, a record itself, or a function (reconstruction, original) → loss.

    Raises:
        TypeError, ValueError: it is none of these.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in ALL:
            raise ValueError(f"metric: expected one of {', '.join(ALL)} or a function, got {metric!r}")
        return ALL[metric]
    if isinstance(metric, type) or not callable(metric):
        came = f"the class {metric.__name__}" if isinstance(metric, type) else type(metric).__name__
        raise TypeError(f"metric: expected a name or a function, got {came}")
    name = getattr(metric, "__name__", type(metric).__name__)
    return Metric(name, lambda original: lambda image: metric(image, original), "the caller's")


@at_home
def psnr(image: Tensor, original: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; infinite for equal ones."""
    strips = zip(image.split(ROWS, -2), original.split(ROWS, -2), strict=True)
    error = sum((a - b).square_().sum(dtype=torch.float64).item() for a, b in strips) / image.numel()
    return math.inf if error == 0 else -10 * math.log10(error)


def luma(image: Tensor) -> Tensor:
    """Y of BT.601, ``[..., 1, H, W]``; gray stays as it is."""
    if image.shape[-3] == 1:
        return image
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=image.dtype, device=image.device)
    return (image * weights.view(3, 1, 1)).sum(-3, keepdim=True)


@torch.no_grad()
@at_home
def report(image: Tensor, original: Tensor, *, value_range: Range = UNIT) -> dict[str, float]:
    """All that is measured of a reconstruction, whatever it was made for.

    Args:
        image, original: ``[C, H, W]`` or ``[1, C, H, W]``, C = 3 or 1, uint8, or floating point in ``value_range``,
            each of its own type.
        value_range: (low, high) of floating-point images. Samples further outside than half of it are an error.

    Returns:
        ``psnr`` and ``psnr_y`` in dB; ``ms_ssim`` of all channels (left out where a side is below 176) and ``ssim`` of
        Y (below 11).

    Raises:
        TypeError, ValueError: they are not such images, or not of one size.

    Source: as :class:`Structure`; Y of BT.601.

    Example:
        >>> import torch
        >>> image = torch.rand(3, 200, 180)
        >>> sorted(report((image + 0.01).clamp(max=1), image))
        ['ms_ssim', 'psnr', 'psnr_y', 'ssim']
    """
    value_range = check_value_range(value_range)
    for name, x in (("original", original), ("image", image)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(x).__name__}")
        if x.ndim not in (3, 4) or x.shape[:-3].numel() != 1 or x.shape[-3:] != original.shape[-3:]:
            raise ValueError(f"{name}: expected [C, H, W] as of the other, got {list(x.shape)}")
        check_one_image(name, x.reshape(x.shape[-3:]))
        least, most = (float(extreme) for extreme in in_unit_range(x, value_range).aminmax())
        if least < -0.5 or most > 1.5:
            least, most = (float(extreme) for extreme in x.aminmax())
            raise ValueError(
                f"{name}: expected samples in the value_range {shown(value_range)}, got {least:g} to {most:g}"
            )
    image, original = (in_unit_range(x.reshape(1, *x.shape[-3:]), value_range) for x in (image, original))
    return Qualities(original)(image)


class Qualities:
    """What :func:`report` measures, of any number of reconstructions of one original, whose moments are computed once.

    Args:
        original: ``[1, C, H, W]``, float32 in [0, 1].
    """

    def __init__(self, original: Tensor) -> None:
        side = min(original.shape[-2:])
        self.original, self.luma = original, luma(original)
        with torch.no_grad():
            self.multiscale = _multiscale(original) if side >= SMALLEST else None
            self.structure = Structure(self.luma, 1) if side >= 11 else None

    @torch.no_grad()
    def __call__(self, image: Tensor) -> dict[str, float]:
        """Of a reconstruction, in the same shape and range."""
        y = luma(image)
        found = {"psnr": psnr(image, self.original), "psnr_y": psnr(y, self.luma)}
        if self.multiscale is not None:
            found["ms_ssim"] = self.multiscale(image).item()
        if self.structure is not None:
            found["ssim"] = self.structure.similarities(y)[0].item()
        return found


JUDGES: dict[str, type[SSIMULACRA2] | type[Butteraugli]] = {
    "ssimulacra2": SSIMULACRA2,
    "butteraugli": Butteraugli,
}
"""By the names of :class:`~jpegrad.tune.Score`."""
ALL = {
    metric.name: metric
    for metric in (
        Metric("mse", _SquaredError, "mean squared error of all channels", 1.0),
        Metric("ms-ssim", _dissimilarity, "1 − MS-SSIM of all channels: Wang, Simoncelli, Bovik, 2003", 1.0),
        mix(),
        Metric("ssimulacra2", _ByEye(SSIMULACRA2, "SSIMULACRA2"), "jpegrad.metrics.SSIMULACRA2"),
        Metric("butteraugli", _ByEye(Butteraugli, "Butteraugli"), "jpegrad.metrics.Butteraugli"),
        Metric(
            "perceptual",
            _ByEye(Perceptual, "SSIMULACRA2 and Butteraugli"),
            "jpegrad.metrics.Perceptual with shares of " + ", ".join(map(str, SHARES)),
        ),
    )
}
