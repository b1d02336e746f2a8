"""The test corpus: .jpg files of every kind that the library reads, made on the spot by other encoders or by hand."""

import io
import os
import struct
import tempfile
from collections.abc import Sequence
from functools import cache

import cv2
import jpeglib
import numpy as np
import torch
from PIL import Image

import jpegrad
from jpegrad.data import photograph_path
from jpegrad.entropy.coder import coded_scans
from jpegrad.jfif import segments
from jpegrad.jfif.segments import FrameComponent, ScanComponent
from jpegrad.sampling import SUBSAMPLING, sampling_factors

EXIF = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
ICC = bytes(range(256)) * 3
COMMENT = b"made by hand"
OPENCV_FACTORS = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:4:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    "4:1:1": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}


@cache
def picture(height: int, width: int, name: str = "facades") -> np.ndarray:
    """A corner of a bundled photograph, uint8 [height, width, 3]."""
    with Image.open(photograph_path(name)) as photo:
        return np.ascontiguousarray(np.array(photo.convert("RGB"))[100 : 100 + height, 200 : 200 + width])


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tensor(image: np.ndarray) -> torch.Tensor:
    """[H, W, 3] or [H, W] → [C, H, W]."""
    return torch.from_numpy(np.atleast_3d(image).copy()).permute(2, 0, 1)


def inks(height: int, width: int) -> np.ndarray:
    """Four inks that differ, uint8 [height, width, 4]."""
    photo = picture(height, width)
    return np.concatenate([photo, 255 - photo[::-1, ::-1, 1:2]], -1)


def pillow(image: np.ndarray, **options: object) -> bytes:
    """Of three channels RGB, of four CMYK."""
    buffer = io.BytesIO()
    mode = "CMYK" if image.ndim == 3 and image.shape[-1] == 4 else None
    opened = (
        Image.fromarray(image) if mode is None else Image.frombytes(mode, image.shape[1::-1], image.tobytes())
    )
    opened.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def pillow_pixels(data: bytes) -> np.ndarray:
    """[C, H, W] as Pillow decodes it."""
    with Image.open(io.BytesIO(data)) as opened:
        return np.atleast_3d(np.array(opened)).transpose(2, 0, 1)


def opencv(image: np.ndarray, subsampling: str = "4:2:0", **options: int) -> bytes:
    """``options`` are OpenCV's JPEG parameters, e.g. ``quality=75``, ``rst_interval=3``."""
    parameters = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, OPENCV_FACTORS[subsampling]]
    for name, value in options.items():
        parameters += [getattr(cv2, f"IMWRITE_JPEG_{name.upper()}"), value]
    done, data = cv2.imencode(".jpg", image[..., ::-1] if image.ndim == 3 else image, parameters)
    assert done
    return data.tobytes()


def libjpeg(
    image: np.ndarray, version: str, factors: Sequence[tuple[int, int]], *flags: str, quality: int = 80
) -> bytes:
    """A file by another member of the libjpeg family; ``factors`` are (vertical, horizontal) per component."""
    with jpeglib.version(version), tempfile.TemporaryDirectory() as folder:
        picture = jpeglib.from_spatial(image)
        picture.samp_factor = np.array(factors)
        path = os.path.join(folder, "picture.jpg")
        picture.write_spatial(path, qt=quality, flags=list(flags))
        with open(path, "rb") as file:
            return file.read()


def separate_scans(
    coefficients: jpegrad.Coefficients,
    multiply: tuple[int, int] = (1, 1),
    *,
    one_slot: bool = False,
    identifier: int = 1,
) -> bytes:
    """One scan per component, no JFIF header.

    Args:
        multiply: all sampling factors are multiplied by this (horizontal, vertical), which changes no ratio.
        one_slot: every scan is preceded by its own DQT and DHT for slot 0.
        identifier: of the first component; the others count on.
    """
    count = coefficients.channels
    sampling = sampling_factors(count, coefficients.subsampling)
    tables = coefficients.tables.flatten(-2).int().tolist()
    frame = [
        FrameComponent(identifier + i, h * multiply[0], v * multiply[1], 0 if one_slot else i)
        for i, (h, v) in enumerate(sampling)
    ]
    quantization = [segments.emit_dqt(c.table, tables[min(i, len(tables) - 1)]) for i, c in enumerate(frame)]
    parts = [segments.marker(segments.SOI)]
    if not one_slot:
        parts += quantization
    parts.append(segments.emit_sof(coefficients.size, frame))
    for i, level in enumerate(coefficients.levels):
        size = 8 * level.shape[-4], 8 * level.shape[-3]
        (_, huffman, data) = coded_scans([level], size, "4:4:4", "optimized")[0]
        if one_slot:
            parts.append(quantization[i])
        parts += [segments.emit_dht(*table) for table in huffman]
        parts += [segments.emit_sos([ScanComponent(frame[i].identifier, 0, 0)]), data]
    return b"".join([*parts, segments.marker(segments.EOI)])


