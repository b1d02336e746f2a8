"""``jpegrad tune-dataset``: processes of ``torchrun``, progress, checkpoint, file of tables."""

import os
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import typer
from rich.console import Console
from rich.progress import Progress, TimeRemainingColumn
from torch import Tensor, distributed

from jpegrad import tables as quantization
from jpegrad.commands.code import Force
from jpegrad.commands.terminal import options, say
from jpegrad.commands.tune import Metric, holds_tables
from jpegrad.files import check_output
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import Subsampling, check_choice
from jpegrad.tune.dataset import DatasetSettings, as_device, learn_dataset_tables, rank
from jpegrad.tune.folder import Folder
from jpegrad.tune.metrics import ALL


def tune_dataset(
    folder: Annotated[Path, typer.Argument(help="Pictures, and folders of them.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file of tables.")],
    metric: Metric = "mse",
    steps: Annotated[int, typer.Option(help="Of gradient descent.")] = DatasetSettings.steps,
    batch: Annotated[
        int, typer.Option(help="Pictures of a step, all processes together.")
    ] = DatasetSettings.batch,
    quality: Annotated[
        list[int] | None,
        typer.Option(
            "--quality",
            "-q",
            help="At which the tables will be used; may be repeated. "
            f"Default: {', '.join(map(str, DatasetSettings.qualities))}.",
        ),
    ] = None,
    crop: Annotated[
        int, typer.Option(help="Longest side of a piece of a picture; 0 for all of it.")
    ] = DatasetSettings.crop,
    learning_rate: Annotated[
        float, typer.Option(help="First step in the entries' logarithm.")
    ] = DatasetSettings.learning_rate,
    seed: Annotated[int, typer.Option(help="Of order and pieces.")] = DatasetSettings.seed,
    subsampling: Annotated[str, typer.Option(help=", ".join(SUBSAMPLING))] = DatasetSettings.subsampling,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    force: Force = False,
) -> None:
    """Learn one table set for all qualities over a folder of pictures, read one at a time.

    Interrupted, the same call goes on where it stopped. For several processes or GPUs:
    torchrun --nproc-per-node N -m jpegrad tune-dataset FOLDER -o tables.json.
    """
    with options():
        check_choice("--metric", metric, tuple(ALL))
        check_choice("--subsampling", subsampling, tuple(SUBSAMPLING))
        settings = DatasetSettings(
            steps,
            batch,
            tuple(quality or DatasetSettings.qualities),
            crop,
            learning_rate,
            cast(Subsampling, subsampling),
            seed,
        )
        as_device(device)
    learn_folder(folder, output, metric=metric, settings=settings, device=device, force=force)


def learn_folder(
    folder: Path,
    output: Path,
    *,
    metric: str = "mse",
    settings: DatasetSettings | None = None,
    device: str = "cpu",
    force: bool = False,
) -> Tensor:
    """Learn a base table set over the pictures of a folder and save it, with how it was made.

    Started by ``torchrun``, the processes share the work, by way of NCCL on GPUs and gloo on CPUs. The state is kept
    beside the output, under its name with ``.checkpoint`` at the end, until the tables are saved: after an interruption
    the same call goes on. Pictures that cannot be used are left out, with a line for each and their number at the end.

    Args:
        folder: of pictures, and folders below it.
        output: JSON file of tables.
        metric: a name of ``jpegrad.tune.metrics.ALL``.
        settings: None takes the defaults.
        device: ``"cpu"`` or ``"cuda"``.
        force: let the output replace a file that holds no tables.

    Returns:
        ``[2, 8, 8]``.

    Raises:
        ValueError: as ``learn_dataset_tables``, or the output is a folder, in none that exists, or a file without
            tables.
        OSError: the output cannot be written.
        KeyboardInterrupt: as it came, after a line on how to go on.
    """
    settings = settings or DatasetSettings()
    check_output("output", output, holds_tables, force=force)
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    place = as_device(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(place)
    if launched:
        distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        return _learn(folder, output, metric, settings, place)
    finally:
        if launched:
            distributed.destroy_process_group()


def _learn(
    folder: Path, output: Path, metric: str, settings: DatasetSettings, device: torch.device
) -> Tensor:
    images = Folder(folder)
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    first = rank() == 0
    costs: list[float] = []
    console = Console(stderr=True, markup=False, highlight=False)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        console.print(f"warning: {message}", soft_wrap=True)

    columns: list[Any] = [*Progress.get_default_columns()[:-1], TimeRemainingColumn()]
    with warnings.catch_warnings(), Progress(*columns, console=console) if first else nullcontext() as bar:
        warnings.showwarning = show
        task = bar.add_task(f"{metric}, {len(images)} pictures", total=settings.steps) if bar else None

        def progress(step: int, cost: float) -> None:
            costs.append(cost)
            if bar is not None and task is not None:
                recent = sum(costs[-10:]) / len(costs[-10:])
                bar.update(task, completed=step, description=f"{metric}, cost {recent:.4f} of Annex K's")

        try:
            tables = learn_dataset_tables(
                images,
                metric=metric,
                settings=settings,
                checkpoint=checkpoint,
                device=device,
                progress=progress,
            )
        except KeyboardInterrupt:
            if first and checkpoint.exists():
                kept = f"interrupted: {checkpoint} keeps what is learned so far"
                console.print(f"{kept}; the same call goes on from there", soft_wrap=True)
            raise
    if first:
        about = {
            "made_by": "jpegrad.tune.learn_dataset_tables",
            "metric": metric,
            "images": str(len(images)),
            "use": "base for quality 50; jpegrad.tables.scale gives other qualities",
            **{name: str(value) for name, value in vars(settings).items()},
        }
        quantization.save(output, tables, **about)
        checkpoint.unlink(missing_ok=True)
        say(f"{output}: tables for quality 50; jpegrad jpeg --tables {output} --quality Q scales them")
    return tables
