"""What the commands print to."""

from rich.console import Console

console = Console(highlight=False, markup=False)


def say(text: str) -> None:
    """Print a line that the width of the terminal does not break."""
    console.print(text, soft_wrap=True)
