"""Transforms: the tiling cannot be seen, only taps with weight count, and what lies outside is called so."""

import itertools
import json
import logging
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigncc.compiled import _say_uncached, compiled
from bigncc.errors import InputError
from bigncc.tiles import cover, roi_of, roi_shape
from bigncc.transform import (
    MASKED,
    OUTSIDE,
    VALID,
    Displacement,
    Translation,
    from_dict,
    pull,
    source_roi,
    to_dict,
    whole_pixels,
)

ORDERS = (0, 1, 3)
STRANGE = (math.nan, math.inf, -math.inf, 1e300, -1e300, 1.7e308, -1.7e308)
quick = settings(max_examples=250, deadline=None)


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
def cases(draw, longest=11):
    """Return a transform, a moving image with a batch axis, its validity, and the reference's shape."""
    ndim = draw(st.sampled_from([2, 3]))
    longest = longest if ndim == 2 else longest // 2 + 1
    transform = draw(st.one_of(translations(ndim), displacements(ndim)))
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


def keys(s):
    """Return the weight at distance `s` of cubic convolution with a = -1/2."""
    s = abs(s)
    return 1.5 * s**3 - 2.5 * s**2 + 1 if s <= 1 else -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2 if s < 2 else 0.0


def taps_along(coordinate, order):
    k, t = math.floor(coordinate), coordinate - math.floor(coordinate)
    if order == 0:
        return [(math.floor(coordinate + 0.5), 1.0)]
    if t == 0:
        return [(k, 1.0)]
    if order == 1:
        return [(k, 1 - t), (k + 1, t)]
    return [(k + i, keys(i - t)) for i in (-1, 0, 1, 2)]


def oracle(transform, image, validity, pixel, order):
    """Return value and code of one pixel, by the definition."""
    coordinate = np.add(pixel, displacement_at(transform, pixel))
    if not all(abs(c) < 1e6 for c in coordinate):
        return 0.0, OUTSIDE
    value, codes = 0.0, set()
    for taps in itertools.product(*(taps_along(c, order) for c in coordinate)):
        at = tuple(k for k, _ in taps)
        if not all(0 <= k < n for k, n in zip(at, image.shape, strict=True)):
            return 0.0, OUTSIDE
        sample, code = float(image[at]), VALID if validity is None else int(validity[at])
        codes.add(code if math.isfinite(sample) or code == OUTSIDE else MASKED)
        value += sample * math.prod(w for _, w in taps)
    code = OUTSIDE if OUTSIDE in codes else MASKED if MASKED in codes else VALID
    return (value, code) if code == VALID else (0.0, code)


@quick
@given(cases(), st.sampled_from(ORDERS), st.tuples(*[st.integers(1, 5)] * 3))
def test_the_tiling_cannot_be_seen(case, order, tile):
    transform, moving, validity, extent = case
    shape = moving.shape[1:]
    whole = pull(transform, moving, validity, everything(extent), everything(shape), shape, order)
    for roi in cover(extent, tile[: len(extent)]):
        source = source_roi(transform, roi, shape, order)
        own = None if validity is None else validity[(..., *source)]
        part = pull(transform, moving[(..., *source)], own, roi, source, shape, order)
        assert same_bits(part[0], whole[0][(..., *roi)])
        assert same_bits(part[1], whole[1][(..., *roi)])


@quick
@given(cases(), st.sampled_from(ORDERS), st.data())
def test_source_roi_holds_every_sample_that_matters(case, order, data):
    transform, moving, validity, extent = case
    start = tuple(data.draw(st.integers(0, n)) for n in extent)
    roi = tuple(slice(a, data.draw(st.integers(a, n))) for a, n in zip(start, extent, strict=True))
    shape = moving.shape[1:]
    source = source_roi(transform, roi, shape, order)
    assert all(0 <= s.start <= s.stop <= n for s, n in zip(source, shape, strict=True))
    poisoned = np.full(moving.shape, 77, moving.dtype)
    poisoned[(..., *source)] = moving[(..., *source)]
    clean = pull(transform, moving, validity, roi, everything(shape), shape, order)
    dirty = pull(transform, poisoned, validity, roi, everything(shape), shape, order)
    assert clean[0].shape == (2, *roi_shape(roi))
    assert all(same_bits(a, b) for a, b in zip(clean, dirty, strict=True))


