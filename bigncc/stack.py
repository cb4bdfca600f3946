"""One stack instead of two images: its sections in both roles, and how those that are compared are registered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from bigncc.errors import InputError, RegistrationError
from bigncc.masks import leaves_out, validity_of
from bigncc.pair import Pair, PerItem, from_storage, on_threads, seen
from bigncc.reading import Decoded, Sections
from bigncc.registration import Model, estimate
from bigncc.science import ImageConfig
from bigncc.storage import Image
from bigncc.tiles import Plan, Roi, Shape
from bigncc.transform import Displacement, Transform, from_dict, to_dict
from bigncc.wording import in_words, shift_in_words

OUTSIDE = 2
"""Validity of a section that is beyond the stack: outside of the moving image's view."""

KEPT = 2**28
"""Bytes of decoded sections that are kept while a stack is registered."""

NDIM = 2
"""Axes of a section."""


@dataclass(frozen=True)
class Stack:
    """A stack whose sections z are correlated with those at z + lag.

    Parameters
    ----------
    whole : Image
        All sections that were chosen.
    lags : tuple of int
        Several of them are an axis ``c`` of the result, in front of z.
    """

    whole: Image
    lags: tuple[int, ...]

    @property
    def axis(self) -> int:
        """Which axis of the stack is z."""
        return self.whole.axes.index("z")

    @property
    def apart(self) -> bool:
        """Whether there is an axis of lags."""
        return len(self.lags) > 1

    @property
    def sections(self) -> int:
        """Number of sections."""
        return self.whole.array.shape[self.axis]

    @property
    def labels(self) -> tuple[str, ...]:
        """What the channels of the result are called, if they are lags."""
        return tuple(f"z + {lag}" for lag in self.lags) if self.apart else ()

    def pairs(self) -> Iterator[Shape]:
        """Yield lag and section, as they are numbered in the result, of each two sections that are correlated."""
        for number, lag in enumerate(self.lags):
            yield from ((number, z) if self.apart else (z,) for z in range(self.sections - lag))

    def roles(self, array: Any) -> tuple[Any, Any]:
        """Return what is the reference and what is the moving image of a stack that is read as `array`."""
        length = self.sections - min(self.lags)
        still = (0,) * len(self.lags)
        first, second = (Sections(array, self.axis, shifts, length, self.apart) for shifts in (still, self.lags))
        return first, second

    def images(self) -> tuple[Image, Image]:
        """Return both roles as images on the grid of the first section."""
        whole, axis = self.whole, self.axis

        def grown(values: tuple[Any, ...], lag: Any) -> Any:
            return (*values[:axis], *((lag,) if self.apart else ()), *values[axis:])

        first, second = (
            replace(
                whole, array=role, axes=grown(whole.axes, "c"), scale=grown(whole.scale, 1.0),
                translation=grown(whole.translation, 0.0), units=grown(whole.units, None), levels=(), coarser=(),
            )
            for role in self.roles(whole.array)
        )  # fmt: skip
        return first, second


def stack_of(whole: Image, lags: tuple[int, ...]) -> Stack:
    """Return a stack that was checked.

    Raises
    ------
    InputError
        If it has no sections, too few of them, or channels where there are several lags.
    """
    place, asked = whole.url or "the stack", ", ".join(map(str, lags))
    if "z" not in whole.axes or whole.axes[-NDIM:] != ("y", "x"):
        message = (
            f"{place} has axes ({', '.join(whole.axes)}) and stack.lags is {asked}: a stack with an axis z, of which a "
            "range may be chosen, and y, x at the end is accepted"
        )
        raise InputError(message)
    count = whole.array.shape[whole.axes.index("z")]
    if max(lags) >= count:
        accepted = f"1 to {count - 1} are accepted" if count > 1 else "two sections at least are accepted"
        message = f"{place} has {count} sections and stack.lags is {asked}: {accepted}"
        raise InputError(message)
    if len(lags) > 1 and "c" in whole.axes:
        channels = whole.array.shape[whole.axes.index("c")]
        message = (
            f"{place} has {channels} channels and stack.lags is {asked}: one lag, or one channel (reference.channel), "
            "is accepted"
        )
        raise InputError(message)
    return Stack(whole, lags)


