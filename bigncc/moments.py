"""From the sums of a row of windows to local statistics: plain loops for numba.

Means, deviations, regression and structural similarity come from the same sums as the coefficient. `facts` are what
the sums do not know: the middles that samples were taken about, in the units of the sums; the scale of these units;
and what `bigncc.maps.Ssim` has as constants.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled_loop
from bigncc.lines import LEAST

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

COUNT, MEAN_F, MEAN_G, STD_F, STD_G, COVARIANCE, SLOPE, INTERCEPT, UNCENTERED, SQUARED, ABSOLUTE, SSIM = range(12)


@compiled_loop
def means(line: Array, sums: Array, count: Array, middle: float, scale: float) -> None:
    """Write means. Of integers the sum about zero is exact: n < 2^31 samples of 16 bits."""
    for j in range(line.size):
        n = float(count[j])
        line[j] = np.float32((float(sums[j]) + n * middle) / n / scale) + np.float32(0.0)


@compiled_loop
def deviations(line: Array, variance: Array, count: Array, flat: Array, scale: float) -> None:
    """Write standard deviations; what rounding leaves of the variance of a flat window is none."""
    for j in range(line.size):
        value = np.sqrt(max(variance[j], 0.0)) / float(count[j]) / scale
        line[j] = np.float32(0.0 if flat[j] else value)


@compiled_loop
def covariances(line: Array, lines: Array, count: Array, flat: Array, scale_f: float, scale_g: float) -> None:
    """Write covariances, which a flat window has none of."""
    covariance = lines[0]
    scale, rest = scale_f * scale_g, 1.0
    if scale == 0.0 or scale == np.inf:
        scale, rest = scale_f, scale_g
    for j in range(line.size):
        n = float(count[j])
        value = 0.0 if flat[0, j] | flat[1, j] else covariance[j] / n / n / scale / rest
        line[j] = np.float32(value) + np.float32(0.0)


@compiled_loop
def slopes(line: Array, lines: Array, flat: Array, scale_f: float, scale_g: float) -> None:
    """Write slopes of the regression of the moving image on the reference."""
    covariance, variance = lines[0], lines[1]
    scale, rest = scale_f / scale_g, 1.0
    if scale == 0.0 or scale == np.inf:
        scale, rest = scale_f, scale_g
    for j in range(line.size):
        value = 0.0 if flat[1, j] else covariance[j] / variance[j] * scale / rest
        line[j] = np.float32(value) + np.float32(0.0)


@compiled_loop
def intercepts(line: Array, f: Array, g: Array, lines: Array, flat: Array, count: Array, facts: Any) -> None:
    """Write what the moving image is where the reference is 0, by the same regression."""
    (middle_f, middle_g), (_, scale_g), _ = facts
    covariance, variance = lines[0], lines[1]
    for j in range(line.size):
        n = float(count[j])
        slope = 0.0 if flat[1, j] else covariance[j] / variance[j]
        mean_f, mean_g = (float(f[j]) + n * middle_f) / n, (float(g[j]) + n * middle_g) / n
        line[j] = np.float32((mean_g - slope * mean_f) / scale_g) + np.float32(0.0)


@compiled_loop
def uncentered(line: Array, sums: Any, count: Array, middles: Any) -> None:
    """Write correlations about zero instead of the means, NaN where a sum of squares is zero or cannot be held.

    Sums of integers about zero stay integers, so that it does not matter which middle they were taken about.
    """
    simple, products, pitch = sums
    f, g, ff = simple, simple[pitch:], products
    gg, fg = products[pitch:], products[2 * pitch :]
    a, b = middles
    for j in range(line.size):
        n = count[j]
        product = float(fg[j] + b * f[j] + a * g[j] + n * a * b)
        left = float(ff[j] + 2 * a * f[j] + n * a * a)
        right = float(gg[j] + 2 * b * g[j] + n * b * b)
        value = min(max(product / (np.sqrt(max(left, 0.0)) * np.sqrt(max(right, 0.0))), -1.0), 1.0)
        held = (left > LEAST) & (right > LEAST) & (left < np.inf) & (right < np.inf)
        line[j] = np.float32(value if held else np.nan) + np.float32(0.0)


@compiled_loop
def similarities(line: Array, f: Array, g: Array, lines: Array, flat: Array, count: Array, facts: Any) -> None:
    """Write structural similarities."""
    (middle_f, middle_g), (scale_f, scale_g), (first, second, of_sample, unit) = facts
    scale_f, scale_g = scale_f / unit, scale_g / unit
    for j in range(line.size):
        n = float(count[j])
        a, b = (float(f[j]) + n * middle_f) / n / scale_f, (float(g[j]) + n * middle_g) / n / scale_g
        below = n * (n - 1.0) if of_sample else n * n
        vf = 0.0 if flat[0, j] else max(lines[1, j], 0.0) / below / scale_f / scale_f
        vg = 0.0 if flat[1, j] else max(lines[2, j], 0.0) / below / scale_g / scale_g
        cov = 0.0 if flat[0, j] | flat[1, j] else lines[0, j] / below / scale_f / scale_g
        above = (2.0 * a * b + first) * (2.0 * cov + second)
        line[j] = np.float32(above / ((a * a + b * b + first) * (vf + vg + second))) + np.float32(0.0)


@compiled_loop
def blank(line: Array, status: Array, sloping: bool, varying: bool) -> None:
    """Put NaN where there are too few samples; where the reference is flat; where a variance has no digits."""
    for j in range(line.size):
        code = status[j]
        few = (code == 2) | (code == 6) | (code == 7)
        level = sloping & ((code == 3) | (code == 5))
        line[j] = np.float32(np.nan) if few | level | (varying & (code == 8)) else line[j]


@compiled_loop
def describe(
    sums: Any, count: Array, lines: Array, flat: Array, codes: Array, facts: Any, r: Array, status: Array, out: Array
) -> None:
    """Write the statistics `codes` of one row of windows.

    `lines` has n^2 times covariance and variances, and `flat` marks the windows of either image that are flat.
    """
    f, g = sums[0], sums[0][sums[2] :]
    middles, (scale_f, scale_g), _ = facts
    for k in range(codes.size):
        code, line = codes[k], out[k]
        if code == MEAN_F:
            means(line, f, count, float(middles[0]), scale_f)
        elif code == MEAN_G:
            means(line, g, count, float(middles[1]), scale_g)
        elif code == STD_F:
            deviations(line, lines[1], count, flat[0], scale_f)
        elif code == STD_G:
            deviations(line, lines[2], count, flat[1], scale_g)
        elif code == COVARIANCE:
            covariances(line, lines, count, flat, scale_f, scale_g)
        elif code == SLOPE:
            slopes(line, lines, flat, scale_f, scale_g)
        elif code == INTERCEPT:
            intercepts(line, f, g, lines, flat, count, facts)
        elif code == UNCENTERED:
            uncentered(line, sums, count, middles)
        elif code == SSIM:
            similarities(line, f, g, lines, flat, count, facts)
        else:
            for j in range(line.size):
                line[j] = r[j] * r[j] if code == SQUARED else abs(r[j]) if code == ABSOLUTE else np.float32(count[j])
        if code != COUNT:
            varying = (code != MEAN_F) & (code != MEAN_G) & (code != UNCENTERED)
            blank(line, status, (code == SLOPE) | (code == INTERCEPT), varying)
