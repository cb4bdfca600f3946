"""What is looked at is what was correlated; a coarser level of it lies where the finest one does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigncc.pair import Pair, PerItem
from bigncc.pulled import Pulled, inverse
from bigncc.resampling import pull
from bigncc.tiles import roi_of
from bigncc.transform import Affine, Displacement, Translation, points
from tests.test_streamed import Stored
from tests.transforms import ORDERS, anything, everything


def pair(reference, moving):
    """Two arrays as they are stored, in chunks of their own."""
    return Pair(*(Stored(a, tuple(min(n, 9) for n in a.shape)) for a in (reference, moving)))


@settings(max_examples=25, deadline=None)
@given(anything(2), st.sampled_from(ORDERS), st.integers(0, 2**32))
def test_a_finest_level_is_what_a_run_pulls(transform, order, seed):
    rng = np.random.default_rng(seed)
    moving = rng.integers(0, 255, (3, 31, 23)).astype(rng.choice(["uint8", "float32"]))
    shape = (3, 26, 30)
    wanted, valid = pull(
        transform, moving, None, everything(shape[1:]), everything(moving.shape[1:]), moving.shape[1:], order
    )
    seen = np.where(valid == 1, wanted, np.nan).astype(np.float32)
    found = Pulled(pair(np.zeros(shape), moving), transform, order, (1.0, 1.0))
    assert (found.shape, found.chunks) == (shape, (1, 9, 9))
    start = tuple(int(rng.integers(0, n)) for n in shape)
    roi = roi_of(start, tuple(int(rng.integers(1, n - a + 1)) for a, n in zip(start, shape, strict=True)))
    np.testing.assert_array_equal(found[roi], seen[roi])


FIELD = np.random.default_rng(5).normal(0, 3, (2, 12, 13))
TURN = Affine(((0.9, 0.3), (-0.2, 1.1)), (4.3, -2.2))


@pytest.mark.parametrize("transform", [Translation((3.25, -7.5)), TURN, Displacement(FIELD, step=17, origin=-3)])
@pytest.mark.parametrize("factor", [(2.0, 2.0), (4.0, 8.0), (3.0, 5 / 3)])
def test_a_coarser_level_lies_where_the_finest_does(transform, factor):
    # of a plane of grey levels every level knows the value at any point
    slope = np.array((1.5, -0.75))
    coarse, whole = np.array(factor), (203, 211)
    shape = np.ceil(whole / coarse).astype(int)
    nodes = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    moving = (nodes * coarse + (coarse - 1) / 2) @ slope
    found = Pulled(pair(np.zeros((190, 220)), moving), transform, 1, factor)
    pixels = np.stack(np.meshgrid(*map(np.arange, found.shape), indexing="ij"), axis=-1)
    wanted = points(transform, pixels * coarse + (coarse - 1) / 2) @ slope
    for roi in (everything(found.shape), (slice(5, 9), slice(7, 19))):
        there = np.isfinite(found[roi])
        assert there.mean() > 0.5
        np.testing.assert_allclose(found[roi][there], wanted[roi][there], rtol=1e-5, atol=1e-3)


def test_of_a_field_no_more_is_read_than_lies_around_what_is_looked_at():
    read = []

    class Field(Stored):
        def __getitem__(self, key):
            read.append(self.values[key].size)
            return self.values[key]

    field = Field(np.zeros((2, 200, 200)), (2, 10, 10))
    found = Pulled(pair(np.zeros((2000, 2000)), np.zeros((500, 500))), Displacement(field, step=10), 1, (4.0, 4.0))
    found[0:8, 0:8]
    assert 0 < sum(read) <= 2 * 5 * 5


def test_each_item_has_its_own_transform():
    moving = np.arange(2 * 40 * 40, dtype=float).reshape(2, 40, 40)
    apart = PerItem(2, (0,), {(0,): Translation((4.0, 0.0))})
    found = Pulled(pair(np.zeros((2, 80, 80)), moving), apart, 1, (2.0, 2.0))
    assert found.shape == (2, 40, 40)
    # four pixels of the finest level are two of this one
    np.testing.assert_array_equal(found[0:1, 0:10, 0:10], moving[:1, 2:12, 0:10])
    np.testing.assert_array_equal(found[1:2, 0:10, 0:10], moving[1:, 0:10, 0:10])


@pytest.mark.parametrize("transform", [None, Translation((3.25, -7.5)), TURN])
def test_the_way_back(transform):
    matrix, offset = inverse(transform, 2)
    pixels = np.random.default_rng(1).normal(0, 100, (20, 2))
    there = pixels if transform is None else points(transform, pixels)
    np.testing.assert_allclose(there @ matrix.T + offset, pixels, atol=1e-9)
