"""A small version of every study, in minutes; an interrupted run goes on where it stopped.

The full versions, whose tables are in docs/comparison.md, take hours on two cores:

    forward --images DIR --full
    attack --labelled DIR --images 200 --models lite0 lite1 lite2 --attacks FGSM I-FGSM PGD PGD-L2 --budgets 1 2 3 8
    gradient --images DIR --limit 12 --pairs 8000
    recover --images DIR
    ablate --images DIR
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from bench.common import ROOT

ATTACKED = (
    "no JPEG in the loop",
    "fsa",
    "reich_soft",
    "reich_ste",
    "jpegrad default",
    "jpegrad soft narrowing from wide",
)
# A new study needs one entry here, and nothing elsewhere: every module with a main function is a study.
STUDIES: dict[str, tuple[str, ...]] = {
    "forward": ("--limit", "2"),
    "ablate": ("--limit", "2", "--no-attack"),
    "gradient": ("--limit", "1", "--pairs", "500"),
    "recover": ("--limit", "1", "--steps", "60", "--seeds", "1"),
    "attack": ("--qualities", "10", "50", "--approaches", *ATTACKED),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path(".cache/paper"), help="for the results")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    for study, arguments in STUDIES.items():
        began = time.monotonic()
        command = [sys.executable, "-m", f"bench.{study}", *arguments, "--out", str(folder / f"{study}.json")]
        # Progress goes to the terminal by way of stderr, the tables into the file.
        with (folder / f"{study}.md").open("w", encoding="utf-8") as tables:
            subprocess.run(command, check=True, stdout=tables, env=environment)
        print(f"{study}: {time.monotonic() - began:.0f} s, tables in {folder / f'{study}.md'}", flush=True)


if __name__ == "__main__":
    main()
