"""One table set for all qualities, learned over many images: streamed, distributed, resumable."""

import functools
import hashlib
import json
import math
import numbers
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed

from jpegrad import tables as quantization
from jpegrad.files import write_atomically
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import Range, Subsampling, check_choice, check_value_range
from jpegrad.tune import metrics
from jpegrad.tune.folder import Folder, count_left_out, none_left, usable
from jpegrad.tune.metrics import Metric, Unusable
from jpegrad.tune.objective import ImageObjective, SharedObjective
from jpegrad.tune.samples import UNIT, check_one_image

BETAS = (0.9, 0.98)

Progress = Callable[[int, float], None]
"""Called after each step with the steps done and the mean cost relative to Annex K's."""


@dataclass(frozen=True)
class DatasetSettings:
    """How a base table set is learned over a data set.

    Args:
        steps: of Adam on the logarithm of the entries.
        batch: images of a step, over all processes together.
        qualities: at which the base is used; the images of a step take them in turn.
        crop: longest side of the piece that is taken of an image, at random; 0 takes all of it.
        learning_rate: first step, in the logarithm; it falls to 0 along a cosine.
        subsampling: of the chroma.
        seed: of order and pieces.

    Raises:
        TypeError, ValueError: a setting is not as described.

    Example:
        >>> DatasetSettings(steps=100, qualities=(50, 75, 90)).batch
        8
    """

    steps: int = 300
    batch: int = 8
    qualities: tuple[int, ...] = (20, 35, 50, 65, 80, 90)
    crop: int = 384
    learning_rate: float = 0.06
    subsampling: Subsampling = "4:2:0"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "crop", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise TypeError(f"{name}: expected an integer, got {value!r}")
            object.__setattr__(self, name, int(value))
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.crop < 0:
            raise ValueError(f"crop: expected 0 or more, got {self.crop}")
        if isinstance(self.learning_rate, bool) or not isinstance(self.learning_rate, (int, float)):
            raise TypeError(f"learning_rate: expected a number, got {self.learning_rate!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate: expected a finite number above 0, got {self.learning_rate}")
        check_choice("subsampling", self.subsampling, tuple(SUBSAMPLING))
        if not isinstance(self.qualities, (tuple, list)):
            raise TypeError(f"qualities: expected a tuple of numbers, got {self.qualities!r}")
        if not self.qualities:
            raise ValueError("qualities: expected at least one, got none")
        for quality in self.qualities:
            quantization.check_quality(quality)


