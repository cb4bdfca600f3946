"""Normalised convolutions of one contiguous block with kernels that are the same on both sides: plain loops for numba.

Each filter is two convolutions that travel together, p and q, one axis after the other: along each axis p becomes
``a * p`` and q ``b * q + c * p``. Two Gaussians have their own `a` and `b`; the Laplacian of one begins with q = 0 and
gathers its second derivative `c`; mean and mean square have one `a`. The same is done of what is valid, 1 or 0, and
gives what to divide by.

The block is walked in cells, whose samples are brought into a frame of zeros: what does not count, or lies where the
block ends, adds an exact zero. Terms are added from the middle outwards, whatever the cell, so a pixel's bits do not
depend on the block that it was computed in.

What travels together is a tuple: ``taps``, for each axis (z, y, x) the halves of a, b and c from their middle on, c of
no length where there is none; ``frames``, samples, their squares and what is valid of a cell; ``planes`` and ``lines``,
p, q and the same of what is valid, after the first axis and after the second.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled_loop

Array = NDArray[Any]

DIFFERENCE, LAPLACIAN, STANDARD, ALONE = 0, 1, 2, 3
"""What is made of p and q, if there is more than p."""


@compiled_loop
def begin(out: Array, middle: Array, weight: float, more: bool) -> None:
    """Write a weighted line, or add it."""
    if more:
        for j in range(out.size):
            out[j] += weight * middle[j]
    else:
        for j in range(out.size):
            out[j] = weight * middle[j]


@compiled_loop
def add_one(out: Array, a: Array, b: Array, weight: float) -> None:
    """Add two lines with one weight."""
    for j in range(out.size):
        out[j] += weight * (a[j] + b[j])


@compiled_loop
def add_two(out: Array, a: Array, b: Array, weight: float, c: Array, d: Array, other: float) -> None:
    """Add two lines with one weight, then two with another one."""
    for j in range(out.size):
        out[j] = out[j] + weight * (a[j] + b[j]) + other * (c[j] + d[j])


@compiled_loop
def convolve(out: Array, source: Array, start: int, stride: int, taps: Array, more: bool) -> None:
    """Write, or add, the sum of lines of `source` that begin `stride` apart around `start`, weighted by `taps`."""
    n = out.size
    begin(out, source[start : start + n], taps[0], more)
    k = 1
    while k + 1 < taps.size:
        add_two(
            out, source[start - k * stride :][:n], source[start + k * stride :][:n], taps[k],
            source[start - (k + 1) * stride :][:n], source[start + (k + 1) * stride :][:n], taps[k + 1],
        )  # fmt: skip
        k += 2
    if k < taps.size:
        add_one(out, source[start - k * stride :][:n], source[start + k * stride :][:n], taps[k])


@compiled_loop
def carry(p: Array, q: Array, of_p: Array, of_q: Array, start: int, stride: int, taps: Any, kind: int) -> None:
    """Take p and q over one axis."""
    a, b, c = taps
    convolve(p, of_p, start, stride, a, False)
    if kind != ALONE:
        convolve(q, of_q, start, stride, b, False)
    if kind == LAPLACIAN:
        convolve(q, of_p, start, stride, c, True)


@compiled_loop
def enter(p: Array, q: Array, samples: Array, squares: Array, start: int, stride: int, taps: Any, kind: int) -> None:
    """Take samples over the first axis, before which q is 0, or what is convolved itself."""
    a, b, c = taps
    convolve(p, samples, start, stride, a, False)
    if kind == LAPLACIAN:
        convolve(q, samples, start, stride, c, False)
    elif kind != ALONE:
        convolve(q, squares, start, stride, b, False)


@compiled_loop
def fill(frames: Any, image: Array, valid: Array, masked: bool, middle: float, first: Any, extent: Any) -> None:
    """Bring samples about `middle` into the frame whose first one is at `first`; what does not count is 0."""
    samples, squares, weights = frames
    nz, ny, nx = extent
    left, right = max(0, first[2]), min(image.shape[2], first[2] + nx)
    lead = left - first[2]
    for i in range(nz * ny):
        z, y = first[0] + i // ny, first[1] + i % ny
        line = samples[i * nx : (i + 1) * nx]
        line[:] = 0.0
        if masked:
            weights[i * nx : (i + 1) * nx] = 0.0
        if z < 0 or z >= image.shape[0] or y < 0 or y >= image.shape[1]:
            continue
        inner, row = line[lead:], image[z, y, left:right]
        if masked:
            weight, here = weights[i * nx + lead :], valid[z, y, left:right]
            for j in range(row.size):
                inner[j] = row[j] - middle if here[j] else 0.0
            for j in range(row.size):
                weight[j] = 1.0 if here[j] else 0.0
        else:
            for j in range(row.size):
                inner[j] = row[j] - middle
    if squares.size > 1:
        for j in range(nz * ny * nx):
            squares[j] = samples[j] * samples[j]


@compiled_loop
def finish(out: Array, middle: Array, sums: Any, kind: int, noise: float, unit: float) -> None:
    """Make values, in some unit, of a line of p and q and of what these are divided by.

    `noise` is the share of the mean, or of the mean square, that rounding may leave of a constant; it is 0.
    """
    p, q, u, t = sums
    if kind == DIFFERENCE:
        for j in range(out.size):
            mean = p[j] / u[j]
            value = mean - q[j] / t[j]
            # what is no number, or infinite, stays so
            out[j] = 0.0 if (abs(value) <= noise * abs(mean)) & (abs(value) < np.inf) else value * unit
    elif kind == LAPLACIAN:
        for j in range(out.size):
            mean = p[j] / u[j]
            value = q[j] - t[j] * mean
            out[j] = 0.0 if (abs(value) <= noise * abs(mean)) & (abs(value) < np.inf) else value / u[j] * unit
    else:
        for j in range(out.size):
            mean, square = p[j] / u[j], q[j] / u[j]
            variance = square - mean * mean
            out[j] = 0.0 if variance <= noise * square else (middle[j] - mean) / np.sqrt(variance)


@compiled_loop
def leave_out(out: Array, valid: Array) -> None:
    """Write NaN where a sample does not count."""
    for j in range(out.size):
        out[j] = out[j] if valid[j] else np.nan


@compiled_loop
def count_rows(ones: Array, first: Any, extent: Any, shape: Any) -> None:
    """Write 1 for each row of a frame that lies in the block, else 0."""
    for i in range(extent[0] * extent[1]):
        z, y = first[0] + i // extent[1], first[1] + i % extent[1]
        ones[i] = 1.0 if z >= 0 and z < shape[0] and y >= 0 and y < shape[1] else 0.0


@compiled_loop
def spread(line: Array, value: float, first: int, length: int) -> None:
    """Write a value where a line that begins at `first` lies in the block, else 0."""
    line[:] = 0.0
    line[max(0, -first) : min(line.size, length - first)] = value


@compiled_loop
def take(
    p: Array, q: Array, samples: Array, squares: Array, planes: Any, z: int, y: int, extent: Any, radius: Any,
    taps: Any, kind: int,
) -> None:  # fmt: skip
    """Take one row of a frame over y, and where planes were taken over z from these."""
    _, ny, nx = extent
    if radius[0]:
        carry(p, q, planes[0], planes[1], (y + radius[1]) * nx, nx, taps[1], kind)
    else:
        enter(p, q, samples, squares, (z * ny + y + radius[1]) * nx, nx, taps[1], kind)


@compiled_loop
def convolve_cell(
    image: Array, valid: Array, masked: bool, middle: float, cell: Any, extent: Any, radius: Any, taps: Any, kind: int,
    limits: Any, frames: Any, planes: Any, lines: Any, sums: Any, out: Array,
) -> None:  # fmt: skip
    """Filter the cell of a block that begins at `cell` and has the shape of `out`."""
    samples, squares, weights = frames
    nz, ny, nx = extent
    first = cell[0] - radius[0], cell[1] - radius[1], cell[2] - radius[2]
    own = ALONE if kind == STANDARD else kind
    second = squares if kind == STANDARD else samples
    fill(frames, image, valid, masked, middle, first, extent)
    wide = nx if masked else 1
    if not masked:
        # where all count, each row of what is valid is one number, and its sums those of any other row like it
        count_rows(weights, first, extent, image.shape)
    last_u, last_t = np.nan, np.nan
    for z in range(out.shape[0]):
        if radius[0]:
            at, plane = (z + radius[0]) * ny, ny * nx
            enter(planes[0][:plane], planes[1][:plane], samples, second, at * nx, plane, taps[0], kind)
            plane = ny * wide
            enter(planes[2][:plane], planes[3][:plane], weights, weights, at * wide, plane, taps[0], own)
        for y in range(out.shape[1]):
            take(lines[0][:nx], lines[1][:nx], samples, second, planes[:2], z, y, extent, radius, taps, kind)
            carry(sums[0], sums[1], lines[0], lines[1], radius[2], 1, taps[2], kind)
            u, t, counted = lines[2][:nx], lines[3][:nx], (nz, ny, wide)
            take(u[:wide], t[:wide], weights, weights, planes[2:], z, y, counted, radius, taps, own)
            if masked or u[0] != last_u or t[0] != last_t:
                if not masked:
                    last_u, last_t = u[0], t[0]
                    spread(u, last_u, first[2], image.shape[2])
                    spread(t, last_t, first[2], image.shape[2])
                carry(sums[2], sums[3], u, t, radius[2], 1, taps[2], own)
            centre = (((z + radius[0]) * ny + y + radius[1]) * nx) + radius[2]
            finish(out[z, y], samples[centre:], sums, kind, *limits)
            if masked:
                leave_out(out[z, y], valid[cell[0] + z, cell[1] + y, cell[2] :])


@compiled_loop
def walk(
    image: Array, valid: Array, masked: bool, middle: float, roi: Any, size: Any, radius: Any, taps: Any, kind: int,
    limits: Any, work: Any, out: Array,
) -> None:  # fmt: skip
    """Filter the part of a block that begins at `roi` and has the shape of `out`, in cells of `size`."""
    frames, planes, lines, sums = work
    for z in range(0, out.shape[0], size[0]):
        for y in range(0, out.shape[1], size[1]):
            for x in range(0, out.shape[2], size[2]):
                part = out[z : z + size[0], y : y + size[1], x : x + size[2]]
                n = part.shape[2]
                extent = part.shape[0] + 2 * radius[0], part.shape[1] + 2 * radius[1], n + 2 * radius[2]
                convolve_cell(
                    image, valid, masked, middle, (roi[0] + z, roi[1] + y, roi[2] + x), extent, radius, taps, kind,
                    limits, frames, planes, lines, (sums[0][:n], sums[1][:n], sums[2][:n], sums[3][:n]), part,
                )  # fmt: skip
