"""A table of pairs: a line for each, and a run of its own."""

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from bigncc import store
from bigncc.config import Config, is_assignment, load, merged
from bigncc.errors import BignccError, IncompleteError, InputError, StoppedError
from bigncc.metadata import in_one_line
from bigncc.tiles import share

IMAGES = ("reference", "moving", "output")
"""Columns that a table has: paths or addresses. What others there are name keys of the config."""

NAMED = 3
"""Pairs that are named when some failed."""


def configs(path: str, words: Iterable[str | Mapping[str, Any]], part: tuple[int, int] = (0, 1)) -> list[Config]:
    """Return the config of each pair of a table.

    Parameters
    ----------
    path : path
        A file of comma-separated values with a line of names, in UTF-8.
    words : iterable
        What holds for all pairs, as for `bigncc.config.load`; a line of the table wins.
    part : tuple of int
        Which share of the lines, ``(i, n)`` from 0.

    Raises
    ------
    InputError
        Naming the file and the line.
    """
    lines = _lines(path)
    common, found = merged(words), []
    for index in share(len(lines), *part):
        number, cells = lines[index]
        row = {name: {"url": cells[name]} for name in IMAGES}
        further = [f"{name}={cell}" for name, cell in cells.items() if name not in IMAGES and cell]
        try:
            found.append(load([deepcopy(common), row, *further]))
        except InputError as error:
            message = f"{path}, line {number}: {error}"
            raise InputError(message) from None
    return found


def outputs(path: str) -> list[str]:
    """Return where the results of a table's pairs go; InputError as for `configs`."""
    return [cells["output"] for _, cells in _lines(path)]


def run(pairs: Sequence[Config], attempt: Callable[[Config], Any], failed: Callable[[str], None]) -> None:
    """Make an attempt at each of some pairs; one that fails keeps no other waiting.

    Parameters
    ----------
    pairs : sequence of Config
        What is asked.
    attempt : callable
        Does it for one of them.
    failed : callable
        Called with a sentence for each that did not succeed.

    Raises
    ------
    IncompleteError
        Naming what failed, after the last.
    StoppedError
        At once.
    """
    lost: list[str] = []
    for config in pairs:
        try:
            attempt(config)
        except StoppedError:
            raise
        except Exception as error:  # a bug as well: the next pair may be another case
            said = str(error) if isinstance(error, BignccError) else in_one_line(error)
            lost.append(config.output.url)
            failed(f"{config.output.url}: {said}")
    if lost:
        named = ", ".join(lost[:NAMED]) + (f" and {len(lost) - NAMED} more" if len(lost) > NAMED else "")
        message = f"{len(lost)} of {len(pairs)} pairs failed ({named}): the same command tries these again"
        raise IncompleteError(message)


def _lines(path: str) -> list[tuple[int, dict[str, str]]]:
    """Return number and cells of each line, checked as far as they concern each other."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        message = f"{path} cannot be read ({reason}): a table of comma-separated values is accepted"
        raise InputError(message) from None
    if not lines:
        message = f"{path} is empty: a line of names (reference,moving,output), and one for each pair, is accepted"
        raise InputError(message)
    (_, names), *rows = lines
    _check_names(path, names)
    outputs: dict[str, int] = {}
    for number, cells in rows:
        _check_line(path, number, names, cells)
        place = store.absolute(cells[names.index("output")])
        first = outputs.setdefault(os.path.normpath(place) if store.is_local(place) else place, number)
        if first != number:
            message = f"{path}, line {number}: output {place} is that of line {first}: one for each pair is accepted"
            raise InputError(message)
    if not rows:
        message = f"{path} names no pair: a line for each is accepted"
        raise InputError(message)
    return [(number, dict(zip(names, cells, strict=True))) for number, cells in rows]


def _check_names(path: str, names: list[str]) -> None:
    missing = [name for name in IMAGES if name not in names]
    unknown = [name for name in names if name not in IMAGES and not ("." in name and is_assignment(f"{name}="))]
    twice = [name for name in names if names.count(name) > 1]
    if missing:
        message = f"{path} has no column {missing[0]}: {', '.join(IMAGES)}, and keys such as window.size, are accepted"
    elif unknown:
        message = f"{path} has a column {unknown[0]!r}: {', '.join(IMAGES)}, and keys such as window.size, are accepted"
    elif twice:
        message = f"{path} has {twice.count(twice[0])} columns {twice[0]}: one is accepted"
    else:
        return
    raise InputError(message)


def _check_line(path: str, number: int, names: list[str], cells: list[str]) -> None:
    if len(cells) != len(names):
        message = f"{path}, line {number} has {len(cells)} cells: {len(names)}, one for each column, are accepted"
        raise InputError(message)
    empty = [name for name in IMAGES if not cells[names.index(name)]]
    if empty:
        message = f"{path}, line {number} has no {empty[0]}: a path or an address is accepted"
        raise InputError(message)
