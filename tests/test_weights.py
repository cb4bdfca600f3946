"""What samples count: shapes as scikit-image draws them, taps as scipy has them, and tables that somebody made."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from skimage import morphology

from bigncc.errors import InputError
from bigncc.weights import drawn, gaussian_size, table_of, taps


@pytest.mark.parametrize("radius", [1, 2, 5, 15, 30])
def test_disks_and_balls_are_those_of_scikit_image(radius):
    size = 2 * radius + 1
    np.testing.assert_array_equal(drawn("disk", (size, size)).array, morphology.disk(radius))
    if radius < 10:
        np.testing.assert_array_equal(drawn("ball", (size,) * 3).array, morphology.ball(radius))
    np.testing.assert_array_equal(drawn("disk", (1, size, size)).array[0], morphology.disk(radius))


def test_an_octagon_is_regular():
    np.testing.assert_array_equal(drawn("octagon", (31, 31)).array, morphology.octagon(13, 9))


@given(st.sampled_from(("disk", "octagon")), st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_shapes_are_symmetrical_and_touch_all_sides(name, radii):
    if any(radii):
        array = drawn(name, tuple(2 * r + 1 for r in radii)).array
        np.testing.assert_array_equal(array, array[::-1])
        np.testing.assert_array_equal(array, array[:, ::-1])
        assert array[0].any()
        assert array[:, 0].any()


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("ball", (7, 7), r"window.footprint is ball and window.size \[7, 7\]: \(z, y, x\) with more than 1 along z"),
        ("ball", (1, 7, 7), "with more than 1 along z"),
        ("disk", (3, 7, 7), r"window.footprint is disk and window.size \[3, 7, 7\]: \(y, x\), or 1 along z, is"),
    ],
)
def test_a_shape_has_its_axes(name, shape, sentence):
    with pytest.raises(InputError, match=sentence):
        drawn(name, shape)


@given(st.floats(0.1, 6), st.floats(0.5, 6))
def test_taps_are_those_of_scipy(sigma, truncate):
    (size,) = gaussian_size((sigma,), truncate)
    pulse = np.zeros(2 * size + 1)
    pulse[size] = 1
    wanted = gaussian_filter1d(pulse, sigma, truncate=truncate)
    assert np.count_nonzero(wanted) == size
    found = taps(sigma, size // 2)
    np.testing.assert_allclose(found, wanted[size : size + size // 2 + 1], rtol=1e-12)
    assert (found > 0).all()


@pytest.mark.parametrize("factor", [1.0, 0.3, 7e-200, 1e200])
def test_what_weights_are_multiplied_by_cannot_be_seen(factor):
    cells = np.array([[0, 1, 0], [1, 1, 1], [0, -0.0, 1]])
    assert table_of(cells * factor) == table_of(cells.astype(bool))
    assert table_of(cells * factor).flat
    weights = np.array([[0.5, 1, 3]])
    assert table_of(weights * 2.0**40).digest == table_of(weights).digest != table_of(cells).digest
    assert not table_of(weights).flat
    assert 0.5 <= table_of(weights * factor).array.max() <= 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.ones((3, 4)), r"window.footprint has shape \[3, 4\]: weights of 0 or more along 2 or 3 axes of odd"),
        (np.ones(3), "has shape"),
        (np.ones((1, 1, 3, 3)), "has shape"),
        ([[1, -1, 1]], "has a weight of -1.0: weights of 0 or more"),
        ([[1, np.nan, 1]], "has a weight of nan"),
        ([[1, np.inf, 1]], "has a weight of inf"),
        ([[0, 1, 0]], "has 1 positive weights"),
        ([[1, 1e-13, 1]], "has weights from 1e-13 to 1: 0, and weights of at least 1e-12 of the largest, are accepted"),
        ([["a", "b", "c"]], "disk, ball, octagon, or an array of numbers, is accepted"),
        ([[1], [2, 3]], "an array of numbers"),
    ],
)
def test_what_is_no_footprint_is_refused_in_a_sentence(values, sentence):
    with pytest.raises(InputError, match=sentence):
        table_of(values)
