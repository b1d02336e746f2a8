"""The .jpg container: marker segments, entropy decoding of baseline and progressive scans (ITU-T T.81, JFIF 1.02)."""

from jpegrad.jfif.errors import JPEGError as JPEGError