@quick
@given(cases(longest=7), st.sampled_from(ORDERS))
def test_values_and_codes_are_those_of_the_definition(case, order):
    transform, moving, validity, extent = case
    # on this lattice source coordinates are exact, so the oracle agrees about which taps have weight
    if isinstance(transform, Translation):
        transform = Translation(tuple(np.round(np.multiply(transform.offset, 8)) / 8))
    else:
        with np.errstate(over="ignore"):
            transform = Displacement(np.round(transform.field * 8) / 8, step=4, origin=transform.origin)
    shape = moving.shape[1:]
    values, codes = pull(transform, moving, validity, everything(extent), everything(shape), shape, order)
    for batch, pixel in itertools.product(range(2), np.ndindex(extent)):
        own = validity[batch] if validity is not None and validity.shape == moving.shape else validity
        value, code = oracle(transform, moving[batch], own, pixel, order)
        assert codes[batch][pixel] == code
        assert values[batch][pixel] == pytest.approx(value, rel=1e-9, abs=1e-9)


@quick
@given(cases(), st.sampled_from(ORDERS), st.data())
def test_whole_pixels_are_a_slice(case, order, data):
    _, moving, _, extent = case
    offset = tuple(data.draw(st.integers(-12, 12)) for _ in extent)
    shape = moving.shape[1:]
    values, codes = pull(Translation(offset), moving, None, everything(extent), everything(shape), shape, order)
    padded = np.pad(moving, [(0, 0)] + [(40, 40)] * len(extent))
    inside = np.pad(np.ones(moving.shape, bool), [(0, 0)] + [(40, 40)] * len(extent))
    window = (slice(None), *(slice(40 + o, 40 + o + n) for o, n in zip(offset, extent, strict=True)))
    usable = np.isfinite(padded[window])
    assert same_bits(values, np.where(usable, padded[window], moving.dtype.type(0)))
    assert (codes == np.where(inside[window], np.where(usable, VALID, MASKED), OUTSIDE)).all()
    assert whole_pixels(Translation(offset), order) == offset


@quick
@given(cases(), st.sampled_from(ORDERS), st.floats(width=64, allow_nan=False, allow_infinity=False))
def test_a_constant_stays_the_same_to_the_bit(case, order, grey):
    transform, moving, _, extent = case
    constant = np.full(moving.shape[1:], grey)
    roi, source = everything(extent), everything(constant.shape)
    values, codes = pull(transform, constant, None, roi, source, constant.shape, order)
    assert set(np.unique(codes)) <= {VALID, OUTSIDE}
    assert (values[codes == VALID] == grey).all()
    assert (values[codes != VALID] == 0).all()


@quick
@given(st.sampled_from([2, 3]).flatmap(lambda n: st.one_of(translations(n), displacements(n))), st.sampled_from([1, 3]))
def test_a_ramp_is_its_source_coordinate(transform, order):
    shape = (16,) * transform.ndim if transform.ndim == 2 else (9, 9, 9)
    slope = np.array([3.0, -2.0, 0.5][: transform.ndim])
    ramp = 5 + np.tensordot(slope, np.indices(shape), 1)
    values, codes = pull(transform, ramp, None, everything(shape), everything(shape), shape, order)
    for pixel in np.argwhere(codes == VALID):
        expected = 5 + slope @ (pixel + displacement_at(transform, pixel))
        assert values[tuple(pixel)] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dense", [False, True])
