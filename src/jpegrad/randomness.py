"""A generator of the user's, right in the workers of a data loader and under activation checkpointing."""

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import torch
from torch.utils.data import get_worker_info

Drawn = TypeVar("Drawn")
REMEMBERED = 1024
"""How many calls may lie between a call and its recomputation."""


def source_of(generator: torch.Generator) -> "Source":
    """The source of a generator: one, for all layers that share it, in whatever process they arrive together.

    Raises:
        TypeError, ValueError: not a ``torch.Generator``, or one of another device than the CPU.
    """
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator: expected a torch.Generator, got {type(generator).__name__}")
    if generator.device.type != "cpu":
        raise ValueError(
            "generator: expected one of the CPU, where everything is drawn so that no call waits for a device; "
            f"got one of {generator.device}"
        )
    return _SOURCES.setdefault(id(generator), Source(generator))


class Source:
    """What the random layers of :mod:`jpegrad.nn` draw from when they are given a generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self._worker: int | None = None
        self._calls: dict[int, object] = {}

    def ready(self) -> torch.Generator:
        """The generator, to draw from. In a worker of a data loader it is first seeded anew.

        Every worker of every epoch gets a copy in the same state; the worker's own seed tells them apart. Workers that
        persist go on where they are.
        """
        worker = get_worker_info()
        if worker is not None and worker.seed != self._worker:
            self._worker = worker.seed
            self.generator.manual_seed((_number(self.generator) + worker.seed) % 2**63)
        return self.generator

    def once(self, draw: Callable[[], Drawn]) -> Drawn:
        """What a call draws, and again when a backward pass recomputes it.

        A checkpoint puts the default generator back where it was, and no other. So a number of the default generator
        is the name by which the recomputation finds the call.

        Raises:
            RuntimeError: a backward pass makes a call that is unknown.
        """
        name = _number(None)
        if torch._C._current_graph_task_id() == -1:
            self._calls.pop(name, None)
            self._calls[name] = drawn = draw()
            if len(self._calls) > REMEMBERED:
                del self._calls[next(iter(self._calls))]
            return drawn
        if name not in self._calls:
            raise RuntimeError(
                "nn.RandomJPEG, nn.RandomHistory: a backward pass recomputes a call that is not known, so that it "
                "would draw anew: "
                "expected torch.utils.checkpoint with preserve_rng_state=True and fewer than "
                f"{REMEMBERED} calls in between, or draws of your own, layer(image, layer.draw(image.shape))"
            )
        return self._calls[name]  # type: ignore[return-value]

    def __reduce__(self) -> tuple[Any, ...]:
        # As bytes: a tensor would travel by shared memory, which is gone before a spawned worker opens it.
        return _received, (bytes(self.generator.get_state().tolist()),)


_SOURCES: WeakValueDictionary[int, Source] = WeakValueDictionary()


def _received(state: bytes) -> Source:
    generator = torch.Generator("cpu")
    generator.set_state(torch.tensor(list(state), dtype=torch.uint8, device="cpu"))
    return source_of(generator)


def _number(generator: torch.Generator | None) -> int:
    return int(torch.randint(2**62, (1,), generator=generator, device="cpu").tolist()[0])
