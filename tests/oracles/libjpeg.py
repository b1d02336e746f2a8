"""Real JPEG round trips through Pillow and OpenCV: uint8 [C, H, W] to uint8 [C, H, W], C = 3 (RGB) or 1."""

import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

MODES = ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1")
PILLOW_MODES = ("4:4:4", "4:2:2", "4:2:0")

_FACTORS = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:4:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    "4:1:1": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}

Tables = Sequence[Sequence[int]]


def pillow(
    picture: np.ndarray, quality: int | None = None, subsampling: str = "4:2:0", tables: Tables | None = None
) -> np.ndarray:
    """Encode and decode with Pillow; ``tables`` are 64 entries each in natural order, used as they are."""
    return _from_interleaved(decode_pillow(encode_pillow(picture, quality, subsampling, tables)))


def encode_pillow(
    picture: np.ndarray, quality: int | None = None, subsampling: str = "4:2:0", tables: Tables | None = None
) -> bytes:
    file = io.BytesIO()
    options = {"quality": quality} if tables is None else {"qtables": [list(t) for t in tables]}
    Image.fromarray(_interleaved(picture)).save(file, "JPEG", subsampling=subsampling, **options)
    return file.getvalue()


def decode_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


def opencv(
    picture: np.ndarray, quality: int, subsampling: str = "4:2:0", chroma_quality: int | None = None
) -> np.ndarray:
    """Encode and decode with OpenCV; ``chroma_quality`` gives the chroma table a quality of its own."""
    gray = picture.shape[0] == 1
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if chroma_quality is not None:
        flags += [cv2.IMWRITE_JPEG_LUMA_QUALITY, quality, cv2.IMWRITE_JPEG_CHROMA_QUALITY, chroma_quality]
    if not gray:
        flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _FACTORS[subsampling]]
    pixels = _interleaved(picture)
    done, data = cv2.imencode(".jpg", pixels if gray else pixels[..., ::-1], flags)
    if not done:
        raise RuntimeError("OpenCV could not encode")
    decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR)
    return _from_interleaved(decoded if gray else decoded[..., ::-1])


def pillow_tables(quality: int) -> np.ndarray:
    """The quantization tables in a file that Pillow writes, [2, 8, 8], natural order."""
    data = encode_pillow(np.zeros((3, 8, 8), np.uint8), quality)
    with Image.open(io.BytesIO(data)) as image:
        return np.array([image.quantization[0], image.quantization[1]]).reshape(2, 8, 8)


def _interleaved(picture: np.ndarray) -> np.ndarray:
    return picture[0] if picture.shape[0] == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0))


def _from_interleaved(pixels: np.ndarray) -> np.ndarray:
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
