"""Tiles cover the output once, are whole objects, keep to the memory, and read what they need."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc.errors import DoesNotFitError
from bigncc.planning import largest_tile, with_pyramid
from bigncc.tiles import (
    Plan,
    aligned,
    coarse,
    cut,
    parts,
    roi_around,
    roi_cells,
    roi_coarse,
    roi_meet,
    roi_of,
    roi_pad,
    roi_shape,
    roi_shift,
    roi_within,
    share,
    unit_of,
)
from tests.strategies import cover


@st.composite
def plans(draw):
    ndim = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(1, 40)) for _ in range(ndim))
    objects = tuple(draw(st.integers(1, n)) for n in shape)
    tile = tuple(o * draw(st.integers(1, 4)) for o in objects)
    margin = tuple(draw(st.integers(0, 5)) for _ in shape)
    origin = tuple(draw(st.integers(0, 6)) for _ in shape)
    extent = tuple(o + n + draw(st.integers(0, 6)) for o, n in zip(origin, shape, strict=True))
    return Plan(shape, objects, tile, margin, origin, extent)


def verify(plan: Plan) -> None:
    """Each pixel is in one tile; a tile is whole objects and reads its margin, cut at the image's edge."""
    seen = np.zeros(plan.shape, int)
    image = np.arange(math.prod(plan.extent)).reshape(plan.extent)
    whole = tuple(slice(o, o + n) for o, n in zip(plan.origin, plan.shape, strict=True))
    for index in range(len(plan)):
        tile = plan[index]
        assert tile.index == index
        seen[tile.write] += 1
        for s, o, n in zip(tile.write, plan.objects, plan.shape, strict=True):
            assert s.start % o == 0
            assert s.stop % o == 0 or s.stop == n
        there = roi_shift(tile.write, plan.origin)
        np.testing.assert_array_equal(image[tile.read][roi_within(there, tile.read)], image[whole][tile.write])
        for read, inner, m, n in zip(tile.read, there, plan.margin, plan.extent, strict=True):
            assert read.start == max(0, inner.start - m)
            assert read.stop == min(n, inner.stop + m)
    assert (seen == 1).all()


@given(plans(), st.data())
def test_a_tile_is_made_of_its_parts_and_touches_those_around_it(plan, data):
    tile = plan[data.draw(st.integers(0, len(plan) - 1))]
    block = tuple(data.draw(st.integers(1, n)) for n in plan.tile)
    seen = np.zeros(plan.shape, int)
    for part in plan.parts(tile, block):
        seen[part.write] += 1
        assert part.index == tile.index
        assert part.read == roi_pad(roi_shift(part.write, plan.origin), plan.margin, plan.extent)
        assert all(n <= b for n, b in zip(roi_shape(part.write), block, strict=True))
    assert (seen[tile.write] == 1).all()
    assert seen.sum() == math.prod(roi_shape(tile.write))
    grown = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in tile.write)
    touching = [
        i
        for i in range(len(plan))
        if all(a.start < b.stop and b.start < a.stop for a, b in zip(plan[i].write, grown, strict=True))
    ]
    assert plan.around(tile.index) == touching


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 4), min_size=1, max_size=3))
def test_what_rois_have_in_common_is_in_both(edges):
    one = tuple(slice(min(a, b), max(a, b) + 1) for a, b, _, _ in edges)
    other = tuple(slice(min(c, d), max(c, d) + 1) for _, _, c, d in edges)
    there = [np.zeros((10,) * len(edges), int) for _ in range(3)]
    there[0][one] = 1
    there[1][other] = 1
    if (there[0] & there[1]).any():
        there[2][roi_meet(one, other)] = 1
        np.testing.assert_array_equal(there[2], there[0] & there[1])


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=2, max_size=2), min_size=1))
def test_the_smallest_roi_around_others_touches_them_on_all_sides(drawn):
    rois = [tuple(slice(a, a + n) for a, n in each) for each in drawn]
    around = roi_around(rois)
    for axis, s in enumerate(around):
        assert {s.start} <= {roi[axis].start for roi in rois}
        assert {s.stop} <= {roi[axis].stop for roi in rois}
        assert all(s.start <= roi[axis].start and roi[axis].stop <= s.stop for roi in rois)


