"""A smooth displacement is found, strays and holes do not spoil it, and what neighbours do not agree on is refused."""

import dask.array as da
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from bigncc import deformation
from bigncc.errors import RegistrationError
from bigncc.registration import estimate
from bigncc.search import Small
from bigncc.transform import Displacement, Translation, points
from tests import scenery, scenes


def planted(side, largest, seed=0):
    """Return a smooth field of at most `largest` pixels."""
    nodes = gaussian_filter(np.random.default_rng(seed).standard_normal((2, side // 40 + 2, side // 40 + 2)), (0, 3, 3))
    return Displacement(nodes * largest / np.abs(nodes).max(), step=40)


def seen(name, side, field, noise=0.05):
    """Return two views of a photograph: what is at p in the first is at p + field(p) in the second."""
    image = scenery.photograph(name)
    large = zoom((image - image.mean()) / image.std(), 1.1 * (side + 40) / min(image.shape), order=3)
    rng = np.random.default_rng(1)
    there = np.moveaxis(points(field, pixels(side)), -1, 0) + 20
    views = map_coordinates(large, there, order=3), large[20 : 20 + side, 20 : 20 + side]
    return [(100 + 30 * (view + noise * rng.standard_normal((side, side)))).astype(np.float32) for view in views]


def pixels(side):
    return np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), axis=-1).astype(float)


def rms(found, true, side):
    return float(np.sqrt(((points(found, pixels(side)) - points(true, pixels(side))) ** 2).sum(axis=-1).mean()))


def test_a_smooth_field_is_found():
    true = planted(300, 4.0)
    first, second = seen("gravel", 300, true)
    found = estimate(*(da.from_array(view, chunks=200) for view in (first, second)), "displacement")
    assert found.model == "displacement"
    assert found.sites.agree.mean() > 0.9
    assert rms(found.transform, Translation((0, 0)), 300) > 1.5
    assert rms(found.transform, true, 300) < 0.15


def test_holes_are_filled():
    true = planted(300, 3.0, seed=2)
    first, second = seen("grass", 300, true)
    first[80:150, 100:190] = second[220:, :60] = np.nan
    found = estimate(*(da.from_array(view) for view in (first, second)), "displacement").transform
    assert np.isfinite(np.asarray(found.field)).all()
    assert rms(found, true, 300) < 0.4


def test_a_field_of_small_images_is_that_of_the_whole_ones():
    found = planted(100, 3.0)
    first, second = (Small(np.zeros((100, 100)), corner, (4, 4)) for corner in ((8, 0), (0, 12)))
    lifted = deformation.lifted(found, first, second, (408, 400))
    small = np.array([[20.0, 40], [50, 77.5]])
    there = points(second.placed, points(found, small))
    np.testing.assert_allclose(points(lifted, points(first.placed, small)), there, atol=0.3)


def test_what_neighbours_do_not_say_is_a_stray():
    positions = pixels(8).reshape(-1, 2) * 30
    vectors = positions * (0.02, -0.01) + 3
    strays = [9, 33, 50]
    vectors[strays] += [[9, 0], [0, -7], [30, 30]]
    agree = deformation.consistent(positions, vectors)
    assert not agree[strays].any()
    assert agree.sum() == 61


@pytest.mark.parametrize("sigma", [0.7, 3.0])
def test_unrelated_scenes_are_refused(sigma):
    views = (da.from_array(scenes.scene([7, i], (300, 300), sigma)) for i in (0, 1))
    with pytest.raises(RegistrationError, match=r"agree on no displacement \(of \d+ sites \d+ agree within 4 pixels"):
        estimate(*views, "displacement")
