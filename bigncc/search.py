"""Where two whole images lie on each other, roughly: small images of them, cross-correlated.

The whole images are never in memory: a small one is a level of a pyramid, or block means that are streamed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigncc.pair import block_mean
from bigncc.tiles import Roi, Shape
from bigncc.transform import Affine, Translation, compose

if TYPE_CHECKING:
    import dask.array as da

Array = NDArray[Any]

COARSE = {2: 1024, 3: 128}
"""Longest side of a small image, in its pixels, for two and three axes."""

ANGLE = 18.0
"""Degrees by which the moving image may be turned and is still found by the search; 15 are promised."""

GROWTH = 1.14
"""Scale, or its inverse, that is still found; 1.1 is promised."""

CANDIDATES = 6
"""Pairs of angle and scale that are tried."""


@dataclass(frozen=True, eq=False)
class Small:
    """An image reduced by `factors`, whose first pixel begins at `corner` of the whole one; NaN where nothing is."""

    image: Array
    corner: Shape
    factors: Shape

    @property
    def placed(self) -> Affine:
        """From pixel of the small image to pixel of the whole one, centres on centres."""
        matrix = np.diag([float(f) for f in self.factors])
        offset = (c + (f - 1) / 2 for c, f in zip(self.corner, self.factors, strict=True))
        return Affine(tuple(map(tuple, matrix.tolist())), tuple(offset))


def searched(reference: Shape, moving: Shape) -> int:
    """Return how many samples each spectrum of the search of two whole images has."""
    factors = factors_of(tuple(map(max, zip(reference, moving, strict=True))))
    return math.prod(_padded([-(-max(n, m) // f) for n, m, f in zip(reference, moving, factors, strict=True)]))


def factors_of(extent: Shape) -> Shape:
    """Return the powers of two by which an image is reduced; one for y and x."""
    most = COARSE[len(extent)]
    powers = [max(0, math.ceil(math.log2(n / most))) for n in extent]
    plane = max(powers[-2:])
    return tuple(2**power for power in (*powers[:-2], plane, plane))


def _reduction(image: da.Array, level: da.Array) -> Shape:
    """Return by how much a level is smaller than its image, in whole pixels per axis."""
    return tuple(max(1, round(n / m)) for n, m in zip(image.shape, level.shape, strict=True))


def level_of(image: da.Array, levels: Sequence[da.Array], factors: Shape) -> da.Array:
    """Return the coarsest of the image and its levels from which whole blocks make the small image."""
    for level in reversed(levels):
        parts = zip(image.shape, level.shape, _reduction(image, level), factors, strict=True)
        if all(m in (n // f, -(-n // f)) and factor % f == 0 for n, m, f, factor in parts):
            return level
    return image


def small(image: da.Array, levels: Sequence[da.Array], frame: Roi, factors: Shape) -> Small:
    """Return means of blocks of `factors` pixels of `frame`."""
    level = level_of(image, levels, factors)
    each = _reduction(image, level)
    part = tuple(slice(s.start // f, min(m, -(-s.stop // f))) for s, f, m in zip(frame, each, level.shape, strict=True))
    rest = tuple(factor // f for factor, f in zip(factors, each, strict=True))
    return Small(block_mean(level[part], rest), tuple(s.start * f for s, f in zip(part, each, strict=True)), factors)


def whole(image: da.Array) -> Roi:
    """Return all of an image."""
    return tuple(slice(0, n) for n in image.shape)


def shifted(first: Array, second: Array) -> tuple[tuple[float, ...], float]:
    """Return by how much `second` is shifted against `first`, whatever their extents, and the height of the peak.

    Both are of zero mean. The height is that of the correlation of images of unit energy, in [0, 1].
    """
    from scipy import fft
    from skimage.registration import phase_cross_correlation

    shape = _padded(list(map(max, zip(first.shape, second.shape, strict=True))))
    spectra = (fft.fftn(image, shape) for image in (first, second))
    found, error, _ = phase_cross_correlation(*spectra, space="fourier", normalization=None, upsample_factor=4)
    return tuple(-float(value) for value in found), math.sqrt(max(0.0, 1.0 - float(error) ** 2))


def _padded(extent: Sequence[int]) -> list[int]:
    """Return an extent so large that no shift can be taken for another that wraps around."""
    from scipy import fft

    return [int(fft.next_fast_len(2 * n)) for n in extent]


def turned(first: Array, second: Array) -> Affine | Translation:
    """Return the rotation, scale and shift, in the last two axes, that bring `second` onto `first`.

    Parameters
    ----------
    first, second : ndarray, ``[[z,] y, x]``
        Of zero mean, extents may differ. Of volumes the sums over z are turned.

    Returns
    -------
    Affine or Translation
        From pixel of `first` to pixel of `second`.

    Notes
    -----
    The magnitude of a spectrum does not know of shifts; its rotation and scale are shifts along angle and logarithm of
    the radius [1]_. The best few of these are tried, and the one whose images correlate most is returned.

    References
    ----------
    .. [1] B. S. Reddy, B. N. Chatterji, "An FFT-based technique for translation, rotation, and scale-invariant image
       registration", IEEE Transactions on Image Processing 5, 1266-1271 (1996). doi:10.1109/83.506761
    """
    from scipy.ndimage import affine_transform

    planes = [image if image.ndim == 2 else image.sum(axis=0) for image in (first, second)]
    shift, height = shifted(*planes)
    best: Affine | Translation = Translation(shift)
    for angle, scale in _rotations(*planes):
        middle = Translation(tuple(-(n - 1) / 2 for n in planes[0].shape))
        turn = compose(
            Translation(tuple((n - 1) / 2 for n in planes[1].shape)), compose(_rotation(angle, scale), middle)
        )
        assert isinstance(turn, Affine)
        pulled = affine_transform(planes[1], turn.matrix, turn.offset, planes[0].shape, order=1)
        shift, peak = shifted(planes[0], pulled)
        if peak > height:
            height, best = peak, compose(turn, Translation(shift))
    if first.ndim == 2:
        return best
    lifted = Affine(
        ((1.0, 0.0, 0.0), *((0.0, *row) for row in (best.matrix if isinstance(best, Affine) else np.eye(2).tolist()))),
        (0.0, *best.offset),
    )
    pulled = affine_transform(second, lifted.matrix, lifted.offset, first.shape, order=1)
    return compose(lifted, Translation(shifted(first, pulled)[0]))


def _rotation(angle: float, scale: float) -> Affine:
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return Affine(((c, s), (-s, c)), (0.0, 0.0))


def _rotations(first: Array, second: Array) -> list[tuple[float, float]]:
    """Return the likeliest angles in radians and scales by which `second` is turned and larger, best first."""
    from scipy import fft
    from skimage.feature import peak_local_max
    from skimage.transform import warp_polar

    side = int(fft.next_fast_len(max(*first.shape, *second.shape)))
    radius, angles = side / 2, 720
    polar = []
    for image in (first, second):
        taper = np.outer(*(np.hanning(n + 2)[1:-1] for n in image.shape))
        spectrum = np.abs(fft.fftshift(fft.fft2(image * taper, (side, side))))
        found = warp_polar(
            np.log1p(spectrum / np.median(spectrum)), radius=radius, output_shape=(angles, side), scaling="log"
        )
        # half a turn is all there is; the lowest frequencies have few pixels to know an angle by
        found = found[: angles // 2, side // 3 :]
        polar.append((found - found.mean(axis=0)) * np.hanning(found.shape[1]))
    spectra = [fft.fft2(image, (angles // 2, 2 * polar[0].shape[1])) for image in polar]
    correlation = fft.fftshift(fft.ifft2(np.conj(spectra[0]) * spectra[1]).real)
    middle = [n // 2 for n in correlation.shape]
    per_column = math.log(radius) / side
    reach = math.ceil(math.radians(ANGLE) / (2 * math.pi / angles)), math.ceil(math.log(GROWTH) / per_column)
    near = correlation[tuple(slice(m - r, m + r + 1) for m, r in zip(middle, reach, strict=True))]
    peaks = peak_local_max(near, min_distance=2, num_peaks=CANDIDATES, exclude_border=False)
    return [
        (float(i - reach[0]) * 2 * math.pi / angles, math.exp(-(j - reach[1]) * per_column)) for i, j in peaks.tolist()
    ]
