"""What is chosen on the axes of a stored array: a channel, a time, a plane, a range; tuples in, slices out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bigncc.errors import InputError

GREY = "grey"
_RGB = slice(0, 3)

Choice = int | tuple[int, int] | None
"""What is asked on an axis: one index, a range ``(start, stop)``, or all."""

Pick = int | str | slice
"""What is read on an axis of a stored array: one index, which drops the axis, GREY, which does too, or a range."""


class Axes(NamedTuple):
    """What a choice can be made of; `labels` are names of channels."""

    place: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    labels: tuple[str, ...]


def pick(axes: Axes, name: str, choice: Any) -> Pick:
    """Return what a choice on the axis c, t or z picks there; InputError if that is not there."""
    word = {"t": "time", "c": "channel"}.get(name, name)
    said = ":".join(map(str, choice)) if isinstance(choice, (tuple, list)) else repr(choice)
    if name not in axes.names:
        there = f"{axes.place} has axes ({', '.join(axes.names)}) and so no {word} {said}"
        message = f"{there}: an image with an axis {name} is accepted"
        raise InputError(message)
    count = axes.shape[axes.names.index(name)]
    if name == "c":
        return _channel(axes, count, choice)
    match choice:
        case int(index) if 0 <= index < count:
            return index
        case [int(start), int(stop)] if 0 <= start < stop <= count:
            return slice(start, stop)
    there = f"{axes.place} has no {word} {said}"
    message = f"{there}: a number from 0 to {count - 1}, or a range within 0:{count}, is accepted"
    raise InputError(message)


def _channel(axes: Axes, count: int, channel: int | str) -> int | str:
    place, labels = axes.place, axes.labels
    if channel == GREY:
        if count in (3, 4) and axes.dtype.kind == "u" and axes.dtype.itemsize <= 2:
            return GREY
        there = f"{place} has {count} channels of {axes.dtype}"
        message = f"{there}: for channel=grey, 3 or 4 of uint8 or uint16 are accepted"
        raise InputError(message)
    index = labels.index(channel) if isinstance(channel, str) and labels.count(channel) == 1 else channel
    if isinstance(index, str) or not 0 <= index < count:
        named = f" or one of {', '.join(labels)}" if labels else ""
        message = f"{place} has no channel {channel!r}: a number from 0 to {count - 1}{named} is accepted"
        raise InputError(message)
    return index


def of_each_axis(key: Any, ndim: int) -> tuple[Any, ...]:
    """Return a key as numpy takes them, such as ``[...]`` or ``[0]``, with something for each axis."""
    said = key if isinstance(key, tuple) else (key,)
    at = next((i for i, of in enumerate(said) if of is Ellipsis), len(said))
    left = ndim - len(said) + (at < len(said))
    return (*said[:at], *(slice(None),) * left, *said[at + 1 :])


def in_file(picks: tuple[Pick, ...], key: tuple[slice | int, ...]) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """Return which region of a stored array a part of what was picked is made of, and which of its axes are dropped."""
    kept, region, dropped = iter(key), [], []
    for axis, of in enumerate(picks):
        if isinstance(of, slice):
            wanted = next(kept)
            # dask asks for a plane by its number
            start, stop = wanted.indices(of.stop - of.start)[:2] if isinstance(wanted, slice) else (wanted, wanted + 1)
            region.append(slice(of.start + start, of.start + stop))
            dropped += [] if isinstance(wanted, slice) else [axis]
        else:
            region.append(_RGB if isinstance(of, str) else slice(of, of + 1))
            dropped.append(axis)
    return tuple(region), tuple(dropped)