def test_a_bad_sample_spoils_only_those_that_weigh_it(order, dense):
    image = np.ones((9, 9))
    image[4, 4] = np.nan
    roi = everything(image.shape)
    reach = {0: (0, 0), 1: (1, 0), 3: (2, 1)}[order]
    for offset in ((0.0, 0.0), (0.25, 0.0), (0.25, 0.25)):
        transform = Displacement(np.ones((2, 9, 9)) * np.reshape(offset, (2, 1, 1))) if dense else Translation(offset)
        _, codes = pull(transform, image, None, roi, roi, image.shape, order)
        before, after = ([edge if o else 0 for o in offset] for edge in reach)
        expected = {(y, x) for y in range(4 - before[0], 5 + after[0]) for x in range(4 - before[1], 5 + after[1])}
        assert set(map(tuple, np.argwhere(codes == MASKED).tolist())) == expected


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("coordinate", [0.0, 7.0])
def test_a_tap_without_weight_need_not_be_inside(order, coordinate):
    image = np.arange(64.0).reshape(8, 8)
    for transform in (Translation((coordinate,) * 2), Displacement(np.full((2, 1, 1), coordinate))):
        values, codes = pull(transform, image, None, roi_of((0, 0), (1, 1)), everything((8, 8)), (8, 8), order)
        assert codes[0, 0] == VALID
        assert values[0, 0] == image[int(coordinate), int(coordinate)]


@pytest.mark.parametrize("order", ORDERS)
@given(
    step=st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 2),
    origin=st.tuples(*[st.integers(-9, 9)] * 2),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_nodes_apart_equal_the_dense_field(order, step, origin, seed):
    rng = np.random.default_rng(seed)
    nodes, image = rng.integers(-16, 17, (2, 4, 3)) / 8, rng.random((20, 20))
    dense = nodes
    # eighths and steps of powers of two are exact, whichever way they are interpolated
    for axis in (1, 2):
        known = origin[axis - 1] + step[axis - 1] * np.arange(nodes.shape[axis])
        dense = np.apply_along_axis(lambda line, known=known: np.interp(np.arange(20), known, line), axis, dense)
    roi = everything(image.shape)
    coarse = pull(Displacement(nodes, step=step, origin=origin), image, None, roi, roi, image.shape, order)
    fine = pull(Displacement(dense), image, None, roi, roi, image.shape, order)
    assert all(same_bits(a, b) for a, b in zip(coarse, fine, strict=True))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("strange", STRANGE)
def test_a_node_without_meaning_is_outside_only_where_it_has_weight(order, strange):
    field = np.zeros((2, 3, 3))
    field[1, 1, 1] = strange
    roi, image = everything((9, 9)), np.ones((9, 9))
    transform = Displacement(field, step=4)
    _, codes = pull(transform, image, None, roi, roi, (9, 9), order)
    expected = np.full((9, 9), VALID)
    expected[1:8, 1:8] = OUTSIDE
    assert (codes == expected).all()
    beside = roi_of((0, 0), (1, 9))
    assert source_roi(transform, beside, (9, 9), 0) == beside


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("offset", [1e300, -1e300, 1.7e308, 2.0**63, -(2.0**63), 2.5**40])
def test_far_away_is_outside_and_needs_nothing(order, offset):
    for transform in (Translation((offset, 0)), Displacement(np.full((2, 1, 1), offset))):
        source = source_roi(transform, everything((4, 4)), (5, 5), order)
        assert 0 in roi_shape(source)
        _, codes = pull(transform, np.ones((5, 5))[source], None, everything((4, 4)), source, (5, 5), order)
        assert (codes == OUTSIDE).all()


def test_a_field_of_nothing_but_nan_needs_nothing():
    transform = Displacement(np.full((3, 2, 2, 2), np.nan))
    assert 0 in roi_shape(source_roi(transform, everything((4, 4, 4)), (5, 5, 5), 1))


@pytest.mark.parametrize("strange", [math.nan, math.inf, -math.inf])
def test_a_node_that_is_not_finite_does_not_widen_the_source(strange):
    field = np.full((2, 4, 4), 50.0)
    field[:, 1, 2] = strange
    assert source_roi(Displacement(field), everything((4, 4)), (99, 99), 1) == roi_of((50, 50), (4, 4))


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("dense", [False, True])
def test_overflow_is_masked(order, dense):
    image = np.zeros((6, 6))
    image[::2] = 1.7e308
    image[1::2] = -1.7e308
    transform = Displacement(np.full((2, 1, 1), 0.5)) if dense else Translation((0.5, 0.5))
    values, codes = pull(transform, image, None, roi_of((2, 2), (1, 1)), everything((6, 6)), (6, 6), order)
    assert (codes[0, 0], values[0, 0]) == (MASKED, 0)


