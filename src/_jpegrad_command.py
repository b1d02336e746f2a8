"""The command ``jpegrad``, outside the package, whose import takes seconds in which Ctrl-C may come."""

import sys


def main() -> None:
    """Run :func:`jpegrad.cli.main`."""
    try:
        from jpegrad.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
