"""The codec as modules."""

from jpegrad.nn.augmentation import Drawn as Drawn
from jpegrad.nn.augmentation import RandomJPEG as RandomJPEG
from jpegrad.nn.codings import Coding as Coding
from jpegrad.nn.layer import JPEG as JPEG
