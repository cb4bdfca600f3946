"""How people write amounts, times, regions and places; each function checks one of them and says what it means."""

import os
import re
from collections.abc import Iterable
from typing import Any

from bigncc.store import check_output

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def bytes_of(text: str | float) -> int:
    """Return the number of bytes that ``"4GB"``, ``"512MiB"`` or a number means."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(text))
    if not match or match[2].upper() not in _UNITS or len(match[1]) > 18:
        message = f"{text!r} is no amount of memory: a number with B, KB, MB, GB, KiB, MiB or GiB is accepted"
        raise ValueError(message)
    return int(float(match[1]) * _UNITS[match[2].upper()])


METRES = {
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-9),
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micrometer", "micrometre", "micron"), 1e-6),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e-3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e-2),
    **dict.fromkeys(("m", "meter", "metre"), 1.0),
    **dict.fromkeys(("km", "kilometer", "kilometre"), 1e3),
    **dict.fromkeys(("A", "\u00c5", "angstrom"), 1e-10),
}
"""Units of length, as people and OME-Zarr write them."""


def metres_of(text: str) -> float:
    """Return the metres of a length such as 31um."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)\s*([^\W\d_]+)\s*", text)
    if not match or match[2] not in METRES or not 0.0 < float(match[1]) < 1e100:
        message = f"{text!r} is no length: a number of pixels, or one with nm, um, mm, m or A, is accepted"
        raise ValueError(message)
    return float(match[1]) * METRES[match[2]]


def extents_of(value: Any) -> Any:
    """Return numbers of pixels as they are and lengths checked, one, a list, or several lists of numbers."""
    if isinstance(value, (list, tuple)):
        for each in value:
            if isinstance(each, (list, tuple)) and any(isinstance(size, str) for size in each):
                message = "of several windows, numbers of pixels are accepted"
                raise ValueError(message)
        return tuple(map(extents_of, value))
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, str):
        metres_of(value)
    return value


def seconds_of(text: str) -> int:
    """Return the seconds of a time such as 3h50m, 90m or 45s."""
    match = re.fullmatch(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?", str(text))
    seconds = sum(int(n or 0) * unit for n, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    if seconds == 0:
        message = f"{text!r} is no time: one such as 3h50m, 90m or 45s is accepted"
        raise ValueError(message)
    return seconds


def time_of(value: Any) -> str:
    """Return a time as it was written, checked."""
    seconds_of(value)
    return str(value)


def dashboard_of(text: str) -> str:
    """Return an address to listen on, which names a host: with none, it would be all of them."""
    if not re.fullmatch(r"\S+:[0-9]+", text) or "://" in text:
        message = "host:port, such as 127.0.0.1:8787, is accepted"
        raise ValueError(message)
    return text


def line_of(text: str) -> str:
    """Return what goes into a script as a line of its own."""
    if "\n" in text or not text.strip():
        message = "a line of text is accepted"
        raise ValueError(message)
    return text


def lags_of(value: Any) -> Any:
    """Return a tuple of lags for one number, a list, or ``"1,2"``; anything else as it is."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]+\s*(,\s*[0-9]+\s*)*", value):
        value = [int(part) for part in value.split(",")]
    return (value,) if isinstance(value, int) and not isinstance(value, bool) else value


def region_of(text: Any) -> Any:
    """Return ``((y0, y1), (x0, x1))`` for ``"y0:y1,x0:x1"``; anything else as it is."""
    if not isinstance(text, str):
        return text
    parts = [re.fullmatch(r"\s*([0-9]+):([0-9]+)\s*", part) for part in text.split(",")]
    if not all(parts):
        message = f"{text!r} is no region: y0:y1,x0:x1 is accepted, with z0:z1 in front for 3-D windows"
        raise ValueError(message)
    return tuple((int(part[1]), int(part[2])) for part in parts if part)


def range_of(value: Any) -> Any:
    """Return ``(start, stop)`` for ``"start:stop"``, a number for a number in words; anything else as it is."""
    if not isinstance(value, str):
        return value
    if match := re.fullmatch(r"\s*([0-9]+)(?::([0-9]+))?\s*", value):
        return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))
    message = "a number, or a range start:stop, is accepted"
    raise ValueError(message)


def source_of(value: Any) -> Any:
    """Return a path as text and a zarr object as it is; what only YAML can mean is neither."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, (bool, int, float, bytes, list, tuple, dict)):
        message = "a path is accepted, and from Python a zarr Array, Group or Store"
        raise ValueError(message)
    return value


def target_of(text: str) -> str:
    """Return a path or an address that can be written to as it is."""
    if text.lower().endswith((".zip", ".ozx")):
        message = "zip files are read and not written, the path of a directory is accepted"
        raise ValueError(message)
    check_output(text)
    return text


def meant(name: str, names: Iterable[str]) -> str:
    """Return a question to put behind a name that nobody knows, if it is like one of `names`; else nothing."""
    from difflib import get_close_matches

    found = get_close_matches(name, names := list(names), 1)
    # a key without its section
    found = found or [each for each in names if each.rpartition(".")[2] == name][:1]
    return f" (is {found[0]} meant?)" if found else ""
