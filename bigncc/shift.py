"""Where it still slips: the displacement of each node of a grid that makes the correlation highest.

Like the kernel, nothing here knows where it is: a block comes with the places of its nodes in it, and beyond the
block's edges there are no samples. Whoever cuts blocks leaves the window's radius and the reach of the search around
the nodes, except where the image ends.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc import kernel, matching
from bigncc.kernel import Pivots
from bigncc.tiles import Shape
from bigncc.window import Window

Array = NDArray[Any]

BAND = 2**16
"""Pixels that are brought into the frame of the loops at a time, if a row of nodes is no more."""

SCRATCH = 72
"""Bytes of each of them: samples, squares and validities of both images, and how they are made."""

PRODUCT, CANDIDATE = 0.2, 50.0
"""Nanoseconds for each sample of a window at each candidate, and for each candidate, for an estimate."""

FINE = 64
"""Bins of lengths per pixel."""


@dataclass(frozen=True)
class Lengths:
    """Mergeable statistics of displacements; merging is exact, in any order and any grouping.

    Parameters
    ----------
    nodes : int
        Nodes of the grid.
    found : int
        Those with an answer that has an uncertainty; their lengths are counted.
    open : int
        Those with an answer without one: the best candidate is at the end of the search, or the peak has no shape.
    squares : int
        Sum of the squared lengths, each rounded to 2^-24 of a pixel's square.
    bins : tuple of (int, int)
        How many lengths there are in each 64th of a pixel where there are any.
    """

    nodes: int = 0
    found: int = 0
    open: int = 0
    squares: int = 0
    bins: tuple[tuple[int, int], ...] = ()

    def __add__(self, other: Lengths) -> Lengths:
        bins = Counter(dict(self.bins))
        bins.update(dict(other.bins))
        return Lengths(
            self.nodes + other.nodes,
            self.found + other.found,
            self.open + other.open,
            self.squares + other.squares,
            tuple(sorted(bins.items())),
        )

    @property
    def rms(self) -> float:
        """Root of the mean squared length; NaN where there is none."""
        return math.sqrt(self.squares / 2**24 / self.found) if self.found else math.nan

    def quantile(self, q: float) -> float:
        """Length below which a share `q` of them lies, linear within a bin."""
        wanted, below = q * self.found, 0
        for index, n in self.bins:
            if below + n >= wanted:
                return (index + (wanted - below) / n) / FINE
            below += n
        return math.nan

    def facts(self) -> dict[str, str]:
        """Return the numbers as words."""
        found = {"shift": f"{self.nodes} nodes, {100 * self.found / max(1, self.nodes):.1f} % of them with an answer"}
        if self.open:
            found["shift"] += f", {self.open} at the end of the search or without a clear peak"
        if self.found:
            found["residual"] = (
                f"median {self.quantile(0.5):.3f}, 95 %: {self.quantile(0.95):.3f}, RMS {self.rms:.3f} px"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        numbers = {name: getattr(self, name) for name in ("nodes", "found", "open", "squares")}
        return numbers | {"bins": [list(each) for each in self.bins]}


def lengths_of(values: dict[str, Any]) -> Lengths:
    """Return the `Lengths` that `to_dict` was called on."""
    return Lengths(**{**values, "bins": tuple((index, n) for index, n in values["bins"])})


def merged(parts: Iterable[Lengths]) -> Lengths:
    """Return the statistics of all parts together."""
    return reduce(Lengths.__add__, parts, Lengths())


def measured(vectors: Array) -> Lengths:
    """Return the statistics of what `local` returns."""
    *displacement, _, _, uncertainty = vectors
    answered, sure = ~np.isnan(uncertainty), np.isfinite(uncertainty)
    squares = sum(each[sure].astype(np.float64) ** 2 for each in displacement)
    bins = Counter(np.floor(np.sqrt(squares) * FINE).astype(int).tolist())
    return Lengths(
        uncertainty.size,
        int(sure.sum()),
        int((answered & ~sure).sum()),
        int(np.rint(squares * 2**24).astype(np.int64).sum()),
        tuple(sorted(bins.items())),
    )


def nanoseconds(window: Shape, reach: Shape) -> float:
    """Return about how long the search for a node takes."""
    return math.prod(2 * r + 1 for r in reach) * (PRODUCT * math.prod(window) + CANDIDATE)


def local(
    reference: Array,
    moving: Array,
    window: Window,
    reach: Shape,
    nodes: tuple[range, ...],
    *,
    reference_validity: NDArray[np.uint8] | None = None,
    moving_validity: NDArray[np.uint8] | None = None,
    pivot: Pivots = (0.0, 0.0),
) -> NDArray[np.float32]:
    """Search, for each node of a block, the displacement within `reach` that makes the correlation highest.

    Parameters
    ----------
    reference, moving : ndarray, ``[..., [z,] y, x]``
        Blocks of the same shape, the moving image as it is registered; axes in front of the window's are batches.
    window : Window
        What is compared. At the image's edge it is cut, as nothing is known of how continued samples are displaced;
        with ``border='valid'`` a node whose window leaves the image has no answer.
    reach : tuple of int
        Largest displacement along each windowed axis; 0 where none is looked for.
    nodes : tuple of range
        Pixels of the nodes along each windowed axis.
    reference_validity, moving_validity, pivot
        As for `bigncc.kernel.local`.

    Returns
    -------
    ndarray, float32, ``[component, ..., [z,] y, x]``
        Displacement along each windowed axis (moving pixel minus reference pixel), the correlation of the best
        candidate, the ratio to it of the second highest maximum that is not beside it (0 if there is none), and the
        uncertainty in pixels. All are NaN where no candidate has enough samples and contrast. Where the best one is at
        the end of the search, has a neighbour without an answer, is not positive, or its surroundings have no maximum,
        the displacement is whole and the uncertainty infinite.

    Notes
    -----
    The correlation of whole displacements is that of the map: over the jointly valid samples, of which
    ``min_valid_fraction`` of those of the node's window inside the image are needed. Sums over the window of one image
    are shared between candidates [1]_. The fraction comes from a quadratic, fitted by least squares to the 3^n
    candidates around the best one, at most one pixel from it.

    With the gain and offset between the images eliminated, the logarithm of the likelihood of a displacement is
    ``-n/2 log(1 - r^2)`` for n independent samples with Gaussian noise. Its curvature at the peak, the observed Fisher
    information, is ``n r K / (1 - r^2)`` where K is minus the Hessian of r; its inverse bounds the covariance (Cramer
    and Rao). The uncertainty is the root of the trace of that: the expected length of the error. For one axis it is
    ``sqrt((1 - r^2) / (n r K))``, which for r near 1 is the precision that Forstner gives for digital correlation [2]_.

    References
    ----------
    .. [1] J. P. Lewis, "Fast Normalized Cross-Correlation", Industrial Light & Magic, 1995.
    .. [2] W. Forstner, "On the geometric precision of digital correlation", International Archives of Photogrammetry
       24 (3), 1982.
    """
    ndim = window.ndim
    batch = reference.shape[: reference.ndim - ndim]
    out = np.empty((*batch, *map(len, nodes), 6), np.float32)
    dtype = kernel.common_dtype(reference.dtype, moving.dtype)
    valid = reference_validity, moving_validity
    for index in np.ndindex(batch):
        flags = tuple(None if v is None else v[index] for v in valid)
        for band in _bands(nodes):
            first = (nodes[0][band], *nodes[1:])
            _search((reference[index], moving[index]), flags, window, reach, first, dtype, pivot, out[index][band])
    return np.ascontiguousarray(np.moveaxis(out, -1, 0)[3 - ndim :])


def _bands(nodes: tuple[range, ...]) -> list[slice]:
    """Return parts of the first axis: so few pixels are copied at a time that they do not count beside the images."""
    beside = math.prod(k[-1] - k[0] + 1 for k in nodes[1:])
    rows = max(1, BAND // max(1, beside * nodes[0].step))
    return [slice(a, min(a + rows, len(nodes[0]))) for a in range(0, len(nodes[0]), rows)]


def _search(
    images: tuple[Array, Array],
    flags: tuple[Array | None, ...],
    window: Window,
    reach: Shape,
    nodes: tuple[range, ...],
    dtype: np.dtype[Any],
    pivot: Pivots,
    out: Array,
) -> None:
    """Bring one batch item into the frame of the loops, and run them."""
    lifted = (0,) * (3 - window.ndim)
    size = (1,) * (3 - window.ndim) + window.shape
    reach, nodes = (*lifted, *reach), (*(range(1) for _ in lifted), *nodes)
    centres = tuple(p if isinstance(p, kernel.Pivot) else kernel.Pivot(float(p)) for p in pivot)
    around = tuple(n // 2 + r for n, r in zip(size, reach, strict=True))
    frame = [(k.start - m, k[-1] + m + 1) for k, m in zip(nodes, around, strict=True)]
    samples, edges = _framed(images, flags, frame, dtype, centres)
    exact, n = dtype.kind == "u", math.prod(size)
    scale = [1.0 if exact else p.scale for p in centres]
    matching.match(
        samples,
        samples[-1].size > 1,
        (size, reach),
        edges,
        tuple((0, k.step) for k in nodes),
        _arithmetic(n, dtype),
        (window.min_valid_fraction, float(n if window.border == "valid" else 0)),
        (*((d * s) ** 2 for d, s in zip(window.deviations, scale, strict=True)), 0.0 if exact else kernel.RESOLUTION),
        _space(reach, tuple(b - a for a, b in frame), size),
        out.reshape(*map(len, nodes), 6),
    )


def _framed(
    images: tuple[Array, Array],
    flags: tuple[Array | None, ...],
    frame: list[tuple[int, int]],
    dtype: np.dtype[Any],
    centres: tuple[kernel.Pivot, ...],
) -> tuple[tuple[Array, ...], tuple[tuple[int, int], ...]]:
    """Return samples, squares and validities in a frame that may reach beyond the images, and where these lie in it.

    Where everything counts, the last four are of a single sample.
    """
    extent = (1,) * (3 - images[0].ndim) + images[0].shape
    inside = [(max(0, a), min(n, b)) for (a, b), n in zip(frame, extent, strict=True)]
    source = tuple(slice(a, b) for a, b in inside)
    target = tuple(slice(a - start, b - start) for (a, b), (start, _) in zip(inside, frame, strict=True))
    shape, nothing = tuple(b - a for a, b in frame), np.zeros((1, 1, 1))
    cut = [
        _centred(image.reshape(extent)[source], flag, extent, source, dtype, centre)
        for image, flag, centre in zip(images, flags, centres, strict=True)
    ]
    edges = tuple((t.start, t.stop) for t in target)
    f, g = (_within(shape, target, values) for values, _ in cut)
    if inside == frame and all(valid is None for _, valid in cut):
        return (f, g, nothing, nothing, nothing, nothing), edges
    flagged = (_within(shape, target, 1.0 if valid is None else valid) for _, valid in cut)
    return (f, g, f * f, g * g, *flagged), edges


def _arithmetic(n: int, dtype: np.dtype[Any]) -> int:
    """Return what holds the products of sums of n integers: float64, int64, or neither; of floats float64 must do."""
    if dtype.kind != "u":
        return 0
    square = (n * 2 ** (8 * dtype.itemsize - 1)) ** 2
    return 0 if square < 2**53 else 1 if square < 2**63 else 2


def _centred(
    image: Array,
    flag: Array | None,
    extent: Shape,
    source: tuple[slice, ...],
    dtype: np.dtype[Any],
    centre: kernel.Pivot,
) -> tuple[Array, Array | None]:
    """Return samples about a constant, 0 where they do not count, and where they do, if that is not everywhere."""
    image = kernel.as_dtype(image, dtype)
    valid = None if flag is None else flag.reshape(extent)[source] == 1
    if dtype.kind == "f":
        finite = np.isfinite(image)
        valid = finite if valid is None else valid & finite
        values = image.astype(np.float64) * centre.scale - centre.value * centre.scale
    else:
        values = image.astype(np.float64) - 2.0 ** (8 * dtype.itemsize - 1)
    if valid is None or valid.all():
        return values, None
    return np.where(valid, values, 0.0), valid


def _within(shape: Shape, target: tuple[slice, ...], values: Any) -> Array:
    """Return an array of zeros with some values in it."""
    whole = np.zeros(shape)
    whole[target] = values
    return whole


def _space(reach: Shape, shape: Shape, size: Shape) -> tuple[Array, ...]:
    """Return the arrays that the loops work in."""
    candidates = tuple(2 * r + 1 for r in reach)
    sums, cube = np.empty((6, *candidates)), np.empty(candidates)
    boxes, lines = np.empty((2, *candidates[:2], shape[2])), np.empty((2, shape[2]))
    fit = np.empty(3), np.empty((3, 3)), np.empty(3)
    return sums, sums.reshape(6, -1), cube, cube.reshape(-1), boxes, lines, np.ones(size[2]), *fit
