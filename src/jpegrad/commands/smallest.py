"""What ``jpegrad optimize`` does."""

from dataclasses import replace

import torch
from PIL import Image

from jpegrad.codec import Coefficients
from jpegrad.commands import sources
from jpegrad.commands.pictures import naming
from jpegrad.commands.sources import Job
from jpegrad.commands.terminal import done, tell, timed
from jpegrad.entropy.script import ProgressiveScan, Script, simple_progression
from jpegrad.io import read, read_header, read_structure, to_bytes
from jpegrad.jfif.exif import EXIF, ORIENTATION
from jpegrad.jfif.segments import kind


def optimize(job: Job, baseline: bool, strip: bool, as_json: bool) -> tuple[int, int]:
    """Write the smallest file of the same levels, and give the bytes before and after.

    Raises:
        ValueError: the file is damaged, or of a kind that is not decoded, or viewers smooth what it does not send.
    """
    data, name = sources.read(job.source), sources.name(job.source)
    with naming(job.source):
        found = read(data, level_dtype=torch.int16)
        structure = read_structure(data)
    if found.smoothing is not None:
        raise ValueError(
            f"{name}: expected a file that sends every bit of its levels; viewers smooth what this one lacks"
        )
    further = any(segment.kind == "multi-picture index" for segment in structure.segments)
    if (further or structure.trailing) and not strip:
        more = "further pictures" if further else f"{structure.trailing:,} bytes behind the picture"
        raise ValueError(f"{name}: expected a file of one picture, got {more} too; --strip leaves them out")
    wanted = replace(found, metadata=needed(data, found)) if strip else found
    with timed(f"{name}: coded in several ways"):
        best = smallest(wanted, baseline)
    is_asked_for = not baseline or structure.process in ("baseline", "extended sequential")
    if not strip and len(best) >= len(data) and is_asked_for and not (baseline and structure.arithmetic):
        best = data
    else:
        again = read(best, level_dtype=torch.int16)
        same = torch.equal(again.tables, found.tables) and all(map(torch.equal, again.levels, found.levels))
        if not same:
            raise RuntimeError(f"{name}: the file made of it has other levels")
    sources.write(job.output, best)
    height, width = found.size
    if as_json:
        facts = {"file": job.output_name, "source": name, "width": width, "height": height}
        process = read_header(best).process
        tell({**facts, "bytes": len(best), "bytes_before": len(data), "process": process})
    else:
        change = len(best) / len(data) - 1
        how = "as small as it gets" if best is data else f"{change:+.1%}, {read_header(best).process}"
        done(f"{job.output_name}: {len(data):,} → {len(best):,} bytes ({how})")
    return len(data), len(best)


def smallest(coefficients: Coefficients, baseline: bool = False) -> bytes:
    """The smallest file of some levels among those that are tried."""
    files = [to_bytes(coefficients, huffman="optimized")]
    if not baseline:
        files += [to_bytes(coefficients, progressive=script) for script in scripts(coefficients)]
    return min(files, key=len)


def scripts(coefficients: Coefficients) -> list[Script]:
    """Scripts of progressive files; which is the best depends on the picture."""
    count = coefficients.channels
    together = tuple(range(count))

    def one(component: int, *sent: int) -> ProgressiveScan:
        return ProgressiveScan((component,), *sent)

    dc = ProgressiveScan(together, 0, 0)
    whole = [one(i, 1, 63) for i in together]
    return [
        (dc, *whole),
        (dc, one(0, 1, 8), one(0, 9, 63), *whole[1:]),
        (dc, one(0, 1, 63, 0, 1), one(0, 1, 63, 1, 0), *whole[1:]),
        (dc, one(0, 1, 8, 0, 2), one(0, 9, 63, 0, 2), one(0, 1, 63, 2, 1), one(0, 1, 63, 1, 0), *whole[1:]),
        simple_progression(count, luma_chroma=coefficients.space == "YCbCr"),
    ]


def needed(data: bytes, coefficients: Coefficients) -> tuple[tuple[int, bytes], ...]:
    """Of the metadata, what changes the view: the ICC profile, and Exif of the orientation alone."""
    orientation = read_header(data).orientation or 1
    kept = [
        (marker, payload)
        for marker, payload in coefficients.metadata
        if kind(marker, payload) == "ICC profile"
    ]
    if orientation == 1:
        return tuple(kept)
    least = Image.Exif()
    least[ORIENTATION] = orientation
    return ((0xE1, EXIF + least.tobytes().removeprefix(EXIF)), *kept)
