"""What ships with the package: photographs (``photos/README.md`` says whence), tables that were learned
(``tables/*.json``) and tables that others published (``published_tables/*.json``)."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_PHOTOS = Path(__file__).parent / "photos"
_LEARNED = Path(__file__).parent / "tables"
_PUBLISHED = Path(__file__).parent / "published_tables"


def photograph_names() -> tuple[str, ...]:
    """Names of the bundled photographs, sorted.

    Returns:
        The names that :func:`photograph_path` takes, e.g. ``("caps", "coast", ...)``.

    Example:
        >>> from jpegrad.data import photograph_names
        >>> "portrait" in photograph_names()
        True
    """
    return _names(_PHOTOS, ".png")


def photograph_path(name: str) -> Path:
    """Path of a bundled photograph: an 8-bit sRGB PNG that was never JPEG-coded.

    Args:
        name: One of :func:`photograph_names`.

    Returns:
        The path of the PNG file inside the installed package.

    Raises:
        ValueError: ``name`` is not a bundled photograph.

    Example:
        >>> from jpegrad.data import photograph_path
        >>> photograph_path("caps").name
        'caps.png'
    """
    return _path(_PHOTOS, ".png", name)


def photograph(name: str) -> "Tensor":
    """A bundled photograph.

    Args:
        name: One of :func:`photograph_names`.

    Returns:
        uint8 ``[3, H, W]``.

    Raises:
        ValueError: ``name`` is not a bundled photograph.

    Example:
        >>> from jpegrad.data import photograph
        >>> photograph("caps").shape
        torch.Size([3, 192, 288])
    """
    import numpy as np
    import torch
    from PIL import Image

    with Image.open(photograph_path(name)) as opened:
        return torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1).contiguous()


def learned_table_names() -> tuple[str, ...]:
    """Names of the shipped tables that the library learned, sorted: the metrics they were learned for.

    Returns:
        Some of the names that :func:`table_path` and ``jpegrad.tables.load`` take.

    Example:
        >>> from jpegrad.data import learned_table_names
        >>> learned_table_names()
        ('mix', 'ms-ssim', 'mse', 'perceptual')
    """
    return _names(_LEARNED, ".json")


def published_table_names() -> tuple[str, ...]:
    """Names of the shipped tables that others published, sorted; their files say where.

    Returns:
        Some of the names that :func:`table_path` and ``jpegrad.tables.load`` take.

    Example:
        >>> from jpegrad.data import published_table_names
        >>> "robidoux" in published_table_names()
        True
    """
    return _names(_PUBLISHED, ".json")


def table_names() -> tuple[str, ...]:
    """Names of all shipped quantization tables: the learned ones, then the published ones.

    Returns:
        The names that :func:`table_path` and ``jpegrad.tables.load`` take.

    Example:
        >>> from jpegrad.data import table_names
        >>> "mse" in table_names() and "klein" in table_names()
        True
    """
    return learned_table_names() + published_table_names()


def table_path(name: str) -> Path:
    """Path of shipped tables, which also says how they were made, or who published them.

    Args:
        name: One of :func:`table_names`.

    Returns:
        The path of the JSON file inside the installed package.

    Raises:
        ValueError: ``name`` is none of them.

    Example:
        >>> from jpegrad.data import table_path
        >>> table_path("mse").name
        'mse.json'
    """
    if name in published_table_names():
        return _path(_PUBLISHED, ".json", name)
    if name not in table_names():
        raise ValueError(f"name must be one of {', '.join(table_names())}; got {name!r}")
    return _path(_LEARNED, ".json", name)


def _names(folder: Path, suffix: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob(f"*{suffix}")))


def _path(folder: Path, suffix: str, name: str) -> Path:
    names = _names(folder, suffix)
    if name not in names:
        raise ValueError(f"name must be one of {', '.join(names)}; got {name!r}")
    return folder / f"{name}{suffix}"
