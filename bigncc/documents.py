"""Text from strangers: names that lead nowhere else, and JSON of bounded size and depth, each key once."""

from __future__ import annotations

import json
from typing import Any

from bigncc.errors import InputError

LARGEST = 2**26
"""Bytes of a document: metadata of a plate of ten thousand images, all in one file, has a third of it."""

VALUES = 2**22
"""Values in a document: each takes a hundred bytes or so once it is read, however short it is written."""

DEEPEST = 64
"""Levels of lists and mappings: OME-Zarr has eight."""


UNREADABLE = AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError
"""What comes of reading what has another form."""


def is_inside(path: str) -> bool:
    """Say whether a path, as metadata names it, is one that leads down from where it is."""
    parts = path.split("/")
    return not ({"", ".", ".."} & set(parts) or "\\" in path or "\0" in path)


def document(data: bytes, place: str) -> Any:
    """Return what the bytes of a JSON document say.

    Parameters
    ----------
    data : bytes
        As stored.
    place : str
        For the sentence.

    Raises
    ------
    InputError
        If it is none, too large or too deep, or says a thing twice.
    """
    check_size(len(data), place)
    # each value but the first of a list or a mapping follows one of these
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > VALUES:
        message = f"{place} has more than {VALUES} values: a document of at most as many is accepted"
        raise InputError(message)
    try:
        found = json.loads(data, object_pairs_hook=_once)
    except RecursionError:
        found = None
    except (ValueError, MemoryError) as error:
        message = f"{place} cannot be read ({_reason(error)}): a JSON file is accepted, with each key once"
        raise InputError(message) from None
    else:
        if _within(found, DEEPEST):
            return found
    message = f"{place} is nested more than {DEEPEST} levels deep: at most as many are accepted"
    raise InputError(message)


def check_size(size: int, place: str) -> None:
    """Raise InputError if a document of so many bytes is too large to be read."""
    if size > LARGEST:
        message = f"{place} has {size} bytes: a document of at most {LARGEST} is accepted"
        raise InputError(message)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        message = f"the key {twice[:80]!r} is there {names.count(twice)} times"
        raise ValueError(message)
    return found


def _within(found: Any, deepest: int) -> bool:
    """Say whether a document has no more levels than that; not by recursion, which has an end of its own."""
    level = [found]
    for _ in range(deepest + 1):
        level = [each for each in level if isinstance(each, (dict, list))]
        if not level:
            return True
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    return False


def _reason(error: Exception) -> str:
    """Return what json complains of, without what it was reading."""
    return f"{type(error).__name__}: {error}"[:200]