def split(data: bytes) -> list[tuple[int, bytes]]:
    """(marker, everything from its FF to the next marker segment) of a whole file, up to its EOI."""
    parts, position, marker = [], 2, segments.SOI
    while marker != segments.EOI:
        marker, _, end, _ = segments.next_segment(data, position)
        if marker == segments.SOS:
            end = segments.scan_end(data, end)
        parts.append((marker, data[position:end]))
        position = end
    return parts


def join(parts: Sequence[tuple[int, bytes]]) -> bytes:
    return segments.marker(segments.SOI) + b"".join(part for _, part in parts)


def ycck(data: bytes) -> bytes:
    """A file of CMYK, announced as YCCK."""
    return data.replace(adobe(0), adobe(2), 1)


def exif(orientation: int, order: str = "<") -> bytes:
    """Exif that says the orientation, behind another entry."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(f"{order}HHIHH", 0x0100, 3, 1, 7, 0) + struct.pack(
        f"{order}HHIHH", 0x0112, 3, 1, orientation, 0
    )
    return b"Exif\0\0" + start + struct.pack(f"{order}IH", 8, 2) + entries + bytes(4)


def with_segments(data: bytes, *added: tuple[int, bytes]) -> bytes:
    return data[:2] + b"".join(segments.segment(*each) for each in added) + data[2:]


def exif_with_size_and_thumbnail(order: str, thumbnail: bytes) -> bytes:
    """Exif of orientation 6 that says 96 × 64 pixels and has a thumbnail."""
    start = b"II*\0" if order == "<" else b"MM\0*"

    def directory(entries: list[tuple[int, int, int]], following: int = 0) -> bytes:
        packed = b"".join(
            struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
            if kind == 3
            else struct.pack(f"{order}HHII", tag, 4, 1, value)
            for tag, kind, value in entries
        )
        return struct.pack(f"{order}H", len(entries)) + packed + struct.pack(f"{order}I", following)

    first, second, third = 8, 8 + 30, 8 + 60
    return b"".join(
        [
            b"Exif\0\0",
            start,
            struct.pack(f"{order}I", first),
            directory([(0x0112, 3, 6), (0x8769, 4, second)], third),
            directory([(0xA002, 3, 96), (0xA003, 4, 64)]),
            directory([(0x0201, 4, third + 30), (0x0202, 4, len(thumbnail))]),
            thumbnail,
        ]
    )


def without(data: bytes, *markers: int) -> bytes:
    return join([part for part in split(data) if part[0] not in markers])


def with_16_bit_tables(data: bytes, scale: int = 1) -> bytes:
    """The same file with every table in 16-bit entries, multiplied by ``scale``."""
    parts = []
    for marker, part in split(data):
        if marker == segments.DQT:
            for slot, entries in segments.parse_dqt(part[4:]).items():
                wide = b"".join((scale * entry).to_bytes(2, "big") for entry in entries)
                parts.append((marker, segments.segment(marker, bytes((0x10 | slot,)) + wide)))
        else:
            parts.append((marker, part))
    return join(parts)


def with_fill_bytes(data: bytes, count: int) -> bytes:
    """FF bytes before every marker segment."""
    return join([(marker, b"\xff" * count + part) for marker, part in split(data)])


def adobe(transform: int) -> bytes:
    return segments.emit_adobe(transform)


def _by_encoders() -> dict[str, bytes]:
    photo, rough, tiny = picture(59, 83), noise(17, 33), picture(3, 2)
    gray = photo[..., 1].copy()
    files = {}
    for mode in ("4:4:4", "4:2:2", "4:2:0"):
        for kind, image in {"photo": photo, "noise": rough, "tiny": tiny}.items():
            files[f"pillow {mode} {kind}"] = pillow(image, quality=85, subsampling=mode)
            files[f"pillow {mode} {kind} progressive"] = pillow(
                image, quality=85, subsampling=mode, progressive=True
            )
        files[f"pillow {mode} optimized restart"] = pillow(
            photo, quality=40, subsampling=mode, optimize=True, restart_marker_blocks=3
        )
        files[f"pillow {mode} progressive restart"] = pillow(
            photo, quality=95, subsampling=mode, progressive=True, restart_marker_rows=1
        )
    for mode in OPENCV_FACTORS:
        files[f"opencv {mode}"] = opencv(photo, mode, quality=90)
        files[f"opencv {mode} tiny"] = opencv(tiny, mode, quality=90)
        files[f"opencv {mode} optimized restart"] = opencv(
            photo, mode, quality=70, optimize=1, rst_interval=2
        )
        files[f"opencv {mode} progressive"] = opencv(rough, mode, quality=100, progressive=1)
    files |= {
        "pillow gray": pillow(gray),
        "pillow gray progressive": pillow(gray, progressive=True),
        "pillow gray 2x2": pillow(gray, subsampling="4:2:0"),
        "pillow quality 1": pillow(rough, quality=1),
        "pillow quality 100 progressive": pillow(rough, quality=100, progressive=True),
        "pillow three tables": pillow(photo, qtables=[list(range(1 + i, 65 + i)) for i in range(3)]),
        "pillow metadata": pillow(photo, exif=EXIF, icc_profile=ICC, comment=COMMENT),
        "pillow rgb": pillow(photo, keep_rgb=True),
        "pillow rgb progressive": pillow(photo, keep_rgb=True, progressive=True),
        "pillow smooth": pillow(np.full((70, 50, 3), 77, np.uint8), progressive=True),
        "libjpeg 6b 2x2 1x2 1x2": libjpeg(photo, "6b", [(2, 2), (2, 1), (2, 1)]),
        "libjpeg 9f 2x2 2x1 2x1 progressive": libjpeg(
            photo, "9f", [(2, 2), (1, 2), (1, 2)], "+PROGRESSIVE_MODE"
        ),
        "libjpeg 8d 4x1": libjpeg(photo, "8d", [(1, 4), (1, 1), (1, 1)], "+OPTIMIZE_CODING"),
        "mozjpeg 4:2:0": libjpeg(photo, "mozjpeg403", [(2, 2), (1, 1), (1, 1)]),
        "mozjpeg 4:4:4": libjpeg(rough, "mozjpeg300", [(1, 1), (1, 1), (1, 1)]),
        "arithmetic": libjpeg(photo, "turbo210", [(2, 2), (1, 1), (1, 1)], "+ARITH_CODE"),
        "arithmetic progressive": libjpeg(
            photo, "turbo210", [(2, 2), (1, 1), (1, 1)], "+ARITH_CODE", "+PROGRESSIVE_MODE"
        ),
        "arithmetic 4:4:4 of noise": libjpeg(rough, "9f", [(1, 1), (1, 1), (1, 1)], "+ARITH_CODE"),
        "pillow CMYK": pillow(inks(59, 83), quality=85),
        "pillow CMYK 4:2:0 progressive": pillow(inks(59, 83), subsampling="4:2:0", progressive=True),
        "pillow CMYK 4:2:2 restart tiny": pillow(inks(3, 2), subsampling="4:2:2", restart_marker_blocks=1),
        "pillow CMYK tables": pillow(inks(17, 33), qtables=[[9 * i + 1] * 64 for i in range(4)]),
        "pillow CMYK density": pillow(inks(17, 33), dpi=(300, 200)),
        "libjpeg-turbo 3x1": libjpeg(photo, "turbo210", [(1, 3), (1, 1), (1, 1)]),
        "libjpeg-turbo 4:1:0": libjpeg(rough, "turbo210", [(2, 4), (1, 1), (1, 1)], "+PROGRESSIVE_MODE"),
        "arithmetic 1x2 2x1 1x1": libjpeg(photo, "turbo210", [(2, 1), (1, 2), (1, 1)], "+ARITH_CODE"),
        "libjpeg-turbo 4:4:0": libjpeg(photo, "turbo210", [(2, 1), (1, 1), (1, 1)]),
    }
    return files


def _by_hand() -> dict[str, bytes]:
    photo = picture(59, 83)
    plain = pillow(photo, quality=75, subsampling="4:2:0")
    progressive = pillow(photo, quality=75, progressive=True)
    parts = split(plain)
    rgb = pillow(photo, keep_rgb=True)
    files = {
        "16-bit tables": with_16_bit_tables(plain),
        "16-bit entries above 255": with_16_bit_tables(pillow(photo, quality=5), 3),
        "fill bytes": with_fill_bytes(plain, 5),
        "fill bytes progressive": with_fill_bytes(progressive, 1),
        "fill bytes restart": pillow(photo, restart_marker_blocks=1).replace(
            b"\xff\xd3", b"\xff\xff\xff\xd3"
        ),
        "trailing garbage": plain + b"\xff\xd8garbage\xff\xda" * 9,
        "no Huffman tables": without(plain, segments.DHT),
        "no JFIF header": without(plain, segments.APP0),
        "JFIF and Adobe 0": join([*parts[:1], (segments.APP14, adobe(0)), *parts[1:]]),
        "Adobe 0": join([(segments.APP14, adobe(0)), *parts[1:]]),
        "Adobe 1": join([(segments.APP14, adobe(1)), *parts[1:]]),
        "Adobe 2": join([(segments.APP14, adobe(2)), *parts[1:]]),
        "rgb by identifiers": without(rgb, segments.APP14),
        "CMYK without Adobe": without(pillow(inks(17, 33)), segments.APP14),
        "YCCK": ycck(pillow(inks(59, 83), quality=85, subsampling="4:2:2")),
        "YCCK progressive": ycck(pillow(inks(17, 33), progressive=True)),
        "YCCK by Adobe 1": pillow(inks(17, 33)).replace(adobe(0), adobe(1), 1),
        "extended sequential": plain.replace(b"\xff\xc0", b"\xff\xc1", 1),
        "comment after the scan": plain[:-2] + segments.segment(segments.COM, COMMENT) + plain[-2:],
        "garbage between segments": join([*parts[:2], (0, b"\0garbage\xff\0"), *parts[2:]]),
    }
    for mode in SUBSAMPLING:
        coefficients = jpegrad.encode(tensor(photo), quality=80, subsampling=mode)
        files[f"separate scans {mode}"] = separate_scans(coefficients)
        files[f"separate scans {mode}, tables redefined"] = separate_scans(coefficients, one_slot=True)
    coefficients = jpegrad.encode(tensor(photo), quality=60, subsampling="4:2:0")
    files["separate scans 4x2 2x1 2x1"] = separate_scans(coefficients, (2, 1))
    files["separate scans 4x4 2x2 2x2"] = separate_scans(coefficients, (2, 2))
    files["separate scans identifiers 82 83 84"] = separate_scans(coefficients, identifier=ord("R"))
    files["separate scans other identifiers"] = separate_scans(coefficients, identifier=0)
    coefficients = jpegrad.encode(tensor(photo), quality=60, subsampling="4:4:4")
    files["separate scans 2x2 2x2 2x2"] = separate_scans(coefficients, (2, 2))
    for name in ("4x4,1x1,1x1", "1x1,3x3,3x1", "1x4,1x2,1x1"):
        coefficients = jpegrad.encode(tensor(photo), quality=80, subsampling=name)
        files[f"separate scans {name}"] = separate_scans(coefficients)
    coefficients = jpegrad.encode(tensor(inks(59, 83)), 80, channels="CMYK", subsampling="2x2,2x1,1x2,2x2")
    files["separate scans CMYK"] = separate_scans(coefficients)
    coefficients = jpegrad.encode(tensor(photo[..., :1]), quality=60)
    files["gray 3x2"] = separate_scans(coefficients, (3, 2))
    return files


@cache
def corpus() -> dict[str, bytes]:
    """Name → file; all of them are whole and supported."""
    return _by_encoders() | _by_hand()
