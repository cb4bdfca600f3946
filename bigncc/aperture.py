"""The window that a config means: lengths become pixels of the reference, a footprint is read; and what it takes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bigncc import documents, gaussian, shaped
from bigncc.errors import InputError
from bigncc.field import open_array
from bigncc.metadata import in_one_line
from bigncc.notation import METRES, metres_of
from bigncc.science import WindowConfig
from bigncc.storage import Image
from bigncc.store import absolute, get
from bigncc.weights import DRAWN, Table, table_of
from bigncc.window import Window

BOX = 8.0
"""Nanoseconds that a pixel of a box takes, of those of a whole run."""

TIE = 1e-9
"""What rounding may take from a number of pixels that is as near to one odd number as to the next."""

LARGEST = 2**24
"""Samples of a footprint from a file."""


def settled(section: WindowConfig, image: Image) -> tuple[WindowConfig, tuple[Window, ...], list[str]]:
    """Return what a section says in pixels, the windows, and notes on what was rounded.

    Parameters
    ----------
    section : WindowConfig
        With lengths such as 31um, and the path of a footprint.
    image : Image
        The reference, whose pixels are meant.

    Raises
    ------
    InputError
        If the image has no scale to go by, a footprint cannot be read, or what is said makes no window.
    """
    footprint = section.footprint
    table = None if footprint is None or footprint in DRAWN else open_footprint(footprint)
    notes: list[str] = []
    size = _in_pixels("size", section.size, image, _odd, notes)
    sigma = _in_pixels("sigma", section.sigma, image, float, notes)
    section = section.model_copy(update={"size": size, "sigma": sigma})
    windows = section.windows(table)
    # what reads the config of a result goes by its size
    return section.model_copy(update={"size": windows[0].shape if size is None else size}), windows, notes


def _in_pixels(name: str, value: Any, image: Image, fitted: Callable[[float], Any], notes: list[str]) -> Any:
    """Return sizes in pixels, where a length among them says so as `fitted` has it, and note what became of it."""
    if not any(isinstance(each, str) for each in (value if isinstance(value, tuple) else (value,))):
        return value
    lengths = value if isinstance(value, tuple) else (value, value)
    axes = range(len(image.axes) - len(lengths), len(image.axes))
    found, actual = [], []
    for length, i in zip(lengths, axes, strict=True):
        if not isinstance(length, str):
            found.append(length)
            actual.append(f"{length:g} px")
            continue
        unit = image.units[i] if i >= 0 else None
        if unit not in METRES or not image.calibrated:
            message = (
                f"window.{name} is {length} and {image.url or 'the reference'} gives no pixel size in such units: "
                "a number of pixels is accepted"
            )
            raise InputError(message)
        found.append(fitted(metres_of(length) / (image.scale[i] * METRES[unit])))
        actual.append(f"{found[-1] * image.scale[i]:.6g} {unit}")
    said = " x ".join(
        each if isinstance(each, str) else f"{each:g}" for each in (lengths if isinstance(value, tuple) else (value,))
    )
    pixels = " x ".join(f"{each:.6g}" for each in found)
    notes.append(f"window.{name} {said} is taken as {pixels} pixels, {' x '.join(actual)}")
    return tuple(found)


def _odd(pixels: float) -> int:
    """Return the odd number that is nearest, the larger one of two."""
    return max(1, 2 * math.floor(pixels / 2 + TIE) + 1)


def open_footprint(source: str) -> Table:
    """Read a footprint: .npy, .npz, a Zarr array, or text of numbers with commas, one row a line.

    Raises
    ------
    InputError
        If there is none, or it is no footprint.
    """
    place = absolute(source)
    array = _text(place) if place.endswith((".csv", ".txt")) else open_array(source, ("footprint", "weights"))
    if math.prod(array.shape) > LARGEST:
        message = f"{place} has shape {list(array.shape)}: a footprint of at most 2^24 samples is accepted"
        raise InputError(message)
    return table_of(array[tuple(slice(0, n) for n in array.shape)])


def _text(place: str) -> Any:
    reason: Exception | str = "there is none"
    try:
        if (data := get(place, documents.LARGEST)) is not None:
            return np.loadtxt(io.StringIO(data.decode()), delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        reason = in_one_line(error)
    message = f"window.footprint {place} cannot be read ({reason}): rows of numbers with commas are accepted"
    raise InputError(message)


def nanoseconds(window: Window) -> float:
    """Return about how long a pixel takes one thread, of a window alone."""
    ways = {"gaussian": gaussian.nanoseconds, "footprint": shaped.nanoseconds}
    return ways[window.weights](window) if window.weights in ways else BOX


def scratch(window: Window) -> int:
    """Return the bytes that a thread takes for the lines of a window, beside those of each pixel of a block."""
    ways = {"gaussian": gaussian.scratch, "footprint": shaped.scratch}
    return ways[window.weights](window) if window.weights in ways else 0


def in_words(window: Window) -> str:
    """Return what a window is, and what it takes."""
    kind: str = window.weights
    if window.weights == "gaussian":
        assert isinstance(window.sigma, tuple)
        kind = f"Gaussian of sigma {' x '.join(f'{each:g}' for each in window.sigma)}"
    elif window.weights == "footprint":
        drawing = window.footprint if isinstance(window.footprint, str) else "footprint"
        kind = f"{drawing} of {window.samples} {'samples' if window.exact else 'weights'}"
    size = " x ".join(map(str, window.shape))
    return f"{kind}, {size} pixels: about {nanoseconds(window):.0f} ns for each pixel on one thread"