def pair_of(stack: Stack, section: ImageConfig, capacity: int | None, at_once: int) -> Pair:
    """Return both roles of a stack lazily, read from one place and with one validity.

    With a `capacity` in bytes what is decoded is kept for both, `at_once` samples by one call.
    """
    array: Any = stack.whole.array if capacity is None else Decoded(stack.whole.array, capacity, at_once)
    roles = stack.roles(array)
    valid = validity_of(section, stack.whole, NDIM, array)
    flags: list[da.Array | None] = [None, None]
    if valid is not None:
        flags = [_role(stack, valid, still=still) for still in (True, False)]
    elif stack.apart:
        every = da.ones(stack.whole.array.shape, dtype=np.uint8, chunks=stack.whole.array.chunks)
        flags[1] = _role(stack, every, still=False)
    first, second = (from_storage(role) if capacity is None else role for role in roles)
    return Pair(first, second, *flags)


def _role(stack: Stack, valid: da.Array, *, still: bool) -> da.Array:
    """Return the validity of one role; what is beyond the stack is outside."""
    axis, length = stack.axis, stack.sections - min(stack.lags)
    each = []
    for lag in stack.lags:
        start = 0 if still else lag
        part = valid[(*(slice(None),) * axis, slice(start, start + length))]
        beyond = length - part.shape[axis]
        if beyond:
            shape = (*part.shape[:axis], beyond, *part.shape[axis + 1 :])
            outside = da.full(shape, OUTSIDE, dtype=np.uint8, chunks=(*part.chunks[:axis], 1, *part.chunks[axis + 1 :]))
            part = da.concatenate([part, outside], axis=axis)
        each.append(part)
    return da.stack(each, axis=axis) if stack.apart else each[0]


# -- tiles


