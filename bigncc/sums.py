"""Window sums of one contiguous block: plain loops for numba, no arrays of the block's size.

A strip of columns is walked from top to bottom, and each output row passes three stages. First its window rows are
summed column by column, as lines of the moments ``f, g`` and ``f*f, g*g, f*g``. Then these lines are summed over the
window's columns. Last, `bigncc.coefficients` makes values of them.

Integers are exact in any order, so their column sums run: a row enters, another one leaves. Sums of floats are added
along a short chain of shifted additions on both axes. Its order depends on the window alone, and a sample that does not
count enters as an exact zero; so a pixel's bits do not depend on the block that it was computed in.

Lines are flat and a loop writes one of them, which is what lets the compiler use vectors. What travels together is a
tuple:

* ``images``: f, g, joint validity (1 where both count), view (the moving image's validity), and f and g as they were
  before they were scaled, which tells what is flat;
* ``span``, the strip: its first output column, its samples' first column and last, where these begin in a line, and the
  line's length, ``pitch``;
* ``rows``, the band: first and last output row, first and last row of samples;
* ``place``: planes or a plane, and rows in them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.coefficients import differences, finish_row, outlook, tally, too_few
from bigncc.compiled import compiled_loop, inlined_loop
from bigncc.lines import add_products, count_row, load_pair
from bigncc.moments import describe

Array = NDArray[Any]


@inlined_loop
def exchange(line: Array, new: Array, old: Array) -> None:
    """Add one line and take away another one."""
    for j in range(new.size):
        line[j] += new[j] - old[j]


@inlined_loop
def exchange_pairs(simple: Array, products: Array, new: Array, old: Array, pitch: int) -> None:
    """Add the moments of one pair of lines and take away those of another one."""
    a, b, c, d = new[:pitch], new[pitch:], old[:pitch], old[pitch:]
    ff, gg, fg = products, products[pitch:], products[2 * pitch :]
    for j in range(2 * pitch):
        simple[j] += np.int64(new[j]) - np.int64(old[j])
    for j in range(pitch):
        p, q, s, t = np.int64(a[j]), np.int64(b[j]), np.int64(c[j]), np.int64(d[j])
        ff[j] += (p - s) * (p + s)
        gg[j] += (q - t) * (q + t)
        fg[j] += p * q - s * t


@compiled_loop
def add_line(line: Array, a: Array) -> None:
    """Add one line to another."""
    for j in range(line.size):
        line[j] += a[j]


@compiled_loop
def add_lines(out: Array, a: Array, b: Array, c: Array, d: Array, e: Array, f: Array, terms: int) -> None:
    """Write the sum of the first `terms` of six lines, added in this order."""
    n = out.size
    if terms == 2:
        for j in range(n):
            out[j] = a[j] + b[j]
    elif terms == 3:
        for j in range(n):
            out[j] = a[j] + b[j] + c[j]
    elif terms == 4:
        for j in range(n):
            out[j] = a[j] + b[j] + c[j] + d[j]
    elif terms == 5:
        for j in range(n):
            out[j] = a[j] + b[j] + c[j] + d[j] + e[j]
    else:
        for j in range(n):
            out[j] = a[j] + b[j] + c[j] + d[j] + e[j] + f[j]


@compiled_loop
def add_columns(base: Array, work: Array, steps: Array) -> int:
    """Sum `base` over neighbouring columns by the chain `steps`; return where in `work` the sums begin."""
    size = base.size
    if steps.shape[0] == 0:
        for j in range(size):
            work[j] = base[j]
        return 0
    for level in range(steps.shape[0]):
        k, m, plus = steps[level, 0], steps[level, 1], steps[level, 2]
        out = work[level * size :][: size - k * m - plus + 1]
        a, tail = base if level == 0 else work[(level - 1) * size : level * size], base[k * m :]
        # lines beyond the terms are not looked at
        b, c, d, e = a[m:], a[min(2, k - 1) * m :], a[min(3, k - 1) * m :], a[min(4, k - 1) * m :]
        if plus:
            c, d, e = tail if k == 2 else c, tail if k == 3 else d, tail if k == 4 else e
        add_lines(out, a, b, c, d, e, tail, k + plus)
    return int((steps.shape[0] - 1) * size)


@inlined_loop
def sum_columns(base: Array, work: Array, steps: Array, size: int, running: bool) -> int:
    """Sum lines over `size` neighbouring columns, by the chain or as one running sum; return where the sums begin.

    Lines lie behind each other, and what is summed across two of them nobody reads.
    """
    if not running:
        return add_columns(base, work, steps)
    total = base[0] - base[0]
    for j in range(size):
        total += base[j]
    work[0] = total
    sums, enters = work[1:], base[size:]
    for j in range(enters.size):
        # so that one addition waits for the last one, not two
        total += enters[j] - base[j]
        sums[j] = total
    return 0


@compiled_loop
def add_rows(rings: Array, slots: Array, steps: Array, row: int, length: int, at: Array) -> int:
    """Bring every level of the vertical chain up to date after row `row` came in; return the slot of the last level.

    Level l keeps its latest ``slots[l]`` lines in a ring behind those of the levels before; the line that sums the rows
    from s on lies in slot ``s % slots[l]``.
    """
    below, here, start = 0, 0, row
    for level in range(1, slots.size):
        k, m, plus = steps[level - 1, 0], steps[level - 1, 1], steps[level - 1, 2]
        below, here = here, here + slots[level - 1]
        start = row - (k * m + plus) + 1
        if start < 0:
            return 0
        for t in range(k):
            at[t] = (below + (start + t * m) % slots[level - 1]) * length
        if plus:
            at[k] = row % slots[0] * length
        target = (here + start % slots[level]) * length
        add_lines(
            rings[target : target + length], rings[at[0] :], rings[at[1] :], rings[at[2] :], rings[at[3] :],
            rings[at[4] :], rings[at[5] :], k + plus,
        )  # fmt: skip
    return int(here + start % slots[-1])


@compiled_loop
def turn_planes(
    runs: Any, pair: Any, images: Any, masked: bool, middles: Any, enters: int, leaves: int, rows: Any, span: Any
) -> None:
    """Move the sums over planes of each row on: plane `enters` comes in, `leaves` goes."""
    _, _, simple, products = runs
    new, old = pair
    _, _, top, bottom = rows
    pitch = span[4]
    for row in range(top, bottom):
        load_pair(new, images, masked, middles, enters, row, span)
        load_pair(old, images, masked, middles, leaves, row, span)
        at = (row - top) * pitch
        exchange_pairs(simple[2 * at :], products[3 * at :], new, old, pitch)


@compiled_loop
def begin_band(
    runs: Any, pair: Any, images: Any, masked: bool, middles: Any, z: int, reach: int, rows: Any, span: Any
) -> None:
    """Sum up the planes before the first one's window, with one more, which the first turn takes away."""
    runs[2][:] = 0
    runs[3][:] = 0
    if reach:
        for plane in range(z - reach - 1, z + reach):
            turn_planes(runs, pair, images, masked, middles, plane, -1, rows, span)


