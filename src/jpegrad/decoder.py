"""Which of libjpeg-turbo's decoders reads the levels."""

from dataclasses import dataclass
from typing import Literal, get_args

Upsampling = Literal["triangle", "replicate"]
Method = Literal["accurate", "fast"]
Scale = Literal[1, 2, 4, 8]


@dataclass(frozen=True)
class Decoder:
    """How levels become samples; the default is what every viewer does.

    Args:
        upsampling: of chroma: ``"triangle"`` (libjpeg's fancy upsampling), or ``"replicate"``, which repeats samples.
        dct: ``"accurate"``, or ``"fast"``, libjpeg's ``JDCT_IFAST`` as its vector code for x86-64 computes it. Blocks
            that ``scale`` reduces have the accurate method only. Not with ``forward="soft"`` or ``clip=False``, where
            both are the same real numbers.
        scale: 1, 2, 4 or 8: decode to ⌈H / scale⌉ × ⌈W / scale⌉ pixels, by smaller inverse transforms. Chroma that is
            subsampled in both directions keeps more of its resolution, and needs less or no upsampling.
        clip: whether samples are 8-bit numbers. False gives the real numbers that they are made of: a real-valued
            inverse DCT, upsampling and colour conversion, with no rounding and no clamp. Then ``forward`` says nothing
            about decoding, and a result of uint8 is an error.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: libjpeg-turbo ``jdmaster.c``, ``jdsample.c``, ``jidctfst.c``, ``jidctred.c``; Arai, Agui and Nakajima 1988
        (the fast DCT).

    Example:
        >>> import jpegrad, torch
        >>> coefficients = jpegrad.encode(torch.rand(3, 37, 53), quality=75)
        >>> jpegrad.decode(coefficients, decoder=jpegrad.Decoder(scale=4)).shape
        torch.Size([3, 10, 14])
    """

    upsampling: Upsampling = "triangle"
    dct: Method = "accurate"
    scale: Scale = 1
    clip: bool = True

    def __post_init__(self) -> None:
        for name, choices in (("upsampling", get_args(Upsampling)), ("dct", get_args(Method))):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}; got {value!r}")
        if isinstance(self.scale, bool) or self.scale not in get_args(Scale):
            raise ValueError(f"scale: expected 1, 2, 4 or 8, got {self.scale!r}")
        if not isinstance(self.clip, bool):
            raise TypeError(f"clip: expected True or False, got {self.clip!r}")
        if self.dct == "fast" and not self.clip:
            raise ValueError(
                'dct: expected "accurate" with clip=False, which computes in real numbers; got "fast"'
            )

    @property
    def whole(self) -> bool:
        """Whether all but the upsampling is as in every viewer, which is what kernels have."""
        return (self.dct, self.scale, self.clip) == ("accurate", 1, True)

    @property
    def block(self) -> int:
        """Samples along a side of a block that is not subsampled: 8, 4, 2 or 1."""
        return 8 // self.scale

    @property
    def triangle(self) -> bool:
        """Whether there is a triangle filter; libjpeg has none for blocks of one sample."""
        return self.upsampling == "triangle" and self.block > 1

    def side(self, ratio: tuple[int, int]) -> int:
        """Samples along a side of a block of a component that is subsampled by ``ratio``.

        What lacks resolution in both directions gets it from a larger inverse DCT, so far as there is one.
        """
        side = self.block
        while side < 8 and all(r * self.block % (2 * side) == 0 for r in ratio):
            side *= 2
        return side

    def component(self, size: tuple[int, int], ratio: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a component's samples, of an image of ``size``."""
        side = self.side(ratio)
        height, width = (
            -(-length * side // (8 * r)) for length, r in zip(size, reversed(ratio), strict=True)
        )
        return height, width


DEFAULT = Decoder()
"""That of every viewer."""
