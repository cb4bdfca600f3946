"""Windows with a footprint, of one contiguous block: sums of what a footprint's terms name; plain loops for numba.

Lines and tuples are those of `bigncc.sums`, and lines of moments those of `bigncc.lines`. A ring keeps the lines of
as many rows of each plane as the window has. For each output row and each group of `bigncc.terms.Terms` lines are added
up to sums of columns, and these, shifted, to the sums of windows: integers if they can be, and else float64 in the
order of the terms, in which what does not count enters as an exact zero.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.arithmetic import Sums
from bigncc.coefficients import (
    NEVER,
    differences,
    finish_row,
    judge,
    rounded_coefficients,
    settle,
    tally,
    too_few,
)
from bigncc.compiled import compiled_loop, inlined_loop
from bigncc.lines import ROUNDING, load_moments, strip_of
from bigncc.moments import describe
from bigncc.terms import terms_of
from bigncc.window import Window

Array = NDArray[Any]

NANOSECONDS = 5.0, 0.45
"""For each pixel, and for each line that is added to it, where one thread computes."""


@compiled_loop
def add_four(out: Array, a: Array, b: Array, c: Array, d: Array) -> None:
    """Add four lines."""
    for j in range(out.size):
        out[j] += a[j] + b[j] + c[j] + d[j]


@compiled_loop
def add_two(out: Array, a: Array, b: Array) -> None:
    """Add two lines."""
    for j in range(out.size):
        out[j] += a[j] + b[j]


@compiled_loop
def add_one(out: Array, a: Array) -> None:
    """Add a line."""
    for j in range(out.size):
        out[j] += a[j]


@compiled_loop
def add_weighted(out: Array, a: Array, weight: float) -> None:
    """Add a line times a weight."""
    for j in range(out.size):
        out[j] += weight * a[j]


@compiled_loop
def add_four_weighted(out: Array, a: Array, b: Array, c: Array, d: Array, weights: Array) -> None:
    """Add four lines times weights."""
    s, t, u, v = weights[0], weights[1], weights[2], weights[3]
    for j in range(out.size):
        out[j] += s * a[j] + t * b[j] + u * c[j] + v * d[j]


@compiled_loop
def gather(out: Array, lines: Array, at: Array) -> None:
    """Add the lines that begin `at` these places."""
    k = 0
    while k + 4 <= at.size:
        add_four(out, lines[at[k] :], lines[at[k + 1] :], lines[at[k + 2] :], lines[at[k + 3] :])
        k += 4
    if k + 2 <= at.size:
        add_two(out, lines[at[k] :], lines[at[k + 1] :])
        k += 2
    if k < at.size:
        add_one(out, lines[at[k] :])


@compiled_loop
def gather_weighted(out: Array, lines: Array, at: Array, weights: Array) -> None:
    """Add the lines that begin `at` these places, times weights."""
    k = 0
    while k + 4 <= at.size:
        add_four_weighted(out, lines[at[k] :], lines[at[k + 1] :], lines[at[k + 2] :], lines[at[k + 3] :], weights[k:])
        k += 4
    while k < at.size:
        add_weighted(out, lines[at[k] :], weights[k])
        k += 1


@compiled_loop
def outlook(
    full: Array, least: Array, terms: Any, place: Any, shape: Any, size: Any, fraction: float, within: bool,
    weighted: bool,
) -> None:  # fmt: skip
    """Write the weight that each window of a row could have, and that it must have for a value.

    With `within`, it has none where the window leaves the image.
    """
    rows, weights, columns, groups, _ = terms
    z, y, x = place
    rz, ry, rx = size[0] // 2, size[1] // 2, size[2] // 2
    full[:] = 0
    begin, first = 0, 0
    total = weights[0] - weights[0]
    for g in range(groups.shape[0]):
        if groups[g, 2]:
            total = weights[0] - weights[0]
        for t in range(begin, groups[g, 0]):
            there = 0 <= z - rz + rows[t, 0] < shape[0] and 0 <= y - ry + rows[t, 1] < shape[1]
            total += weights[t] if there else 0.0
        for t in range(first, groups[g, 1]):
            left = x - rx + columns[t]
            for j in range(max(0, -left), min(full.size, shape[2] - left)):
                full[j] += total
        begin, first = groups[g, 0], groups[g, 1]
    inside = z >= rz and z + rz < shape[0] and y >= ry and y + ry < shape[1]
    for j in range(full.size):
        if weighted:
            # above 0, as what has less than two samples counts as having none
            least[j] = max(fraction * full[j] * (1.0 - ROUNDING), 1e-300)
        else:
            least[j] = max(2.0, np.ceil(fraction * full[j]))
        if within and not (inside and x + j >= rx and x + j + rx < shape[2]):
            least[j] = NEVER


@compiled_loop
def add_up(work: Any, ring: Array, terms: Any, count: int, size: Any, length: int, weighted: bool, at: Array) -> None:
    """Write the sums of a row of windows, of which row `count` is the last one."""
    rows, weights, columns, groups, _ = terms
    column, sums = work[0][:length], work[1][: length - size[2] + 1]
    sums[:] = 0
    begin, first = 0, 0
    for g in range(groups.shape[0]):
        if groups[g, 2]:
            column[:] = 0
        end, last = groups[g, 0], groups[g, 1]
        for t in range(begin, end):
            at[t - begin] = (rows[t, 0] * size[1] + (count + 1 + rows[t, 1]) % size[1]) * length
        if weighted:
            gather_weighted(column, ring, at[: end - begin], weights[begin:end])
        else:
            gather(column, ring, at[: end - begin])
        gather(sums, column, columns[first:last])
        begin, first = end, last


@compiled_loop
def look_ahead(images: Any, masked: bool, plane: int, row: int, span: Any, ahead: Array) -> None:
    """Write, for each column of a row, where the next valid sample is, where one differs from it, and how many follow.

    Lines of `ahead`: the next valid sample from here on; the next one of f, and of g, that differs from the one here;
    the number of valid samples from here on. Where there is none, it is the end of the line.
    """
    joint, f, g = images[2], images[4], images[5]
    _, left, right, lead, pitch = span
    valid, other_f, other_g, counted = ahead[0], ahead[1], ahead[2], ahead[3]
    valid[pitch], counted[pitch] = pitch, 0
    for i in range(pitch - 1, -1, -1):
        j = left + i - lead
        after = valid[i + 1]
        valid[i], counted[i] = after, counted[i + 1]
        if j < left or j >= right or (masked and joint[plane, row, j] == 0):
            continue
        other_f[i], other_g[i] = after, after
        if after < pitch:
            there = left + after - lead
            if f[plane, row, there] == f[plane, row, j]:
                other_f[i] = other_f[after]
            if g[plane, row, there] == g[plane, row, j]:
                other_g[i] = other_g[after]
        valid[i], counted[i] = i, counted[i + 1] + 1


@compiled_loop
def find_constant(
    images: Any, masked: bool, runs: Array, place: Any, size: Any, span: Any, ahead: Any, n: Array, least: Array,
    marks: Array,
) -> None:  # fmt: skip
    """Mark, of the windows of a row that are marked as below the resolution, those whose samples are all equal.

    A window with less than two samples loses its weight.
    """
    z, y = place
    tags, known = ahead
    f, g = images[4], images[5]
    nz, ny, _ = f.shape
    _, left, _, lead, _ = span
    for j in range(marks.shape[1]):
        if marks[2, j] == 0 or n[j] < least[j]:
            continue
        samples, at_plane, at_row, at_column = 0, 0, 0, 0
        flat_f, flat_g = 1, 1
        for t in range(runs.shape[0]):
            plane, row = z - size[0] // 2 + runs[t, 0], y - size[1] // 2 + runs[t, 1]
            if plane < 0 or plane >= nz or row < 0 or row >= ny:
                continue
            slot = runs[t, 0] * size[1] + row % size[1]
            if tags[slot] != plane * ny + row:
                tags[slot] = plane * ny + row
                look_ahead(images, masked, plane, row, span, known[slot])
            line = known[slot]
            begin, end = j + runs[t, 2], j + runs[t, 3]
            first = line[0, begin]
            if first >= end:
                continue
            column = left + first - lead
            if samples == 0:
                at_plane, at_row, at_column = plane, row, column
            samples += line[3, begin] - line[3, end]
            if line[1, first] < end or f[plane, row, column] != f[at_plane, at_row, at_column]:
                flat_f = 0
            if line[2, first] < end or g[plane, row, column] != g[at_plane, at_row, at_column]:
                flat_g = 0
            if samples > 1 and flat_f + flat_g == 0:
                break
        marks[0, j], marks[1, j] = flat_f, flat_g
        if samples < 2:
            n[j] = 0


@inlined_loop
def finish_rounded(
    sums: Any, n: Array, least: Array, rules: Any, images: Any, masked: bool, runs: Array, place: Any, size: Any,
    span: Any, ahead: Any, lines: Array, marks: Array, outside: Array, r: Array, status: Array,
) -> bool:  # fmt: skip
    """Do what `finish_row` does with sums of floats, where what is flat is told by runs of samples."""
    status[:] = 1
    strict = rules[0] > 0.0 or rules[1] > 0.0
    odd = rounded_coefficients(sums, n, least, rules[2], r)
    if odd == 0 and too_few(n, least) == 0 and not strict:
        return True
    marks = marks[:, : r.size]
    differences(sums, n, rules[2], np.float64, False, lines, marks)
    marks[:2] = 0
    if odd:
        find_constant(images, masked, runs, place, size, span, ahead, n, least, marks)
    judge(lines, marks, n, least, rules, outside, r, status)
    settle(lines, False, r, status)
    return False


@compiled_loop
def sweep(
    images: Any, switches: Any, kind: Any, frame: Any, terms: Any, lines: Any, ahead: Any, rules: Any, asked: Any,
    z: int, span: Any, out: Any, integers: Array, extremes: Array,
) -> None:  # fmt: skip
    """Go from top to bottom through a strip of a plane."""
    masked, viewed, wide, weighted = switches
    roi, size, middles, _ = frame
    ring, work, at, full, least, state, bins = lines
    x, left, right, lead, pitch = span
    nz, ny, _ = shape = images[0].shape
    rz, ry, rx = size[0] // 2, size[1] // 2, size[2] // 2
    counting = masked or weighted
    length = (6 if counting else 5) * pitch
    w = pitch - 2 * rx
    known, state[0][0] = -1, -1
    if ahead is not None:
        ahead[0][:] = -1
    for count in range(roi[3] - roi[2] + 2 * ry):
        row = roi[2] - ry + count
        for plane in range(size[0]):
            slot = (plane * size[1] + count % size[1]) * length
            load_moments(ring[slot : slot + length], images, masked, counting, middles, z - rz + plane, row, span)
        y = row - ry
        if y < roi[2]:
            continue
        # how far the window leaves the image
        cut = max(0, ry - y) * (ry + 1) + max(0, y + ry + 1 - ny)
        if cut != known:
            outlook(full[:w], least[:w], terms, (z, y, x), shape, size, rules[4], rules[5] > 0, weighted)
            known = cut
        add_up(work, ring, terms, count, size, length, weighted, at)
        found = work[1]
        sums = found, found[2 * pitch :], pitch
        n = found[5 * pitch :][:w] if counting else full[:w]
        r = out[0][z - roi[0], y - roi[2]][x - roi[4] :][:w]
        status = out[1][z - roi[0], y - roi[2]][x - roi[4] :][:w]
        outside = images[3][z, y][x:] if viewed else images[3][0, 0]
        if ahead is None:
            where = max(0, z - rz), min(nz, z + rz + 1), y, y, left, right, lead, size[2]
            ordinary = finish_row(
                sums, n, least[:w], too_few(n, least[:w]), rules[:4], kind, wide, images, masked, where, state, None,
                outside, r, status,
            )  # fmt: skip
        if ahead is not None:
            ordinary = finish_rounded(
                sums, n, least[:w], rules[:4], images, masked, terms[4], (z, y), size, span, ahead, state[1], state[2],
                outside, r, status,
            )  # fmt: skip
        tally(r, status, ordinary, integers, extremes, bins)
        if asked is not None:
            marks = state[2][:, :w]
            if ordinary:  # then nobody has needed them
                differences(sums, n, rules[2], kind, wide, state[1], marks)
            further = out[2][:, z - roi[0], y - roi[2], x - roi[4] :][:, :w]
            describe(sums, n, state[1], marks, asked[0], asked[1], r, status, further)


@compiled_loop
def walk(
    images: Any, switches: Any, kind: Any, frame: Any, terms: Any, lines: Any, ahead: Any, rules: Any, asked: Any,
    out: Any, integers: Array, extremes: Array,
) -> None:  # fmt: skip
    """Walk the core strip by strip, each strip plane by plane; `ahead` is None for exact sums."""
    roi, size, _, strip = frame
    nx, rx = images[0].shape[2], size[2] // 2
    for x in range(roi[4], roi[5], strip):
        w = min(strip, roi[5] - x)
        span = x, max(0, x - rx), min(nx, x + w + rx), max(0, rx - x), w + 2 * rx
        for z in range(roi[0], roi[1]):
            sweep(images, switches, kind, frame, terms, lines, ahead, rules, asked, z, span, out, integers, extremes)


def scratch(window: Window) -> int:
    """Return the bytes that the lines of a block take beside its samples."""
    size = (1,) * (3 - window.ndim) + window.shape
    slots = size[0] * size[1]
    return (64 * slots + 96) * (strip_of(size, slots, 1024) + size[2])


def nanoseconds(window: Window) -> float:
    """Return about how long a pixel takes."""
    terms, (each, line) = terms_of(window.table), NANOSECONDS
    return each + line * (len(terms.rows) + len(terms.columns) + 2 * len(terms.groups))


def correlate(
    images: tuple[Array, ...], switches: tuple[bool, bool], roi: tuple[int, ...], window: Window, sums: Sums,
    rules: tuple[Any, ...], asked: Any, out: tuple[Array, ...], integers: Array,
) -> tuple[float, float]:  # fmt: skip
    """Do for a window with a footprint what `bigncc.gaussian.correlate` does for a Gaussian."""
    terms = terms_of(window.table)
    size = (1,) * (3 - window.ndim) + window.shape
    slots = size[0] * size[1]
    # of 16 bits, products of few samples may fit, but that is not worth loops of their own
    kind = np.float64 if not sums.exact else sums.products if images[0].dtype == np.uint8 else np.int64
    strip = strip_of(size, slots, roi[5] - roi[4], np.dtype(kind).itemsize)
    pitch = strip + size[2] - 1
    lines = (
        np.zeros(6 * slots * pitch, kind), (np.zeros(6 * pitch, kind), np.zeros(6 * pitch, kind)),
        np.empty(slots, np.int64), np.empty(pitch, kind), np.empty(pitch, kind),
        (np.zeros(1, np.int64), np.empty((3, strip)), np.empty((3, strip), np.uint8)), np.empty(strip, np.uint8),
    )  # fmt: skip
    ahead = None if sums.exact else (np.empty(slots, np.int64), np.empty((slots, 4, pitch + 1), np.int32))
    extremes = np.repeat(np.array([[np.inf], [-np.inf]], np.float32), strip, axis=1)
    switched = (*switches, sums.wide, not window.table.flat)
    # either is exact where it may be chosen, and each would be compiled
    arithmetic = np.int64 if sums.exact else np.float64
    frame = roi, size, sums.middles, strip
    walk(images, switched, arithmetic, frame, terms, lines, ahead, rules, asked, out, integers, extremes)
    return float(extremes[0].min()), float(extremes[1].max())
