"""A page of pairs of pictures: each under a slider, with what differs, and a table of all."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from jpegrad import page
from jpegrad.files import write_atomically

MOST = 64_000_000
"""Bytes of the pictures on one page; pairs beyond have figures alone."""
METRICS = {
    "psnr": ("PSNR", "dB; higher is better", 2),
    "psnr_y": ("PSNR Y", "dB; higher is better", 2),
    "ssim": ("SSIM Y", "1 is equal", 5),
    "ms_ssim": ("MS-SSIM", "1 is equal", 5),
    "ssimulacra2": ("SSIMULACRA2", "100 is equal, 90 hard to tell from it", 2),
    "butteraugli": ("Butteraugli, 3-norm", "0 is equal, 1 just noticeable", 3),
    "butteraugli_max": ("Butteraugli, max", "the same where it is worst", 3),
}
"""Of each metric: its name in words, which way it goes, and how many decimals are shown."""
NAMES = {name: words for name, (words, *_) in METRICS.items()}


@dataclass(frozen=True)
class Pair:
    """Two files of one picture, and what ``comparing.measure`` found."""

    first_bytes: int | None
    second_bytes: int | None
    found: dict[str, Any]

    @property
    def change(self) -> str:
        """Of the bytes."""
        return change(self.first_bytes, self.second_bytes)


def write(path: Path, title: str, pairs: list[Pair], pictures: Iterator[tuple[str, str]]) -> None:
    """Write the page.

    Args:
        path: of the page.
        title: of it.
        pairs: in order.
        pictures: the addresses of both pictures of each, asked for one by one until there is no more room.

    Raises:
        OSError: it cannot be written.
    """
    shown: list[str] = []
    size = 0
    for i, (pair, found) in enumerate(zip(pairs, pictures, strict=False)):
        size += sum(map(len, found))
        if shown and size > MOST:
            break
        names = _text(pair.found["first"]), _text(pair.found["second"])
        both = page.slider(*found, names)
        head = f"<h2>{escape(names[0])}</h2>" if len(pairs) != 1 else ""
        shown.append(f'<section id="pair{i}">{head}\n{both}\n{_metrics(pair)}</section>')
    body = [f"<h1>{escape(_text(title))}</h1>"]
    if len(pairs) != 1:
        body.append(_table(pairs, len(shown)))
    if left := len(pairs) - len(shown):
        body.append(f"<p>{left} of {len(pairs)} have figures alone: the page holds {MOST // 10**6} MB.</p>")
    write_atomically(
        path, page.html(_text(title), "\n".join(body + shown), script=page.source("slider.js")).encode()
    )


def _text(name: str) -> str:
    """A file's name, with a mark for what is no text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _metrics(pair: Pair) -> str:
    found = pair.found
    share = f"{found['differing_samples'] / found['samples']:.2%}"
    apart = f"by {found['max_difference']} at most, {found['mean_difference']:.3f} on average"
    rows = [
        ("bytes", f"{count(pair.first_bytes)} → {count(pair.second_bytes)}", pair.change),
        ("samples that differ", share, apart if found["max_difference"] else ""),
        *(
            (words, number(name, found[name]), about)
            for name, (words, about, _) in METRICS.items()
            if name in found
        ),
    ]
    return page.table(
        f"figures of {_text(found['first'])}",
        (),
        [(*cells, f'<span class="note">{note}</span>') for *cells, note in rows],
    )


def _table(pairs: list[Pair], linked: int) -> str:
    rows = []
    for i, pair in enumerate(pairs):
        label = escape(_text(pair.found["first"]))
        rows.append(
            (
                f'<a href="#pair{i}">{label}</a>' if i < linked else label,
                count(pair.first_bytes),
                count(pair.second_bytes),
                pair.change,
                *(number(name, pair.found[name]) if name in pair.found else "–" for name in METRICS),
            )
        )
    before, after = (
        sum(getattr(pair, name) or 0 for pair in pairs) for name in ("first_bytes", "second_bytes")
    )
    means = (_mean([pair.found.get(name) for pair in pairs]) for name in METRICS)
    shown = (
        number(name, mean) if mean is not None else "–" for name, mean in zip(METRICS, means, strict=True)
    )
    rows.append(
        (f"{len(pairs)} files: sums, means", count(before), count(after), change(before, after), *shown)
    )
    return page.table("all files", ("file", "bytes before", "after", "change", *NAMES.values()), rows)


def _mean(values: list[float | None]) -> float | None:
    """Of those that are finite."""
    finite = [value for value in values if value is not None]
    return math.fsum(finite) / len(finite) if finite else None


def number(name: str, value: float | None) -> str:
    """A figure of a metric in words."""
    return "infinite" if value is None else f"{value:.{METRICS[name][2]}f}"


def count(value: int | None) -> str:
    """Bytes in words."""
    return "–" if value is None else f"{value:,}"


def change(before: int | None, after: int | None) -> str:
    """By how much bytes change, in words."""
    return f"{after / before - 1:+.1%}" if before and after is not None else ""
