"""The one exception that reading a file may raise, and what is done about damage."""

from collections.abc import Callable


class JPEGError(ValueError):
    """The bytes are not a JPEG file, are truncated or corrupt, exceed a limit, or use a mode that is not supported."""


Note = Callable[[str], None]
"""Takes note of damage that libjpeg would go on after; a strict one raises."""


def refuse(damage: str) -> None:
    """The strict one."""
    raise JPEGError(f"{damage} (strict=False reads what is there)")
