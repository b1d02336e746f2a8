"""jpegrad: the JPEG codec, inside autograd."""

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
from jpegrad import lossless as lossless
from jpegrad import metrics as metrics
from jpegrad import nn as nn
from jpegrad import rate as rate
from jpegrad import surrogates as surrogates
from jpegrad import tables as tables
from jpegrad import testing as testing
from jpegrad import tune as tune

__version__ = "0.1.0"
