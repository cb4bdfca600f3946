"""Transforms, images and regions that hypothesis draws, and the displacement of one pixel by its definition."""

import itertools
import math

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from bigncc.interpolation import MASKED, OUTSIDE, VALID
from bigncc.tiles import roi_of
from bigncc.transform import Affine, Displacement, Translation

ORDERS = (0, 1, 3)
STRANGE = (math.nan, math.inf, -math.inf, 1e300, -1e300, 1.7e308, -1.7e308)
quick = settings(max_examples=120, deadline=None)


def everything(shape):
    return roi_of((0,) * len(shape), shape)


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def shapes(draw, ndim, longest):
    return tuple(draw(st.integers(1, longest)) for _ in range(ndim))


@st.composite
def translations(draw, ndim):
    component = st.one_of(
        st.integers(-9, 9),
        st.floats(-9, 9),
        st.integers(-20, 20).map(lambda n: n / 4),
        st.sampled_from([-1e-20, 1e300]),
    )
    return Translation(tuple(draw(component) for _ in range(ndim)))


@st.composite
def displacements(draw, ndim):
    nodes = shapes(draw, ndim, 6)
    step = tuple(draw(st.sampled_from([1, 1, 2, 3, 5])) for _ in range(ndim))
    origin = tuple(draw(st.integers(-6, 6)) for _ in range(ndim))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    field = rng.normal(0, draw(st.sampled_from([0.1, 1, 4])), (ndim, *nodes))
    if draw(st.booleans()):
        field = np.round(field * 2) / 2
    if draw(st.booleans()):
        odd = rng.random(field.shape) < 0.1
        field[odd] = rng.choice(STRANGE, odd.sum())
    return Displacement(field, step=step, origin=origin)


@st.composite
def affines(draw, ndim):
    """A turn, a mirror, a scale or anything else, on a lattice or not; some of them very far away."""
    number = st.one_of(st.sampled_from([0, 1, -1, 0.5, 2]), st.integers(-12, 12).map(lambda n: n / 8), st.floats(-2, 2))
    matrix = tuple(tuple(draw(number) for _ in range(ndim)) for _ in range(ndim))
    if not np.linalg.cond(matrix) < 1e4:
        matrix = tuple(tuple(row) for row in np.eye(ndim)[draw(st.permutations(range(ndim)))].tolist())
    offset = st.one_of(st.integers(-4, 14), st.floats(-4, 14), st.sampled_from([-1e-20, 1e300]))
    return Affine(matrix, tuple(draw(offset) for _ in range(ndim)))


def anything(ndim):
    return st.one_of(translations(ndim), affines(ndim), displacements(ndim))


@st.composite
def cases(draw, longest=11):
    """Return a transform, a moving image with a batch axis, its validity, and the reference's shape."""
    ndim = draw(st.sampled_from([2, 3]))
    longest = longest if ndim == 2 else longest // 2 + 1
    transform = draw(anything(ndim))
    shape, extent = shapes(draw, ndim, longest), shapes(draw, ndim, longest)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([np.uint8, np.float32, np.float64, np.int16]))
    # around 0, so that a source coordinate off by one ulp is seen in the value
    moving = rng.normal(100 if dtype is np.uint8 else 0, 30, (2, *shape)).astype(dtype)
    if moving.dtype.kind == "f":
        moving[rng.random(moving.shape) < 0.02] = np.nan
    validity = rng.choice([VALID, MASKED, OUTSIDE], draw(st.sampled_from([shape, moving.shape])), p=[0.9, 0.07, 0.03])
    return transform, moving, draw(st.sampled_from([None, validity.astype(np.uint8)])), extent


def displacement_at(transform, pixel):
    """Return the displacement of one pixel, by weights of all corner nodes; NaN if one with weight is not finite."""
    if isinstance(transform, Translation):
        return transform.offset
    if isinstance(transform, Affine):
        matrix, offset = np.array(transform.matrix), np.array(transform.offset)
        return (offset + sum(matrix[:, j] * p for j, p in enumerate(pixel))) - pixel
    corners = []
    for p, (count, step, origin) in zip(pixel, transform.grid, strict=True):
        position = min(max((p - origin) / step, 0), count - 1)
        k, t = math.floor(position), position % 1
        corners.append([(k, 1 - t), (k + 1, t)] if t else [(k, 1.0)])
    total = np.zeros(transform.ndim)
    for corner in itertools.product(*corners):
        node = transform.field[(slice(None), *(k for k, _ in corner))]
        total += np.where(np.isfinite(node), node, np.nan) * math.prod(w for _, w in corner)
    return total
