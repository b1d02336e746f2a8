"""The short tables of the comparison page: a few rows and columns of a study's own tables, which are folded below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from jpegrad_studies.common import markdown

FOLDED = "<details markdown>\n<summary>Everything that was measured</summary>\n\n"
UNFOLDED = "\n\n</details>"


class Cut(NamedTuple):
    """What to take of one table.

    Args:
        title: of the cut; the words before the table in the study's text say which table it is, if they hold this.
        column: the table's first header, which also says which it is.
        columns: headers to keep, and what they are called here.
        rows: names to keep, and what they are called here; those that a study left out are left out.
    """

    title: str
    column: str
    columns: Mapping[str, str]
    rows: Mapping[str, str]


ATTACKS = {
    "jpegrad soft narrowing from wide": "jpegrad, narrowing",
    "jpegrad soft narrowing from wide, sharp clamps": "jpegrad, narrowing, sharp clamps",
    "jpegrad reach": "jpegrad, reach",
    "jpegrad reach, sharp clamps": "jpegrad, reach, sharp clamps",
    "reich_soft": "Diff-JPEG, soft",
    "jpegrad default": "jpegrad, default",
}
QUALITIES = {"q 5": "q 5", "q 38": "q 38", "q 88": "q 88"}
RECOVERED = {
    "jpegrad soft, table_relative narrowing": "jpegrad, narrowing",
    "jpegrad soft, soft_round": "jpegrad, soft_round",
    "jpegrad soft": "jpegrad, soft",
    "jpegrad": "jpegrad, default",
    "reich_soft": "Diff-JPEG, soft",
    "reich_ste": "Diff-JPEG, STE",
    "kornia": "kornia",
}
GRADIENTS = {name: name for name in ("q 10, σ 1", "q 10, σ 4", "q 50, σ 2", "q 90, σ 4")}
TRAINED = {
    "exact, σ 2": "jpegrad, default",
    "exact, σ 6": "jpegrad, σ 6",
    "soft, σ 6": "jpegrad, soft, σ 6",
    "soft, σ 12 to 1": "jpegrad, soft, σ 12 to 1",
    "exact value, gradient of soft σ 6": "jpegrad, gradient of soft σ 6",
    "exact value, gradient of soft σ 12, slope 1 from 50 % on": "jpegrad, σ 12, then slope 1",
    "half real files without gradient, half soft σ 6": "jpegrad, half files, half soft σ 6",
    "reich_ste": "Diff-JPEG, STE",
    "reich_soft": "Diff-JPEG, soft",
    "kornia": "kornia",
    "mbrs": "MBRS",
    "exact, slope 1": "slope 1",
    "fsa": "real files, identity",
}
FILES = ("4:2:0, q 30", "4:2:0, q 50", "4:2:0, q 90", "mozjpeg's tables, q 50", "4:4:4", "all", "seeds")
SHORT: dict[str, tuple[Cut, ...]] = {
    "forward": (
        Cut(
            "",
            "approach",
            {
                "PSNR 1–10": "dB, q 1–10",
                "PSNR 26–50": "q 26–50",
                "PSNR 76–99": "q 76–99",
                "differing": "differing",
            },
            {
                "jpegrad": "jpegrad",
                "jpegrad soft narrow": "jpegrad, soft, σ 0.5",
                "reich_ste": "Diff-JPEG, STE",
                "reich_soft": "Diff-JPEG, soft",
                "kornia": "kornia",
                "diffjpeg": "DiffJPEG",
                "mbrs": "MBRS",
            },
        ),
    ),
    "attack": (
        Cut(
            "",
            "gain over the reference",
            {f"ε {budget}": f"ε {budget}" for budget in (1, 2, 4, 8)},
            {
                f"{model}, {attack}": f"Efficient{model.replace('lite', 'Net-Lite')}, {attack}"
                for model in ("lite0", "lite1", "lite2")
                for attack in ("I-FGSM", "PGD", "FGSM")
            },
        ),
        *(
            Cut(title, "gain over reich_ste", QUALITIES, ATTACKS)
            for title in (
                "EfficientNet-lite0, I-FGSM, 2 grey levels",
                "EfficientNet-lite0, PGD, 2 grey levels",
                "EfficientNet-lite0, FGSM, 2 grey levels",
            )
        ),
    ),
    "recover": (
        Cut(
            "Recover quality",
            "approach",
            {"mean miss": "mean miss", "within 1 (%)": "within 1 (%)"},
            RECOVERED,
        ),
        Cut(
            "Recover tables",
            "approach",
            {"squared error to the file": "squared error", "entries within 1 (%)": "entries within 1 (%)"},
            RECOVERED,
        ),
        Cut("Networks", "approach", {"cost (%)": "cost (%)"}, RECOVERED),
    ),
    "train": (
        Cut(
            "Watermark, over the curricula with a rising share",
            "all, %",
            {
                **{name: name for name in ("over 50 %, 600 steps", "over 80 %, 600 steps")},
                "with the bits that are right, 600 steps": "with the bits right, 600 steps",
                "over 50 %, 1800 steps": "over 50 %, 1800 steps",
                "times reich_ste": "times Diff-JPEG, STE",
                "fewer errors in": "fewer errors in",
            },
            TRAINED,
        ),
        *(
            Cut(title, "error, %", {name: name for name in FILES}, TRAINED)
            for title in (
                "Watermark, 600 steps, coded share rising over 50 %",
                "Watermark, 600 steps, coded share rising over 80 %",
                "Watermark, 600 steps, coded share rising with the bits that are right",
                "Watermark, 600 steps, all coded from the start",
                "Watermark, 1800 steps, coded share rising over 50 %",
                "Convolving watermark, 800 steps, coded share rising over 50 %",
                "Convolving watermark, 800 steps, coded share rising with the bits that are right",
            )
        ),
    ),
    "gradient": (
        Cut(
            "To the image, a classifier's gradient at the coded picture as weights",
            "approach",
            GRADIENTS,
            {
                "jpegrad soft gaussian": "jpegrad, soft",
                "jpegrad gaussian": "jpegrad, exact",
                "reich_ste": "Diff-JPEG, STE",
                "reich_soft": "Diff-JPEG, soft",
                "kornia": "kornia",
                "fsa": "real file, identity",
            },
        ),
        Cut(
            "To the image in other modes, random weights on the coded picture",
            "mode, forward",
            GRADIENTS,
            {
                f"{mode}, {forward}": f"{mode}, {forward}"
                for mode in ("4:2:2", "4:1:1")
                for forward in ("soft", "exact")
            },
        ),
        Cut(
            "To the quality",
            "approach",
            {
                "right sign": "right sign",
                "predicted / true, median": "predicted / true",
                "within × 1.5": "within × 1.5",
            },
            {
                "jpegrad": "jpegrad, exact",
                "jpegrad identity": "slope 1",
                "reich_ste": "Diff-JPEG, STE",
                "reich_soft": "Diff-JPEG, soft",
                "kornia": "kornia",
            },
        ),
    ),
}


def tables(text: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Every table of a text: the paragraph before it, and its cells, the header first."""
    before = ""
    for part in text.split("\n\n"):
        lines = part.splitlines()
        if len(lines) > 2 and all(line.startswith("|") for line in lines):
            yield (
                before,
                [
                    [cell.strip() for cell in line.strip("|").split(" | ")]
                    for line in lines
                    if "---" not in line
                ],
            )
        else:
            before = part


