"""``jpegrad tune-dataset``."""

from pathlib import Path
from typing import Annotated

import typer

from jpegrad.commands.options import LEARNING, MODES, Background, Force, Metric, color_of


def tune_dataset(
    folder: Annotated[Path, typer.Argument(help="Pictures, and folders of them.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file of tables.")],
    metric: Metric = "mse",
    steps: Annotated[int, typer.Option(help="Of gradient descent.")] = LEARNING["steps"],
    batch: Annotated[int, typer.Option(help="Pictures of a step, all processes together.")] = LEARNING[
        "batch"
    ],
    quality: Annotated[
        list[int] | None,
        typer.Option(
            "--quality",
            "-q",
            help="At which the tables will be used; may be repeated. "
            f"Default: {', '.join(map(str, LEARNING['qualities']))}.",
        ),
    ] = None,
    crop: Annotated[
        int, typer.Option(help="Longest side of a piece of a picture; 0 for all of it.")
    ] = LEARNING["crop"],
    learning_rate: Annotated[float, typer.Option(help="First step in the entries' logarithm.")] = LEARNING[
        "learning_rate"
    ],
    seed: Annotated[int, typer.Option(help="Of order and pieces.")] = LEARNING["seed"],
    subsampling: Annotated[
        str, typer.Option(help=", ".join(MODES), autocompletion=lambda: list(MODES))
    ] = LEARNING["subsampling"],
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    background: Background = None,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object of the tables.")] = False,
) -> None:
    """Learn one table set for all qualities over a folder of pictures, read one at a time.

    Interrupted, the same call goes on where it stopped. For several processes or GPUs:
    torchrun --nproc-per-node N -m jpegrad tune-dataset FOLDER -o tables.json.
    """
    from jpegrad.commands import learning

    settings = learning.settings_of(
        metric,
        device,
        steps=steps,
        batch=batch,
        qualities=tuple(quality or LEARNING["qualities"]),
        crop=crop,
        learning_rate=learning_rate,
        subsampling=subsampling,
        seed=seed,
    )
    behind = color_of(background)
    learning.learn_folder(
        folder,
        output,
        metric=metric,
        settings=settings,
        device=device,
        background=behind,
        force=force,
        as_json=as_json,
    )
