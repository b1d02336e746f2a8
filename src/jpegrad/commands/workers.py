"""Processes of one thread each that share the files of a command."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar, cast

from jpegrad.commands.terminal import state

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(
    items: list[Item], work: Callable[[Item], Result], count: int, lost: Callable[[Item], Result]
) -> Iterator[Result]:
    """The results of the work on each, as they come.

    Args:
        items: what is worked on.
        work: a function that can be pickled, and raises nothing.
        count: of processes.
        lost: the result for an item whose process has died of it, as for lack of memory; another takes its place.
    """
    waiting = deque(items)
    idle: list[tuple[Connection, BaseProcess]] = []
    busy: dict[Connection, tuple[BaseProcess, Item]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < count:
                pipe, process = idle.pop() if idle else _start(work)
                item = waiting.popleft()
                busy[pipe] = process, item
                # A process that has just died is found by its silence.
                try:
                    pipe.send(item)
                except OSError:
                    continue
            for pipe in cast(list[Connection], wait(list(busy))):
                process, item = busy.pop(pipe)
                try:
                    result = pipe.recv()
                except (EOFError, OSError):
                    pipe.close()
                    process.join()
                    result = lost(item)
                else:
                    idle.append((pipe, process))
                yield result
    finally:
        for pipe, process in [*idle, *((pipe, process) for pipe, (process, _) in busy.items())]:
            pipe.close()
            process.terminate()
            process.join()


def _start(work: Callable[[Item], Result]) -> tuple[Connection, BaseProcess]:
    # A fork of a process in which PyTorch has used threads may stand still.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    # An interruption is this process's to handle, and what is ignored is inherited.
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, interrupted)
    theirs.close()
    return ours, process


def _serve(pipe: Connection, work: Callable[[Item], Result]) -> None:
    """Work on what comes until the other end is closed."""
    import torch

    torch.set_num_threads(1)
    # What is to be said goes back with the result, and is said there.
    state.quiet = True
    try:
        while True:
            pipe.send(work(pipe.recv()))
    except (EOFError, OSError):
        return
