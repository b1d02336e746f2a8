"""Assertions for code that computes a JPEG: samples, levels at ties, gradients as vectors.

For a backend of your own, a port to another framework, or a network that stands in for the codec.
"""

import io
from dataclasses import dataclass

import torch
from torch import Tensor

from jpegrad.codec import jpeg
from jpegrad.home import at_home
from jpegrad.spec import Backend, Subsampling, check_choice, check_image

PILLOW_SUBSAMPLING = ("4:4:4", "4:2:2", "4:2:0")
"""The samplings that Pillow writes."""


def pillow(image: Tensor, quality: int, *, subsampling: str = "4:2:0") -> Tensor:
    """Images as they come back from a file that Pillow writes.

    Args:
        image: uint8 ``[..., C, H, W]``, C = 3 or 1.
        quality: 1…100.
        subsampling: ``"4:4:4"``, ``"4:2:2"`` or ``"4:2:0"``.

    Returns:
        uint8, the shape of ``image``.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: Pillow, which must be installed and built with libjpeg-turbo.

    Example:
        >>> pillow(torch.zeros(3, 9, 7, dtype=torch.uint8), 75).shape
        torch.Size([3, 9, 7])
    """
    from PIL import Image

    check_image(image)
    if image.dtype is not torch.uint8:
        raise TypeError(f"image: expected dtype torch.uint8, got {image.dtype}")
    check_choice("subsampling", subsampling, PILLOW_SUBSAMPLING)
    decoded = []
    for picture in image.reshape(-1, *image.shape[-3:]).cpu():
        pixels = picture.movedim(0, -1).squeeze(-1) if len(picture) == 1 else picture.movedim(0, -1)
        file = io.BytesIO()
        Image.fromarray(pixels.contiguous().numpy()).save(
            file, "JPEG", quality=quality, subsampling=subsampling
        )
        with Image.open(file) as result:
            samples = torch.frombuffer(bytearray(result.tobytes()), dtype=torch.uint8)
        decoded.append(samples.reshape(picture.shape[1], picture.shape[2], -1).movedim(-1, 0))
    return torch.stack(decoded).reshape(image.shape).to(image.device) if decoded else image.clone()


def samples_that_differ(
    image: Tensor, quality: int, *, subsampling: Subsampling = "4:2:0", backend: Backend = "auto"
) -> int:
    """How many decoded samples of :func:`jpegrad.jpeg` differ from Pillow's: 0, unless something is broken.

    Args:
        image, quality, subsampling: as in :func:`pillow`.
        backend: as in :func:`jpegrad.jpeg`.

    Returns:
        The count over all images and channels.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> samples_that_differ(torch.randint(0, 256, (2, 3, 20, 30), dtype=torch.uint8), 60)
        0
    """
    expected = pillow(image, quality, subsampling=subsampling)
    return int((jpeg(image, quality, subsampling=subsampling, backend=backend) != expected).sum())


@dataclass(frozen=True)
class SampleError:
    """How far decoded samples are from the expected ones.

    Args:
        differing: number of samples that differ.
        total: number of samples.
        largest: largest difference, in the unit of the samples.
        bias: mean of found − expected: rounding that leans to one side shows here first.
    """

    differing: int
    total: int
    largest: float
    bias: float


@at_home
def sample_error(found: Tensor, expected: Tensor) -> SampleError:
    """Compare two tensors of samples of the same shape.

    Args:
        found, expected: samples in any one unit.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> sample_error(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0])).largest
        1.0
    """
    _check_shapes(found, expected)
    difference = found.double() - expected.double()
    if not difference.numel():
        return SampleError(0, 0, 0.0, 0.0)
    # NaN is no number: it differs from everything, and from itself.
    differing = int((difference != 0).sum())
    return SampleError(differing, difference.numel(), difference.abs().max().item(), difference.mean().item())


def assert_samples(found: Tensor, expected: Tensor, *, share: float = 0.0, largest: float = 0.0) -> None:
    """Samples are equal, or differ within a stated budget.

    Args:
        found, expected: tensors of the same shape.
        share: largest share of samples that may differ, 0…1.
        largest: largest difference allowed, in the unit of the samples.

    Raises:
        AssertionError: the budget is exceeded; the message says how far.
        ValueError: the shapes differ.

    Example:
        >>> assert_samples(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]), share=0.5, largest=1.0)
    """
    error = sample_error(found, expected)
    if error.differing > share * error.total or not error.largest <= largest:
        raise AssertionError(
            f"expected at most {share:.3%} of samples to differ, by at most {largest}; "
            f"{error.differing} of {error.total} differ, by at most {error.largest}, on average by {error.bias:+.3g}"
        )


