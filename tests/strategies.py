"""Random images, windows, masks and chunkings for hypothesis."""

from itertools import product

import numpy as np
from hypothesis import strategies as st

from bigncc.prefilter import KINDS, UNFILTERED, Prefilter
from bigncc.window import BORDERS, Window

INTEGERS = ("bool", "uint8", "int8", "uint16", "int16", ">u2")
FLOATS = ("float32", "float64", "float16", "int32", "uint64", ">f4")


WEIGHTS = ("box", "drawn", "cells", "gaussian", "table")
"""Boxes, shapes, and any cells have exact sums of integers; the others weigh."""


@st.composite
def windows(draw, ndim, shape, borders=BORDERS, kinds=("box",)):
    """A window of odd sizes that fits `shape`."""
    sizes = [draw(st.integers(0, min(4, (n - 1) // 2))) * 2 + 1 for n in shape[-ndim:]]
    if max(sizes) == 1:
        sizes[-1] = 3
    return Window(
        **weighed(draw, tuple(sizes), draw(st.sampled_from(kinds))),
        border=draw(st.sampled_from(borders)),
        cval=float(draw(st.integers(0, 1))),
        min_valid_fraction=draw(st.sampled_from((0.0, 0.25, 0.5, 1.0))),
        flat=draw(st.sampled_from((0.0, float("nan")))),
        min_std=draw(st.sampled_from(((0.0, 0.0), (0.0, 0.0), (0.5, 2.0)))),
    )


def weighed(draw, size, kind):
    """Words for a window of that size and kind."""
    if kind == "box":
        return {"size": size}
    if kind == "gaussian":
        # so that 3.5 of them end within half a pixel of the size
        return {"weights": kind, "sigma": tuple(n // 2 * draw(st.sampled_from((0.27, 0.29, 0.3))) for n in size)}
    if kind == "drawn":
        volume = len(size) == 3 and size[0] > 1
        name = "ball" if volume else draw(st.sampled_from(("disk", "octagon")))
        return {"size": size, "weights": "footprint", "footprint": name}
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = (rng.random(size) < draw(st.sampled_from((0.3, 0.7)))) * (
        1.0 if kind == "cells" else rng.random(size) + 0.1
    )
    table.flat[[0, -1]] = 1.0
    return {"weights": "footprint", "footprint": table}


@st.composite
def prefilters(draw, ndim):
    """A prefilter of small reach, or none, with one number for all axes or one for each."""
    kind = draw(st.sampled_from(KINDS))
    if kind == "none":
        return UNFILTERED

    def numbers(values):
        one = st.sampled_from(values)
        return draw(one | st.tuples(*[one | st.just(values[0])] * (ndim - 1), one))

    truncate = draw(st.sampled_from((1.5, 4.0)))
    if kind == "local_standardisation" and draw(st.booleans()):
        return Prefilter(kind, size=numbers((3, 5)))
    sigma = numbers((0.7, 1.1))
    if kind != "difference_of_gaussians" or draw(st.booleans()):
        return Prefilter(kind, sigma=sigma, truncate=truncate)
    return Prefilter(kind, sigma=draw(st.sampled_from((0, 0.5, sigma))), sigma_wide=1.3, truncate=truncate)


def image(seed, shape, dtype, kind):
    """A repeatable image: noise, few levels, flat areas, or extremes of the dtype."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        values = rng.normal(100.0, 3.0, shape)
        if kind == "levels":
            values = rng.integers(0, 3, shape).astype(float)
        elif kind == "flat":
            values = np.where(rng.random(shape) < 0.5, 7.25, np.round(values))
            values[..., : shape[-1] // 2] = 7.25
        elif kind == "extremes":
            values = rng.choice([-1000.0, 0.0, 1000.0], shape)
        return values.astype(dtype)
    limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    low, high = max(limits[0], -(2**20)), min(limits[1], 2**20)
    if kind == "extremes":
        return rng.choice([low, high], shape).astype(dtype)
    if kind == "levels":
        return rng.integers(low, min(high, low + 2), shape, endpoint=True).astype(dtype)
    values = rng.integers(low, high, shape, endpoint=True).astype(dtype)
    if kind == "flat":
        values[..., : shape[-1] // 2 + 1] = high
    return values


def images(shape, dtypes):
    """Draw an image of `shape`."""
    kinds = st.sampled_from(("noise", "levels", "flat", "extremes"))
    return st.builds(image, st.integers(0, 2**32 - 1), st.just(shape), st.sampled_from(dtypes), kinds)


def related(draw, shape, dtypes):
    """Draw a pair of images of one shape; dtypes may differ."""
    return draw(images(shape, dtypes)), draw(images(shape, dtypes))


def validities(shape):
    """Draw None or codes 0, 1, 2, mostly valid."""
    codes = st.builds(
        lambda seed: np.random.default_rng(seed).choice(np.array([1, 1, 1, 0, 2], np.uint8), shape),
        st.integers(0, 2**32 - 1),
    )
    return st.none() | codes


@st.composite
def chunkings(draw, length):
    """Sizes of consecutive chunks that fill `length`."""
    sizes = []
    while sum(sizes) < length:
        sizes.append(draw(st.integers(1, length - sum(sizes))))
    return tuple(sizes)


def cover(shape, block):
    """Yield rois of at most `block` in row-major order; each index of `shape` is in exactly one."""
    starts = [range(0, n, b) for n, b in zip(shape, block, strict=True)]
    for start in product(*starts):
        yield tuple(slice(a, min(a + b, n)) for a, b, n in zip(start, block, shape, strict=True))
