"""``python -m jpegrad``, also under ``torchrun``: the command ``jpegrad``."""

from _jpegrad_command import main

main()
