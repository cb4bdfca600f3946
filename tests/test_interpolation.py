"""Interpolators: equal to their definition, exact where they can be, and a tap without weight is no tap."""

import itertools
import logging
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bigncc.compiled import _say_uncached, compiled
from bigncc.interpolation import MASKED, OUTSIDE, VALID
from bigncc.resampling import pull
from bigncc.tiles import roi_of
from bigncc.transform import Affine, Displacement, Translation
from tests.transforms import ORDERS, anything, cases, displacement_at, everything, quick, same_bits


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
@given(cases(longest=7), st.sampled_from(ORDERS))
def test_values_and_codes_are_those_of_the_definition(case, order):
    transform, moving, validity, extent = case
    # on this lattice source coordinates are exact, so the oracle agrees about which taps have weight
    if isinstance(transform, Translation):
        transform = Translation(tuple(np.round(np.multiply(transform.offset, 8)) / 8))
    elif isinstance(transform, Affine):
        matrix = tuple(map(tuple, (np.round(np.multiply(transform.matrix, 8)) / 8).tolist()))
        assume(np.linalg.cond(matrix) < 1e5)
        transform = Affine(matrix, tuple(np.round(np.multiply(transform.offset, 8)) / 8))
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
@given(st.sampled_from([2, 3]).flatmap(lambda n: anything(n)), st.sampled_from([1, 3]))
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


def test_what_is_compiled_is_said_once(caplog):
    space = {"__name__": "bigncc.somewhere", "compiled": compiled}
    exec("@compiled\ndef inner(x):\n    return x + 1\n@compiled\ndef outer(x):\n    return inner(x[0])", space)
    with caplog.at_level(logging.INFO, "bigncc"):
        assert [space["outer"](np.full(3, 4, np.uint16)) for _ in range(2)] == [5, 5]
        assert space["outer"](np.full(3, 4.5)) == 5.5
    assert [record.message for record in caplog.records if record.levelno == logging.INFO] == [
        f"compiling outer for {kind} samples, once: some seconds" for kind in ("uint16", "float64")
    ]


def test_without_compilation():
    script = (
        "import itertools, numpy as np; from bigncc.transform import *; from bigncc.tiles import roi_of\n"
        "from bigncc.resampling import pull\n"
        "image, roi = np.random.default_rng(0).random((6, 6)), roi_of((0, 0), (6, 6))\n"
        "affine = Affine(((.9, -.3), (.4, 1.1)), (.7, .2))\n"
        "for t in (Translation((.3, .6)), affine, Displacement(image[None].repeat(2, 0))):\n"
        "    for order, kind in itertools.product((0, 1, 3), ('u2', 'f4', 'f8')):\n"
        "        part = (1000 * image).astype(kind)\n"
        "        print(*(a.tobytes().hex() for a in pull(t, part, None, roi, roi, (6, 6), order)))\n"
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