def cut(text: str, wanted: Cut) -> str:
    """The rows and columns that are wanted, of the first table that is meant; nothing if there is none."""
    for before, cells in tables(text):
        header, *rows = cells
        if wanted.title not in before or header[0] != wanted.column or not {*wanted.columns} <= {*header}:
            continue
        by_name = {row[0]: row for row in rows}
        places = [header.index(name) for name in wanted.columns]
        kept = [
            [label, *(_plain(by_name[name][i]) for i in places)]
            for name, label in wanted.rows.items()
            if name in by_name
        ]
        return markdown(
            [wanted.column.replace("reich_ste", "Diff-JPEG, STE"), *wanted.columns.values()], kept
        )
    return ""


def _plain(cell: str) -> str:
    """A figure without what stands behind it: intervals are drawn, and stand with counts in the whole table."""
    return cell.split(" [")[0].split(" (")[0].split(" ±")[0].split(";")[0]


def folded(study: str, text: str) -> str:
    """A study's text below its short tables, if it has some."""
    short: Sequence[str] = [
        f"**{each.title}**\n\n{table}" if each.title else table
        for each in SHORT.get(study, ())
        if (table := cut(text, each))
    ]
    if study not in SHORT and text.count("\n") < 40:
        return text
    return "\n\n".join([*short, FOLDED + text + UNFOLDED])


def whole(text: str) -> str:
    """The study's own text of what :func:`folded` gave."""
    return text.partition(FOLDED)[2].removesuffix(UNFOLDED) if FOLDED in text else text
