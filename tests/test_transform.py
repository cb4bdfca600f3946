"""Transforms: what maps where, in numbers, JSON and words."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc.errors import InputError
from bigncc.resampling import pull
from bigncc.transform import Affine, Displacement, Translation, compose, from_dict, points, to_dict
from bigncc.wording import in_words
from tests.transforms import anything, everything, quick, same_bits


def turned(degrees, scale, centre, shift):
    """A turn about `centre`, and then a shift."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    matrix, centre = np.array([[c, -s], [s, c]]), np.array(centre) / 2
    return Affine(matrix.tolist(), tuple((centre + shift - matrix @ centre).tolist()))


def near(ndim):
    """Affine transforms near the identity."""
    rows = st.tuples(*[st.tuples(*[st.floats(-0.2, 0.2)] * ndim)] * ndim)
    return st.builds(lambda m, b: Affine((np.eye(ndim) + m).tolist(), b), rows, st.tuples(*[st.floats(-9, 9)] * ndim))


def small(ndim):
    return st.builds(Translation, st.tuples(*[st.floats(-9, 9)] * ndim))


@quick
@given(st.sampled_from([2, 3]).flatmap(lambda n: anything(n)))
def test_json_round_trip(transform):
    text = json.dumps(to_dict(transform), allow_nan=False)
    again = from_dict(json.loads(text))
    if not isinstance(transform, Displacement):
        assert again == transform
    else:
        assert again.grid == transform.grid
        assert same_bits(again.field, np.where(np.isfinite(transform.field), transform.field, np.nan))
    assert json.dumps(to_dict(again), allow_nan=False) == text


