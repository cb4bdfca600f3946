"""How a verb speaks: in words for people, as one JSON object a line for programs, or of nothing but errors.

Each line of JSON has ``event`` and ``time``; the last one has ``exit_code``, unless the process was killed. Standard
output has these lines and no others.
"""

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from bigncc import progress
from bigncc.errors import InputError
from bigncc.progress import Account, Advance, Progress

if TYPE_CHECKING:
    from bigncc.pipeline import Prepared, Result, Verdict

Way = Literal["words", "json", "quiet"]


def way_of(words: Sequence[str]) -> Way:
    """Return how the words of a command line ask to be spoken to; it holds for what is wrong with them, too."""
    given = words[: words.index("--")] if "--" in words else words
    return "json" if "--json" in given else "quiet" if "--quiet" in given else "words"


def check(words: Sequence[str]) -> None:
    """Raise InputError if words ask for two ways at once."""
    if {"--json", "--quiet"} <= set(words):
        message = "--json and --quiet are given: one of them is accepted"
        raise InputError(message)


def tell(way: Way, event: str, words: Sequence[str], **facts: Any) -> None:
    """Say that something has happened: lines for people, or an event with its facts."""
    if way == "json":
        _write({"event": event, "time": progress.stamp(), **facts})
    elif way == "words":
        sys.stdout.write("".join(f"{line}\n" for line in words))
        sys.stdout.flush()


def failed(way: Way, code: int, sentence: str) -> None:
    """Say in a sentence why the process ends, and with which code; also from where nothing else works any more."""
    os.write(2, f"bigncc: {sentence}\n".encode())
    if way == "json":
        _write({"event": "error", "time": progress.stamp(), "exit_code": code, "text": sentence})


def lost(way: Way, sentence: str) -> None:
    """Say in a sentence that one pair of several has failed; the others go on."""
    sys.stderr.write(f"bigncc: {sentence}\n")
    if way == "json":
        tell(way, "lost", (), text=sentence)


def broken(way: Way, error: Exception) -> None:
    """Say that the process ends by a bug, whose traceback follows on standard error."""
    if way == "json":
        tell(way, "error", (), exit_code=1, text=f"{type(error).__name__}: {error}")


def progress_of(way: Way) -> Progress:
    """Return what shows how far a run is."""
    return {"words": progress.shown, "json": _told, "quiet": progress.silent}[way]


def waiting_of(way: Way) -> Callable[[str], AbstractContextManager[None]]:
    """Return what says that something takes its time."""
    return {"words": progress.waiting, "json": _noted, "quiet": _unsaid}[way]


class Listener(logging.Handler):
    """Hands on what the library has to say, as long waits for the compiler."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._way = way

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, but not to who wants errors only."""
        if self._way == "json":
            tell(self._way, "note", (), text=record.getMessage())
        elif self._way == "words":
            sys.stderr.write(f"bigncc: {record.getMessage()}\n")


@contextmanager
def _unsaid(_what: str) -> Iterator[None]:
    yield


@contextmanager
def _noted(what: str) -> Iterator[None]:
    tell("json", "note", (), text=what)
    yield


@contextmanager
def _told(tiles: int, pixels: int, done: int, what: str = "tile") -> Iterator[Advance]:
    """Write an event at the beginning, and then as often as plain lines are written."""
    count = progress.counting(tiles, pixels, done)

    def show(account: Account) -> None:
        tell("json", "progress", (), **facts_of(account), what=what)

    show(Account(tiles, pixels, 0, done))
    seldom = progress.now_and_then(show)
    yield lambda step: seldom(count(step))


def facts_of(account: Account) -> dict[str, Any]:
    """Return how far a run is as what JSON has."""
    return {
        "tiles": {"done": account.tiles_done, "total": account.tiles},
        "pixels": {"done": account.pixels_done, "total": account.pixels},
        "pixels_per_second": None if account.speed is None else round(account.speed),
        "seconds_left": None if account.left is None else round(account.left, 1),
        "retried": account.retried,
        "quarantined": account.quarantined,
        "workers": account.workers,
    }


def tell_result(way: Way, result: "Result", part: str | None, **end: int) -> None:
    """Say what was computed, and what is left to do where it was a part."""
    from bigncc import report

    done = "complete" if result.complete else f"part {part} is done, bigncc finish after all parts"
    notes = [f"note: {note}" for note in result.notes]
    said = [*notes, facts_in_lines(report.facts(result.summary) | result.further()), f"{done}: {result.url}"]
    event = "complete" if result.complete else "part"
    tell(way, event, said, **_of_result(result), **({"part": part} if part else {}), **end)


def facts_in_lines(facts: Mapping[str, str]) -> str:
    """Return facts below each other."""
    width = max(map(len, facts), default=0)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in facts.items())


def of_plan(ready: "Prepared") -> dict[str, Any]:
    """Return what was decided as what JSON has."""
    job = ready.job
    return {"url": job.url, "plan_id": job.plan_id, "tiles": len(job.plan), "headline": ready.headline}


def _of_result(result: "Result") -> dict[str, Any]:
    from bigncc.summary import STATUS

    summary = result.summary
    numbers = {name: getattr(summary, name) for name in ("mean", "std", "low", "high")}
    counts = {name: n for name, n in zip(STATUS, summary.counts, strict=True) if n}
    found = {
        "url": result.url,
        "headline": result.headline,
        "notes": list(result.notes),
        "pixels": summary.pixels,
        "status": counts,
        "ncc": {name: value if math.isfinite(value) else None for name, value in numbers.items()},
    }
    table = result.table
    return found if table is None else found | {"suspect_sections": list(table.suspects)}


def of_verdict(verdict: "Verdict") -> dict[str, Any]:
    """Return what `verify` found as what JSON has."""
    found = {"url": verdict.url, "tiles": verdict.tiles, "bytes": verdict.size}
    return found | {"recomputed": list(verdict.recomputed), "faults": list(verdict.faults)}


def watch(url: str, every: float | None, *, as_json: bool) -> None:
    """Say how far a run is until it ends, on standard output: a bar on a terminal, a line each time elsewhere.

    Raises
    ------
    BignccError
        As `bigncc.lookout.looks`.
    """
    from bigncc import lookout

    out = sys.stdout
    pause = every or (2.0 if out.isatty() else progress.PAUSE)
    if as_json:
        for account in lookout.looks(url, pause):
            tell("json", "progress", (), **facts_of(account), what="tile")
        return
    found = lookout.looks(url, pause)
    first = next(found, None)
    if first is None:
        return
    with progress.board(first, "tile", out) as show:
        for account in chain((first,), found):
            show(account)


def _write(document: dict[str, Any]) -> None:
    """Write a line, whole or not at all wherever a signal comes; who reads no more needs none."""
    left = memoryview(f"{json.dumps(document)}\n".encode())
    with suppress(BrokenPipeError):
        while left:
            left = left[os.write(1, left) :]
