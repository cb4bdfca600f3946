"""A given transform that fits clearly better swapped, negated or inverted is refused by the name of the variant."""

import dask.array as da
import numpy as np
import pytest
from skimage.data import stereo_motorcycle

from bigncc import variants
from bigncc.errors import InputError
from bigncc.transform import Affine, Displacement, Translation, points
from tests import scenery, scenes

FIELD = "with its components "


def lazy(*images):
    return [da.from_array(image, chunks=256) for image in images]


@pytest.fixture(scope="module")
def motorcycle():
    left, right, disparity = stereo_motorcycle()
    with np.errstate(invalid="ignore"):
        truth = np.stack([np.where(np.isfinite(disparity), 0, np.nan), -disparity])
    return *lazy(*(np.asarray(view, float) @ (0.299, 0.587, 0.114) for view in (left, right))), truth


@pytest.mark.parametrize("nothing", [Translation((0.0, -0.0)), Affine(((1.0, 0.0), (0.0, 1.0)), (0.0, 0.0))])
def test_what_is_the_same_the_other_way_round_is_not_looked_at(nothing):
    variants.check(None, None, nothing, None)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda field: field, None),
        (lambda field: field[::-1], "swapped:"),
        (lambda field: -field, "negated:"),
        (lambda field: -field[::-1], "swapped and negated:"),
        # what is off by a little is not the wrong way round
        (lambda field: field + 1.5, None),
    ],
)
def test_a_field_is_looked_at(motorcycle, change, name):
    first, second, truth = motorcycle
    given = Displacement(change(truth))
    if name is None:
        variants.check(first, second, given, None)
        return
    with pytest.raises(InputError, match=f"clearly better {FIELD}{name} mean correlation 0") as caught:
        variants.check(first, second, given, None)
    assert "--trust-field" in str(caught.value)


def test_translations_and_affine_transforms_are_looked_at():
    first, second = lazy(*scenes.pair(1, (500, 500), 1.5, (12.0, -7.0)))
    variants.check(first, second, Translation((12, -7)), None)
    for offset, name in (((-7, 12), "swapped"), ((-12, 7), "negated"), ((7, -12), "swapped and negated")):
        with pytest.raises(InputError, match=f"clearly better {FIELD}{name}:"):
            variants.check(first, second, Translation(offset), None)
    true = scenery.transform(4, "affine", 500)
    first, second = lazy(*scenery.pair(4, true, 500))
    variants.check(first, second, true, None)
    for given, name in ((true.inverse(), "inverted"), (swapped(true), "with its axes swapped")):
        with pytest.raises(InputError, match=f"clearly better {name}:"):
            variants.check(first, second, given, None)


def swapped(affine):
    return Affine(tuple(row[::-1] for row in affine.matrix[::-1]), affine.offset[::-1])


def test_images_that_say_nothing_refuse_nothing():
    unrelated = lazy(*(scenes.scene(seed, (300, 300), 1.0) for seed in (1, 2)))
    flat = lazy(np.ones((300, 300)), np.ones((300, 300)))
    for pair in (unrelated, flat):
        variants.check(*pair, Translation((9, -4)), None)
        variants.check(*pair, Translation((9000, -4)), None)


def test_variants_are_what_their_names_say():
    field = np.random.default_rng(0).normal(0, 3, (3, 4, 5, 6))
    given = Displacement(field, step=(1, 2, 3), origin=(0, 1, -1))
    wanted = {"swapped": field[::-1], "negated": -field, "swapped and negated": -field[::-1]}
    for name, values in wanted.items():
        found = variants.variants(given)[FIELD + name]
        assert found.grid == given.grid
        np.testing.assert_array_equal(found.field[:, 1:3, :, 2], values[:, 1:3, :, 2])
    affine = scenery.transform(1, "affine", 100)
    pixel = np.array([3.0, 40.0])
    found = variants.variants(affine)
    np.testing.assert_allclose(points(found["inverted"], points(affine, pixel)), pixel)
    np.testing.assert_allclose(points(found["with its axes swapped"], pixel[::-1]), points(affine, pixel)[::-1])