@pytest.mark.parametrize("dense", [False, True])
def test_arithmetic_is_not_fused(dense):
    rng = np.random.default_rng(5)
    image, t = rng.random((30, 30)), 0.3
    transform = Displacement(np.full((2, 30, 30), [[[0.0]], [[t]]])) if dense else Translation((0, t))
    roi = roi_of((0, 0), (30, 1))
    a, b, c, d = (image[:, k : k + 1] for k in range(4))
    d1, d2, d3 = b - a, c - b, d - c
    linear, _ = pull(transform, image, None, roi, everything((30, 30)), (30, 30), 1)
    assert same_bits(linear, a + t * (b - a))
    roi = roi_of((0, 1), (30, 1))
    if dense:
        t = (1 + t) - 1
    cubic, _ = pull(transform, image, None, roi, everything((30, 30)), (30, 30), 3)
    expected = b + t * (0.5 * (d1 + d2) + t * (0.5 * (-2 * d1 + 3 * d2 - d3) + t * (0.5 * (d1 - 2 * d2 + d3))))
    assert same_bits(cubic, expected)


@pytest.mark.parametrize("dtype", ["bool", "i1", "<u2", ">u2", "<i8", "u8", "f2", "<f4", ">f4", "f8"])
def test_types(dtype):
    image = np.random.default_rng(1).integers(0, 2, (2, 7, 7)).astype(dtype)
    roi, field = everything((7, 7)), np.full((2, 1, 1), 0.75)
    for transform in (Translation((0.75, 0.75)), Displacement(field)):
        nearest, codes = pull(transform, image, None, roi, roi, (7, 7), 0)
        assert nearest.dtype == image.dtype
        assert codes.dtype == np.uint8
        assert (nearest[:, :-1, :-1] == image[:, 1:, 1:]).all()
        assert all(pull(transform, image, None, roi, roi, (7, 7), order)[0].dtype == np.float64 for order in (1, 3))
    shifted, _ = pull(Translation((1, 1)), image, None, roi, roi, (7, 7), 3)
    assert shifted.dtype == image.dtype


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("transform", [Translation((0.5, 0.5)), Displacement(np.full((2, 1, 1), 0.5))])
def test_nothing_in_nothing_out(transform, order):
    nowhere, roi = roi_of((3, 3), (0, 2)), everything((4, 4))
    for batch in ((), (0,), (2, 1)):
        values, codes = pull(transform, np.ones((*batch, 4, 4)), None, nowhere, roi, (4, 4), order)
        assert values.shape == codes.shape == (*batch, 0, 2)
    values, codes = pull(transform, np.ones((0, 4, 4)), None, roi, roi, (4, 4), order)
    assert values.shape == codes.shape == (0, 4, 4)
    assert source_roi(transform, nowhere, (4, 4), order) == (slice(0, 0), slice(0, 0))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_uniform_field_equals_the_translation_to_the_bit(order, ndim):
    image, roi = np.random.default_rng(3).normal(size=(8,) * ndim), everything((8,) * ndim)
    offset = (0.375, -1.25, 0.8125)[:ndim]
    field = np.reshape(offset, (ndim,) + (1,) * ndim)
    shifted = pull(Translation(offset), image, None, roi, roi, image.shape, order)
    displaced = pull(Displacement(field), image, None, roi, roi, image.shape, order)
    assert all(same_bits(a, b) for a, b in zip(shifted, displaced, strict=True))
    assert (shifted[1] == VALID).sum() >= 25


def test_axes_are_interpolated_last_axis_first():
    rng = np.random.default_rng(4)
    image, (t, u) = rng.normal(size=(50, 50)), (0.3, 0.6)
    roi, nodes = everything((49, 49)), rng.normal(size=(2, 50, 50))
    along = image[:, :-1] + u * (image[:, 1:] - image[:, :-1])
    values, _ = pull(Translation((t, u)), image, None, roi, everything((50, 50)), (50, 50), 1)
    assert same_bits(values, along[:-1] + t * (along[1:] - along[:-1]))
    # pixel (3k + 1, 3k + 2) of a field with a node every 3 pixels, seen through an image whose value is its column
    along = nodes[1][:, :-1] + (2 / 3) * (nodes[1][:, 1:] - nodes[1][:, :-1])
    shift = along[:-1] + (1 / 3) * (along[1:] - along[:-1])
    ramp, nodes[0] = np.tile(np.arange(200.0), (200, 1)), 0
    values, codes = pull(
        Displacement(nodes, step=3), ramp, None, everything((147, 147)), everything(ramp.shape), (200, 200), 1
    )
    assert (codes[1::3, 5::3] == VALID).all()
    expected = np.arange(5.0, 147, 3) + shift[:, 1:]
    assert same_bits(values[1::3, 5::3].copy(), np.floor(expected) + (expected - np.floor(expected)))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("transform", [Translation((-1e-20, 0)), Displacement(np.full((2, 1, 1), -1e-20))])