def test_tuples_of_several_lengths_are_a_mistake_and_are_not_cut():
    one, two = (slice(0, 4),), (slice(0, 4), slice(0, 4))
    plan = Plan((9, 9), (3, 3), (3, 3), (1, 1), (0, 0), (9, 9))
    for mistake in (
        lambda: roi_of((0,), (4, 4)),
        lambda: roi_shift(two, (1,)),
        lambda: roi_pad(two, (1,), (9, 9)),
        lambda: roi_pad(two, (1, 1), (9,)),
        lambda: roi_within(one, two),
        lambda: roi_meet(two, one),
        lambda: roi_around([two, one]),
        lambda: list(roi_cells(two, (2,))),
        lambda: list(parts(two, (2,))),
        lambda: list(parts(one, (2, 2))),
        lambda: aligned((3, 3), (1, 1), (2,), (9, 9)),
        lambda: plan.decoded((2,)),
        lambda: plan.decoded_once((2,)),
        lambda: plan.waiting((2,)),
        lambda: replace(plan, tile=(3,)).grid,
        lambda: replace(plan, margin=(1,))[0],
        lambda: replace(plan, origin=(0,))[0],
    ):
        with pytest.raises(ValueError, match="zip\\(\\) argument"):
            mistake()


@given(st.data())
def test_blocks_inside_of_a_tile_are_whole_objects_or_chunks_and_cut_no_cell(data):
    ndim, finest = data.draw(st.integers(2, 4)), data.draw(st.integers(0, 2))
    halved = data.draw(st.integers(1, 2))
    grown = [1 << finest if i >= ndim - halved else 1 for i in range(ndim)]
    objects = tuple(g * data.draw(st.integers(1, 9)) for g in grown)
    chunks = tuple(data.draw(st.integers(1, 9)) for _ in objects)
    assert unit_of(objects, 0, halved, ()) == objects
    for i, (n, c) in enumerate(zip(unit_of(objects, finest, halved, chunks), chunks, strict=True)):
        # the smallest that are whole chunks and, where the pyramid halves, even
        assert n == next(k for k in range(1, 99) if k % c == 0 and (i < ndim - halved or k % 2 == 0))
    if finest:
        for i, (n, o) in enumerate(zip(unit_of(objects, finest, halved, ()), objects, strict=True)):
            least = o >> finest
            assert n == (o if i < ndim - halved else least + least % 2)