@quick
@given(st.data())
def test_composed_transforms_do_one_after_the_other(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    inner, outer = (data.draw(st.one_of(near(ndim), small(ndim))) for _ in range(2))
    pixels = np.random.default_rng(0).uniform(-50, 50, (20, ndim))
    both = compose(outer, inner)
    assert isinstance(both, Translation) == (isinstance(inner, Translation) and isinstance(outer, Translation))
    np.testing.assert_allclose(points(both, pixels), points(outer, points(inner, pixels)), atol=1e-9)


@quick
@given(st.sampled_from([2, 3]).flatmap(lambda n: near(n)))
def test_an_inverse_leads_back(transform):
    pixels = np.random.default_rng(0).uniform(-50, 50, (20, transform.ndim))
    np.testing.assert_allclose(points(transform.inverse(), points(transform, pixels)), pixels, atol=1e-8)
    assert not Affine(np.eye(transform.ndim).tolist(), transform.offset).inverse().matrix[0][1]


def test_a_field_is_composed_with_what_comes_after_it():
    nodes = np.random.default_rng(1).normal(0, 2, (2, 4, 5))
    inner, outer = Displacement(nodes, step=(2, 3), origin=1), Affine(((1.1, -0.2), (0.3, 0.9)), (4, -5))
    both, pixels = compose(outer, inner), np.stack(np.indices((4, 5)), -1) * (2, 3) + 1.0
    expected = points(outer, pixels + np.moveaxis(nodes, 0, -1))
    np.testing.assert_allclose(pixels + np.moveaxis(both.field, 0, -1), expected, atol=1e-12)
    assert both.grid == inner.grid


@pytest.mark.parametrize(
    ("shape", "step"),
    [((33, 49), 16), ((40, 50), 16), ((7, 1), 3), ((1, 1), 16), ((9, 20, 31), (2, 8, 7)), ((5, 9), 1)],
)
def test_a_sampled_map_is_exact_where_it_is_linear(shape, step):
    rng, asked = np.random.default_rng(2), []
    matrix, offset = np.eye(len(shape)) + rng.normal(0, 0.1, (len(shape),) * 2), rng.normal(0, 9, len(shape))

    def affine(pixels):
        asked.append(pixels)
        return pixels @ matrix.T + offset

    found = Displacement.sample(affine, shape, step)
    assert found.error < 1e-12
    everywhere = np.concatenate(asked)
    assert everywhere.min() == 0
    np.testing.assert_array_equal(everywhere.max(axis=0), np.subtract(shape, 1))
    image, roi = rng.normal(size=shape), everything(shape)
    same = Affine(matrix.tolist(), tuple(offset))
    one, other = (pull(transform, image, None, roi, roi, shape, 1) for transform in (found, same))
    inside = (one[1] == 1) & (other[1] == 1)
    np.testing.assert_allclose(one[0][inside], other[0][inside], atol=1e-9)
    assert (one[1] != other[1]).mean() < 0.05


def test_the_error_of_a_sampled_map_is_that_midway_and_falls_with_the_step():
    def bent(pixels):
        assert len(pixels) <= 2**15
        return pixels + np.stack([np.sin(pixels[:, 1] / 20), 0.001 * pixels[:, 0] ** 2], axis=1)

    errors = []
    for step in (16, 8, 4):
        found = Displacement.sample(bent, (3201, 641) if step == 4 else (321, 641), step=step)
        errors.append(found.error)
        mid = np.stack(np.indices((20, 40)), -1).reshape(-1, 2) * step + step / 2
        cells = (found.field[:, a : a + 20, b : b + 40] for a in (0, 1) for b in (0, 1))
        off = np.linalg.norm(mid + (sum(cells) / 4).reshape(2, -1).T - bent(mid), axis=1)
        assert off.max() <= found.error
    assert errors[0] == pytest.approx(np.hypot(0.001 * 8**2, 1 - np.cos(8 / 20)), rel=0.05)
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_where_a_map_is_not_finite_nothing_is_seen():
    def half(pixels):
        return np.where(pixels[:, 1:] < 40, pixels, np.nan)

    found = Displacement.sample(half, (64, 64), step=8)
    assert found.error == 0
    np.testing.assert_array_equal(np.isfinite(found.field).all(axis=(0, 1)), np.arange(9) < 5)


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (Translation((1.25, -3)), "shifted by y +1.25, x -3 pixels"),
        (Affine(((1, 0), (0, 1)), (0, 2)), "shifted by y +0, x +2 pixels"),
        (
            turned(5, 1.02, (100, 200), (3.5, -2)),
            "pulled through an affine transform: turned by +5.00 degrees, scaled by 1.020 (y) and 1.020 (x), "
            "shifted by y +3.5, x -2 at the centre",
        ),
        (turned(-170, 0.5, (100, 200), (0, 0)), "turned by -170.00 degrees, scaled by 0.500 (y) and 0.500 (x)"),
        (Affine(((1, 0.1), (0, 1)), (0, 0)), "-2.86 degrees, scaled by 1.000 (y) and 1.005 (x), sheared by 5.71"),
        (Affine(((1, 0), (0, -2)), (0, 199)), "mirrored along x, turned by +0.00 degrees, scaled by 1.000 (y) and 2"),
        (
            Affine(((1, 0, 0), (0, 0, -1), (0, 1, 0)), (0, 0, 0)),
            "turned by +90.00 degrees about z +1, y +0, x +0, scaled by 1.000 (z), 1.000 (y) and 1.000 (x)",
        ),
        (Affine(((1, 0, 0), (0, -1, 0), (0, 0, -1)), (0, 0, 0)), "180.00 degrees about z +1, y +0, x +0"),
        (Affine(((0.6, 0, 0.8), (0, 1, 0), (-0.8, 0, 0.6)), (0, 0, 0)), "by +53.13 degrees about z +0, y +1, x +0"),
        (Affine(((2, 0, 0), (0, 1, 0), (0, 0, 1)), (0, 0, 0)), "turned by +0.00 degrees, scaled by 2.000 (z), 1.000"),
    ],
)
def test_words(transform, words):
    assert words in in_words(transform, (101, 201) if transform.ndim == 2 else (9, 101, 201))


def test_a_positive_turn_is_counter_clockwise_on_a_screen():
    # what lies to the right of the centre comes to lie above it, where y is smaller
    y, x = points(turned(30, 1, (0, 0), (0, 0)), np.array([0.0, 10.0]))
    assert y < 0 < x
    assert "turned by +30.00" in in_words(turned(30, 1, (0, 0), (0, 0)), (9, 9))


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
        (
            lambda: from_dict({"kind": "spline"}),
            "kind is 'spline': one of translation, affine, displacement is accepted",
        ),
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
