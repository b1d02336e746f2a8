"""``kornia.enhance.jpeg_codec_differentiable`` and ``kornia.augmentation.RandomJPEG``."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from jpegrad.compat.common import code
from jpegrad.spec import check_options

try:
    from kornia import augmentation
except ImportError as error:
    raise ImportError("jpegrad.compat.kornia needs kornia: pip install kornia") from error

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from jpegrad.spec import Options


def jpeg_codec_differentiable(
    input: Tensor,
    jpeg_quality: Tensor,
    quantization_table_y: Tensor | None = None,
    quantization_table_c: Tensor | None = None,
    **options: "Unpack[Options]",
) -> Tensor:
    """As ``kornia.enhance.jpeg_codec_differentiable``: the soft codec of Reich et al.

    Args:
        input: ``[..., 3, H, W]``, N pictures in 0…1.
        jpeg_quality: ``[1]`` or ``[N]``, 1…100; values outside are clamped.
        quantization_table_y: tables of quality 50, ``[8, 8]``, ``[1, 8, 8]`` or ``[N, 8, 8]``; None is Annex K's.
        quantization_table_c: the same for chroma.
        options: every other argument of :func:`jpegrad.jpeg`. ``surrogate="reich2024_ste"`` gives the values of a file
            with the same slopes; ``surrogate="gaussian"`` is jpegrad's own default.

    Returns:
        The coded images, shape and dtype of ``input``.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: Reich et al., WACV 2024; kornia, ``enhance/jpeg.py``.

    Example:
        >>> import torch
        >>> image = torch.rand(2, 3, 33, 33, requires_grad=True)
        >>> jpeg_codec_differentiable(image, torch.tensor([99.0, 1.0])).sum().backward()
    """
    chosen: Any = {"surrogate": "reich2024", **options}
    return code(input, jpeg_quality, quantization_table_y, quantization_table_c, **chosen)


class JPEGCodecDifferentiable(nn.Module):
    """As ``kornia.enhance.JPEGCodecDifferentiable``.

    Args:
        quantization_table_y, quantization_table_c: as in :func:`jpeg_codec_differentiable`; an ``nn.Parameter`` is
            learned, a tensor becomes a buffer.
        options: as in :func:`jpeg_codec_differentiable`.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> import torch
        >>> JPEGCodecDifferentiable()(torch.rand(2, 3, 33, 33), torch.tensor([50.0])).shape
        torch.Size([2, 3, 33, 33])
    """

    quantization_table_y: Tensor | None
    quantization_table_c: Tensor | None

    def __init__(
        self,
        quantization_table_y: Tensor | None = None,
        quantization_table_c: Tensor | None = None,
        **options: "Unpack[Options]",
    ) -> None:
        super().__init__()
        check_options("JPEGCodecDifferentiable", options)
        for name, table in (
            ("quantization_table_y", quantization_table_y),
            ("quantization_table_c", quantization_table_c),
        ):
            if isinstance(table, nn.Parameter):
                self.register_parameter(name, table)
            else:
                self.register_buffer(name, table)
        self.options = options

    def forward(self, image_rgb: Tensor, jpeg_quality: Tensor) -> Tensor:
        """Code images ``[..., 3, H, W]``."""
        tables = self.quantization_table_y, self.quantization_table_c
        return jpeg_codec_differentiable(image_rgb, jpeg_quality, *tables, **self.options)


class RandomJPEG(augmentation.RandomJPEG):
    """As ``kornia.augmentation.RandomJPEG``, with the values of a file: draws, parameters and containers are kornia's.

    Args:
        jpeg_quality: two real numbers (lowest, highest), 1…100, or one, for 50 ± that number.
        same_on_batch: one draw for all images of a batch.
        p: probability of being coded.
        keepdim: a single image stays ``[3, H, W]``.
        options: every other argument of :func:`jpegrad.jpeg`. The default, ``surrogate="reich2024_ste"``, has kornia's
            slopes; ``surrogate="reich2024"`` its smooth values too.

    Raises:
        TypeError, ValueError: an option is not as described.

    Source: kornia, ``augmentation/_2d/intensity/jpeg.py``.

    Example:
        >>> import torch
        >>> images, augment = torch.rand(4, 3, 32, 32), RandomJPEG((30.0, 95.0), p=0.5)
        >>> coded = augment(images)
        >>> bool((augment(images, params=augment._params) == coded).all())
        True
    """

    def __init__(
        self,
        jpeg_quality: Tensor | float | tuple[float, float] | list[float] = 50.0,
        same_on_batch: bool = False,
        p: float = 1.0,
        keepdim: bool = False,
        **options: "Unpack[Options]",
    ) -> None:
        super().__init__(jpeg_quality, same_on_batch=same_on_batch, p=p, keepdim=keepdim)
        check_options("RandomJPEG", options)
        self.options: Any = {"surrogate": "reich2024_ste", **options}

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Code a batch at the qualities that kornia drew."""
        if not len(input):
            return input.clone()
        return code(input, params["jpeg_quality"], **self.options)
