"""What a person sees while a run goes on: a bar on a terminal, plain lines with the time elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TextIO

PAUSE = 10.0
"""Seconds between plain lines."""

TILES, SECONDS = 20, 30.0
"""The speed is that of so many tiles, or of three for each worker, and of so many seconds at least: the last ones."""


@dataclass(frozen=True)
class Step:
    """What became of a tile.

    Parameters
    ----------
    pixels : int
        How many it has.
    tries : int
        How often this run began it; 0: another job has made it.
    quarantined : bool
        Whether that was in vain.
    workers : int, optional
        How many there are, where there are any.
    """

    pixels: int
    tries: int = 1
    quarantined: bool = False
    workers: int | None = None


Advance = Callable[[Step], None]


class Progress(Protocol):
    """Called with tiles to be done, all pixels, those that are there, and what they are; returns a context."""

    def __call__(  # noqa: D102
        self, tiles: int, pixels: int, done: int, what: str = "tile"
    ) -> AbstractContextManager[Advance | None]: ...


def silent(tiles: int, pixels: int, done: int, what: str = "tile") -> AbstractContextManager[None]:  # noqa: ARG001
    """Show nothing."""
    return nullcontext()


@dataclass(frozen=True)
class Account:
    """How far a run is: tiles of this process, pixels with those that were there before, and what became of tiles.

    `speed` is in pixels per second, and what others have made is no part of it; `left` is in seconds. None: not known.
    """

    tiles: int
    pixels: int
    tiles_done: int
    pixels_done: int
    retried: int = 0
    quarantined: int = 0
    workers: int | None = None
    speed: float | None = None
    left: float | None = None

    @property
    def percent(self) -> int:
        """The share of the pixels that are there; 100 not before the last one is."""
        return 100 if self.pixels_done >= self.pixels else 100 * self.pixels_done // self.pixels


def counting(
    tiles: int, pixels: int, done: int, clock: Callable[[], float] = time.monotonic
) -> Callable[[Step], Account]:
    """Return a function that is told of each tile and says how far the run is; the time counts from now on.

    Parameters
    ----------
    tiles : int
        Those that are to be done.
    pixels : int
        Pixels of the whole output.
    done : int
        Pixels that are there already.
    clock : callable
        The time in seconds.
    """
    start, speed_at = clock(), pace()
    account, made, lost = Account(tiles, pixels, 0, done), 0, 0

    def count(step: Step) -> Account:
        nonlocal account, made, lost
        made += step.pixels if step.tries and not step.quarantined else 0
        lost += step.pixels if step.quarantined else 0
        there = account.pixels_done + (0 if step.quarantined else step.pixels)
        speed = speed_at(clock() - start, made, step.workers or 1)
        account = Account(
            tiles,
            pixels,
            account.tiles_done + 1,
            there,
            account.retried + (step.tries > 1),
            account.quarantined + step.quarantined,
            step.workers,
            speed,
            (pixels - there - lost) / speed if speed else None,
        )
        return account

    return count


def pace() -> Callable[[float, int, int], float]:
    """Return a function of the time, the pixels that are made by then and the workers, that says how fast it goes."""
    known = deque([(0.0, 0)])

    def speed(seconds: float, pixels: int, workers: int) -> float:
        known.append((seconds, pixels))
        # of workers that began together tiles are done together: a few of such waves
        while len(known) > 1 + max(TILES, 3 * workers) and seconds - known[1][0] > SECONDS:
            known.popleft()
        before, then = known[0]
        return (pixels - then) / max(seconds - before, 1e-9)

    return speed


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
def shown(tiles: int, pixels: int, done: int, what: str = "tile", *, stream: TextIO | None = None) -> Iterator[Advance]:
    """Show the progress of a run; the context's function is called with what became of each tile.

    Parameters
    ----------
    tiles : int
        Those that are to be done.
    pixels : int
        Pixels of the whole output.
    done : int
        Pixels that are there already.
    what : str
        What they are called.
    stream : TextIO, optional
        Standard error by default.
    """
    out = sys.stderr if stream is None else stream
    count = counting(tiles, pixels, done)
    with board(Account(tiles, pixels, 0, done), what, out) as show:
        seldom = show if out.isatty() else now_and_then(show)
        yield lambda step: seldom(count(step))


@contextmanager
def board(account: Account, what: str, out: TextIO) -> Iterator[Callable[[Account], None]]:
    """Yield what shows how far a run is: it redraws a bar on a terminal, and writes a line elsewhere."""
    if out.isatty():
        with _bar(account, what, out) as show:
            yield show
    else:
        yield lambda account: _line(account, what, out)


def now_and_then(show: Callable[[Account], None]) -> Callable[[Account], None]:
    """Return a function that shows how far it is every `PAUSE` seconds, at the end, and when a tile is lost."""
    shown, lost = time.monotonic(), 0

    def seldom(account: Account) -> None:
        nonlocal shown, lost
        now = time.monotonic()
        if now - shown >= PAUSE or account.tiles_done == account.tiles or account.quarantined > lost:
            shown, lost = now, account.quarantined
            show(account)

    return seldom


@contextmanager
def _bar(account: Account, what: str, out: TextIO) -> Iterator[Callable[[Account], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    from rich.table import Column

    # on a narrow terminal what is said takes a second line
    said = TextColumn("{task.fields[said]}", table_column=Column(no_wrap=False))
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), said
    with Progress(*columns, console=Console(file=out)) as progress:
        task = progress.add_task(what, total=account.pixels, said="", visible=False)

        def show(account: Account) -> None:
            words = f"{account.percent} % {pace_in_words(account)}".rstrip()
            description = f"{what} {account.tiles_done}/{account.tiles}"
            progress.update(task, completed=account.pixels_done, description=description, said=words, visible=True)

        show(account)
        progress.refresh()
        yield show


def _line(account: Account, what: str, out: TextIO) -> None:
    place = f"{what} {account.tiles_done}/{account.tiles}"
    said = ", ".join(filter(None, (place, f"{account.percent} %", pace_in_words(account))))
    out.write(f"{stamp()} {said}\n")
    out.flush()


def stamp() -> str:
    """Return the time of day with its zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def pace_in_words(account: Account) -> str:
    """Return speed, workers, what went wrong, and the time that is left."""
    workers = account.workers
    said = [] if account.speed is None else [speed_in_words(account.speed)]
    said += [f"{workers} worker{'' if workers == 1 else 's'}"] if workers is not None else []
    said += [f"{account.retried} tried again"] if account.retried else []
    said += [f"{account.quarantined} quarantined"] if account.quarantined else []
    said += [f"{time_in_words(account.left)} left"] if account.left is not None else []
    return ", ".join(said)


def speed_in_words(speed: float) -> str:
    """Return pixels per second as people say it."""
    millions = speed / 1e6
    return f"{millions:.1f} Mpixel/s" if millions >= 1 else f"{millions:.3f} Mpixel/s"


def time_in_words(seconds: float) -> str:
    """Return a time as people say it: 42 s, 12 min, 3 h 5 min, 2 d 4 h."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