@given(st.integers(1, 9), st.integers(0, 4), st.integers(1, 7), st.integers(1, 40))
def test_what_is_decoded_for_a_tile_at_most_is_so_somewhere(tile, margin, grain, length):
    needed = tile + 2 * margin
    most = max(grain * (-(-(start + needed) // grain) - start // grain) for start in range(grain))
    assert aligned((tile,), (margin,), (grain,), (length,)) == (min(length, most),)


@given(plans(), st.data())
def test_chunks_that_are_kept_are_decoded_once_and_wait_no_longer_than_needed(plan, data):
    grain = tuple(data.draw(st.integers(1, n)) for n in plan.extent)
    sizes, wanted = {}, []
    for tile in plan:
        cells = set(roi_cells(tile.read, grain))
        wanted.append(cells)
        for cell in cells:
            axes = zip(cell, grain, plan.extent, strict=True)
            sizes[cell] = math.prod(min(n, (c + 1) * g) - c * g for c, g, n in axes)
    assert plan.decoded_once(grain) == sum(sizes.values())
    assert isinstance(plan.decoded_once(grain), int)
    last = {cell: index for index, cells in enumerate(wanted) for cell in cells}
    held = set()
    for index, cells in enumerate(wanted):
        held = {cell for cell in held if last[cell] > index} | {cell for cell in cells if last[cell] > index}
        assert sum(sizes[cell] for cell in held) <= plan.waiting(grain)


@pytest.mark.parametrize(
    ("extent", "tile", "margin", "grain", "wanted"),
    [
        # a row of chunks of 8 and two margins of 2, over 64 and a chunk; 32 x 32 around a tile of 16 x 16
        ((64, 64), (16, 16), (2, 2), (8, 8), (8 + 4) * (64 + 8) + 32 * 32 - 16 * 16),
        # one tile along the first axis
        ((30, 64, 50), (30, 16, 10), (0, 2, 1), (1, 8, 5), (8 + 4) * (50 + 5) * 30 + 30 * 32 * 20 - 30 * 16 * 10),
        ((9, 9), (9, 9), (1, 1), (3, 3), (3 + 2) * (9 + 3) + 0),
        # two along it
        ((30, 64, 50), (15, 64, 10), (0, 0, 1), (1, 8, 5), 1 * (64 + 8) * (50 + 5) + 15 * 64 * 20 - 15 * 64 * 10),
    ],
)
def test_how_much_waits_is_a_row_of_chunks_and_what_lies_around_a_tile(extent, tile, margin, grain, wanted):
    plan = Plan(extent, tile, tile, margin, (0,) * len(tile), extent)
    assert plan.waiting(grain) == wanted


@given(plans())
def test_tiles_cover_once_in_whole_objects(plan):
    verify(plan)
    with pytest.raises(IndexError):
        plan[len(plan)]
    assert len(list(plan)) == len(plan)  # the sequence protocol ends


@given(st.data())
def test_each_level_is_covered_once_in_whole_objects_by_tiles_that_know_what_they_read(data):
    ndim, halved = data.draw(st.integers(2, 4)), 2
    shape = tuple(data.draw(st.integers(1, 40)) for _ in range(ndim))
    objects = tuple(1 if i < ndim - halved else data.draw(st.integers(1, 9)) for i in range(ndim))
    finest = data.draw(st.integers(0, 2))
    levels = tuple(range(finest, finest + data.draw(st.integers(1, 4))))
    grown = tuple(o if i < ndim - halved else o << finest for i, o in enumerate(objects))
    tile = tuple(o * data.draw(st.integers(1, 8)) for o in grown)
    still = (0,) * ndim
    plan = with_pyramid(
        Plan(shape, grown, tile, still, still, shape), objects, halved, levels, data.draw(st.integers(1, 3000))
    )
    verify_levels(plan, objects, halved, levels)
    assert plan.unit[ndim - halved :] == tuple(o if finest == 0 else 2 * -(-o // 2) for o in objects[ndim - halved :])


@pytest.mark.parametrize(
    ("objects", "finest", "grown", "most"), [((1, 2, 3), 0, (1, 2, 3), 40), ((1, 1, 2), 1, (1, 4, 8), 9)]
)
def test_a_pyramid_of_many_rounds_knows_what_it_reads(objects, finest, grown, most):
    shape, levels = (3, 67, 90), tuple(range(finest, 6))
    plan = with_pyramid(Plan(shape, grown, grown, (0,) * 3, (0,) * 3, shape), objects, 2, levels, most)
    assert len(plan.rounds) > 2
    verify_levels(plan, objects, 2, levels)


def verify_levels(plan, objects, halved, levels):
    """Each level is covered once, in whole objects, by tiles after those that they read."""
    finest = levels[0]
    extents = {k: coarse(plan.shape, k, halved) for k in levels}
    assert all(extent[: -halved or None] == plan.shape[: -halved or None] for extent in extents.values())
    written = {k: np.full(extent, -1) for k, extent in extents.items()}
    for tile in plan:
        for level, roi in tile.levels:
            assert (written[level][roi] == -1).all()
            for s, o, n in zip(roi, objects, extents[level], strict=True):
                assert s.start % o == 0
                assert s.stop % o == 0 or s.stop == n
            written[level][roi] = tile.index
        if tile.index < plan.base:
            assert plan.sources(tile) == []
            assert tile.levels[0][0] == finest
        else:
            # what it reads was written before, by those tiles and by no others
            assert sorted(set(written[tile.source][tile.read].ravel())) == plan.sources(tile)
            assert tile.levels[0][0] == tile.source + 1
        level, roi = tile.levels[-1]
        assert roi == roi_coarse(tile.write, level - tile.source, halved)
    assert all((array >= 0).all() for array in written.values())
    # rounds follow each other, and the tiles of each are its own
    starts = [plan.round(number)[0] for number in range(len(plan.rounds))]
    assert [each.start for each in starts] == [plan.base, *(each.stop for each in starts)][: len(starts)]


@given(st.data())
def test_the_largest_tile_keeps_all_bounds(data):
    shape = tuple(data.draw(st.integers(1, 60)) for _ in range(3))
    objects = tuple(data.draw(st.integers(1, n)) for n in shape)
    margin = tuple(data.draw(st.integers(0, 3)) for _ in shape)
    samples = data.draw(st.integers(1, 20000))
    tiles = data.draw(st.integers(1, 30))
    fixed = data.draw(st.integers(0, 2))
    grain = tuple(data.draw(st.integers(1, n)) for n in shape)
    pixels = data.draw(st.integers(1, 20000))
    # what a tile shall be a multiple of: several objects along some axes
    steps = [tuple(o * data.draw(st.integers(1, 3)) for o in objects) for _ in range(data.draw(st.integers(0, 2)))]
    options = {"samples": samples, "tiles": tiles, "fixed": fixed, "pixels": pixels, "steps": steps}

    def needs(tile):
        return math.prod(aligned(tile, margin, grain, shape))

    def count(tile):
        return math.prod(-(-n // t) for n, t in zip(shape, tile, strict=True))

    if needs(objects) > samples:
        with pytest.raises(DoesNotFitError, match=f"memory holds {samples}: raise engine.memory"):
            largest_tile(shape, objects, margin, grain, **options)
        return
    tile = largest_tile(shape, objects, margin, grain, **options)
    assert needs(tile) <= samples
    objects = next((step for step in steps if needs(step) <= samples), objects)
    assert count(tile) >= min(tiles, count(objects))
    assert all(t % o == 0 for t, o in zip(tile, objects, strict=True))
    assert tile[:fixed] == objects[:fixed]
    for axis in range(fixed, 3):  # no axis could have grown further
        grown = tuple(t + (objects[axis] if a == axis else 0) for a, t in enumerate(tile))
        too_much = needs(grown) > samples or count(grown) < tiles or math.prod(grown) > pixels
        assert tile[axis] >= shape[axis] or too_much
    verify(Plan(shape, objects, tile, margin, (0, 0, 0), shape))


@given(plans(), st.data())
def test_decoding_is_counted_in_whole_chunks(plan, data):
    grain = tuple(data.draw(st.integers(1, n)) for n in plan.extent)
    total = 0
    for tile in plan:
        size = 1
        for s, g, n in zip(tile.read, grain, plan.extent, strict=True):
            chunks = {i // g for i in range(s.start, s.stop)}
            size *= sum(min(n, (c + 1) * g) - c * g for c in chunks)
        total += size
        assert size <= math.prod(aligned(plan.tile, plan.margin, grain, plan.extent))
    assert plan.decoded(grain) == total


@given(st.integers(1, 100), st.integers(1, 30))
def test_cut_fills_the_length(length, block):
    sizes = cut(length, block)
    assert sum(sizes) == length
    assert all(0 < n <= block for n in sizes)
    assert [roi_shape(roi)[0] for roi in cover((length,), (block,))] == list(sizes)


def test_cells_are_those_that_a_roi_meets():
    roi = (slice(3, 9), slice(5, 10))
    cells = list(roi_cells(roi, (4, 5)))
    assert cells == [(0, 1), (1, 1), (2, 1)]
    met = {(y // 4, x // 5) for y in range(3, 9) for x in range(5, 10)}
    assert set(cells) == met


def test_padding_is_cut_at_the_edge():
    assert roi_pad((slice(2, 5), slice(0, 4)), (3, 1), (6, 9)) == (slice(0, 6), slice(0, 5))


@given(st.integers(0, 500), st.integers(1, 60))
def test_shares_are_neighbours_that_cover_all_and_differ_by_one_at_most(total, parts):
    shares = [share(total, part, parts) for part in range(parts)]
    assert [tile for each in shares for tile in each] == list(range(total))
    sizes = [len(each) for each in shares]
    assert max(sizes) - min(sizes) <= 1
    assert all(each.step == 1 for each in shares)


def test_one_share_is_everything_and_no_tile_is_lost_among_many_jobs():
    assert share(7, 0, 1) == range(7)
    assert sum(len(share(10**12 + 7, part, 1000)) for part in range(1000)) == 10**12 + 7
    assert sorted(tile for part in range(10) for tile in share(3, part, 10)) == [0, 1, 2]
