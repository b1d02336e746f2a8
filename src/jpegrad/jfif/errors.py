"""The one exception that reading a file may raise."""


class JPEGError(ValueError):
    """The bytes are not a JPEG file, are truncated or corrupt, exceed a limit, or use a mode that is not supported."""
