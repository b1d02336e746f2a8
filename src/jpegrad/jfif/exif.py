"""The orientation that Exif gives (Exif 2.32 4.6.4; TIFF 6.0 section 2)."""

import struct

EXIF = b"Exif\0\0"
ORIENTATION, SHORT = 0x0112, 3


def orientation_of(payload: bytes) -> int | None:
    """1 to 8, or None where a segment says nothing or nonsense."""
    tiff = payload[len(EXIF) :]
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}HHI", tiff, at) == (ORIENTATION, SHORT, 1):
                (found,) = struct.unpack_from(f"{order}H", tiff, at + 8)
                return found if 1 <= found <= 8 else None
    except struct.error:
        # Damaged Exif, in which no viewer finds an orientation.
        pass
    return None
