"""jpegrad: the JPEG codec, inside autograd."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Coefficients",
    "Color",
    "Decoder",
    "JPEGError",
    "ProgressiveScan",
    "Surrogate",
    "bits",
    "decode",
    "encode",
    "jpeg",
    "read",
    "read_header",
    "read_structure",
    "to_bytes",
    "to_bytes_batch",
    "write",
]

if TYPE_CHECKING:
    from jpegrad.codec import jpeg as jpeg
    from jpegrad.codec import encode as encode
    from jpegrad.codec import decode as decode
    from jpegrad.codec import Coefficients as Coefficients
    from jpegrad.decoder import Decoder as Decoder
    from jpegrad.rate import bits as bits
    from jpegrad.io import to_bytes as to_bytes
    from jpegrad.io import to_bytes_batch as to_bytes_batch
    from jpegrad.io import write as write
    from jpegrad.io import read as read
    from jpegrad.io import read_header as read_header
    from jpegrad.io import read_structure as read_structure
    from jpegrad.entropy.script import ProgressiveScan as ProgressiveScan
    from jpegrad.jfif.errors import JPEGError as JPEGError
    from jpegrad.spec import Color as Color
    from jpegrad.surrogates import Surrogate as Surrogate
    from jpegrad import backends as backends
    from jpegrad import data as data
    from jpegrad import lossless as lossless
    from jpegrad import metrics as metrics
    from jpegrad import nn as nn
    from jpegrad import rate as rate
    from jpegrad import surrogates as surrogates
    from jpegrad import tables as tables
    from jpegrad import testing as testing
    from jpegrad import tune as tune
else:
    # A name is loaded when it is first asked for, and PyTorch with it: what needs none of them starts at once.
    _MODULES = (
        *("backends", "data", "lossless", "metrics", "nn", "rate"),
        *("surrogates", "tables", "testing", "tune"),
    )
    _HOMES = {
        "codec": ("Coefficients", "decode", "encode", "jpeg"),
        "decoder": ("Decoder",),
        "entropy.script": ("ProgressiveScan",),
        "io": ("read", "read_header", "read_structure", "to_bytes", "to_bytes_batch", "write"),
        "jfif.errors": ("JPEGError",),
        "rate": ("bits",),
        "spec": ("Color",),
        "surrogates": ("Surrogate",),
    }
    _HOME = {name: module for module, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(f"jpegrad.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'jpegrad' has no attribute {name!r}")
        value = getattr(import_module(f"jpegrad.{_HOME[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*__all__, *_MODULES, *(name for name in globals() if name.startswith("__"))})
