"""Gaussian windows of one contiguous block: weighted sums, one axis after the other; plain loops for numba.

Lines and tuples are those of `bigncc.sums`. A row of samples becomes a line of moments, ``f, g, f*f, g*g, f*g`` and,
where samples may be invalid, validity, weighted and summed over planes. A ring keeps as many lines as the window has
rows; they are summed for each output row, and then their neighbours, each time the middle first and then pairs from the
inside out. So the order of additions depends on the window alone, and what does not count enters as an exact zero.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.arithmetic import Sums
from bigncc.coefficients import NEVER, differences, finish_row, tally, too_few
from bigncc.compiled import compiled_loop
from bigncc.lines import ROUNDING, count_row, load_moments, load_pair, load_validity, strip_of
from bigncc.moments import describe
from bigncc.window import Window

Array = NDArray[Any]

NANOSECONDS = 4.0, 0.6
"""For each pixel, and for each tap, where one thread computes."""


@compiled_loop
def scale(line: Array, weight: float) -> None:
    """Multiply a line."""
    for j in range(line.size):
        line[j] *= weight


@compiled_loop
def begin(out: Array, c: Array, weight: float) -> None:
    """Write the weighted middle."""
    for j in range(out.size):
        out[j] = weight * c[j]


@compiled_loop
def begin_with(out: Array, c: Array, w: float, w1: float, w2: float, a: Array, b: Array, d: Array, e: Array) -> None:
    """Write the weighted middle and two pairs."""
    for j in range(out.size):
        out[j] = w * c[j] + w1 * (a[j] + b[j]) + w2 * (d[j] + e[j])


@compiled_loop
def add_pair(out: Array, a: Array, b: Array, w: float) -> None:
    """Add one weighted pair of lines."""
    for j in range(out.size):
        out[j] = out[j] + w * (a[j] + b[j])


@compiled_loop
def add_three(
    out: Array, w: float, w1: float, w2: float, a: Array, b: Array, c: Array, d: Array, e: Array, f: Array
) -> None:
    """Add three weighted pairs of lines."""
    for j in range(out.size):
        out[j] = out[j] + w * (a[j] + b[j]) + w1 * (c[j] + d[j]) + w2 * (e[j] + f[j])


@compiled_loop
def fold(out: Array, lines: Array, at: Array, weights: Array) -> None:
    """Write the weighted sum of lines that begin `at` these places, the middle one first, then pairs outwards."""
    r = weights.size - 1
    k = 1
    if r < 2:
        begin(out, lines[at[r] :], weights[0])
    else:
        begin_with(
            out, lines[at[r] :], weights[0], weights[1], weights[2], lines[at[r - 1] :], lines[at[r + 1] :],
            lines[at[r - 2] :], lines[at[r + 2] :],
        )  # fmt: skip
        k = 3
    while k + 2 <= r:
        add_three(
            out, weights[k], weights[k + 1], weights[k + 2], lines[at[r - k] :], lines[at[r + k] :],
            lines[at[r - k - 1] :], lines[at[r + k + 1] :], lines[at[r - k - 2] :], lines[at[r + k + 2] :],
        )  # fmt: skip
        k += 3
    while k <= r:
        add_pair(out, lines[at[r - k] :], lines[at[r + k] :], weights[k])
        k += 1


@compiled_loop
def share(weights: Array, place: int, length: int, unit: float) -> float:
    """Return what `fold` makes of a line that is `unit` along `length` samples and 0 beside them."""
    total = weights[0] * unit
    for k in range(1, weights.size):
        total += weights[k] * ((unit if place >= k else 0.0) + (unit if place + k < length else 0.0))
    return float(total)


@compiled_loop
def add_squares(out: Array, a: Array, b: Array, w: float) -> None:
    """Add the weighted squares of a pair of lines."""
    for j in range(out.size):
        out[j] = out[j] + w * (a[j] * a[j] + b[j] * b[j])


@compiled_loop
def add_crossed(out: Array, a: Array, b: Array, c: Array, d: Array, w: float) -> None:
    """Add the weighted products of two pairs of lines."""
    for j in range(out.size):
        out[j] = out[j] + w * (a[j] * b[j] + c[j] * d[j])


@compiled_loop
def load_planes(
    line: Array, pair: Any, weights: Array, images: Any, masked: bool, middles: Any, plane: int, row: int, span: Any
) -> None:
    """Write the moments of one row, weighted and summed over planes."""
    load_moments(line, images, masked, masked, middles, plane, row, span)
    if weights.size == 1:
        return
    scale(line, weights[0])
    pitch = span[4]
    one, two = pair
    fa, ga, fb, gb = one[:pitch], one[pitch : 2 * pitch], two[:pitch], two[pitch : 2 * pitch]
    for k in range(1, weights.size):
        load_pair(one, images, masked, middles, plane - k, row, span)
        load_pair(two, images, masked, middles, plane + k, row, span)
        add_pair(line[: 2 * pitch], one, two, weights[k])
        add_squares(line[2 * pitch : 3 * pitch], fa, fb, weights[k])
        add_squares(line[3 * pitch : 4 * pitch], ga, gb, weights[k])
        add_crossed(line[4 * pitch : 5 * pitch], fa, ga, fb, gb, weights[k])
        if masked:
            load_validity(fa, images, masked, plane - k, row, span)
            load_validity(fb, images, masked, plane + k, row, span)
            add_pair(line[5 * pitch :], fa, fb, weights[k])


@compiled_loop
def outlook(full: Array, least: Array, taps: Any, place: Any, shape: Any, fraction: float, within: bool) -> None:
    """Write the weight that each window of a row could have, and that it must have for a value.

    With `within`, it has none where the window leaves the image.
    """
    z, y, x = place
    depth = share(taps[1], y, shape[1], share(taps[0], z, shape[0], 1.0))
    rz, ry, rx = taps[0].size - 1, taps[1].size - 1, taps[2].size - 1
    inside = z >= rz and z + rz < shape[0] and y >= ry and y + ry < shape[1]
    lines = (min(shape[0], z + rz + 1) - max(0, z - rz)) * (min(shape[1], y + ry + 1) - max(0, y - ry))
    for j in range(full.size):
        columns = min(shape[2], x + j + rx + 1) - max(0, x + j - rx)
        full[j] = share(taps[2], x + j, shape[2], depth) if lines * columns > 1 else 0.0
        # above 0, as what has less than two samples counts as having none
        least[j] = max(fraction * full[j] * (1.0 - ROUNDING), 1e-300)
        if within and not (inside and x + j >= rx and x + j + rx < shape[2]):
            least[j] = NEVER


@compiled_loop
def drop_single(n: Array, counts: Array, size: int) -> None:
    """Take the weight from windows with less than two samples, of which `counts` has the number in each column."""
    found = np.int64(0)
    for j in range(size - 1):
        found += counts[j]
    for j in range(n.size):
        found += counts[j + size - 1]
        n[j] = 0.0 if found < 2 else n[j]
        found -= counts[j]


@compiled_loop
def sweep(
    images: Any, switches: Any, roi: Any, middles: Any, taps: Any, lines: Any, rules: Any, asked: Any, z: int,
    span: Any, out: Any, integers: Array, extremes: Array,
) -> None:  # fmt: skip
    """Go from top to bottom through a strip of a plane."""
    masked, viewed = switches
    ring, pair, work, at, along, counts, full, least, state, equal, bins = lines
    x, left, right, lead, pitch = span
    nz, ny, _ = shape = images[0].shape
    rz, ry, rx = taps[0].size - 1, taps[1].size - 1, taps[2].size - 1
    za, zb = max(0, z - rz), min(nz, z + rz + 1)
    length = (6 if masked else 5) * pitch
    w = pitch - 2 * rx
    vertical, sums = work[0][:length], work[1][: length - 2 * rx]
    counts[:] = 0
    known, state[0][0] = -1, -1
    for count in range(roi[3] - roi[2] + 2 * ry):
        row = roi[2] - ry + count
        slot = count % (2 * ry + 1) * length
        load_planes(ring[slot : slot + length], pair, taps[0], images, masked, middles, z, row, span)
        if masked:
            count_row(counts, images[2], (za, zb, row), row - 2 * ry - 1 if count > 2 * ry else -1, span)
        y = row - ry
        if y < roi[2]:
            continue
        # how far the window leaves the image
        cut = max(0, ry - y) * (ry + 1) + max(0, y + ry + 1 - ny)
        if cut != known:
            outlook(full[:w], least[:w], taps, (z, y, x), shape, rules[4], rules[5] > 0)
            known = cut
        for k in range(2 * ry + 1):
            at[k] = (count - 2 * ry + k) % (2 * ry + 1) * length
        fold(vertical, ring, at, taps[1])
        fold(sums, vertical, along, taps[2])
        n = sums[5 * pitch :][:w] if masked else full[:w]
        if masked:
            drop_single(n, counts, 2 * rx + 1)
        r = out[0][z - roi[0], y - roi[2]][x - roi[4] :][:w]
        status = out[1][z - roi[0], y - roi[2]][x - roi[4] :][:w]
        outside = images[3][z, y][x:] if viewed else images[3][0, 0]
        where = za, zb, max(0, y - ry), min(ny, y + ry + 1), left, right, lead, 2 * rx + 1
        moments = sums, sums[2 * pitch :], pitch
        ordinary = finish_row(
            moments, n, least[:w], too_few(n, least[:w]), rules[:4], np.float64, False, images, masked, where, state,
            equal, outside, r, status,
        )  # fmt: skip
        tally(r, status, ordinary, integers, extremes, bins)
        if asked is not None:
            marks = state[2][:, :w]
            if ordinary:  # then nobody has needed them
                differences(moments, n, rules[2], np.float64, False, state[1], marks)
            further = out[2][:, z - roi[0], y - roi[2], x - roi[4] :][:, :w]
            describe(moments, n, state[1], marks, asked[0], asked[1], r, status, further)


@compiled_loop
def walk(
    images: Any, switches: Any, frame: Any, middles: Any, taps: Any, lines: Any, rules: Any, asked: Any, out: Any,
    integers: Array, extremes: Array,
) -> None:  # fmt: skip
    """Walk the core strip by strip, each strip plane by plane."""
    roi, strip = frame
    nx, rx = images[0].shape[2], taps[2].size - 1
    for x in range(roi[4], roi[5], strip):
        w = min(strip, roi[5] - x)
        span = x, max(0, x - rx), min(nx, x + w + rx), max(0, rx - x), w + 2 * rx
        for z in range(roi[0], roi[1]):
            sweep(images, switches, roi, middles, taps, lines, rules, asked, z, span, out, integers, extremes)


def scratch(window: Window) -> int:
    """Return the bytes that the lines of a block take beside its samples."""
    size = window.shape
    return 8 * (6 * (size[-2] + 5) + 12) * (strip_of(size, size[-2], 1024) + size[-1])


def nanoseconds(window: Window) -> float:
    """Return about how long a pixel takes."""
    each, tap = NANOSECONDS
    return each + tap * (sum(window.shape) + (window.shape[0] if window.ndim == 3 else 0))


def correlate(
    images: tuple[Array, ...], switches: tuple[bool, bool], roi: tuple[int, ...], window: Window, sums: Sums,
    rules: tuple[Any, ...], asked: Any, out: tuple[Array, ...], integers: Array,
) -> tuple[float, float]:  # fmt: skip
    """Run the loops on one batch item; return the extremes of r.

    Parameters
    ----------
    images : tuple of ndarray
        Of `bigncc.sums`.
    switches : tuple of bool
        Whether samples are masked, and whether there is a view.
    roi : tuple of int
        Core: first and last plane, row and column.
    window : Window
        A Gaussian.
    sums : Sums
        How sums are kept, and what is subtracted.
    rules : tuple
        Of `bigncc.sums`.
    asked : tuple or None
        Codes of statistics, and what `bigncc.moments` calls facts.
    out : tuple of ndarray
        r and status of the core, and statistics.
    integers : ndarray
        To add statistics to.
    """
    taps = (*((np.ones(1),) * (3 - window.ndim)), *window.taps)
    size = tuple(2 * each.size - 1 for each in taps)
    strip = strip_of(size, size[1], roi[5] - roi[4])
    pitch = strip + size[2] - 1
    pair, work = (tuple(np.zeros(6 * pitch) for _ in range(2)) for _ in range(2))
    # of every line, also the ends that no window has are summed
    lines = (
        np.zeros(6 * size[1] * pitch), pair, work, np.empty(size[1], np.int64), np.arange(size[2]),
        np.empty(pitch, np.int32), np.empty(pitch), np.empty(pitch),
        (np.zeros(1, np.int64), np.empty((3, strip)), np.empty((3, strip), np.uint8)), np.empty((2, 5, pitch)),
        np.empty(strip, np.uint8),
    )  # fmt: skip
    extremes = np.repeat(np.array([[np.inf], [-np.inf]], np.float32), strip, axis=1)
    walk(images, switches, (roi, strip), sums.middles, taps, lines, rules, asked, out, integers, extremes)
    return float(extremes[0].min()), float(extremes[1].max())