@at_home
def near_tie(unrounded: Tensor, band: float) -> Tensor:
    """Whether a coefficient in steps lies within ``band`` of a half, where rounding may go either way.

    Args:
        unrounded: coefficients / table entries, any shape.
        band: in steps, 0…½.

    Returns:
        Booleans, the shape of ``unrounded``.

    Example:
        >>> near_tie(torch.tensor([0.4999, 0.3, -1.5001]), 1e-3)
        tensor([ True, False,  True])
    """
    return (unrounded - unrounded.floor() - 0.5).abs() <= band


@at_home
def assert_levels(
    found: Tensor, expected: Tensor, unrounded: Tensor, *, band: float = 1e-3, share: float = 1e-3
) -> None:
    """Quantized levels are equal, but for a few at ties: there they may differ by one.

    Args:
        found, expected: levels of the same shape.
        unrounded: the expected coefficients in steps before rounding (``Coefficients.unrounded``).
        band: distance from a tie, in steps, within which a level may differ by one.
        share: largest share of all levels that may differ so, 0…1.

    Raises:
        AssertionError: a level differs away from ties or by more than one, or too many differ.
        ValueError: the shapes differ.

    Example:
        >>> assert_levels(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0]), torch.tensor([0.4999, 0.1]), share=0.5)
    """
    _check_shapes(found, expected)
    _check_shapes(unrounded, expected)
    differs = found != expected
    excused = near_tie(unrounded, band) & ((found - expected).abs() <= 1)
    if bool((differs & ~excused).any()):
        wrong = int((differs & ~excused).sum())
        raise AssertionError(f"expected equal levels away from ties; {wrong} of {found.numel()} differ")
    if int(differs.sum()) > share * found.numel():
        raise AssertionError(
            f"expected at most {share:.3%} of levels to differ at ties; {int(differs.sum())} of {found.numel()} do"
        )


@dataclass(frozen=True)
class GradientError:
    """Two gradients compared as vectors, not element by element.

    Args:
        cosine: of the angle between them; 1 is the same direction.
        relative: ‖found − expected‖ / ‖expected‖.
        bias: Σ(found − expected) / Σ|expected|: errors that all lean to one side.
    """

    cosine: float
    relative: float
    bias: float


@at_home
def gradient_error(found: Tensor, expected: Tensor) -> GradientError:
    """Compare two gradients of the same shape; the expected one must not be all zero.

    Args:
        found, expected: gradients to the same tensor.

    Raises:
        ValueError: the shapes differ, or ``expected`` is zero.

    Example:
        >>> error = gradient_error(torch.tensor([3.0, 4.4]), torch.tensor([3.0, 4.0]))
        >>> f"{error.relative:.2f} {error.bias:.3f}"
        '0.08 0.057'
    """
    _check_shapes(found, expected)
    f, e = found.detach().double().flatten(), expected.detach().double().flatten()
    norm = e.norm()
    if not norm > 0:
        raise ValueError("expected: expected a gradient that is not zero, got zeros")
    size = f.norm()
    cosine = (f @ e / (size * norm)).item() if size > 0 else 0.0
    return GradientError(cosine, ((f - e).norm() / norm).item(), ((f - e).sum() / e.abs().sum()).item())


def assert_gradient(
    found: Tensor, expected: Tensor, *, relative: float = 1e-5, bias: float | None = None
) -> None:
    """A gradient is the expected one as a vector.

    Args:
        found, expected: gradients of the same shape.
        relative: largest ‖found − expected‖ / ‖expected‖.
        bias: largest \\|Σ(found − expected)\\| / Σ\\|expected\\|; None is ``relative``.

    Raises:
        AssertionError: it is not; the message has all three figures.
        ValueError: the shapes differ, or ``expected`` is zero.

    Example:
        >>> assert_gradient(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.00001]))
    """
    error = gradient_error(found, expected)
    if not (error.relative <= relative and abs(error.bias) <= (relative if bias is None else bias)):
        raise AssertionError(
            f"expected relative error <= {relative:g}; got {error.relative:.3g}, "
            f"cosine {error.cosine:.6f}, bias {error.bias:+.3g}"
        )


def _check_shapes(found: Tensor, expected: Tensor) -> None:
    if found.shape != expected.shape:
        raise ValueError(f"found: expected shape {list(expected.shape)}, got {list(found.shape)}")
