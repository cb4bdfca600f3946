"""What is read in parts is what is stored, decoded once while somebody will come for it."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc.reading import CELL, Decoded, Part, Sections, cell_of, kept, wanted
from bigncc.tiles import Plan, parts


class Stored:
    """An array that counts how often each of its chunks is decoded."""

    def __init__(self, shape, chunks, faults=0):
        self.array = np.arange(math.prod(shape), dtype="u4").reshape(shape)
        self.shape, self.chunks, self.ndim, self.dtype = shape, chunks, len(shape), self.array.dtype
        self.calls, self.faults, self.lock = [], faults, threading.Lock()

    def __getitem__(self, key):
        with self.lock:
            self.calls.append(key)
            if self.faults:
                self.faults -= 1
                message = "as planned"
                raise OSError(message)
        return self.array[key].copy()


def rois(shape):
    edges = (st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True).map(sorted) for n in shape)
    return st.tuples(*edges).map(lambda pairs: tuple(slice(*pair) for pair in pairs))


SHAPE, CHUNKS = (23, 31), (4, 7)


@given(st.lists(rois(SHAPE), min_size=1, max_size=8), st.integers(0, 4 * 23 * 31))
def test_what_is_read_is_what_is_stored_and_no_more_is_kept_than_fits(wanted, capacity):
    stored = Stored(SHAPE, CHUNKS)
    image = Decoded(stored, capacity, 1)
    for roi in wanted:
        np.testing.assert_array_equal(image[roi], stored.array[roi])
        assert image.size <= capacity
    assert len(stored.calls) == image.decoded


@given(st.lists(rois(SHAPE), min_size=1, max_size=8))
def test_with_room_for_all_each_chunk_is_decoded_once(wanted):
    stored = Stored(SHAPE, CHUNKS)
    image = Decoded(stored, 4 * math.prod(SHAPE), 1)
    with ThreadPoolExecutor(4) as pool:
        blocks = list(pool.map(image.__getitem__, wanted))
    for roi, block in zip(wanted, blocks, strict=True):
        np.testing.assert_array_equal(block, stored.array[roi])
    keys = [tuple((s.start, s.stop) for s in key) for key in stored.calls]
    assert len(keys) == len(set(keys))


def test_tiles_in_order_decode_each_chunk_once_and_keep_no_more_than_planned():
    plan = Plan((64, 64), (8, 8), (16, 16), (3, 3), (0, 0), (64, 64))
    stored = Stored((64, 64), (4, 4))
    image = Decoded(stored, 4 * plan.waiting((4, 4)), 1)
    most, pending = 0, set(range(len(plan)))
    for tile in map(plan.__getitem__, range(len(plan))):
        image.expect({i: [plan[i].read] for i in plan.around(tile.index) if i in pending})
        np.testing.assert_array_equal(image[tile.read], stored.array[tile.read])
        most = max(most, image.size)
        pending.discard(tile.index)
        image.done(tile.index)
    assert image.decoded == 16 * 16
    assert image.size == 0
    assert most <= 4 * plan.waiting((4, 4))
    assert plan.decoded_once((4, 4)) == 64 * 64 < plan.decoded((4, 4))


@pytest.mark.parametrize("way", ["whole", "blocks", "margins"])
@pytest.mark.parametrize("margin", [0, 1, 3])
def test_a_chunk_goes_when_all_who_want_it_have_read_it_and_of_others_the_margin_stays(way, margin):
    plan = Plan((64, 64), (8, 8), (32, 32), (margin, margin), (0, 0), (64, 64))
    stored, most = Stored((64, 64), (8, 8)), []
    image = Decoded(stored, 4 * 64 * 64, 1)
    pending = set(range(len(plan)))

    def reads(tile):
        if way == "margins":
            return [part.read for part in plan.parts(tile, (16, 16))]
        return [tile.read] if way == "whole" else list(parts(tile.read, (16, 16)))

    for tile in map(plan.__getitem__, range(len(plan))):
        image.expect({i: reads(plan[i]) for i in plan.around(tile.index) if i in pending})
        for roi in reads(tile):
            np.testing.assert_array_equal(image[roi], stored.array[roi])
        most.append(image.size)
        pending.discard(tile.index)
        image.done(tile.index)
        # two rows of 64 wait on this side of the border, of whole chunks on the other
        lines = 4 * 64 * (8 + margin) * 2 if margin and pending else 0
        assert image.size <= lines
    assert image.decoded == 8 * 8
    assert image.size == 0
    assert margin or max(most) == 0


def test_a_tile_that_is_expected_later_is_waited_for_too():
    stored = Stored((8, 8), (8, 8))
    image = Decoded(stored, 10**6, 1)
    image.expect({0: [np.s_[0:8, 0:8]]})
    image[0:4, 0:8]
    image.expect({0: [np.s_[0:8, 0:8]], 1: [np.s_[0:8, 0:8]]})
    image[4:8, 0:8]
    image[0:8, 0:8]
    assert (image.decoded, image.size) == (1, 0)


def test_of_a_margin_that_was_kept_more_is_wanted_after_all():
    stored = Stored((16, 16), (8, 8))
    image = Decoded(stored, 10**6, 1)
    image.expect({0: [np.s_[0:8, 0:8]], 1: [np.s_[7:8, 0:8]]})
    image[0:8, 0:8]
    image.done(0)
    assert image.size == 4 * 8
    np.testing.assert_array_equal(image[7:8, 0:8], stored.array[7:8, 0:8])
    assert (image.decoded, image.size) == (1, 0)
    image.expect({2: [np.s_[0:8, 0:8]], 3: [np.s_[7:8, 0:8]]})
    image[0:8, 0:8]
    image.done(2)
    np.testing.assert_array_equal(image[2:8, 0:8], stored.array[2:8, 0:8])
    assert image.decoded == 3


def test_a_tile_that_nobody_expected_is_no_reason_to_forget():
    image = Decoded(Stored(SHAPE, CHUNKS), 10**6, 1)
    image[0:4, 0:7]
    image.done(0)
    image[0:4, 0:7]
    assert image.decoded == 1


def test_a_fault_reaches_who_asked_and_the_next_one_tries_again():
    stored = Stored(SHAPE, CHUNKS, faults=1)
    image = Decoded(stored, 10**6, 1)
    with pytest.raises(OSError, match="as planned"):
        image[0:3, 0:3]
    np.testing.assert_array_equal(image[0:3, 0:3], stored.array[0:3, 0:3])
    assert image.decoded == 1


@given(rois(SHAPE), st.data())
def test_a_part_is_an_array_of_its_own(roi, data):
    stored = Stored(SHAPE, CHUNKS)
    part = Part(stored, roi)
    assert (part.shape, part.dtype, part.ndim) == (stored.array[roi].shape, stored.dtype, 2)
    inner = data.draw(rois(part.shape))
    np.testing.assert_array_equal(part[inner], stored.array[roi][inner])


STACK, SHIFTS = (7, 6, 9), (1, 3)


@given(st.booleans(), st.data())
def test_a_role_of_a_stack_is_its_sections_from_the_lag_on(apart, data):
    stack = Stored(STACK, (2, 3, 4))
    shifts = SHIFTS if apart else SHIFTS[:1]
    role = Sections(stack, 0, shifts, 6, apart)
    beyond = [np.concatenate([stack.array[s : s + 6], np.zeros((max(0, s - 1), 6, 9), "u4")]) for s in shifts]
    whole = np.stack(beyond) if apart else beyond[0]
    assert (role.shape, role.ndim, role.dtype) == (whole.shape, whole.ndim, whole.dtype)
    roi = data.draw(rois(whole.shape))
    np.testing.assert_array_equal(role[roi], whole[roi])
    # dask asks for a plane by its number
    place = tuple(s.start for s in roi[:-2])
    np.testing.assert_array_equal(role[(*place, *roi[-2:])], whole[(*place, *roi[-2:])])
    stack.calls.clear()
    _ = role[roi]
    assert stack.calls == role.rois(roi)


@given(st.booleans(), st.sampled_from([1, 2, 3]))
def test_both_roles_of_a_stack_decode_each_chunk_once(apart, chunk):
    stack = Stored(STACK, (chunk, 3, 4))
    shifts = SHIFTS if apart else SHIFTS[1:]
    decoded, length = Decoded(stack, 10**6, 1), 7 - min(shifts)
    images = [Sections(decoded, 0, each, length, apart) for each in ((0,) * len(shifts), shifts)]
    assert kept(images) == [decoded]
    plan = Plan((length, 6, 9), (1, 6, 9), (3 * chunk, 6, 9), (0, 0, 0), (0, 0, 0), (length, 6, 9))
    lags = (slice(0, len(shifts)),) if apart else ()

    def read(tile):
        return [((*lags, *part), (*lags, *part)) for part in parts(tile.read, (chunk, 2, 9))]

    for index in range(len(plan)):
        near = {i: read(plan[i]) for i in plan.around(index) if i >= index}
        for image, regions in wanted(images, near):
            image.expect(regions)
        for both in read(plan[index]):
            for image, roi in zip(images, both, strict=True):
                _ = image[roi]
        decoded.done(index)
    assert decoded.decoded == math.prod(-(-n // c) for n, c in zip(STACK, decoded.chunks, strict=True))
    assert decoded.size == 0


@pytest.mark.parametrize(
    ("chunks", "shape", "cell"),
    [
        ((1024, 1024), (9999, 9999), (1024, 1024)),
        ((512, 512), (9999, 9999), (1024, 1024)),
        ((512, 512), (700, 9999), (1024, 1024)),
        ((512, 512), (300, 9999), (512, 2048)),
        ((100, 100), (150, 150), (200, 200)),
        ((1, 1, 256, 256), (5, 3, 2048, 2048), (1, 1, 1024, 1024)),
        ((32, 256, 256), (999, 999, 999), (32, 256, 256)),
        ((8000, 8000), (9999, 9999), (8000, 8000)),
    ],
)
def test_small_chunks_are_decoded_side_by_side(chunks, shape, cell):
    assert cell_of(chunks, shape, CELL) == cell
    assert cell_of(chunks, shape, 1) == chunks
