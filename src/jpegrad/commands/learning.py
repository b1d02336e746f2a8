"""What ``jpegrad tune-dataset`` does: processes of ``torchrun``, progress, checkpoint, file of tables."""

import os
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.progress import Progress, TimeRemainingColumn
from torch import Tensor, distributed

from jpegrad import tables as quantization
from jpegrad.commands.terminal import done, options, tell
from jpegrad.files import check_output
from jpegrad.pictures import Color
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import Subsampling, check_choice
from jpegrad.tune.dataset import DatasetSettings, as_device, learn_dataset_tables, rank
from jpegrad.tune.folder import Folder
from jpegrad.tune.metrics import ALL


def settings_of(metric: str, device: str, **given: Any) -> DatasetSettings:
    """What the options say, checked.

    Raises:
        WrongOption: one of them is wrong.
    """
    with options():
        check_choice("--metric", metric, tuple(ALL))
        check_choice("--subsampling", given["subsampling"], tuple(SUBSAMPLING))
        given["subsampling"] = cast(Subsampling, given["subsampling"])
        as_device(device)
        return DatasetSettings(**given)


def learn_folder(
    folder: Path,
    output: Path,
    *,
    metric: str = "mse",
    settings: DatasetSettings | None = None,
    device: str = "cpu",
    background: Color | None = None,
    force: bool = False,
    as_json: bool = False,
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
        background: R, G and B, to lay behind what is transparent; None leaves such pictures out.
        force: let the output replace a file that is there.
        as_json: print a JSON object in place of a line.

    Returns:
        ``[2, 8, 8]``.

    Raises:
        ValueError: as ``learn_dataset_tables``, or the output is a folder, in none that exists, or there already.
        OSError: the output cannot be written.
        KeyboardInterrupt: as it came, after a line on how to go on.
    """
    settings = settings or DatasetSettings()
    check_output("output", output, force=force)
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    place = as_device(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(place)
    if launched:
        distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        return _learn(Folder(folder, background=background), output, metric, settings, place, as_json)
    finally:
        if launched:
            distributed.destroy_process_group()


def _learn(
    images: Folder,
    output: Path,
    metric: str,
    settings: DatasetSettings,
    device: torch.device,
    as_json: bool,
) -> Tensor:
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
        if as_json:
            # A call that goes on where all was learned has no step of its own.
            recent = costs[-10:]
            facts: dict[str, Any] = {"file": str(output), "metric": metric, "pictures": len(images)}
            facts["cost"] = sum(recent) / len(recent) if recent else None
            tell({**facts, "tables": tables.long().tolist()})
            return tables
        done(f"{output}: tables for quality 50; jpegrad jpeg --tables {output} --quality Q scales them")
    return tables
