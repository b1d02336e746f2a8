"""The command ``jpegrad``, outside the package, whose import takes seconds in which Ctrl-C may come."""

import sys

EXTRA = ("matplotlib", "rich", "typer")


def main() -> None:
    """Run :func:`jpegrad.cli.main`, or say what to install for it."""
    try:
        from jpegrad.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        sys.exit(f"error: the command line needs the package {package}: pip install 'jpegrad[cli]'")