def test_a_hair_before_the_first_pixel_is_the_first_pixel(transform, order):
    image, roi = np.arange(16.0).reshape(4, 4), roi_of((0, 0), (1, 1))
    values, codes = pull(transform, image, None, roi, everything((4, 4)), (4, 4), order)
    assert (values[0, 0], codes[0, 0]) == (0, VALID)


def test_whole_pixels():
    assert whole_pixels(Translation((1.0, -2.0)), 3) == (1, -2)
    assert whole_pixels(Translation((1.5, -2.5)), 0) == (2, -2)
    assert whole_pixels(Translation((1.5, -2.0)), 1) is None
    assert whole_pixels(Translation((-1e-20, 0)), 1) == (0, 0)
    assert whole_pixels(Displacement(np.zeros((2, 1, 1))), 0) is None


def test_source_roi_is_tight():
    roi, shape = roi_of((10, 10), (5, 5)), (100, 100)
    assert source_roi(Translation((0.5, -3)), roi, shape, 1) == (slice(10, 16), slice(7, 12))
    assert source_roi(Translation((0.5, -3)), roi, shape, 3) == (slice(9, 17), slice(7, 12))
    # a shrinking map: each row with its own nodes, not the first row with the last row's displacement
    field = -0.5 * np.indices((100, 100))
    assert source_roi(Displacement(field), roi_of((40, 40), (20, 20)), shape, 1) == (slice(20, 31), slice(20, 31))


def test_only_the_nodes_around_are_read():
    class Watched:
        shape, dtype, reads = (2, 50, 50), np.dtype("f4"), []

        def __getitem__(self, key):
            self.reads.append(key)
            return np.zeros((2, 50, 50), "f4")[key]

    transform = Displacement(Watched(), step=10, origin=5)
    source_roi(transform, roi_of((95, 100), (10, 11)), (600, 600), 1)
    assert Watched.reads == [(slice(None), slice(9, 11), slice(9, 12))]


def test_a_block_that_is_too_small_is_an_error():
    for transform in (Translation((0.5, 0.5)), Displacement(np.full((2, 1, 1), 0.5))):
        for order in ORDERS:
            with pytest.raises(ValueError, match="source_roi says how much"):
                pull(transform, np.ones((3, 3)), None, roi_of((2, 2), (3, 3)), roi_of((2, 2), (3, 3)), (9, 9), order)


@quick
@given(st.sampled_from([2, 3]).flatmap(lambda n: st.one_of(translations(n), displacements(n))))
def test_json_round_trip(transform):
    text = json.dumps(to_dict(transform), allow_nan=False)
    again = from_dict(json.loads(text))
    if isinstance(transform, Translation):
        assert again == transform
    else:
        assert again.grid == transform.grid
        assert same_bits(again.field, np.where(np.isfinite(transform.field), transform.field, np.nan))
    assert json.dumps(to_dict(again), allow_nan=False) == text


