"""The commands of :mod:`jpegrad.cli`, by subject."""
