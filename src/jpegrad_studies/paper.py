"""A small version of every study, in minutes; an interrupted run goes on where it stopped.

It ends with the commands of the full versions and how long each would take here, judged by the small ones.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ATTACKED = (
    "no JPEG in the loop",
    "fsa",
    "reich_soft",
    "reich_ste",
    "jpegrad default",
    "jpegrad soft narrowing from wide",
)


@dataclass(frozen=True)
class Study:
    """Options of the small and of the full version, and how many times more work the full one is."""

    small: tuple[str, ...]
    full: str
    times: int


# A new study needs one entry here, and nothing elsewhere: every module with a main function is a study.
STUDIES = {
    "forward": Study(("--limit", "2"), "--full", 21),
    "ablate": Study(("--limit", "2", "--no-attack"), "", 10),
    "gradient": Study(("--limit", "1", "--pairs", "500"), "--images DIR --limit 12 --pairs 8000", 190),
    "recover": Study(("--limit", "1", "--steps", "60", "--seeds", "1"), "--seeds 5", 10),
    "conversion": Study(
        ("--limit", "1", "--noises", "20", "--steps", "20", "--qualities", "90"), "--limit 4 --noises 400", 30
    ),
    "train": Study(
        ("--contestants", "exact, slope 1", "exact, σ 2", "--seeds", "1", "--rates", "0.003"),
        "--contestants NAME … --seeds 5",
        40,
    ),
    "robust": Study(("--seeds", "1", "--steps", "100"), "--seeds 5", 10),
    "attack": Study(
        ("--qualities", "10", "50", "--approaches", *ATTACKED), "--labelled DIR --images 200", 500
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="jpegrad bench paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(".cache/paper"), help="for the results (%(default)s)"
    )
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    full = []
    for name, study in STUDIES.items():
        began = time.monotonic()
        results = folder / f"{name}.json"
        fresh = not results.exists()
        command = [sys.executable, "-m", f"jpegrad_studies.{name}", *study.small, "--out", str(results)]
        # Progress goes to the terminal by way of stderr, the tables into the file.
        with (folder / f"{name}.md").open("w", encoding="utf-8") as tables:
            subprocess.run(command, check=True, stdout=tables)
        seconds = time.monotonic() - began
        print(f"{name}: {seconds:.0f} s, tables in {folder / f'{name}.md'}", flush=True)
        full.append(f"jpegrad bench {name} {study.full}".ljust(70) + duration(seconds * study.times, fresh))
    print("The full versions:", *full, sep="\n")


def duration(seconds: float, fresh: bool) -> str:
    """In hours; a study that had begun before says nothing about them."""
    return f"about {seconds / 3600:.1f} h" if fresh else ""


if __name__ == "__main__":
    main()
