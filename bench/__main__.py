"""A small version of every study, in minutes: python -m bench [DIR]. An interrupted run goes on where it stopped.

The full versions, whose tables are in docs/comparison.md, take hours on two cores:

    python -m bench.forward --images DIR --full
    python -m bench.attack --labelled DIR --images 64 --models lite0 lite1 lite2 --attacks FGSM I-FGSM PGD PGD-L2
    python -m bench.gradient --images DIR --limit 12 --pairs 8000
    python -m bench.ablate --images DIR
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ATTACKED = ("no JPEG in the loop", "fsa", "reich_soft", "reich_ste", "jpegrad default", "jpegrad soft budget")
STUDIES: dict[str, tuple[str, ...]] = {
    "forward": ("--limit", "2"),
    "ablate": ("--limit", "2", "--no-attack"),
    "gradient": ("--limit", "1", "--pairs", "500"),
    "attack": ("--qualities", "10", "50", "--approaches", *ATTACKED),
}


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".cache/paper")
    target.mkdir(parents=True, exist_ok=True)
    for study, arguments in STUDIES.items():
        began = time.monotonic()
        command = [sys.executable, "-m", f"bench.{study}", *arguments, "--out", str(target / f"{study}.json")]
        with (target / f"{study}.md").open("w") as tables:
            # Progress goes to the terminal by way of stderr, the tables into the file.
            subprocess.run(command, check=True, stdout=tables)
        print(f"{study}: {time.monotonic() - began:.0f} s, tables in {target / f'{study}.md'}")


if __name__ == "__main__":
    main()
