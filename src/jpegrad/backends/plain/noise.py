"""The clamps of the soft forward where noise smooths them, as in ``stages/noise.py``, in float32.

Clamps act within a few deviations of their bounds. Their slopes are kept, and elsewhere are 1.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import Settings
from jpegrad.backends.plain import forward
from jpegrad.backends.plain.blocks import Part
from jpegrad.formulas import Component, pixel_variances

QUIET = 0.04
"""Least variance of a decoded sample."""
_FAR = 6.0
"""Deviations from its bounds where float32 sees no clamp."""


def grey_levels(
    image: Tensor, s: Settings, slopes: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Clamped grey levels; the pixels with a NaN; the variances behind the clamps, None where none acts.

    Slopes are NaN at pixels with a NaN.
    """
    x, undefined = (image - s.low).mul_(255 / (s.high - s.low)), None
    if slopes is not None:
        slopes.fill_(1.0)
    if not forward.is_inside(x, 0.0, 255.0):
        undefined = image.isnan().any(1)
        x.masked_fill_(x.isnan(), 0.0)
    to_clamp, variance = pixel_variances(s.noise)
    clamped, deviation = math.sqrt(to_clamp), math.sqrt(variance)
    if forward.is_inside(x, _FAR * deviation, 255 - _FAR * deviation):
        return x, undefined, None
    variances = torch.full_like(x, variance)

    def smooth(x: Tensor, deviation: float | Tensor) -> tuple[Tensor, ...]:
        return *_mean(x, clamped, s.clip_slope), _variance(x, deviation)

    _near_bounds(smooth, x, deviation, (x, slopes, variances))
    if slopes is not None and undefined is not None:
        slopes.masked_fill_(undefined.unsqueeze(1), torch.nan)
    return x, undefined, variances


def block_variances(variances: Tensor, s: Settings) -> Tensor:
    """Variance of the coefficients of each block ``[N]``, from that of the pixels."""
    found, channels = [], variances.shape[1]
    for i, plane in enumerate(forward.to_variances(variances, s)):
        mean = plane.unflatten(2, (-1, 8)).unflatten(1, (-1, 8)).mean((2, 4))
        role = Component("", averaged=s.h * s.v if i else 1, converted=channels > 1)
        found.append(role.averaged_variance(mean).flatten())
    return torch.cat(found)


def sample_variance(level: Tensor, step: Tensor, variance: float | Tensor) -> Tensor:
    """Mean variance of the samples of decoded blocks ``[images, blocks]``, from mean levels of coefficients."""
    share, square = (level - level.round()).abs_(), step.square()
    passed = (variance - square / 12).clamp_(min=0.0).mean((0, 1))
    return torch.addcmul(share, share, share, value=-1).mul_(square).mean((0, 1)).add_(passed)


def clamp(
    x: Tensor,
    variance: Tensor,
    s: Settings,
    slopes: Tensor | None,
    spread: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Decoded samples through their clamp, in place. ``spread`` makes the variance one of all samples."""
    if slopes is not None:
        slopes.fill_(1.0)
    deviation = variance.clamp(min=QUIET).sqrt_()
    if x.device.type == "cpu":
        reach = _FAR * float(deviation.max())
        if forward.is_inside(x, reach, 255 - reach):
            return
    if spread is not None:
        deviation = spread(deviation)
    _near_bounds(lambda x, d: _mean(x, d, s.clip_slope), x, deviation, (x, slopes))


def mixed(variances: Tensor, where: Sequence[Part], s: Settings) -> list[Tensor]:
    """Variances of red, green and blue in the blocks of Y ``[batch, blocks_y, blocks_x]``, from those of all blocks."""
    rows, columns = where[0].grid
    planes = []
    for part in where:
        plane = variances[part.start : part.stop].unflatten(0, (-1, *part.grid))
        h, v = part.ratio
        planes.append(plane.repeat_interleave(v, 1).repeat_interleave(h, 2)[:, :rows, :columns])
    weights = [(255 / (s.high - s.low) * x) ** 2 for x in s.inverse_real]
    return [sum(w * p for w, p in zip(weights[3 * i : 3 * i + 3], planes, strict=True)) for i in range(3)]


def over_pixels(blocks: Tensor, size: tuple[int, int]) -> Tensor:
    """A number of each block at its pixels."""
    height, width = size
    return blocks.repeat_interleave(8, 1)[:, :height].repeat_interleave(8, 2)[..., :width]


def _near_bounds(
    function: Callable[[Tensor, float | Tensor], tuple[Tensor, ...]],
    x: Tensor,
    deviation: float | Tensor,
    into: Sequence[Tensor | None],
) -> None:
    """Results of a function of x and its deviation into tensors, where one of the bounds is near; all contiguous."""
    reach = deviation * _FAR
    acts = (x < reach).logical_or_(x > 255 - reach)
    if x.device.type != "cpu":
        # Those that act have a count, which would be waited for.
        for room, values in zip(into, function(x, deviation), strict=True):
            if room is not None:
                room.copy_(torch.where(acts, values, room))
        return
    where = acts.view(-1).nonzero().squeeze(1)
    if isinstance(deviation, Tensor):
        deviation = deviation.expand_as(x).reshape(-1).index_select(0, where)
    for room, values in zip(into, function(x.view(-1).index_select(0, where), deviation), strict=True):
        if room is not None:
            room.view(-1).index_copy_(0, where, values)


def _tail(z: Tensor) -> Tensor:
    return torch.erfc(z * math.sqrt(0.5)).mul_(0.5)


def _density(z: Tensor) -> Tensor:
    return z.square().mul_(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))


def _excess(z: Tensor) -> Tensor:
    """E[max(noise − z, 0)]."""
    return _density(z).addcmul_(z, _tail(z), value=-1)


def _to_bounds(x: Tensor) -> tuple[Tensor, Tensor]:
    """Distances to the nearer bound, negative outside, and to the other one."""
    nearer = x.minimum(255 - x)
    return nearer, 255 - nearer


def _mean(x: Tensor, deviation: float | Tensor, leak: float) -> tuple[Tensor, Tensor]:
    """E[clamp(x + noise)] and its slope."""
    nearer, other = _to_bounds(x)
    z, t = (nearer / deviation).clamp_(-9.0, 9.0), (other / deviation).clamp_(max=9.0)
    mean = _excess(z.abs()).sub_(_excess(t)).mul_(deviation).add_(nearer.clamp(min=0.0))
    mean = torch.where(x > 127.5, 255 - mean, mean)
    slope = _tail(-z).sub_(_tail(t))
    if leak:
        finite = x.isfinite()
        mean += torch.where(finite, x - mean, 0.0).mul_(leak)
        slope = torch.where(finite, slope.mul_(1 - leak).add_(leak), 0.0)
    return mean, slope


def _variance(x: Tensor, deviation: float | Tensor) -> Tensor:
    """Of clamp(x + noise), in which nothing cancels far outside: it counts from the nearer bound."""
    nearer, other = _to_bounds(x)
    z, t = (nearer / deviation).clamp_(min=-9.0), (other / deviation).clamp_(max=30.0)
    inside, beyond, near, far = _tail(-z), _tail(t), _density(z), _density(t)
    mean = z * inside + near - far + t * beyond
    square = (z * z + 1) * inside + z * near
    square -= (z * z + 1 - (z + t).square_()) * beyond + (2 * z + t) * far
    return square.sub_(mean.square_()).clamp_(min=0.0).mul_(deviation).mul_(deviation)
