"""Writing files that appear complete or not at all, and never over what should stay."""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
"""What the name of a .jpg file ends in."""


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to a temporary name beside ``path``, then rename. A link is followed, not replaced.

    Raises:
        OSError: the file cannot be written; an existing one is untouched. The error names ``path``.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> write_atomically(f"{folder.name}/a.txt", b"whole")
    """
    named = Path(path)
    if not named.parent.is_dir():
        raise FileNotFoundError(
            f"{named}: expected an existing folder to write into, there is no {named.parent}"
        )
    target = Path(os.path.realpath(named))
    if target.exists() and not target.is_file():
        raise OSError(f"{named}: expected a file, or a name that is free; this is neither")
    temporary = target.with_name(f".jpegrad-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(named)) from None
    finally:
        temporary.unlink(missing_ok=True)


def check_output(option: str, path: Path, *, inputs: Iterable[Path | None] = (), force: bool = False) -> None:
    """Raise, before any work is done, unless a program may write ``path``.

    Args:
        option: how the user gave it.
        path: of the file to write.
        inputs: files that are read, None for those that are not there.
        force: let any file be replaced.

    Raises:
        ValueError: it is a folder, or in none that exists; it is there already, as one of the inputs or as anything.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{option}: expected the name of a file in an existing folder, got {path}")
    if force or not path.exists():
        return
    for source in inputs:
        if source is not None and source.exists() and path.samefile(source):
            raise ValueError(
                f"{option}: expected another file than {source}, which is read; --force replaces it; got {path}"
            )
    raise ValueError(f"{option}: expected a new name, got {path}, which exists; --force replaces it")
