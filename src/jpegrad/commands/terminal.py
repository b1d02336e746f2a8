"""What the commands print to, and how they say that they were called wrongly."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(highlight=False, markup=False)


class WrongOption(ValueError):
    """A wrong value of an option, or two that do not go together: exit code 2, as for an unknown option."""

    exit_code = 2


@contextmanager
def options() -> Iterator[None]:
    """What is checked in here is the user's call, not the files."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise WrongOption(str(error)) from error


def say(text: str) -> None:
    """Print a line that the width of the terminal does not break."""
    console.print(text, soft_wrap=True)


def note(text: str) -> None:
    """Print a line on the error stream, where it disturbs no program that reads the output."""
    Console(stderr=True, highlight=False, markup=False).print(f"note: {text}", soft_wrap=True)