def steps(stack: Stack, objects: Shape, shape: Shape, grain: Shape, jobs: int, kept: int) -> Iterator[Shape]:
    """Yield what a tile shall be a multiple of, best first, so that few chunks of the stack are decoded for two.

    It has whole input chunks along z, no fewer sections than the largest lag, and all lags; where there would not be
    fewer tiles than jobs. What the last section of a tile needs of the chunks after it is decoded again for the next
    one, unless as many sections can be `kept`, in samples; then there are several chunks along z.
    """
    axis = stack.axis + stack.apart
    chunk, plane = grain[axis], math.prod(shape[-NDIM:])
    least = -(-max(stack.lags) // chunk) * chunk
    deep = chunk > 1 and plane * chunk > kept
    ways = [(times, len(stack.lags)) for times in ((4, 2, 1) if deep else (1,))]
    for times, lags in [*ways, (1, 1)]:
        found = list(objects)
        found[axis] = min(shape[axis], times * least)
        if stack.apart:
            found[stack.axis] = lags
        if math.prod(-(-n // t) for n, t in zip(shape, found, strict=True)) >= jobs:
            yield tuple(found)


def alike(stack: Stack, tile: Shape, *, registered: bool) -> Shape:
    """Return the part of a tile's extent that one block may have: one pivot and one transform."""
    single = {stack.axis} if stack.apart else set()
    single |= {stack.axis + stack.apart} if registered else set()
    return tuple(1 if axis in single else n for axis, n in enumerate(tile))


def decode_overhead(stack: Stack, grid: Plan, grain: Shape, kept: int) -> float:
    """Return how many pixels of a stack are decoded for each pixel of the result, if so many samples can be kept."""
    axis, whole = stack.axis + stack.apart, stack.sections
    length, tile, chunk = grid.shape[axis], grid.tile[axis], grain[axis]

    def thin(sizes: Shape) -> Shape:
        return tuple(min(tile, n) if i == axis else n for i, n in enumerate(sizes))

    slab = replace(grid, shape=thin(grid.shape), extent=thin(grid.extent))
    always = min(grid.waiting(grain), math.prod(stack.whole.array.shape)) <= kept
    within = always or slab.waiting(grain) <= kept

    def spans(end: int, lag: int) -> int:
        """Return how many sections are decoded along z, up to `end`, with so many more after each tile."""
        edges = ((i * tile, min(end, min(length, (i + 1) * tile) + lag)) for i in range(grid.grid[axis]))
        return sum(min(end, -(-b // chunk) * chunk) - a // chunk * chunk for a, b in edges)

    decoded = grid.decoded_once(grain) if within else grid.decoded(grain)
    counted = length if within else spans(length, 0)
    more = whole if always else spans(whole, max(stack.lags))
    return decoded * more / counted / len(stack.lags) / math.prod(grid.shape)


# -- registration


@dataclass(frozen=True)
class Match:
    """How a section is registered to that at z + lag.

    Parameters
    ----------
    transform : Transform or None
        From reference pixel to moving pixel; None where the sections are correlated as they are stored.
    offset : tuple of float
        The shift as it was measured, ``(y, x)`` pixels.
    uncertainty, quality : float
        Of the measurement: pixels, and share of the evidence that agrees.
    note : str
        Why there is no transform.
    """

    transform: Transform | None
    offset: tuple[float, ...] = ()
    uncertainty: float = 0.0
    quality: float = 0.0
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        if self.transform is None:
            return {"transform": None, "note": self.note}
        return {
            "transform": to_dict(self.transform),
            "offset": list(self.offset),
            "uncertainty": self.uncertainty,
            "quality": self.quality,
        }


def match_from_dict(values: dict[str, Any]) -> Match:
    """Return the `Match` that `Match.to_dict` was called on."""
    if values["transform"] is None:
        return Match(None, note=values["note"])
    offset = tuple(values["offset"])
    return Match(from_dict(values["transform"]), offset, values["uncertainty"], values["quality"])


def matches(
    stack: Stack,
    section: ImageConfig,
    model: Model,
    start: tuple[float, ...] | None,
    upsample_factor: int,
    *,
    threads: int,
) -> tuple[Match, ...]:
    """Estimate how each two sections that are correlated lie to each other, on the first time and channel.

    A section that cannot be registered does not stop a stack of thousands: its match says why.

    Parameters
    ----------
    stack, section
        What is read, and how.
    model, start, upsample_factor
        As for `bigncc.registration.estimate`.
    threads : int
        To compute on.
    """
    pair, whole = pair_of(stack, section, KEPT, 1), stack.whole
    # a level with fewer sections has others
    alike = [level for level in whole.coarser if level.shape[stack.axis] == stack.sections]
    # and knows nothing of samples that are left out
    coarser = [] if leaves_out(section, whole) else [stack.roles(level) for level in alike]
    options = {"model": model, "start": start, "upsample_factor": upsample_factor}
    with on_threads(threads):
        return tuple(_match(pair, coarser, _item(stack, place), options) for place in stack.pairs())


def _item(stack: Stack, place: Shape) -> Shape:
    """Return which time and channel, the first ones, and which section are meant."""
    chosen = (*(0,) * stack.axis, *place)
    return chosen + (0,) * (len(stack.whole.axes) + stack.apart - NDIM - len(chosen))


def _match(pair: Pair, coarser: Sequence[tuple[Sections, Sections]], item: Shape, options: dict[str, Any]) -> Match:
    reference = _section(pair.reference, pair.reference_validity, item)
    moving = _section(pair.moving, pair.moving_validity, item)
    levels = tuple([_section(roles[i], None, item) for roles in coarser] for i in range(2))
    try:
        found = estimate(reference, moving, coarser=(levels[0], levels[1]), **options)
    except RegistrationError as error:
        return Match(None, note=error.reason)
    return Match(found.transform, found.offset, max(found.uncertainty), found.quality)


@dataclass(frozen=True)
class _Section:
    """One section of a role, as an array of its shape."""

    role: Sections
    item: Shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.role.dtype

    @property
    def ndim(self) -> int:
        return NDIM

    @property
    def shape(self) -> Shape:
        return self.role.shape[-NDIM:]

    @property
    def chunks(self) -> Shape:
        return self.role.chunks[-NDIM:]

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        return self.role[(*self.item, *key)]


def _section(role: Any, valid: Any, item: Shape) -> da.Array:
    """Return one section, lazily, in the chunks that are stored."""
    return seen(from_storage(_Section(role, item)), None if valid is None else valid[item])


def applied(stack: Stack, found: Sequence[Match]) -> PerItem:
    """Return the transform of each two sections that are correlated."""
    known = zip(stack.pairs(), found, strict=True)
    axes = tuple(range(stack.axis, stack.axis + 1 + stack.apart))
    return PerItem(NDIM, axes, {place: match.transform for place, match in known if match.transform is not None})


def headline(stack: Stack, found: Sequence[Match] | None, given: Transform | None, *, estimated: bool) -> str:
    """Say in one line what is correlated with what; `estimated` is whether sections are registered."""
    lags = " and ".join(f"z + {lag}" for lag in stack.lags)
    what = f"each section z correlated with {lags} of the same stack"
    if isinstance(given, Displacement):
        return f"{what}, pulled through the same displacement field"
    if given is not None:
        return f"{what}, {in_words(given, stack.whole.array.shape[-NDIM:])}"
    if not estimated:
        return f"{what} as they are stored"
    if found is None:
        return f"{what}, each brought onto it by a transform that is not estimated yet"
    alike = [match for match in found if match.transform is not None]
    far = max(alike, key=lambda match: max(map(abs, match.offset)), default=None)
    most = f", by {shift_in_words(far.offset)} pixels at most" if far is not None else ""
    lost = len(found) - len(alike)
    rest = f"; {lost} could not be registered and are correlated as they are stored" if lost else ""
    return f"{what}, {len(alike)} of {len(found)} of them registered as estimated{most}{rest}"
