"""libjpeg-turbo's program for lossless changes, where it is installed."""

import shutil
import subprocess

import pytest

PROGRAM = shutil.which("jpegtran")
needs_jpegtran = pytest.mark.skipif(PROGRAM is None, reason="needs the program jpegtran of libjpeg-turbo")


def jpegtran(data: bytes, *options: str) -> bytes | None:
    """Its output, metadata included; None where it refuses."""
    assert PROGRAM is not None
    done = subprocess.run([PROGRAM, "-copy", "all", *options], input=data, capture_output=True, check=False)
    # 2 is a warning, of bytes between two segments for instance.
    return done.stdout if done.returncode in (0, 2) and done.stdout else None
