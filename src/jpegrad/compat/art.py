"""The defence ``JpegCompression`` of the Adversarial Robustness Toolbox, with a gradient for adaptive attacks."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jpegrad.codec import jpeg
from jpegrad.spec import check_options

try:
    from art.defences.preprocessor import JpegCompression as _Theirs
    from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
except ImportError as error:
    raise ImportError("jpegrad.compat.art needs art: pip install adversarial-robustness-toolbox") from error

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from jpegrad.spec import Options


class JpegCompression(PreprocessorPyTorch):
    """As ``art.defences.preprocessor.JpegCompression``, for PyTorch: the loss gradient passes the codec itself.

    Images of three channels are coded as RGB, of any other count channel by channel as gray.

    Args:
        clip_values: (0, 1) or (0, 255), the range of the images.
        quality: 1…100, an integer.
        channels_first: NCHW, or NCFHW for videos, instead of NHWC and NFHWC.
        apply_fit, apply_predict: when the defence acts.
        verbose: not needed: a batch is one call.
        device_type: ``"gpu"`` or ``"cpu"``, where arrays are coded.
        options: every other argument of :func:`jpegrad.jpeg`; ``rounding`` is ``"truncate"``, as there.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: Das et al., "Keeping the bad guys out", 2017; ART, ``defences/preprocessor/jpeg_compression.py``.

    Example:
        >>> import numpy
        >>> defence = JpegCompression(clip_values=(0, 1), channels_first=True)
        >>> defence(numpy.random.rand(2, 3, 32, 32).astype("float32"))[0].shape
        (2, 3, 32, 32)
    """

    params = _Theirs.params
    _check_params = _Theirs._check_params

    def __init__(
        self,
        clip_values: tuple[float, float],
        quality: int = 50,
        channels_first: bool = False,
        apply_fit: bool = True,
        apply_predict: bool = True,
        verbose: bool = False,
        device_type: str = "gpu",
        **options: "Unpack[Options]",
    ) -> None:
        super().__init__(
            device_type=device_type, is_fitted=True, apply_fit=apply_fit, apply_predict=apply_predict
        )
        self.clip_values = clip_values
        self.quality = quality
        self.channels_first = channels_first
        self.verbose = verbose
        self._check_params()
        check_options("JpegCompression", options)
        self.options: Any = {"rounding": "truncate", "value_range": tuple(clip_values), **options}

    def forward(self, x: Tensor, y: Any = None) -> tuple[Tensor, Any]:
        """Code a batch; ``y`` comes back as it is."""
        if x.ndim not in (4, 5):
            # The words of ART's error, for those who look for them.
            raise ValueError(
                "Unrecognized input dimension. JPEG compression can only be applied to image and video data. "
                f"x: expected 4 or 5 dimensions, got {list(x.shape)}"
            )
        place = 1 if self.channels_first else -1
        images = (x if x.is_floating_point() else x.float()).movedim(place, -3)
        options = self.options if images.shape[-3] == 3 else {"channels": "planes", **self.options}
        return jpeg(images, self.quality, **options).movedim(-3, place).to(torch.float32), y
