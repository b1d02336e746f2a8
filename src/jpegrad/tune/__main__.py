"""``python -m jpegrad.tune DIR -o tables.json``, also under ``torchrun --nproc-per-node N -m jpegrad.tune``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jpegrad.tune import metrics
from jpegrad.tune.dataset import DatasetSettings
from jpegrad.tune.run import learn_folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn one table set for all qualities over the pictures of a folder."""
    defaults = DatasetSettings()
    parser = argparse.ArgumentParser(
        prog="jpegrad.tune",
        description=main.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="pictures, and folders of them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file of tables")
    parser.add_argument("--metric", choices=list(metrics.ALL), default="mse", help="what to learn for")
    parser.add_argument("--steps", type=int, default=defaults.steps, help="of descent")
    parser.add_argument(
        "--batch", type=int, default=defaults.batch, help="images of a step, all processes together"
    )
    parser.add_argument(
        "--qualities",
        type=int,
        nargs="+",
        default=defaults.qualities,
        help="at which the tables will be used",
    )
    parser.add_argument(
        "--crop", type=int, default=defaults.crop, help="longest side of a piece of an image; 0 for all of it"
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=defaults.learning_rate,
        help="first step in the entries' logarithm",
    )
    parser.add_argument("--subsampling", default=defaults.subsampling, help="of the chroma")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of order and pieces")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--force", action="store_true", help="write over a file that holds no tables")
    options = parser.parse_args(arguments)
    try:
        settings = DatasetSettings(
            options.steps,
            options.batch,
            tuple(options.qualities),
            options.crop,
            options.learning_rate,
            options.subsampling,
            options.seed,
        )
        learn_folder(
            options.folder,
            options.output,
            metric=options.metric,
            settings=settings,
            device=options.device,
            force=options.force,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
