"""Restart intervals in the data of a scan (ITU-T T.81 E.2.5, F.2.2.5; libjpeg-turbo ``jdmarker.c``)."""

import re

from jpegrad.jfif.segments import EOI, MARKER, RESTARTS, SOF0

_STUFFED = re.compile(rb"\xff+\x00")


def marker_at(data: bytes, at: int) -> int:
    """The marker whose FF stands there; a file that has no more ends with EOI."""
    return data[at + 1] if at < len(data) else EOI


def interval(data: bytes, start: int) -> tuple[bytes, int]:
    """The unstuffed data up to the next marker, and where that stands."""
    end = next_marker(data, start)
    return _STUFFED.sub(b"\xff", data[start:end].rstrip(b"\xff")), end


def next_marker(data: bytes, start: int) -> int:
    """Where the next marker's FF stands, or the end of the data."""
    found = MARKER.search(data, start)
    return len(data) if found is None else found.start()


def find_interval(data: bytes, at: int, due: int) -> tuple[int, bool]:
    """From a marker to the data behind the restart that is due, as libjpeg's ``jpeg_resync_to_restart`` finds it.

    Returns:
        Where the data begin, and True; or where a marker stands, and False, because the interval is lost.
    """
    while True:
        code = marker_at(data, at)
        if code in RESTARTS:
            ahead = (code - RESTARTS[due]) % 8
            if ahead in (1, 2):
                return at, False
            if ahead < 6:
                return at + 2, True
        elif code >= SOF0:
            return at, False
        at = next_marker(data, at + 2)
