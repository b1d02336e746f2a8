"""jpegrad: the JPEG codec, inside autograd."""

from jpegrad import backends as backends
from jpegrad import nn as nn
from jpegrad import surrogates as surrogates
from jpegrad import tables as tables
from jpegrad.codec import Coefficients as Coefficients
from jpegrad.codec import decode as decode
from jpegrad.codec import encode as encode
from jpegrad.codec import jpeg as jpeg
from jpegrad.spec import Color as Color
