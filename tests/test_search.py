"""Two images are found on each other by small ones of them: shifted, turned, larger; in volumes within the plane."""

import math

import dask.array as da
import numpy as np
import pytest
from scipy.ndimage import affine_transform

from bigncc import search
from bigncc.sites import band
from bigncc.transform import Affine, Translation, compose, points
from tests import scenery, scenes


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("masked", [0.0, 0.2])
def test_an_image_that_is_turned_and_scaled_is_found(seed, masked):
    side = 400
    true = scenery.transform(seed, "similarity", side, reach=0.12)
    first, second = scenery.pair(seed, true, side, masked=masked)
    found = search.turned(band(first), band(second))
    assert scenery.corner_error(found, true, side) < 8


def test_extents_may_differ():
    true = scenery.transform(7, "similarity", 500)
    first, second = scenery.pair(7, true, 500)
    found = search.turned(band(first[:380, 40:]), band(second[60:, :440]))
    cut = compose(Translation((-60, 0)), compose(true, Translation((0, 40))))
    assert scenery.corner_error(found, cut, 400) < 12


def test_a_volume_is_turned_in_its_plane():
    volume = scenes.scene(5, (24, 96, 96), 1.5)
    c, s = math.cos(0.2), math.sin(0.2)
    middle = np.array([11.5, 47.5, 47.5])
    matrix = np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
    true = Affine(tuple(map(tuple, matrix.tolist())), tuple(middle - matrix @ middle + (2, 3, -4)))
    back = true.inverse()
    turned = affine_transform(volume, back.matrix, back.offset, order=1)
    found = search.turned(band(volume), band(turned))
    corners = middle + np.array([[10, 40, 40], [-10, 40, -40], [0, -40, 40]])
    assert np.abs(points(found, corners) - points(true, corners)).max() < 4


def test_a_small_image_lies_where_its_blocks_are():
    image = np.arange(40 * 60.0).reshape(40, 60)
    part = search.small(da.from_array(image, chunks=16), (), (slice(8, 40), slice(4, 60)), (4, 2))
    place = points(part.placed, np.array([3, 5]))
    np.testing.assert_array_equal(place, [8 + 3 * 4 + 1.5, 4 + 5 * 2 + 0.5])
    # means of a plane are its values in the middle of the blocks
    assert part.image[3, 5] == 60 * place[0] + place[1]


def test_a_shift_that_wraps_around_is_not_taken_for_another():
    first, second = scenes.pair(3, (200, 200), 1.5, (130, -120), noise=0)
    found, height = search.shifted(band(first.astype(float)), band(second.astype(float)))
    np.testing.assert_allclose(found, (130, -120), atol=0.5)
    assert 0.05 < height < 0.5