@compiled_loop
def begin_plane(
    runs: Any, pair: Any, images: Any, masked: bool, middles: Any, z: int, reach: int, rows: Any, span: Any
) -> None:
    """Forget the rows of the plane before, and turn to this one."""
    runs[0][:] = 0
    runs[1][:] = 0
    if reach:
        turn_planes(runs, pair, images, masked, middles, z + reach, z - reach - 1, rows, span)


@inlined_loop
def exact_row(
    runs: Any, pair: Any, images: Any, masked: bool, middles: Any, place: Any, top: int, bottom: int, span: Any
) -> None:
    """Move the sums of columns on: row `row` comes in, row `gone` goes."""
    plane, row, gone, reach = place
    new, old = pair
    pitch = span[4]
    simple, products = runs[0][: 2 * pitch], runs[1][: 3 * pitch]
    if reach:
        # the last line of planes stays empty
        at = ((row if top <= row < bottom else bottom) - top) * pitch
        was = ((gone if gone >= top else bottom) - top) * pitch
        exchange(simple, runs[2][2 * at :][: 2 * pitch], runs[2][2 * was :][: 2 * pitch])
        exchange(products, runs[3][3 * at :][: 3 * pitch], runs[3][3 * was :][: 3 * pitch])
    else:
        load_pair(new, images, masked, middles, plane, row, span)
        load_pair(old, images, masked, middles, plane, gone, span)
        exchange_pairs(simple, products, new, old, pitch)


@compiled_loop
def rounded_row(
    rings: Any, slots: Array, steps: Array, pair: Array, images: Any, masked: bool, middles: Any, place: Any,
    count: int, span: Any,
) -> int:  # fmt: skip
    """Add the `count`-th row, summed over planes in their order, to the sums of columns; return where they are."""
    za, zb, row = place
    pitch = span[4]
    slot = count % slots[0] * pitch
    simple, products = rings[0][2 * slot :][: 2 * pitch], rings[1][3 * slot :][: 3 * pitch]
    load_pair(simple, images, masked, middles, za, row, span)
    add_products(products, simple, pitch, True)
    for plane in range(za + 1, zb):
        load_pair(pair, images, masked, middles, plane, row, span)
        add_line(simple, pair)
        add_products(products, pair, pitch, False)
    add_rows(rings[0], slots, steps, count, 2 * pitch, rings[2])
    return add_rows(rings[1], slots, steps, count, 3 * pitch, rings[2]) * int(pitch)


