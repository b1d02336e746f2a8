"""Models of the file's size that have a slope, one record each. ALL is at the bottom.

The value of ``jpegrad.bits`` is always exact; a model only says in which direction, and how steeply, the size changes.
A model sees a :class:`Scan` and returns bits per image; its derivative with respect to ``scan.values`` is what counts.
``scan.values`` are the coefficients in steps before rounding, so the same model serves image, quality and tables.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jpegrad.entropy.symbols import LUMA_CHROMA, dc_differences
from jpegrad.rate.marginal import Costs, dc_slopes, step_costs, symbol_costs
from jpegrad.surrogates import check_positive, leaky_clamp, magnitude


@dataclass(frozen=True)
class Scan:
    """What a rate model sees.

    Args:
        values: real-valued levels per component, ``[..., blocks_y, blocks_x, 8, 8]``, carrying the graph.
        levels: what they were rounded to, detached.
        size: height and width in pixels.
        subsampling: as :class:`~jpegrad.Coefficients` has it.
        huffman: ``"default"`` or ``"optimized"``.
        bits: exact length of the coded levels, headers left out, ``[...]``.
        integer: whether ``values`` are the levels themselves, so that nothing is known below one step.
        slots: which Huffman tables, DC and AC, each component has: 0 the first, 1 those of chroma.

    Example:
        >>> levels = [torch.ones(1, 1, 8, 8)]
        >>> scan = Scan(levels, levels, (8, 8), "4:4:4", "default", bits=torch.tensor(500.0))
        >>> scan.total(torch.abs), scan.calibrated(scan.total(torch.abs))
        (tensor(64.), tensor(500.))
    """

    values: Sequence[Tensor]
    levels: Sequence[Tensor]
    size: tuple[int, int]
    subsampling: str
    huffman: str
    bits: Tensor
    integer: bool = False
    slots: Sequence[int] = LUMA_CHROMA

    def total(self, cost: Callable[[Tensor], Tensor]) -> Tensor:
        """Sum over all coefficients of an elementwise cost: ``[...]``."""
        return torch.stack([cost(x).sum((-4, -3, -2, -1)) for x in self.values]).sum(0)

    def calibrated(self, estimate: Tensor) -> Tensor:
        """An estimate scaled by a constant to the true size of each image."""
        return estimate * (self.bits / estimate.detach().clamp(min=1e-9)).to(estimate.dtype)


@dataclass(frozen=True)
class RateModel:
    """A differentiable model of the size of the coded data.

    Args:
        name: what ``rate=`` takes.
        soft: bits of each image, ``[...]``, differentiable with respect to ``scan.values``.
        source: where it comes from.

    Example:
        >>> import jpegrad, torch
        >>> absolute = RateModel("absolute", lambda scan: scan.total(torch.abs), "mine: Σ |u|")
        >>> image = torch.rand(3, 16, 16, requires_grad=True)
        >>> jpegrad.bits(jpegrad.encode(image, 50), rate=absolute).backward()
    """

    name: str
    soft: Callable[[Scan], Tensor]
    source: str


def _nonzeros(scan: Scan) -> Tensor:
    # The count itself is flat; its mean under uniform noise of one step is min(|u|, 1).
    return scan.calibrated(scan.total(lambda u: leaky_clamp(magnitude(u), high=1)))


def _log(scan: Scan) -> Tensor:
    return scan.total(lambda u: magnitude(u).log1p()) / math.log(2)


def _sandwich(scan: Scan) -> Tensor:
    return scan.calibrated(_log(scan))


def _log_exp(scan: Scan) -> Tensor:
    return scan.total(lambda u: magnitude(u).log1p() / math.log(2) + 1 - torch.exp(-magnitude(u)))


def _quadratic(scan: Scan) -> Tensor:
    return scan.calibrated(scan.total(lambda u: torch.log2(1 + 12 * u.square()) / 2))


def _soft_histogram(scan: Scan) -> Tensor:
    # A triangular kernel splits each coefficient between its two neighbouring bins.
    values = leaky_clamp(torch.cat([u.flatten(-4) for u in scan.values], -1), -254.0, 254.0)
    low = values.detach().floor()
    weight = values - low
    index = (low + 255).long()
    histogram = values.new_zeros(*values.shape[:-1], 512)
    histogram = histogram.scatter_add(-1, index, 1 - weight).scatter_add(-1, index + 1, weight)
    # An empty bin counts as half full inside the logarithm, or it would draw every coefficient towards it.
    probability = leaky_clamp(histogram, low=0.5) / values.shape[-1]
    return -(histogram * probability.log()).sum(-1) / math.log(2)


def _gaussian(scan: Scan) -> Tensor:
    rates = []
    for u in scan.values:
        blocks = u.shape[-4] * u.shape[-3]
        variance = leaky_clamp(u.var((-4, -3), correction=0), low=1e-12)
        entropy = (variance.log() + math.log(2 * math.pi * math.e)) / (2 * math.log(2))
        rates.append(blocks * leaky_clamp(entropy, low=0.0).sum((-2, -1)))
    return torch.stack(rates).sum(0)


def laplace_entropy(scale: Tensor) -> Tensor:
    """Entropy in bits of a rounded Laplace variable of density exp(−|x| / scale) / (2 scale)."""
    inverse = 1 / leaky_clamp(scale, low=1e-2)
    theta = torch.exp(-inverse)
    zero = 1 - torch.exp(-inverse / 2)
    tail = torch.log((1 - theta) / 2) + inverse / 2 - inverse / (1 - theta)
    return -(torch.special.xlogy(zero, zero) + torch.exp(-inverse / 2) * tail) / math.log(2)


def _dc_laplace(scan: Scan) -> Tensor:
    """Bits of the DC differences of each image as Laplace variables, one scale for each component."""
    rates = []
    for difference in dc_differences(scan.values, scan.size, scan.subsampling):
        count = difference.shape[-2] * difference.shape[-1]
        rates.append(count * laplace_entropy(magnitude(difference).mean((-2, -1))))
    return torch.stack(rates).sum(0)


def _laplace(scan: Scan) -> Tensor:
    rates = [_dc_laplace(scan)]
    for u in scan.values:
        entropy = laplace_entropy(magnitude(u).mean((-4, -3))).flatten(-2)[..., 1:]
        rates.append(u.shape[-4] * u.shape[-3] * entropy.sum(-1))
    return torch.stack(rates).sum(0)


def marginal(width: float = 0.25) -> RateModel:
    """The Huffman code's own change where a coefficient crosses a threshold, spread over a box around the threshold.

    DC differences follow the cost of their size category, interpolated between the middles of the categories. Integer
    values get the central difference, half the exact change between one step up and one step down.

    Args:
        width: of the box around the threshold between zero and nonzero, in steps, > 0; around the others it is 1.

    Raises:
        TypeError, ValueError: ``width`` is not a positive number.
    """
    check_positive("width", width)

    def slope(unrounded: Tensor, level: Tensor, cost: Costs) -> Tensor:
        magnitude = unrounded.abs()
        m = magnitude.floor()
        density = torch.where(m > 0, 1.0, ((magnitude - 0.5).abs() < width / 2) / width)
        return unrounded.sign() * density * step_costs(level, m, density > 0, cost)

    def central(level: Tensor, cost: Costs) -> Tensor:
        m = level.abs()
        both = step_costs(level, m, m > 0, cost) + step_costs(level, m - 1, m > 0, cost)
        return level.sign() * both / 2

    def soft(scan: Scan) -> Tensor:
        costs = symbol_costs(scan.levels, scan.size, scan.subsampling, scan.huffman, scan.slots)
        differences = dc_differences(scan.values, scan.size, scan.subsampling)
        parts = []
        for value, level, difference, cost in zip(scan.values, scan.levels, differences, costs, strict=True):
            change = central(level, cost) if scan.integer else slope(value.detach(), level, cost)
            parts.append((change * value).sum((-4, -3, -2, -1)))
            parts.append((dc_slopes(difference, cost) * difference).sum((-2, -1)))
        return torch.stack(parts).sum(0)

    return RateModel(
        "marginal", soft, "our own: exact bit change of one level, box kernel over the coefficient"
    )


ALL = {
    model.name: model
    for model in (
        marginal(),
        RateModel("laplace", _laplace, "entropy of rounded Laplace variables, one scale per frequency"),
        RateModel("quadratic", _quadratic, "½ log2(1 + 12 u²), scaled to the true size"),
        RateModel("log", _log, "Σ log2(1 + |u|), unscaled"),
        RateModel(
            "sandwich",
            _sandwich,
            "Guleryuz et al., Sandwiched compression: a Σ log(1 + |u|), a from the true size",
        ),
        RateModel("log_exp", _log_exp, "Σ log2(1 + |u|) + 1 − exp(−|u|), unscaled"),
        RateModel("soft_histogram", _soft_histogram, "Korus & Memon, 2019: entropy of a soft histogram"),
        RateModel(
            "gaussian", _gaussian, "high-rate entropy of Gaussian variables, one variance per frequency"
        ),
        RateModel("nonzeros", _nonzeros, "He & Mitra, 2001 (ρ domain): a · number of nonzero levels"),
    )
}
"""Every model by its name, which ``rate=`` takes; ``source`` says what it is."""
