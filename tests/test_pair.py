"""Small pictures of large images, and the moving image on the reference's grid."""

import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from bigncc import Translation
from bigncc.pair import Pair, PerItem, among, block_mean, both_at, on_grid, register, source_regions, view, where_valid
from tests.test_crew import widths


@given(st.data())
@settings(max_examples=30)
def test_block_means_are_means(data):
    shape = tuple(data.draw(st.integers(1, 20)) for _ in range(2))
    factor = data.draw(st.integers(1, 7))
    image = np.random.default_rng(0).normal(size=shape)
    image[np.random.default_rng(1).random(shape) < 0.3] = np.nan
    got = block_mean(da.from_array(image, chunks=data.draw(st.integers(1, 9))), (factor, factor))
    for index in np.ndindex(got.shape):
        cell = image[tuple(slice(i * factor, (i + 1) * factor) for i in index)]
        cell = cell[np.isfinite(cell)]
        assert (np.isnan(got[index]) and not cell.size) or np.isclose(got[index], cell.mean(), rtol=1e-5)
    assert got.shape == tuple(-(-n // factor) for n in shape)


def test_an_identity_is_no_work_and_a_crop_is_not_an_identity():
    image = da.from_array(np.arange(400.0).reshape(20, 20), chunks=6)
    pair = Pair(image, image + 1)
    same = register(pair, Translation((0, 0)), 1, (0, 0), image.chunks)
    assert same.moving.name == pair.moving.name
    # a region of the reference as large as the moving image is another part of it all the same
    moving = image[:10, :10]
    here = on_grid(Pair(image, moving), (slice(5, 15), slice(5, 15)), ((10,), (10,)), Translation((0, 0)), 1)
    np.testing.assert_array_equal(here.moving.compute()[:5, :5], moving.compute()[5:, 5:])
    assert (here.moving_validity.compute()[:5, :5] == 1).all()
    assert (here.moving_validity.compute()[5:] == 2).all()


def test_what_is_not_valid_is_not_seen():
    image = da.from_array(np.arange(36.0).reshape(6, 6), chunks=4)
    valid = (image > 10).astype(np.uint8)
    region = (slice(1, 5), slice(2, 6))
    reference, moving = (a.compute() for a in view(Pair(image, image, valid), region, Translation((0, 3)), 0))
    np.testing.assert_array_equal(np.isnan(reference), image.compute()[region] <= 10)
    assert np.isnan(moving[:, 1:]).all()
    np.testing.assert_array_equal(moving[:, 0], image.compute()[1:5, 5])
    status = da.from_array(np.array([[1, 2], [3, 1]], np.uint8))
    seen = where_valid(da.ones((2, 2), dtype=np.float32), status).compute()
    np.testing.assert_array_equal(np.isnan(seen), [[False, True], [True, False]])


@pytest.mark.parametrize("values", [(1,), (0, 3), ()])
def test_labels_can_be_chosen(values):
    labels = np.arange(12).reshape(3, 4) % 5
    np.testing.assert_array_equal(among(da.from_array(labels, chunks=2), values).compute(), np.isin(labels, values))


def test_each_item_is_pulled_through_its_own_transform_as_if_there_were_no_other():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (3, 12, 14), dtype="u1")
    pair = Pair(da.from_array(image, chunks=(1, 5, 14)), da.from_array(image[::-1].copy(), chunks=(2, 12, 7)))
    shifts = {(0,): Translation((1.5, -0.25)), (2,): Translation((2, -1))}
    chunks = ((1, 1, 1), (5, 7), (14,))
    here = register(pair, PerItem(2, (0,), shifts), 1, (0, 0, 0), chunks)
    found = np.empty((3, 2, 2), object)
    for k, array in enumerate((here.moving, here.moving_validity)):
        for z, y in np.ndindex(3, 2):
            found[z, y, k] = array.blocks[z, y, 0].compute()
    for z in range(3):
        alone = Pair(pair.reference[z], pair.moving[z])
        if (z,) in shifts:
            alone = register(alone, shifts[z,], 1, (0, 0), chunks[1:])
        wanted = alone.moving.compute(), np.ones((12, 14), "u1")
        if alone.moving_validity is not None:
            wanted = wanted[0], alone.moving_validity.compute()
        for part in range(2):
            got = np.concatenate(list(found[z, :, part]), axis=1)[0]
            np.testing.assert_array_equal(got, wanted[part])
            # what is interpolated makes no floats of what is not
            assert got.dtype == wanted[part].dtype
    assert [found[z, 0, 0].dtype.kind for z in range(3)] == ["f", "u", "u"]
    # each reads what its transform needs and no more
    regions = [
        source_regions(pair, (slice(z, z + 1), slice(0, 5), slice(0, 14)), PerItem(2, (0,), shifts), 1) for z in (1, 2)
    ]
    assert regions[0][1] == (slice(1, 2), slice(0, 5), slice(0, 14))
    assert regions[1][1] == (slice(2, 3), slice(2, 7), slice(0, 13))


def test_places_are_seen_whole_and_share_no_thread_below_their_own():
    image = np.arange(400.0).reshape(20, 20)
    places = [((slice(3, 17), slice(2, 9)), (slice(0, 14), slice(5, 12))), ((slice(0, 1),) * 2, (slice(19, 20),) * 2)]

    def seen(first, second, here, there):
        return first, second, (here, there), widths()

    for lazy in (image, da.from_array(image, chunks=6)):
        with threadpool_limits(2, "blas"):
            every = both_at(lazy, lazy, places, seen)
        for (a, b), found in zip(places, every, strict=True):
            np.testing.assert_array_equal(found[0], image[a])
            np.testing.assert_array_equal(found[1], image[b])
            assert found[2] == (a, b)
            assert found[3] == {1}


def test_threads_of_this_process_need_no_distributed():
    code = """
import sys
import dask.array as da
from bigncc.pair import both_at, one, on_threads
image = da.ones((9, 9), chunks=4)
with on_threads(2):
    print(both_at(image, image, [((slice(0, 5),) * 2,) * 2], lambda first, second, *_: int((first + second).sum())))
print(int(one(image.sum())), "distributed" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[50]", "81", "False"]
