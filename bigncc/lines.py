"""Rows of samples as lines of moments, ``f, g, f*f, g*g, f*g``: plain loops for numba.

What travels together is a tuple, as in `bigncc.sums`.
"""

from typing import Any

from numpy.typing import NDArray

from bigncc.compiled import compiled_loop, inlined_loop

Array = NDArray[Any]

RING = 2**18
"""Bytes of the lines that are kept: they stay in the cache, and strips are wide enough for the samples beside them."""

ROUNDING = 1e-12
"""Share of the weight that a window needs which rounding may take."""


LEAST = 1e-290
"""n^2 times a variance of floats below this may have lost digits, as products of such samples have fewer of them."""


@inlined_loop
def load(line: Array, samples: Array, joint: Array, masked: bool, middle: Any, lead: int) -> None:
    """Write a row of samples about `middle`, from `lead` on; what does not count, or is not there, is 0."""
    line[:lead] = 0
    line[lead + samples.size :] = 0
    inner = line[lead:]
    if masked:
        for j in range(samples.size):
            # a select, not a product: an invalid sample may be NaN
            inner[j] = samples[j] - middle if joint[j] else middle - middle
    else:
        for j in range(samples.size):
            inner[j] = samples[j] - middle


@compiled_loop
def add_products(products: Array, pair: Array, pitch: int, first: bool) -> None:
    """Add the products of a pair of lines, or write them."""
    a, b = pair[:pitch], pair[pitch:]
    ff, gg, fg = products[:pitch], products[pitch:], products[2 * pitch :]
    if first:
        for j in range(pitch):
            ff[j] = a[j] * a[j]
        for j in range(pitch):
            gg[j] = b[j] * b[j]
        for j in range(pitch):
            fg[j] = a[j] * b[j]
    else:
        for j in range(pitch):
            ff[j] += a[j] * a[j]
        for j in range(pitch):
            gg[j] += b[j] * b[j]
        for j in range(pitch):
            fg[j] += a[j] * b[j]


@compiled_loop
def load_pair(pair: Array, images: Any, masked: bool, middles: Any, plane: int, row: int, span: Any) -> None:
    """Write one row of both images into the two lines of `pair`; 0 where there is no such row."""
    f, g, joint = images[0], images[1], images[2]
    _, left, right, lead, pitch = span
    if plane < 0 or plane >= f.shape[0] or row < 0 or row >= f.shape[1]:
        pair[: 2 * pitch] = 0
        return
    valid = joint[plane, row, left:right] if masked else joint[0, 0]
    load(pair[:pitch], f[plane, row, left:right], valid, masked, middles[0], lead)
    load(pair[pitch : 2 * pitch], g[plane, row, left:right], valid, masked, middles[1], lead)


@compiled_loop
def load_validity(valid: Array, images: Any, masked: bool, plane: int, row: int, span: Any) -> None:
    """Write 1 where a row of samples counts, else 0."""
    _, left, right, lead, _ = span
    valid[:] = 0
    if 0 <= plane < images[0].shape[0] and 0 <= row < images[0].shape[1]:
        inner = valid[lead : lead + right - left]
        inner[:] = 1
        if masked:
            joint = images[2][plane, row, left:right]
            for j in range(joint.size):
                inner[j] = joint[j]


@compiled_loop
def load_moments(
    line: Array, images: Any, masked: bool, counting: bool, middles: Any, plane: int, row: int, span: Any
) -> None:
    """Write the moments of one row of samples, and if they are counted their validity."""
    pitch = span[4]
    load_pair(line, images, masked, middles, plane, row, span)
    add_products(line[2 * pitch :], line, pitch, True)
    if counting:
        load_validity(line[5 * pitch :], images, masked, plane, row, span)


@compiled_loop
def count_row(count: Array, joint: Array, place: Any, gone: int, span: Any) -> None:
    """Move the number of valid samples per column on by one row."""
    za, zb, row = place
    _, left, right, lead, _ = span
    inner = count[lead:]
    for plane in range(za, zb):
        if 0 <= row < joint.shape[1]:
            new = joint[plane, row, left:right]
            for j in range(new.size):
                inner[j] += new[j]
        if gone >= 0:
            old = joint[plane, gone, left:right]
            for j in range(old.size):
                inner[j] -= old[j]


def strip_of(size: tuple[int, ...], slots: int, columns: int, itemsize: int = 8) -> int:
    """Return how many columns are computed at once, if a ring keeps so many lines of moments."""
    fits = RING // (6 * itemsize * slots) - size[-1] + 1
    return min(columns, max(64, size[-1], min(fits, 1024)))
