"""Pulling: the tiling cannot be seen, no sample that matters is missed, and what lies outside is called so."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bigncc.errors import InputError
from bigncc.interpolation import MASKED, OUTSIDE, VALID
from bigncc.resampling import check_view, pull, source_roi, whole_pixels
from bigncc.tiles import roi_of, roi_shape
from bigncc.transform import Affine, Displacement, Translation
from tests.strategies import cover
from tests.transforms import ORDERS, STRANGE, affines, cases, everything, quick, same_bits


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


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from(ORDERS))
def test_an_affine_that_only_shifts_is_the_translation_to_the_bit(case, order):
    _, moving, validity, extent = case
    rng = np.random.default_rng(moving.size)
    offset = tuple(np.where(rng.random(len(extent)) < 0.5, rng.integers(-3, 4, len(extent)), rng.normal(0, 3)).tolist())
    same, shift = Affine(np.eye(len(extent)).tolist(), offset), Translation(offset)
    roi, source, shape = everything(extent), everything(moving.shape[1:]), moving.shape[1:]
    one, other = (pull(t, moving, validity, roi, source, shape, order) for t in (same, shift))
    assert all(same_bits(a, b) for a, b in zip(one, other, strict=True))
    assert source_roi(same, roi, shape, order) == source_roi(shift, roi, shape, order)
    assert whole_pixels(same, order) == whole_pixels(shift, order)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([2, 3]).flatmap(affines), st.sampled_from(ORDERS), st.data())
def test_source_roi_of_an_affine_is_exact(transform, order, data):
    extent, shape = (tuple(data.draw(st.integers(1, 6)) for _ in range(transform.ndim)) for _ in range(2))
    start = tuple(data.draw(st.integers(0, 10**6)) for _ in range(transform.ndim))
    offset = np.subtract(transform.offset, np.array(transform.matrix) @ start)
    transform = Affine(transform.matrix, tuple(np.where(np.abs(offset) < 1e8, offset, 1e300).tolist()))
    matrix = np.array(transform.matrix)
    needed = []
    for pixel in np.ndindex(extent):
        place = np.array(transform.offset)
        for axis in range(transform.ndim):
            place = place + matrix[:, axis] * (start[axis] + pixel[axis])
        low = np.floor(place + 0.5) if order == 0 else np.floor(place) - (order == 3)
        needed.append((low, low + 1 if order == 0 else np.ceil(place) + (1 if order == 1 else 2)))
    first, last = np.min([a for a, _ in needed], axis=0), np.max([b for _, b in needed], axis=0)
    expected = tuple(slice(*np.clip([a, max(a, b)], 0, n)) for a, b, n in zip(first, last, shape, strict=True))
    assert source_roi(transform, roi_of(start, extent), shape, order) == expected


@pytest.mark.parametrize("ndim", [2, 3])
def test_linear_and_nearest_are_those_of_scipy(ndim):
    rng = np.random.default_rng(ndim)
    shape, extent = (40, 50, 30)[:ndim], (30, 20, 25)[:ndim]
    image = rng.normal(size=shape)
    matrix = np.eye(ndim) + rng.normal(0, 0.2, (ndim, ndim))
    offset = (np.array(shape) - 1) / 2 - matrix @ ((np.array(extent) - 1) / 2)
    transform = Affine(matrix.tolist(), tuple(offset.tolist()))
    for order in (0, 1):
        values, codes = pull(transform, image, None, everything(extent), everything(shape), shape, order)
        expected = ndimage.affine_transform(image, matrix, offset, extent, order=order, mode="constant", cval=np.nan)
        inside = np.isfinite(expected) & (codes == VALID)
        assert inside.mean() > 0.7
        np.testing.assert_allclose(values[inside], expected[inside], atol=1e-9)


@pytest.mark.parametrize("order", ORDERS)
def test_a_quarter_of_a_turn_is_that_of_numpy(order):
    image = np.random.default_rng(5).integers(0, 2**16, (9, 12)).astype(np.uint16)
    turn = Affine(((0, 1), (-1, 0)), (0, 11))
    source = source_roi(turn, everything((12, 9)), image.shape, order)
    assert source == everything(image.shape)
    transform = Affine(((0, 1), (-1, 0)), (0, 11))
    values, codes = pull(transform, image, None, everything((12, 9)), source, image.shape, order)
    assert (codes == VALID).all()
    np.testing.assert_array_equal(values, np.rot90(image))


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from(ORDERS), st.data())
def test_what_no_pixel_sees_is_refused_and_nothing_else(case, order, data):
    transform, moving, _, extent = case
    roi = tuple(slice(a, data.draw(st.integers(a + 1, n))) for n in extent for a in [data.draw(st.integers(0, n - 1))])
    shape = moving.shape[1:]
    _, codes = pull(transform, np.ones(shape), None, roi, everything(shape), shape, min(order, 1))
    if (codes == VALID).any():
        check_view(transform, roi, shape, order)
    else:
        with pytest.raises(InputError, match=r"the transform maps no reference pixel \(.*\) into the moving image of"):
            check_view(transform, roi, shape, order)


def test_a_refusal_of_what_no_pixel_sees_says_where_they_lie():
    c, s = math.cos(0.5), math.sin(0.5)
    turned = Affine(((c, -s), (s, c)), (300, 0))
    # the box around what it sees meets the image, and none of it does
    assert 0 not in roi_shape(source_roi(turned, everything((200, 300)), (200, 120), 1))
    with pytest.raises(InputError, match=r"y 0 to 199, x 0 to 299.*of \[200, 120\].*y 156 to 475, x 0 to 358\)"):
        check_view(turned, everything((200, 300)), (200, 120), 1)
    far = Displacement(np.full((2, 3, 4), 1000.0), step=1000)
    with pytest.raises(InputError, match=r"they lie at y 1000 to 2999, x 1000 to 3999\)"):
        check_view(far, everything((2000, 3000)), (900, 9000), 1)
    with pytest.raises(InputError, match="they lie at no finite place"):
        check_view(Displacement(np.full((2, 3, 4), np.nan)), everything((20, 30)), (90, 90), 1)


def test_of_a_field_that_is_seen_little_is_read():
    class Watched:
        shape, dtype, read = (2, 4000, 4000), np.dtype("f4"), 0

        def __getitem__(self, key):
            block = np.zeros([s.stop - s.start for s in key[1:]])
            Watched.read += block.size
            return np.stack([block, block])

    check_view(Displacement(Watched()), everything((4000, 4000)), (4000, 4000), 1)
    assert Watched.read < 10**6


def test_whole_pixels():
    assert whole_pixels(Translation((1.0, -2.0)), 3) == (1, -2)
    assert whole_pixels(Translation((1.5, -2.5)), 0) == (2, -2)
    assert whole_pixels(Translation((1.5, -2.0)), 1) is None
    assert whole_pixels(Translation((-1e-20, 0)), 1) == (0, 0)
    assert whole_pixels(Displacement(np.zeros((2, 1, 1))), 0) is None
    assert whole_pixels(Affine(((1, 0), (1e-9, 1)), (1, 2)), 0) is None


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
    turned = Affine(((0.8, 0.6), (-0.6, 0.8)), (0.5, 3.5))
    for transform in (Translation((0.5, 0.5)), turned, Displacement(np.full((2, 1, 1), 0.5))):
        for order in ORDERS:
            with pytest.raises(ValueError, match="source_roi says how much"):
                pull(transform, np.ones((3, 3)), None, roi_of((2, 2), (3, 3)), roi_of((2, 2), (3, 3)), (9, 9), order)


FIELD = np.zeros((2, 2, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
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
    ],
)
def test_refusals(call, words):
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