FIELD = np.zeros((2, 2, 2))
WORDS = {"kind": "displacement", "step": [1, 1], "origin": [0, 0], "field": FIELD.tolist()}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Translation((1.0,)), r"translation offset is \(1.0,\): 2 or 3 finite numbers"),
        (lambda: Translation((1.0, math.nan)), "nan.*2 or 3 finite numbers"),
        (lambda: Translation((1.0, 10**400)), "2 or 3 finite numbers"),
        (lambda: Translation("12"), "'12'.*2 or 3 finite numbers"),
        (lambda: Translation(3), "offset is 3: 2 or 3 finite numbers"),
        (lambda: Displacement([[1]]), r"shape \[\]: \[2, y, x\] or \[3, z, y, x\]"),
        (lambda: Displacement(np.zeros((2, 5))), r"shape \[2, 5\]"),
        (lambda: Displacement(np.zeros((3, 5, 5))), r"shape \[3, 5, 5\]"),
        (lambda: Displacement(np.zeros((2, 0, 5))), r"shape \[2, 0, 5\].*not empty"),
        (lambda: Displacement(FIELD.astype(complex)), "type complex128: integers or floats are accepted"),
        (lambda: Displacement(FIELD, step=0), "step is 0: a whole number of at least 1, or 2 such, is accepted"),
        (lambda: Displacement(FIELD, step=(1, 1, 1)), r"step is \(1, 1, 1\).*or 2 such"),
        (lambda: Displacement(FIELD, step=1.5), "step is 1.5: a whole number"),
        (lambda: Displacement(FIELD, origin="ab"), "origin is 'ab': a whole number"),
        (lambda: Displacement(FIELD, origin=2**31), "origin is 2147483648"),
        (lambda: whole_pixels(Translation((1, 1)), 2), r"order is 2: 0 \(nearest\), 1 \(linear\) or 3 \(cubic\)"),
        (lambda: source_roi(Translation((1, 1)), everything((2, 2)), (2, 2), -1), "order is -1"),
        (lambda: source_roi(Translation((1, 1)), everything((2, 2, 2)), (2, 2), 1), "2, 3, 2 axes: equal is accepted"),
        (
            lambda: pull(Translation((1, 1)), FIELD, None, everything((2, 2)), everything((2, 3)), (2, 3), 1),
            "moving block",
        ),
        (
            lambda: pull(Translation((1, 1)), FIELD, FIELD[0, 0], everything((2, 2)), everything((2, 2)), (2, 2), 1),
            r"validity has shape \[2\]: \[2, 2, 2\] or \[2, 2\] is accepted",
        ),
        (lambda: from_dict({"kind": "affine"}), "kind is 'affine': one of translation, displacement is accepted"),
        (lambda: from_dict([1]), "kind is None"),
        (lambda: from_dict({"kind": "translation"}), r"keys \['kind'\]: exactly \['kind', 'offset'\]"),
        (lambda: from_dict({"kind": "translation", "offset": [1, 2], "x": 1}), "keys .*'x'.*exactly"),
        (lambda: from_dict({"kind": "translation", "offset": [True, 2]}), "2 or 3 finite numbers"),
        (lambda: from_dict({**WORDS, "field": [[1], [1, 2]]}), "not a regular nested list"),
        (lambda: from_dict({**WORDS, "field": [[["1"]], [[2]]]}), "not a regular nested list"),
        (lambda: from_dict({**WORDS, "field": [[[10**400]], [[2]]]}), "not a regular nested list"),
        (lambda: from_dict({**WORDS, "step": "x"}), "step is 'x'"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_compiled_without_a_place_to_keep_the_code(caplog):
    _say_uncached.cache_clear()
    space = {}
    exec("def first(x):\n    return x + 1\ndef second(x):\n    return 1.0 / x", space)
    with caplog.at_level(logging.WARNING, "bigncc"):
        first, second = compiled(space["first"]), compiled(space["second"])
    assert first(1) == 2
    assert second(0.0) == math.inf
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == [
        "set NUMBA_CACHE_DIR to a writable one"
    ]


def test_without_compilation():
    script = (
        "import numpy as np; from bigncc.transform import *; from bigncc.tiles import roi_of\n"
        "image, roi = np.random.default_rng(0).random((6, 6)), roi_of((0, 0), (6, 6))\n"
        "for t in (Translation((.3, .6)), Displacement(image[None].repeat(2, 0))):\n"
        "    for order in (0, 1, 3):\n"
        "        print(*(a.tobytes().hex() for a in pull(t, image, None, roi, roi, (6, 6), order)))\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            env={**os.environ, "NUMBA_DISABLE_JIT": flag},
            check=True,
            capture_output=True,
        ).stdout
        for flag in "01"
    ]
    assert said[0] == said[1] != b""
