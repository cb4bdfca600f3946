"""From the sums of a row of windows to local statistics: plain loops for numba.

Means, deviations, regression and structural similarity come from the same sums as the coefficient. `facts` are what
the sums do not know: the middles that samples were taken about, in the units of the sums; the scale of these units;
and the constants of structural similarity, with 1 where variances are those of a sample.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled_loop

Array = NDArray[Any]

STATISTICS = (
    "count",
    "mean_reference",
    "mean_moving",
    "std_reference",
    "std_moving",
    "covariance",
    "slope",
    "intercept",
    "ncc_uncentered",
    "squared",
    "absolute",
    "ssim",
)
"""What `describe` makes, each by its place here."""

COUNT, MEAN_F, MEAN_G, STD_F, STD_G, COVARIANCE, SLOPE, INTERCEPT, UNCENTERED, SQUARED, ABSOLUTE, _ = range(12)


@compiled_loop
def uncentered(n: Any, sums: Any, middles: Any) -> float:
    """Return the correlation of two windows about zero instead of their means, NaN where one is zero everywhere."""
    f, g, ff, gg, fg = sums
    a, b = middles
    product = float(fg + b * f + a * g + n * a * b)
    squares = float(ff + 2 * a * f + n * a * a), float(gg + 2 * b * g + n * b * b)
    if not (squares[0] > 0.0 and squares[1] > 0.0):
        return float(np.nan)
    value: float = product / (np.sqrt(squares[0]) * np.sqrt(squares[1]))
    return min(max(value, -1.0), 1.0)


@compiled_loop
def similarity(means: Any, spread: Any, n: float, constants: Any) -> float:
    """Return the structural similarity of two windows; `spread` has covariance and variances of the population."""
    (a, b), (cov, vf, vg) = means, spread
    first, second, of_sample = constants
    unbiased = n / (n - 1.0) if of_sample else 1.0
    above = (2.0 * a * b + first) * (2.0 * unbiased * cov + second)
    return float(above / ((a * a + b * b + first) * (unbiased * (vf + vg) + second)))


@compiled_loop
def statistic(code: int, n: Any, sums: Any, spread: Any, r: float, status: int, facts: Any) -> float:
    """Return one statistic of a window; `spread` has covariance and variances in the units of the sums."""
    middles, (scale_f, scale_g), constants = facts
    cov, vf, vg = spread
    slope: float
    mean_f: float = float(sums[0] + n * middles[0]) / float(n) / scale_f
    mean_g: float = float(sums[1] + n * middles[1]) / float(n) / scale_g
    slope = np.nan if status == 3 or status == 5 else cov / vf * (scale_f / scale_g)
    if code == MEAN_F:
        return mean_f
    if code == MEAN_G:
        return mean_g
    if code == UNCENTERED:
        return uncentered(n, sums, middles)
    if code == SQUARED:
        return r * r
    if code == ABSOLUTE:
        return abs(r)
    if status == 8:  # what is left of a variance has no digits
        return float(np.nan)
    if code == STD_F:
        return float(np.sqrt(vf)) / scale_f
    if code == STD_G:
        return float(np.sqrt(vg)) / scale_g
    if code == COVARIANCE:
        return cov / scale_f / scale_g
    if code == SLOPE:
        return slope
    if code == INTERCEPT:
        return mean_g - slope * mean_f
    units = cov / scale_f / scale_g, vf / scale_f / scale_f, vg / scale_g / scale_g
    return similarity((mean_f, mean_g), units, float(n), constants)


@compiled_loop
def describe(
    sums: Any, count: Array, lines: Array, flat: Array, codes: Array, facts: Any, r: Array, status: Array, out: Array
) -> None:
    """Write the statistics `codes` of one row of windows, NaN where there are too few samples.

    `lines` has n^2 times covariance and variances, and `flat` marks the windows of either image that are flat.
    """
    simple, products, pitch = sums
    f, g, ff = simple, simple[pitch:], products
    gg, fg = products[pitch:], products[2 * pitch :]
    for k in range(codes.size):
        for j in range(r.size):
            few = status[j] == 2 or status[j] == 6 or status[j] == 7
            if codes[k] == COUNT:
                out[k, j] = np.float32(count[j])
            elif few:
                out[k, j] = np.float32(np.nan)
            else:
                square = float(count[j]) * float(count[j])
                # what rounding leaves of the variance of a flat window is none
                vf = 0.0 if flat[0, j] else max(lines[1, j], 0.0) / square
                vg = 0.0 if flat[1, j] else max(lines[2, j], 0.0) / square
                cov = lines[0, j] / square if vf > 0.0 and vg > 0.0 else 0.0
                those = f[j], g[j], ff[j], gg[j], fg[j]
                value = statistic(codes[k], count[j], those, (cov, vf, vg), float(r[j]), status[j], facts)
                out[k, j] = np.float32(value) + np.float32(0.0)
