"""Smaller real .jpg files by gradient: learned quantization tables, and levels chosen by rate and distortion."""

from jpegrad.tune.dataset import DatasetSettings as DatasetSettings
from jpegrad.tune.dataset import learn_dataset_tables as learn_dataset_tables
from jpegrad.tune.folder import Folder as Folder
from jpegrad.tune.image import Tuned as Tuned
from jpegrad.tune.image import compress as compress
from jpegrad.tune.image import learn_image_tables as learn_image_tables
from jpegrad.tune.levels import rgb_weights as rgb_weights
from jpegrad.tune.levels import trellis as trellis
from jpegrad.tune.metrics import Metric as Metric
from jpegrad.tune.metrics import mix as mix
from jpegrad.tune.metrics import report as report
from jpegrad.tune.targets import BitsPerPixel as BitsPerPixel
from jpegrad.tune.targets import Bytes as Bytes
from jpegrad.tune.targets import LikeQuality as LikeQuality
from jpegrad.tune.targets import Loss as Loss
from jpegrad.tune.targets import Score as Score

__all__ = [
    "BitsPerPixel",
    "Bytes",
    "DatasetSettings",
    "Folder",
    "LikeQuality",
    "Loss",
    "Metric",
    "Score",
    "Tuned",
    "compress",
    "learn_dataset_tables",
    "learn_image_tables",
    "mix",
    "report",
    "rgb_weights",
    "trellis",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