@compiled_loop
def sweep(
    images: Any, switches: Any, kind: Any, frame: Any, chains: Any, lines: Any, runs: Any, rings: Any, rules: Any,
    asked: Any, z: int, rows: Any, span: Any, out: Any, integers: Array, extremes: Array,
) -> None:  # fmt: skip
    """Go from top to bottom through the part of a plane that gives the output rows from `first` to `last`."""
    masked, viewed, wide, running = switches
    roi, size, middles, _ = frame
    vertical, horizontal, slots = chains
    pair, counts, works, full, least, state, equal, bins = lines
    first, last, top, bottom = rows
    x, left, right, lead, pitch = span
    nz, ny, nx = images[0].shape
    rz, ry, rx = size[0] // 2, size[1] // 2, size[2] // 2
    za, zb = max(0, z - rz), min(nz, z + rz + 1)
    w = pitch - 2 * rx
    counts[:] = 0
    depth, unable, state[0][0] = 0, 0, -1
    for count in range(last - first + 2 * ry):
        row = first - ry + count
        gone = row - size[1] if count >= size[1] else -1
        if runs is not None:
            exact_row(runs, pair, images, masked, middles, (z, row, gone, rz), top, bottom, span)
            simple, products = runs[0][: 2 * pitch], runs[1][: 3 * pitch]
        if rings is not None:
            at = rounded_row(rings, slots, vertical, pair[0], images, masked, middles, (za, zb, row), count, span)
            simple, products = rings[0][2 * at :][: 2 * pitch], rings[1][3 * at :][: 3 * pitch]
        if masked:
            count_row(counts, images[2], (za, zb, row), gone, span)
        y = row - ry
        if y < first:
            continue
        ya, yb = max(0, y - ry), min(ny, y + ry + 1)
        if depth != (zb - za) * (yb - ya):
            depth = (zb - za) * (yb - ya)
            unable = outlook(depth, x, rx, nx, rules[4], rules[5], full[:w], least[:w])
        at = sum_columns(simple, works[0], horizontal, size[2], running[0])
        to = sum_columns(products, works[1], horizontal, size[2], running[1])
        sums = works[0][at:], works[1][to:], pitch
        n = works[2][add_columns(counts[:pitch], works[2], horizontal) :] if masked else full
        r = out[0][z - roi[0], y - roi[2]][x - roi[4] :][:w]
        status = out[1][z - roi[0], y - roi[2]][x - roi[4] :][:w]
        outside = images[3][z, y][x:] if viewed else images[3][0, 0]
        where = za, zb, ya, yb, left, right, lead, size[2]
        few = too_few(n, least[:w]) if masked else unable
        ordinary = finish_row(
            sums, n, least[:w], few, rules[:4], kind, wide, images, masked, where, state, equal, outside, r, status
        )
        tally(r, status, ordinary, integers, extremes, bins)
        if asked is not None:
            codes, facts = asked
            marks = state[2][:, :w]
            if ordinary:  # then nobody has needed them
                differences(sums, n, rules[2], kind, wide, state[1], marks)
            further = out[2][:, z - roi[0], y - roi[2], x - roi[4] :][:, :w]
            describe(sums, n, state[1], marks, codes, facts, r, status, further)


@compiled_loop
def walk(
    images: Any, switches: Any, kind: Any, frame: Any, chains: Any, lines: Any, runs: Any, rings: Any, rules: Any,
    asked: Any, out: Any, integers: Array, extremes: Array,
) -> None:  # fmt: skip
    """Walk the core strip by strip, each strip band by band of rows, each band plane by plane.

    Integers have running sums in `runs`, and floats the `rings` of the vertical chain and `equal`, where values repeat.
    The others are None, which keeps their code out of the compiled variant. Nor is that of further statistics
    where `asked` is None; else it has their codes, and what `bigncc.moments` calls facts.
    """
    masked = switches[0]
    roi, size, middles, (band, strip) = frame
    _, ny, nx = images[0].shape
    ry, rx = size[1] // 2, size[2] // 2
    for x in range(roi[4], roi[5], strip):
        w = min(strip, roi[5] - x)
        span = x, max(0, x - rx), min(nx, x + w + rx), max(0, rx - x), w + 2 * rx
        for first in range(roi[2], roi[3], band):
            last = min(first + band, roi[3])
            rows = first, last, max(0, first - ry), min(ny, last + ry)
            if runs is not None:
                begin_band(runs, lines[0], images, masked, middles, roi[0], size[0] // 2, rows, span)
            for z in range(roi[0], roi[1]):
                if runs is not None:
                    begin_plane(runs, lines[0], images, masked, middles, z, size[0] // 2, rows, span)
                sweep(
                    images, switches, kind, frame, chains, lines, runs, rings, rules, asked, z, rows, span, out,
                    integers, extremes,
                )  # fmt: skip


@compiled_loop
def all_finite(bits: Array, exponent: int) -> bool:
    """Say whether no sample is NaN or infinite, from the bits of floats: then all of the `exponent` are set."""
    odd = 0
    for j in range(bits.size):
        odd += 1 if bits[j] & exponent == exponent else 0
    return odd == 0
