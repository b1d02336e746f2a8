"""Folders of pictures to learn from, and what is left of them when some cannot be used."""

import operator
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from jpegrad.tune.metrics import Unusable
from jpegrad.tune.objective import ImageObjective

SUFFIXES = (".png", ".ppm", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")


class Folder(Sequence[Tensor]):
    """The pictures of a folder and those below it, opened one at a time, in order of their paths.

    They are RGB, gray ones too. Learning leaves out, each with a warning, those that cannot be opened, are transparent,
    neither RGB nor gray, of more than 8 bits, or too small for the metric.

    Args:
        path: the folder. Files and folders in it whose names begin with a dot are left out.
        background: R, G and B, 0 to 255, to lay behind what is transparent; None leaves such pictures out.

    Raises:
        ValueError: there is no picture in it.

    Example:
        >>> from jpegrad.data import photograph_path
        >>> Folder(photograph_path("caps").parent)[0].shape
        torch.Size([3, 192, 288])
    """

    def __init__(
        self, path: str | os.PathLike[str], *, background: tuple[int, int, int] | None = None
    ) -> None:
        self.path, self.background = Path(path), background
        self.paths = sorted(p for p in self.path.rglob("*") if self._is_picture(p))
        if not self.paths:
            raise ValueError(f"images: expected a folder with pictures ({', '.join(SUFFIXES)}), got {path}")

    def _is_picture(self, path: Path) -> bool:
        hidden = any(part.startswith(".") for part in path.relative_to(self.path).parts)
        return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        from jpegrad.pictures import load

        path = self.paths[operator.index(index)]
        try:
            pixels = load(path, background=self.background).pixels
        except (ValueError, OSError) as error:
            reason = str(error) if str(path) in str(error) else f"{path}: {error}"
            raise Unusable(f"images: expected pictures of 8 bits, RGB or gray; {reason}") from None
        return pixels.expand(3, -1, -1).contiguous()


def usable(
    images: Sequence[Tensor], index: int, make: Callable[[Tensor], ImageObjective]
) -> ImageObjective | None:
    """What ``make`` makes of an image; a picture of a folder that cannot be used gives a warning and None."""
    try:
        return make(images[index])
    except Unusable as error:
        if not isinstance(images, Folder):
            raise
        path, reason = str(images.paths[index]), str(error)
        warnings.warn(f"left out: {reason if path in reason else f'{path}: {reason}'}", stacklevel=2)
        return None


def none_left(images: Sequence[Tensor]) -> ValueError:
    return ValueError(f"images: expected a picture that can be used, got none among {len(images)}")


def count_left_out(images: Sequence[Tensor], left_out: int) -> None:
    """Say how many pictures of a folder were left out, if any."""
    if left_out:
        warnings.warn(f"left out: {left_out} of {len(images)} pictures", stacklevel=2)
