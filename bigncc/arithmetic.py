"""In which numbers the sums of a block are kept: integers where they can be exact, as narrow as hold them."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled_loop

Array = NDArray[Any]


class Sums(NamedTuple):
    """How sums are kept: dtypes of those of f, g and of their products, what is subtracted, and the arithmetic."""

    exact: bool
    simple: type[Any]
    products: type[Any]
    middles: tuple[Any, ...]
    kind: type[Any] = np.float64
    wide: bool = False


def rounded(middles: tuple[float, ...]) -> Sums:
    """Return how sums of floats about `middles` are kept."""
    return Sums(False, np.float64, np.float64, middles)


@compiled_loop
def limits_of(samples: Array) -> tuple[int, int]:
    """Return the least and the largest of some samples, which are read once."""
    low = high = samples[0]
    for j in range(samples.size):
        low, high = min(low, samples[j]), max(high, samples[j])
    return low, high


def exact(f: Array, g: Array, n: int) -> Sums:
    """Choose the narrowest integers that hold the sums of this block; the result is the same with wider ones.

    With n samples of magnitude at most p, sums of samples stay below n p, sums of products below n p^2, and both
    products in n FG - F G below n^2 p^2: exact in float64 below 2^53, in int64 below 2^63. Where 16-bit samples could
    exceed that, whatever they are in this block, the difference takes two limbs, so that all blocks round alike.
    """
    if f.dtype == np.uint8:
        middles: tuple[int, ...] = (128, 128)
        peak = most = 128
    else:
        limits = [tuple(map(int, limits_of(image.reshape(-1)))) for image in (f, g)]
        middles = tuple((low + high + 1) // 2 for low, high in limits)
        most = 2**15
        peak = max(middle - low for middle, (low, _) in zip(middles, limits, strict=True))
    simple = np.int16 if n * peak < 2**15 else np.int32 if n * peak < 2**31 else np.int64
    products = np.int32 if n * peak**2 < 2**31 else np.int64
    kind = np.float64 if (n * peak) ** 2 < 2**53 else np.int64
    return Sums(True, simple, products, tuple(map(np.int32, middles)), kind, (n * most) ** 2 >= 2**63)
