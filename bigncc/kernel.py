"""The coefficient of every window of a block, with its status and the block's statistics.

A kernel never knows where it is: it takes a block and the part of it (`core`) that wants values. Beyond the block's
edges the window's border acts, so whoever cuts blocks out of an image leaves the margin around the core except where
the image ends.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bigncc import gaussian, shaped
from bigncc.arithmetic import Sums, exact, rounded
from bigncc.coefficients import TABLE
from bigncc.discoveries import NO_PIXELS, PValues
from bigncc.errors import InputError
from bigncc.maps import NOTHING, Asked
from bigncc.moments import STATISTICS
from bigncc.ranks import spearman
from bigncc.summary import BINS, STATUS, Items, Summary, merge
from bigncc.sums import all_finite, walk
from bigncc.tiles import Roi
from bigncc.window import Border, Window

Array = NDArray[Any]


class Pivot(NamedTuple):
    """What makes an image's samples moderate: floats enter the sums as ``(sample - value) * scale``.

    `scale` is a power of two, 1 but for images whose squares a float64 may not hold. Plain numbers are accepted as
    pivots, too.
    """

    value: float = 0.0
    scale: float = 1.0


Pivots = tuple[Pivot | float, Pivot | float]

VERSION = 4
"""Raised whenever a bit of any result changes."""

RESOLUTION = 1e-12
"""A float window whose variance is below this share of its mean square about the pivot has no digits left (status 8):
the sums err by some 1e-15 of it."""

MODERATE = 200
"""Samples between 2^-200 and 2^200 have squares and sums that a float64 holds."""

_PAD: dict[Border, str] = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "constant": "constant"}


@dataclass(frozen=True)
class Block:
    """What the kernel makes of a block: ``ncc`` float32 and ``status`` uint8 of the core, and their summary.

    `items` has the summary of each batch item, by its place in the block; `further` has maps of float32 by their names;
    `pvalues` counts those of the map of that name.
    """

    ncc: NDArray[np.float32]
    status: NDArray[np.uint8]
    summary: Summary
    items: Items
    further: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    pvalues: PValues = NO_PIXELS


def gained(after: Block, before: Block) -> Block:
    """Return a block with its coefficients minus those of another one, NaN where not both have status 1."""
    both = (after.status == 1) & (before.status == 1)
    gain = np.where(both, after.ncc - before.ncc, np.float32(np.nan))
    return replace(after, further={"gain": gain, **after.further})


def common_dtype(reference: DTypeLike, moving: DTypeLike) -> np.dtype[Any]:
    """Return the dtype both images are read as: uint8 and uint16 are exact, float32 and float64 take a pivot.

    Signed integers are shifted to unsigned ones, which no correlation can see.

    Raises
    ------
    InputError
        If one of them is not a real number.
    """
    kinds = [np.dtype(reference), np.dtype(moving)]
    for kind in kinds:
        if kind.kind not in "buif" or kind.itemsize > 8:
            message = f"the image's dtype is {kind}: bool, integers and floats of at most 64 bits are accepted"
            raise InputError(message)
    if all(kind.kind in "bui" and kind.itemsize <= 2 for kind in kinds):
        return np.dtype(np.uint8 if max(kind.itemsize for kind in kinds) == 1 else np.uint16)
    narrow = all(kind.itemsize <= (4 if kind.kind == "f" else 2) for kind in kinds)
    return np.dtype(np.float32 if narrow else np.float64)


def lattice_pivot(samples: Array) -> Pivot:
    """Return the constant to subtract from an image's samples before they are squared, and their scale.

    Parameters
    ----------
    samples : ndarray
        The image on a lattice of five points per axis.

    Returns
    -------
    Pivot
        The median of the finite samples rounded to float32 if its exponents reach so far, 0.0 where there is none; and
        a scale where samples about it are beyond 2^200, or all below 2^-200.
    """
    finite = samples[np.isfinite(samples)].astype(np.float64)
    if not finite.size:
        return Pivot()
    # half of each, as the sum of the middle two may overflow
    middle = 2.0 * float(np.median(finite / 2.0))
    narrow = np.finfo(np.float32)
    value = float(np.float32(middle)) if float(narrow.tiny) <= abs(middle) < float(narrow.max) else middle
    spread = float(np.abs(finite / 2.0 - value / 2.0).max())
    exponent = math.frexp(spread)[1] + 1
    return Pivot(value, 2.0 ** min(-exponent, 1000) if spread and abs(exponent) > MODERATE else 1.0)


def lattice(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return five indices per axis, evenly spread, for `lattice_pivot`."""
    return tuple(tuple(sorted({(2 * i + 1) * n // 10 for i in range(5)})) for n in shape)


def local(
    reference: Array,
    moving: Array,
    window: Window,
    *,
    core: Roi | None = None,
    reference_validity: NDArray[np.uint8] | None = None,
    moving_validity: NDArray[np.uint8] | None = None,
    pivot: Pivots = (0.0, 0.0),
    asked: Asked = NOTHING,
) -> Block:
    """Correlate the windows around each pixel of a block's core.

    Parameters
    ----------
    reference, moving : ndarray, ``[..., [z,] y, x]``
        Blocks of the same shape; axes in front of the window's are batches.
    window : Window
        What counts, and its rules.
    core : tuple of slice, optional
        Part of the windowed axes that wants values; everything by default.
    reference_validity, moving_validity : ndarray of uint8, optional
        1 valid, 0 masked, 2 outside the moving image's view; of the blocks' shape. NaN and Inf are invalid anyway.
    pivot : tuple of (Pivot or float)
        Subtracted from reference and moving where they are floats; the same for all blocks of a pair.
    asked : Asked
        What is made beside coefficients and status.

    Returns
    -------
    Block

    Notes
    -----
    With n = sum w, F = sum w f, FG = sum w f g, ... over the jointly valid samples of the window, of weight w,
    r = (n FG - F G) / (sqrt(n FF - F^2) sqrt(n GG - G^2)) [1]_. Sums of integers of at most 16 bits are exact where
    weights are 0 or 1; other sums are float64 with an order of additions that depends on the window alone.

    References
    ----------
    .. [1] J. P. Lewis, "Fast Normalized Cross-Correlation", Industrial Light & Magic, 1995.
    """
    ndim = window.ndim
    batch, extent = reference.shape[:-ndim], reference.shape[-ndim:]
    inner = core if core is not None else tuple(slice(0, n) for n in extent)
    shape = tuple(s.stop - s.start for s in inner)
    ncc = np.empty(batch + shape, np.float32)
    status = np.empty(batch + shape, np.uint8)
    if ncc.size == 0:
        return Block(ncc, status, Summary(), {})
    dtype = common_dtype(reference.dtype, moving.dtype)
    if dtype.kind == "u" and not window.exact:
        dtype = np.dtype(np.float32)  # which holds them all
    centres = tuple(p if isinstance(p, Pivot) else Pivot(float(p)) for p in pivot)
    codes = np.array([STATISTICS.index(name) for name in asked.further if name in STATISTICS], np.int64)
    described = np.empty((*batch, codes.size, *shape), np.float32)
    shifts = _shift(reference.dtype, dtype), _shift(moving.dtype, dtype)
    ranked = np.empty_like(ncc) if "spearman" in asked.further else None
    items = {}
    for index in np.ndindex(batch):
        f, g, joint, view, roi = prepared(
            reference[index],
            moving[index],
            None if reference_validity is None else reference_validity[index],
            None if moving_validity is None else moving_validity[index],
            inner,
            window,
            dtype,
        )
        integers = np.zeros(2 + 8 * TABLE, np.int64)
        out = ncc[index], status[index], described[index]
        more = codes, shifts, asked.ssim.constants
        extremes = _correlate(f, g, joint, view, roi, window, centres, more, out, integers)
        items[index] = _summary(integers, extremes)
        if ranked is not None:
            here = status[index].reshape(tuple(b - a for a, b in zip(roi[::2], roi[1::2], strict=True)))
            ranked[index] = spearman(f, g, joint, roi, window, here).reshape(shape)
    further = {STATISTICS[code]: described.take(k, axis=len(batch)) for k, code in enumerate(codes)}
    further |= {} if ranked is None else {"spearman": ranked}
    return Block(ncc, status, merge(items.values()), items, further)


def prepared(
    f: Array, g: Array, vf: Array | None, vg: Array | None, core: Roi, window: Window, dtype: np.dtype[Any]
) -> tuple[Array, Array, Array | None, Array | None, tuple[int, ...]]:
    """Continue one batch item beyond its edges, bring it to `dtype` and 3-D, and join the validities."""
    if window.border in _PAD:
        widths = [
            (max(0, r - s.start), max(0, s.stop + r - n)) for s, r, n in zip(core, window.radius, f.shape, strict=True)
        ]
        if any(map(any, widths)):
            f, g = (_padded(image, widths, window, None) for image in (f, g))
            vf, vg = (None if v is None else _padded(v, widths, window, 1) for v in (vf, vg))
            core = tuple(slice(s.start + a, s.stop + a) for s, (a, _) in zip(core, widths, strict=True))
    f, g = as_dtype(f, dtype), as_dtype(g, dtype)
    joint = _joint(f, g, vf, vg)
    lifted = 3 - window.ndim
    shape = (1,) * lifted + f.shape
    roi = (0, 1) * lifted + tuple(edge for s in core for edge in (s.start, s.stop))
    view = None if joint is None or vg is None else np.ascontiguousarray(vg).reshape(shape)
    return f.reshape(shape), g.reshape(shape), None if joint is None else joint.reshape(shape), view, roi


def _padded(image: Array, widths: list[tuple[int, int]], window: Window, constant_value: int | None) -> Array:
    value = window.cval if constant_value is None else constant_value
    if window.border != "constant":
        return np.pad(image, widths, mode=_PAD[window.border])  # type: ignore[call-overload, no-any-return]
    with np.errstate(over="ignore", invalid="ignore"):
        held = np.array(value).astype(image.dtype)
    if not np.isfinite(held) or (image.dtype.kind in "bui" and held != value):
        message = f"window.cval is {value}: a grey level of dtype {image.dtype} is accepted"
        raise InputError(message)
    return np.pad(image, widths, mode="constant", constant_values=value)


def as_dtype(image: Array, dtype: np.dtype[Any]) -> Array:
    """Return samples in the `common_dtype` of a pair; signed integers are shifted by half their range."""
    if image.dtype.kind == "i" and dtype.kind == "u":
        # in arithmetic that wraps around
        unsigned = image.astype(image.dtype.newbyteorder("=")).view(f"u{image.dtype.itemsize}")
        image = unsigned ^ unsigned.dtype.type(1 << (8 * image.dtype.itemsize - 1))
    with np.errstate(invalid="ignore"):  # of a NaN that signals
        return np.ascontiguousarray(image, dtype)


def _joint(f: Array, g: Array, vf: Array | None, vg: Array | None) -> NDArray[np.uint8] | None:
    """Return 1 where both images are valid, or None where they are valid everywhere."""
    joint: NDArray[np.bool_] | None = None
    for samples in (vf, vg, *((f, g) if f.dtype.kind == "f" else ())):
        if samples is None or (samples.dtype.kind == "f" and _all_finite(samples)):
            continue
        valid = np.isfinite(samples) if samples.dtype.kind == "f" else samples == 1
        joint = valid if joint is None else np.logical_and(joint, valid, out=joint)
    return None if joint is None or joint.all() else np.ascontiguousarray(joint).view(np.uint8)


def _all_finite(image: Array) -> bool:
    kind = np.uint32 if image.dtype == np.float32 else np.uint64
    exponent = np.full(1, np.inf, image.dtype).view(kind)[0]
    return all_finite(image.reshape(-1).view(kind), exponent)


@lru_cache
def chain(size: int) -> tuple[tuple[int, int, int], ...]:
    """Return the cheapest steps ``(k, m, plus)`` from single samples to sums of `size` neighbours.

    Each step adds ``k`` sums of ``m`` samples side by side and, where ``plus`` is 1, one more sample:
    101 = 4 * (5 * 5) + 1 costs three passes instead of 100 additions.
    """
    best: list[tuple[float, tuple[tuple[int, int, int], ...]]] = [(0.0, ()), (0.0, ())]
    for n in range(2, size + 1):
        ways = [
            (best[(n - plus) // k][0] + k + plus + 1.5, (*best[(n - plus) // k][1], (k, (n - plus) // k, plus)))
            for k in (2, 3, 4, 5)
            for plus in (0, 1)
            if (n - plus) % k == 0 and n - plus >= k
        ]
        best.append(min(ways))
    return best[size][1]


def _correlate(
    f: Array,
    g: Array,
    joint: Array | None,
    view: Array | None,
    roi: tuple[int, ...],
    window: Window,
    centres: tuple[Pivot, ...],
    more: tuple[Array, tuple[int, int], tuple[float, float, bool, float]],
    out: tuple[Array, Array, Array],
    integers: Array,
) -> tuple[float, float]:
    """Choose arithmetic and buffers for one batch item and run the loops; return the extremes of r."""
    sums = exact(f, g, window.samples) if f.dtype.kind == "u" else rounded(tuple(p.value * p.scale for p in centres))
    stored = f, g
    if f.dtype == np.float64:
        f, g = map(scaled, stored, centres)
    std = (value * (1.0 if sums.exact else p.scale) for value, p in zip(window.deviations, centres, strict=True))
    least = (value * value for value in std)  # not as a power, which raises where this is infinite
    whole = math.prod(window.shape) if window.border == "valid" else 0
    rules = (*least, 0.0 if sums.exact else RESOLUTION, window.flat, window.min_valid_fraction, whole)
    nothing = np.zeros((1, 1, roi[5] - roi[4]), np.uint8)
    images = f, g, nothing if joint is None else joint, nothing if view is None else view, *stored
    shape = tuple(roi[i + 1] - roi[i] for i in (0, 2, 4))
    out = out[0].reshape(shape), out[1].reshape(shape), out[2].reshape(-1 if out[2].size else 0, *shape)
    asked = (more[0], _facts(sums, centres, *more[1:])) if more[0].size else None
    switches = joint is not None, view is not None
    ways = {"box": _box, "gaussian": gaussian.correlate, "footprint": shaped.correlate}
    return ways[window.weights](images, switches, roi, window, sums, rules, asked, out, integers)


def scaled(samples: Array, pivot: Pivot) -> Array:
    """Return samples times a pivot's scale: infinite where a float64 does not hold them."""
    if pivot.scale == 1.0:
        return samples
    with np.errstate(over="ignore", invalid="ignore"):
        return samples * pivot.scale


def _box(
    images: tuple[Array, ...], switches: tuple[bool, bool], roi: tuple[int, ...], window: Window, sums: Sums,
    rules: tuple[Any, ...], asked: Any, out: tuple[Array, ...], integers: Array,
) -> tuple[float, float]:  # fmt: skip
    """Do for a box what `bigncc.gaussian.correlate` does for a Gaussian."""
    size = (1,) * (3 - window.ndim) + window.shape
    vertical, horizontal = (np.array(chain(n), np.int64).reshape(-1, 3) for n in size[1:])
    # a level's next one reaches back over as many lines as it is longer, and one more
    reach = np.array([1, *(k * m + plus for k, m, plus in vertical)], np.int64)
    slots = np.array([*(np.diff(reach) + 1), 1], np.int64)
    band, strip, planes = _parts(roi, size, sums, int(slots.sum()))
    pitch = strip + size[2] - 1
    levels = max(1, len(horizontal))

    def pairs_and_products(lines: int) -> tuple[Array, Array]:
        return np.empty(2 * lines * pitch, sums.simple), np.empty(3 * lines * pitch, sums.products)

    pair = tuple(np.empty(2 * pitch, np.int16 if sums.exact else np.float64) for _ in range(2))
    counts, full, least = (np.empty(pitch, np.int32) for _ in range(3))
    works = (*pairs_and_products(levels), np.empty(levels * pitch, np.int32))
    state = np.zeros(1, np.int64), np.empty((3, strip)), np.empty((3, strip), np.uint8)
    equal = None if sums.exact else np.empty((2, 5, pitch))
    extremes = np.repeat(np.array([[np.inf], [-np.inf]], np.float32), strip, axis=1)
    walk(
        images,
        (*switches, sums.wide, tuple(sums.exact and _runs(horizontal, kind) for kind in (sums.simple, sums.products))),
        sums.kind,
        (roi, size, sums.middles, (band, strip)),
        (vertical, horizontal, slots),
        (pair, counts, works, full, least, state, equal, np.empty(strip, np.uint8)),
        (*pairs_and_products(1), *pairs_and_products(planes)) if sums.exact else None,
        None if sums.exact else (*pairs_and_products(int(slots.sum())), np.zeros(6, np.int64)),
        rules,
        asked,
        out,
        integers,
        extremes,
    )
    return float(extremes[0].min()), float(extremes[1].max())


def _shift(stored: np.dtype[Any], dtype: np.dtype[Any]) -> int:
    """Return what an image's grey levels are more than its samples in the `common_dtype` of the pair."""
    return -(1 << (8 * stored.itemsize - 1)) if stored.kind == "i" and dtype.kind == "u" else 0


def _facts(sums: Sums, centres: tuple[Pivot, ...], shifts: tuple[int, int], constants: Any) -> Any:
    """Return what `bigncc.moments` calls facts."""
    kind = np.int64 if sums.exact else np.float64
    middles = tuple(kind(middle) + kind(shift) for middle, shift in zip(sums.middles, shifts, strict=True))
    return middles, tuple(1.0 if sums.exact else p.scale for p in centres), constants


def _runs(horizontal: Array, kind: type[Any]) -> bool:
    """Say whether a running sum of exact lines, which no vector can do, is faster than a chain this long."""
    return bool(np.dtype(kind).itemsize * sum(k + plus + 1.5 for k, _, plus in horizontal) > 52)


def _parts(roi: tuple[int, ...], size: tuple[int, ...], sums: Sums, slots: int) -> tuple[int, int, int]:
    """Return rows per band, columns per strip, and the lines that keep sums over planes.

    A strip is wide, as each row of it costs some calls, but its buffers stay below 1.5 bytes per pixel, or 1 MiB. Sums
    over planes stay in the cache where that leaves bands of many windows, as each band sums its margin once more.
    """
    planes, rows, columns = (roi[i + 1] - roi[i] for i in (0, 2, 4))
    scratch = max(2**20, 3 * planes * rows * columns // 2)
    column = 2 * np.dtype(sums.simple).itemsize + 3 * np.dtype(sums.products).itemsize
    if not sums.exact:
        fits = scratch // (column * slots) - size[2] + 1
        return rows, min(columns, max(64, size[2], min(fits, 1024))), 0
    strip = min(columns, max(2 * size[2], 4096))
    if size[0] == 1:
        return rows, strip, 0
    cached, fits = (most // (column * (strip + size[2] - 1)) - size[1] for most in (2**20, scratch))
    band = min(rows, cached if cached >= 8 * size[1] else max(fits, 2 * size[1]))
    return band, strip, band + size[1]


def _summary(integers: Array, extremes: tuple[float, float]) -> Summary:
    table = integers[2:].reshape(8, -1).sum(axis=0)
    counts = table[BINS : BINS + len(STATUS)]
    counts[1] = table[:BINS].sum()
    return Summary(
        tuple(counts.tolist()),
        int(integers[0]),
        int(integers[1]),
        *extremes,
        tuple(table[:BINS].tolist()),
    )