@torch.inference_mode(False)
def learn_dataset_tables(
    images: Sequence[Tensor] | str | os.PathLike[str],
    *,
    metric: str | Metric | Callable[[Tensor, Tensor], Tensor] = "mse",
    settings: DatasetSettings | None = None,
    value_range: Range = UNIT,
    checkpoint: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Tensor:
    """One base table set to be scaled to all qualities, learned over a data set.

    Each step codes a few images at a few qualities and takes the gradient of loss / multiplier + bits, relative to
    the bits under Annex K. The Lagrange multiplier is the one that Annex K's own scale has for that image at that
    quality, so quality q with the learned base trades distortion for bits as quality q does with Annex K.

    Images without detail have nothing to trade and leave the tables as they are. Pictures of a folder that cannot be
    opened, or are too small for the metric, are left out with a warning; the next one in the epoch's order takes their
    place, so that the result depends on the pictures alone.

    Under ``torchrun`` every process calls this; the images of a step are divided among them, and the result is that of
    one process, if all have as many threads. If ``torch.distributed`` is not initialised, one process does all.

    Args:
        images: a sequence of ``[C, H, W]`` images, C = 3 or 1, uint8 or floating point in ``value_range``
            (clipped to it), read one at a time, or a folder.
        metric: as in :func:`compress`.
        settings: None takes the defaults of :class:`DatasetSettings`.
        value_range: (low, high) of floating-point images.
        checkpoint: file to save the state to after every step and to go on from; of several processes the first reads
            and writes it. It stays, so that nothing is lost before the tables are saved; remove it then.
        device: where images are coded: ``"cpu"`` or ``"cuda"``.
        progress: called after each step.

    Returns:
        ``[2, 8, 8]``, integers 1…255 in float32: for ``jpegrad.tables.scale`` and ``jpegrad.tables.save``.

    Raises:
        TypeError, ValueError: an argument is not as described, no picture of the folder can be used, or the checkpoint
            is of other images or settings.

    Example:
        >>> images = [torch.rand(3, 32, 32) for _ in range(2)]
        >>> learn_dataset_tables(images, settings=DatasetSettings(steps=1, batch=2)).shape
        torch.Size([2, 8, 8])
    """
    chosen = metrics.get(metric)
    settings = DatasetSettings() if settings is None else settings
    if not isinstance(settings, DatasetSettings):
        raise TypeError(f"settings: expected DatasetSettings, got {type(settings).__name__}")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress: expected a function, got {progress!r}")
    if checkpoint is not None and Path(checkpoint).is_dir():
        raise ValueError(f"checkpoint: expected the name of a file, got the folder {checkpoint}")
    source = Folder(images) if isinstance(images, (str, os.PathLike)) else images
    if not hasattr(source, "__len__") or not hasattr(source, "__getitem__"):
        raise TypeError(f"images: expected a sequence of images or a folder, got {type(images).__name__}")
    if len(source) == 0:
        raise ValueError("images: expected at least one, got none")
    learner = _Learner(source, chosen, settings, as_device(device), check_value_range(value_range))
    if checkpoint is not None and rank() == 0:
        learner.resume(Path(checkpoint))
    learner.share()
    while learner.step < settings.steps:
        relative = learner.advance()
        if checkpoint is not None and rank() == 0:
            learner.save(Path(checkpoint))
        if progress is not None:
            progress(learner.step, relative)
    if rank() == 0:
        count_left_out(source, len(learner.left_out))
    return quantization.legal(learner.logarithm.exp()).float()


class _Learner:
    def __init__(
        self,
        images: Sequence[Tensor],
        metric: Metric,
        settings: DatasetSettings,
        device: torch.device,
        value_range: Range = UNIT,
    ) -> None:
        self.images, self.metric, self.settings, self.device = images, metric, settings, device
        self.value_range = value_range
        self.left_out: set[int] = set()
        self.logarithm = torch.tensor(quantization.ANNEX_K, dtype=torch.float64).log()
        self.optimizer = torch.optim.Adam([self.logarithm], betas=BETAS, eps=1e-12)
        moments = {name: torch.zeros_like(self.logarithm) for name in ("exp_avg", "exp_avg_sq")}
        self.optimizer.state[self.logarithm] = {"step": torch.zeros(()), **moments}

    @property
    def state(self) -> dict[str, Tensor]:
        """All that a checkpoint keeps."""
        return {"logarithm": self.logarithm, **self.optimizer.state[self.logarithm]}

    @property
    def step(self) -> int:
        return int(self.state["step"])

    def advance(self) -> float:
        """One step of Adam; the mean cost relative to Annex K's."""
        count = self.settings.batch
        numbers = range(self.step * count, (self.step + 1) * count)
        rows = torch.zeros(count, 2 + self.logarithm.numel(), dtype=torch.float64)
        for place in range(rank(), count, _world()):
            objective, passed = self._objective(numbers[place])
            relative, slope = self._cost(objective, numbers[place])
            rows[place, 0], rows[place, 1], rows[place, 2:] = passed, relative, slope.flatten()
        # Each row comes from one process, so the sum over processes is exact, and that over rows has one order.
        rows = _summed(rows, self.device)
        for number, passed in zip(numbers, rows[:, 0].int().tolist(), strict=True):
            # What one process could not use, no other opens.
            self.left_out.update(self._order(number)[:passed] if passed else ())
        total = rows[:, 1:].sum(0) / count
        self.logarithm.grad = total[1:].view_as(self.logarithm)
        cosine = math.cos(math.pi * self.step / self.settings.steps)
        self.optimizer.param_groups[0]["lr"] = self.settings.learning_rate * (1 + cosine) / 2
        self.optimizer.step()
        self.logarithm.clamp_(0, math.log(255))
        return float(total[0])

    def _order(self, number: int) -> list[int]:
        """The images of an epoch, from the number-th image of the stream on."""
        epoch, place = divmod(number, len(self.images))
        random = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.images), generator=random).roll(-place).tolist()

    def _objective(self, number: int) -> tuple[ImageObjective, int]:
        """The number-th image of the stream, or the first usable one after it, and how many that passes over."""
        for passed, index in enumerate(self._order(number)):
            if index in self.left_out:
                continue
            objective = usable(self.images, index, functools.partial(self._made, number, index))
            if objective is not None:
                return objective, passed
            self.left_out.add(index)
        raise none_left(self.images)

    def _made(self, number: int, index: int, image: Tensor) -> ImageObjective:
        name = f"images[{index}]"
        check_one_image(name, image)
        crop = self.settings.crop
        random = torch.Generator().manual_seed((self.settings.seed * 1_000_003 + number) * 2 + 1)
        piece = _piece(image, crop, random).to(self.device)
        try:
            return ImageObjective(
                piece,
                self.metric,
                self.settings.subsampling,
                value_range=self.value_range,
                argument=name,
            )
        except Unusable as error:
            if 0 < crop < min(image.shape[-2:]):
                raise ValueError(f"crop: expected pieces that suit the metric, got {crop}: {error}") from None
            raise

    def _cost(self, objective: ImageObjective, number: int) -> tuple[float, Tensor]:
        """Cost of the number-th image of the stream relative to Annex K's, and its slope to the logarithm."""
        # Neighbours in the stream take different qualities, and an image another one in each epoch.
        qualities = self.settings.qualities
        quality = qualities[(number + number // len(self.images)) % len(qualities)]
        default = quantization.annex_k(quality, device=self.device)
        multiplier = SharedObjective([objective]).multiplier(default)
        if multiplier == 0:
            return 1.0, torch.zeros_like(self.logarithm)
        with torch.no_grad():
            start = objective(default)
        logarithm = self.logarithm.to(self.device, torch.float32).requires_grad_()
        point = objective(quantization.scale(logarithm.exp(), quality))
        change = (point.loss.double() - start.loss.double()) / multiplier + point.bits - start.bits
        relative = 1 + change / start.bits
        relative.backward()
        slope = logarithm.grad
        if slope is None or not slope.isfinite().all():
            raise ValueError("metric: expected a finite gradient of the loss, got one that is not")
        return float(relative.detach()), slope.double().cpu()

    @functools.cached_property
    def _identity(self) -> str:
        """What a checkpoint belongs to."""
        if isinstance(self.images, Folder):
            behind = [] if self.images.background is None else [str(self.images.background)]
            content = [*behind, *map(str, self.images.paths)]
        else:
            content = [str(list(self.images[i].shape)) for i in range(len(self.images))]
        about = [asdict(self.settings), self.value_range, self.metric.name, self.metric.source, content]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def save(self, path: Path) -> None:
        state = {name: x.tolist() for name, x in self.state.items()}
        write_atomically(path, json.dumps({"identity": self._identity, **state}).encode())

    def resume(self, path: Path) -> None:
        if not path.exists():
            return
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            identity = state["identity"]
            loaded = {
                name: torch.tensor(state[name], dtype=x.dtype).view_as(x) for name, x in self.state.items()
            }
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise ValueError(
                f"checkpoint: expected a file that learn_dataset_tables saved, got {path}: {error}"
            ) from None
        if identity != self._identity:
            raise ValueError(
                f"checkpoint: expected one of these images, settings and metric, got {path} of others; "
                "remove it to start anew"
            )
        for name, x in self.state.items():
            x.copy_(loaded[name])

    def share(self) -> None:
        """The state of the first process for all: the others may not see its checkpoint."""
        if not _together():
            return
        parts = list(self.state.values())
        state = torch.cat([part.double().flatten() for part in parts])
        if distributed.get_backend() == "nccl":
            state = state.to(self.device)
        distributed.broadcast(state, 0)
        for part, value in zip(parts, state.cpu().split([part.numel() for part in parts]), strict=True):
            part.copy_(value.view_as(part))


def _piece(image: Tensor, crop: int, random: torch.Generator) -> Tensor:
    """A piece with no side longer than ``crop``, its corner on the grid of MCUs."""
    if crop == 0:
        return image
    for dim in (-2, -1):
        length = image.shape[dim]
        room = max(0, length - crop)
        corner = int(torch.randint(0, room // 16 + 1, (), generator=random)) * 16
        image = image.narrow(dim, corner, min(crop, length))
    return image


def as_device(device: torch.device | str) -> torch.device:
    """The device of that name, if there is one.

    Raises:
        ValueError: it is neither ``cpu`` nor a ``cuda`` device of this machine.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected cpu or cuda, got {device!r}")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ValueError(f"device: expected one that is there, got {device} of {count} CUDA devices")
    return found


def rank() -> int:
    """The number of this process among those that learn together."""
    return distributed.get_rank() if _together() else 0


def _world() -> int:
    return distributed.get_world_size() if _together() else 1


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _summed(values: Tensor, device: torch.device) -> Tensor:
    if not _together():
        return values
    # NCCL sums on its device only.
    moved = values.to(device) if distributed.get_backend() == "nccl" else values
    distributed.all_reduce(moved)
    return moved.cpu()
