"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

PAUSE = 10.0
"""Seconds between plain lines."""


class Advance(Protocol):
    """What is called with the pixels of a finished tile, and how many workers there are, where there are any."""

    def __call__(self, count: int, workers: int | None = None) -> None: ...  # noqa: D102


@contextmanager
def waiting(what: str, *, stream: TextIO | None = None) -> Iterator[None]:
    """Say on a terminal `what` is going on for the time of the context; say nothing elsewhere."""
    out = sys.stderr if stream is None else stream
    if not out.isatty():
        yield
        return
    from rich.console import Console

    with Console(file=out).status(what):
        yield


@contextmanager
def tiles(total: int, pixels: int, done: int, *, stream: TextIO | None = None) -> Iterator[Advance]:
    """Show the progress of a run; the context's function is called with the pixels of each finished tile.

    Parameters
    ----------
    total : int
        Tiles that are to be computed.
    pixels : int
        Pixels of the whole output.
    done : int
        Pixels that are there already.
    stream : TextIO, optional
        Standard error by default.
    """
    out = sys.stderr if stream is None else stream
    show = _bar if out.isatty() else _plain
    with show(total, pixels, done, out) as advance:
        yield advance


@contextmanager
def _bar(total: int, pixels: int, done: int, out: TextIO) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[tiles]} tiles"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %  {task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=out)) as progress:
        task = progress.add_task("", total=pixels, completed=done, tiles=f"0/{total}", speed="")
        start, state = time.monotonic(), [0, 0]

        def advance(count: int, workers: int | None = None) -> None:
            state[0] += 1
            state[1] += count
            speed = _speed(state[1], time.monotonic() - start) + _by(workers)
            progress.update(task, advance=count, tiles=f"{state[0]}/{total}", speed=speed)

        yield advance


@contextmanager
def _plain(total: int, pixels: int, done: int, out: TextIO) -> Iterator[Advance]:
    start, state = time.monotonic(), [0.0, 0.0, time.monotonic()]

    def advance(count: int, workers: int | None = None) -> None:
        state[0] += 1
        state[1] += count
        now = time.monotonic()
        if now - state[2] < PAUSE and state[0] < total:
            return
        state[2] = now
        left = (pixels - done - state[1]) * (now - start) / state[1] if state[1] else 0.0
        share = 100 * (done + state[1]) / pixels
        speed = _speed(state[1], now - start) + _by(workers)
        out.write(f"tile {state[0]:.0f}/{total}, {share:.0f} %, {speed}, {left:.0f} s left\n")
        out.flush()

    yield advance


def _speed(pixels: float, seconds: float) -> str:
    return f"{pixels / max(seconds, 1e-9) / 1e6:.1f} Mpixel/s"


def _by(workers: int | None) -> str:
    return "" if workers is None else f", {workers} worker{'' if workers == 1 else 's'}"
