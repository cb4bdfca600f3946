"""Whatever storage does to a run: the right map or a sentence that names something, and never a wrong map."""

import asyncio
import errno
import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore, WrapperStore
from zarr.storage import _local as local

import bigncc
from bigncc import journal, kernel, lazy, pipeline, store
from bigncc.cli import cli
from bigncc.errors import BignccError, IncompleteError, InputError, RefusedError, StoppedError
from bigncc.storage import grey, open_image
from bigncc.tiles import roi_of
from bigncc.watch import ABSENT, Trail
from tests import pairs, strategies
from tests.test_pipeline import Killed, killed_after

LAYOUTS = {"v2": {"zarr_format": 2}, "v3": {}, "sharded": {"shards": (40, 40)}}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
SHAPE = (60, 80)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Ask as often as ever, without the pauses."""
    monkeypatch.setattr(store, "PAUSES", (0.0,) * len(store.PAUSES))


def images(shape=SHAPE, dtype="uint16"):
    return [strategies.image(seed, shape, dtype, "noise") for seed in (1, 2)]


def written(folder, layout="v3", **options):
    """Write a pair in chunks of 20 pixels; return paths and arrays."""
    f, g = images()
    options = LAYOUTS[layout] | options
    return *(pairs.store(folder / n, a, (20, 20), **options) for n, a in (("a", f), ("b", g))), f, g


def objects(path):
    """The stored objects of an array by their keys."""
    return {str(p.relative_to(path)): p for p in sorted(Path(path).rglob("*")) if p.is_file() and p.name[0] not in "z."}


def changed(path):
    """Change the object at `path` in one bit, and nothing else that can be seen of the file."""
    before, times = path.read_bytes(), path.stat()
    place = len(before) // 2
    path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.read_bytes() != before
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)


# --- fingerprints -----------------------------------------------------------------------------------------------------


def seen(path, *rois):
    """Read regions of an image; return what was noted of it."""
    array = open_image(path).array
    for roi in rois:
        _ = array[roi]
    return array.source.take()


WHOLE = roi_of((0, 0), SHAPE)


@st.composite
def regions(draw):
    start = tuple(draw(st.integers(0, n - 1)) for n in SHAPE)
    return roi_of(start, tuple(draw(st.integers(1, n - a)) for n, a in zip(SHAPE, start, strict=True)))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Write an image in every layout."""
    folder = tmp_path_factory.mktemp("stored")
    return {name: pairs.store(folder / name, images()[0], (20, 20), **options) for name, options in LAYOUTS.items()}


@every_layout
@given(st.lists(regions(), min_size=1, max_size=4))
@settings(max_examples=15)
def test_the_same_bytes_have_the_same_fingerprints(stored, layout, rois):
    first, second = seen(stored[layout], *rois), seen(stored[layout], *reversed(rois))
    assert first == second != {}
    keys = {name.partition(" ")[0] for name in first}
    assert keys <= objects(stored[layout]).keys()  # and nothing of the metadata
    if layout != "sharded":  # of shards parts are read
        every = seen(stored[layout], WHOLE)
        assert first.items() <= every.items()
        assert every.keys() == objects(stored[layout]).keys()


def test_fingerprints_are_taken_once(stored):
    array = open_image(stored["v3"]).array
    _ = array[WHOLE]
    assert len(array.source.take()) == 12
    assert array.source.take() == {}


@every_layout
def test_a_bit_changes_the_fingerprint_of_its_object_only(tmp_path, layout):
    path = written(tmp_path, layout, compressors=None)[0]
    before = seen(path, WHOLE)
    key, place = list(objects(path).items())[1]
    changed(place)
    after = seen(path, WHOLE)
    assert before.keys() == after.keys()
    differ = {name for name in before if before[name] != after[name]}
    assert differ
    assert {name.partition(" ")[0] for name in differ} == {key}


@every_layout
def test_an_object_that_is_not_stored_is_seen_too(tmp_path, layout):
    path = written(tmp_path, layout)[0]
    key, place = list(objects(path).items())[1]
    place.unlink()
    found = seen(path, WHOLE)
    assert {name.partition(" ")[0] for name, value in found.items() if value == ABSENT} == {key}


def test_a_trail_tells_news_and_refuses_changes(tmp_path):
    path = written(tmp_path, compressors=None)[0]
    array = open_image(path).array
    trail = Trail({"moving": array.source}, {})
    assert trail.news() == {}
    _ = array[roi_of((0, 0), (20, 30))]
    assert sorted(trail.news()["moving"]) == ["c/0/0", "c/0/1"]
    _ = array[roi_of((0, 0), (30, 20))]
    assert list(trail.news()["moving"]) == ["c/1/0"]
    changed(objects(path)["c/0/1"])
    _ = array[WHOLE]
    with pytest.raises(RefusedError, match=rf"moving {path} has changed since this output was begun \(c/0/1\)"):
        trail.news()


# --- inputs that change -----------------------------------------------------------------------------------------------


def begun(monkeypatch, config, tiles=3):
    """Begin a run that dies after some tiles."""
    with monkeypatch.context() as patch:
        count = killed_after(patch, tiles)
        with pytest.raises(Killed):
            pipeline.run(config)
    assert len(count) == tiles
    return pipeline.status(config.output.url)["tiles"]["done"]


def off_the_lattice(key, place, layout):
    """Say whether the bit that `changed` changes is in no sample by which the images are known again."""
    assert layout == "v3"
    row, column = (20 * int(n) for n in key.split("/")[1:])
    pixel = place.stat().st_size // 2 // 2
    rows, columns = kernel.lattice(SHAPE)
    return row + pixel // 20 not in rows or column + pixel % 20 not in columns


@pytest.mark.parametrize("name", ["reference", "moving"])
@pytest.mark.parametrize("fate", ["changed", "deleted"])
def test_an_input_that_changed_meanwhile_is_refused_by_its_chunk(tmp_path, monkeypatch, name, fate):
    *paths, f, g = written(tmp_path, compressors=None)
    config = pairs.still(*paths, tmp_path / "out")
    assert begun(monkeypatch, config) == 3
    path = paths[name == "moving"]
    # between the points of the lattice, which are read first
    key, place = next(
        (key, place) for key, place in objects(path).items() if key != "c/0/0" and off_the_lattice(key, place, "v3")
    )
    before = place.read_bytes()
    if fate == "changed":
        changed(place)
        wanted = rf"{name} {path} has changed since this output was begun \([^)]*{key}"
    else:
        place.unlink()
        wanted = rf"{name} {path} has changed .*{key}|{name}.samples is"
    journals = pairs.files(Path(journal.directory(config.output.url)))
    with pytest.raises(RefusedError, match=wanted):
        pipeline.run(config)
    assert pairs.files(Path(journal.directory(config.output.url))) == journals
    place.write_bytes(before)
    pipeline.run(config)
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(f, g, 7))
    assert pipeline.verify(tmp_path / "out").faults == ()


@every_layout
def test_an_input_that_was_only_touched_is_the_same(tmp_path, monkeypatch, layout):
    *paths, f, g = written(tmp_path, layout)
    config = pairs.still(*paths, tmp_path / "out")
    begun(monkeypatch, config)
    for path in paths:
        for place in Path(path).rglob("*"):
            os.utime(place, (1, 1))
    pipeline.run(config)
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(f, g, 7))


# --- reads that go wrong ----------------------------------------------------------------------------------------------


class Faulty(WrapperStore):
    """A store whose reads of chunks go wrong when ``when(what, times)`` says so; `landed` counts them."""

    def __init__(self, inner, fault, when):
        super().__init__(inner)
        self.fault, self.when = fault, when
        self.asked, self.landed = Counter(), 0

    def __str__(self):
        return str(self._store)

    def _hit(self, name):
        self.asked[name] += 1
        hit = self.when(name, self.asked[name] - 1)
        self.landed += hit
        return hit

    async def get(self, key, prototype, byte_range=None):
        found = await super().get(key, prototype, byte_range)
        # what metadata says cannot be proven
        if key.endswith(("zarr.json", ".zarray", ".zattrs")) or not self._hit(f"{key} {byte_range}"):
            return found
        return await self.fault(found, prototype)


class Hidden(Faulty):
    """A store that also denies that a chunk is there."""

    async def exists(self, key):
        return not self._hit(f"exists {key}") and await super().exists(key)


def raising(number):
    async def fault(*_):
        raise OSError(number, os.strerror(number))

    return fault


async def gone(*_):
    """What zarr makes of ENOENT."""


async def slow(found, _):
    await asyncio.sleep(0.01)
    return found


def of_bytes(change):
    async def fault(found, prototype):
        return None if found is None else prototype.buffer.from_bytes(change(found.to_bytes()))

    return fault


FAULTS = {
    "EIO": raising(errno.EIO),
    "ESTALE": raising(errno.ESTALE),
    "ETIMEDOUT": raising(errno.ETIMEDOUT),
    "ENOENT": gone,
    "slow": slow,
    "short": of_bytes(lambda data: data[: len(data) // 2]),
    "nothing": of_bytes(lambda _: b""),
    # the inputs here have checksums: without one in the file, nobody can tell a flipped bit from a pixel
    "flip": of_bytes(lambda data: data[:7] + bytes([data[7] ^ 4]) + data[8:]),
}


def once(number):
    """Say yes to the read of that number, and to no other."""
    count = itertools.count()
    return lambda *_: next(count) == number


def at_rate(rate, seed):
    """Say yes to a share of the reads, whatever their order."""
    return lambda name, times: random.Random(f"{seed} {name} {times}").random() < rate


def whens(seeds):
    """Yield when reads of both images go wrong."""
    for number in (0, 20, 40):
        yield once(number), once(number + 7)
    for rate in (0.02, 0.3):
        for seed in range(seeds):
            yield at_rate(rate, seed), at_rate(rate, -seed)


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """Write pairs with checksums, plain and sharded; return paths and the map."""
    folders = {}
    for layout in ("v3", "sharded"):
        folder = tmp_path_factory.mktemp(layout)
        *paths, f, g = written(folder, layout, compressors=Crc32cCodec())
        folders[layout] = paths
    return folders, bigncc.local_maps(f, g, 7)


BIG = {"output": {"chunks": [60, 40]}}


@pytest.mark.parametrize("layout", [pytest.param("v3", marks=pytest.mark.soak), "sharded"])
@pytest.mark.parametrize("kind", [k if k == "EIO" else pytest.param(k, marks=pytest.mark.soak) for k in FAULTS])
@pytest.mark.parametrize("seeds", [1, pytest.param(150, marks=pytest.mark.soak)])
def test_no_read_that_goes_wrong_makes_a_wrong_map(tmp_path, checked, layout, kind, seeds):
    folders, wanted = checked
    landed, wrong = 0, []
    for number, both in enumerate(whens(seeds)):
        stores = [
            Faulty(LocalStore(path, read_only=True), FAULTS[kind], when)
            for path, when in zip(folders[layout], both, strict=True)
        ]
        out = tmp_path / f"out{number}"
        try:
            pipeline.run(pairs.still(*stores, out, BIG))
        except BignccError as error:
            named = [*folders[layout], str(out), "tile "]
            if not any(name in str(error) for name in named):
                wrong.append((number, str(error)))
            # the storage is sound again, and nothing of before is held against it
            pipeline.run(pairs.still(*folders[layout], out, BIG))
        except Exception as error:  # no sentence
            wrong.append((number, f"{type(error).__name__}: {error}"))
            continue
        landed += sum(each.landed for each in stores)
        try:
            pairs.same(pairs.maps(out), wanted)
        except AssertionError:
            wrong.append((number, "a wrong map"))
    assert landed >= 6
    assert wrong == []


@pytest.mark.parametrize("policy", ["fill", "nodata", "error"])
@pytest.mark.parametrize("layout", ["v3", "sharded"])
def test_a_chunk_that_is_not_seen_at_first_is_not_absent(tmp_path, checked, layout, policy):
    folders, wanted = checked
    stores = [Hidden(LocalStore(path, read_only=True), gone, lambda _, times: times == 0) for path in folders[layout]]
    words = {name: {"missing_chunks": policy} for name in ("reference", "moving")}
    result = pipeline.run(pairs.still(*stores, tmp_path / "out", BIG, words))
    assert all(each.landed >= len(objects(path)) for each, path in zip(stores, folders[layout], strict=True))
    pairs.same(pairs.maps(tmp_path / "out"), wanted)
    assert not any("not stored" in note for note in result.notes)


@pytest.mark.parametrize("layout", ["v3", "sharded"])
def test_an_object_without_a_byte_is_not_taken_for_one_of_nothing_but_fill(tmp_path, layout):
    *paths, _, _ = written(tmp_path, layout)
    key, place = list(objects(paths[0]).items())[-1]
    place.write_bytes(b"")
    with pytest.raises(InputError, match=f"a/{key} "):
        pipeline.run(pairs.still(*paths, tmp_path / "out"))


def test_a_part_of_a_shard_that_comes_back_empty_is_not_taken_for_fill(tmp_path):
    f, g = images()
    # so many chunks that most of them are read once, for the only tile
    options = {"shards": (20, 20), "compressors": Crc32cCodec()}
    paths = [pairs.store(tmp_path / name, image, (10, 10), **options) for name, image in (("a", f), ("b", g))]
    bad = Faulty(
        LocalStore(paths[1], read_only=True), FAULTS["nothing"], lambda name, times: "RangeByte" in name and times == 0
    )
    with suppress(BignccError):
        pipeline.run(pairs.still(paths[0], bad, tmp_path / "out", {"output": {"chunks": [60, 80]}}))
    assert bad.landed > 0
    if (tmp_path / "out").exists() and pipeline.status(tmp_path / "out")["state"] == "complete":
        pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(f, g, 7))


def test_a_shard_that_was_cut_is_not_taken_for_fill(tmp_path):
    f, g = images()
    # with its index in front, nothing but its length tells that the rest is gone
    shards = {"shards": {"shape": (20, 20), "index_location": "start"}, "compressors": Crc32cCodec()}
    paths = [pairs.store(tmp_path / name, image, (10, 10), **shards) for name, image in (("a", f), ("b", g))]
    place = objects(paths[1])["c/1/2"]
    place.write_bytes(place.read_bytes()[: 68 + 204])
    with pytest.raises(InputError, match="b/c/1/2 "):
        pipeline.run(pairs.still(*paths, tmp_path / "out"))


@pytest.mark.parametrize("kind", ["EIO", "short", "flip"])
def test_a_chunk_that_stays_unreadable_is_named(tmp_path, checked, kind):
    folders, _ = checked
    reference, moving = folders["v3"]
    bad = Faulty(LocalStore(moving, read_only=True), FAULTS[kind], lambda name, _: name.startswith("c/2/1 "))
    with pytest.raises(InputError, match=rf"{moving}/c/2/1 .*cannot be read at \["):
        pipeline.run(pairs.still(reference, bad, tmp_path / "out"))
    assert bad.landed >= 2
    assert not (tmp_path / "out").exists() or pipeline.status(tmp_path / "out")["state"] == "in-progress"


def test_a_storage_that_is_out_of_order_is_not_asked_for_ever(tmp_path, checked):
    folders, _ = checked
    reference, moving = folders["v3"]
    bad = Faulty(LocalStore(moving, read_only=True), FAULTS["EIO"], lambda *_: True)
    with pytest.raises(InputError, match=f"{moving}.* cannot be read"):
        pipeline.run(pairs.still(reference, bad, tmp_path / "out"))
    assert bad.landed < 100


# --- chunks that are not stored ---------------------------------------------------------------------------------------


def without(path, index):
    """Remove a stored object of an array; return its key and its region."""
    array = zarr.open_array(path, mode="r")
    extent, key = array.shards or array.chunks, array.metadata.encode_chunk_key(index)
    (Path(path) / key).unlink()
    return key, tuple(slice(i * e, (i + 1) * e) for i, e in zip(index, extent, strict=True))


@every_layout
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("policy", ["fill", "nodata"])
def test_an_absent_chunk_is_fill_or_no_data(tmp_path, layout, which, policy):
    *paths, f, g = written(tmp_path, layout, fill_value=9)
    arrays, masks, name = [f, g], [None, None], ("reference", "moving")[which]
    _, region = without(paths[which], (1, 1))
    _, other = without(paths[which], (0, 1))
    masks[which] = np.ones(SHAPE, bool)
    for roi in (region, other):
        arrays[which][roi] = 9
        masks[which][roi] = False
    if policy == "fill":
        masks = [None, None]
    words = {name: {"url": paths[which], "missing_chunks": policy}}
    result = pipeline.run(pairs.still(*paths, tmp_path / "out", words))
    wanted = bigncc.local_maps(*arrays, 7, reference_mask=masks[0], moving_mask=masks[1])
    pairs.same(pairs.maps(tmp_path / "out"), wanted)
    assert (2 in wanted["status"]) == (policy == "nodata")
    assert [note for note in result.notes if "not stored" in note] == [f"2 chunks of {name} are not stored"]
    # and again, with nothing to compute
    assert pipeline.run(pairs.still(*paths, tmp_path / "out", words)).notes == result.notes
    assert pipeline.verify(tmp_path / "out", recompute=3).faults == ()


@every_layout
@pytest.mark.parametrize("which", [0, 1])
def test_an_absent_chunk_is_refused_where_none_is_expected(tmp_path, layout, which):
    *paths, _, _ = written(tmp_path, layout)
    key, _ = without(paths[which], (1, 1))
    words = {("reference", "moving")[which]: {"url": paths[which], "missing_chunks": "error"}}
    with pytest.raises(InputError, match=f"{paths[which]}/{key} is absent: missing_chunks=fill or missing_chunks=nod"):
        pipeline.run(pairs.still(*paths, tmp_path / "out", words))
    # of the other image nothing is said
    words = {("moving", "reference")[which]: {"url": paths[1 - which], "missing_chunks": "error"}}
    assert pipeline.run(pairs.still(*paths, tmp_path / "out", words)).complete


@pytest.mark.parametrize("policy", ["fill", "nodata"])
@pytest.mark.parametrize(("layout", "channel"), [("v3", 1), ("sharded", "grey")])
def test_absent_chunks_of_a_channel_are_those_of_the_choice(tmp_path, layout, channel, policy):
    f, g = (strategies.image(seed, (4, *SHAPE), "uint8", "noise") for seed in (1, 2))
    shards = {"shards": (1, 40, 40)} if layout == "sharded" else {}
    paths = [pairs.store(tmp_path / n, a, (1, 20, 20), "cyx", **shards) for n, a in (("a", f), ("b", g))]
    mask = np.ones(SHAPE, bool)
    for index in ((1, 0, 1), (3, 1, 0)):  # of a channel that counts, and of one that counts for neither choice
        _, region = without(paths[1], index)
        g[region] = 0
        if index[0] == 1 and policy == "nodata":
            mask[region[1:]] = False
    chosen = [a[1] if channel == 1 else grey(a[:3]) for a in (f, g)]
    sections = {
        name: {"url": path, "channel": channel, "missing_chunks": policy}
        for name, path in zip(("reference", "moving"), paths, strict=True)
    }
    result = pipeline.run(pairs.still(*paths, tmp_path / "out", sections))
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(*chosen, 7, moving_mask=mask))
    assert [note for note in result.notes if "not stored" in note] == ["1 chunks of moving are not stored"]


def test_absent_chunks_are_counted_also_after_tiles_were_computed_again(tmp_path):
    *paths, _, _ = written(tmp_path)
    without(paths[0], (0, 0))
    config = pairs.still(*paths, tmp_path / "out")
    first = pipeline.run(config)
    assert "1 chunks of reference are not stored" in first.notes
    assert pipeline.panel(config.output.url).title.endswith("; 1 chunks of reference are not stored")
    record = (tmp_path / "out.bigncc" / "COMPLETE.json").read_bytes()
    (tmp_path / "out" / "0" / "c" / "0" / "0").unlink()
    assert pipeline.run(config).notes == first.notes
    assert (tmp_path / "out.bigncc" / "COMPLETE.json").read_bytes() == record


@every_layout
@pytest.mark.parametrize("policy", ["fill", "nodata", "error"])
def test_a_directory_in_place_of_a_chunk_is_no_absent_chunk(tmp_path, layout, policy):
    *paths, _, _ = written(tmp_path, layout)
    key, _ = without(paths[0], (1, 1))
    (Path(paths[0]) / key).mkdir()
    with pytest.raises(InputError, match=f"a/{key}"):
        pipeline.run(pairs.still(*paths, tmp_path / "out", {"reference": {"url": paths[0], "missing_chunks": policy}}))


# --- tiles that fail --------------------------------------------------------------------------------------------------


def failing(patch, tiles, times):
    """Let tiles fail that many times each; return what failed."""
    make, failed = lazy.tile, Counter()

    def fail(pair, window, pivot, tile, *rest):
        if tile.index in tiles and failed[tile.index] < times:
            failed[tile.index] += 1
            message = f"tile {tile.index}\nis cursed"
            raise ArithmeticError(message)
        return make(pair, window, pivot, tile, *rest)

    patch.setattr(lazy, "tile", fail)
    return failed


def test_a_tile_that_fails_once_is_tried_again(tmp_path, monkeypatch):
    *paths, f, g = written(tmp_path)
    with monkeypatch.context() as patch:
        failed = failing(patch, {0, 3}, 1)
        pipeline.run(pairs.still(*paths, tmp_path / "out"))
    assert failed == {0: 1, 3: 1}
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(f, g, 7))
    assert journal.quarantined(str(tmp_path / "out")) == {}


def test_a_tile_that_fails_again_is_quarantined_and_the_rest_is_done(tmp_path, monkeypatch):
    *paths, f, g = written(tmp_path)
    config, out = pairs.still(*paths, tmp_path / "out"), tmp_path / "out"
    reasons = {str(tile): f"ArithmeticError: tile {tile} is cursed" for tile in (1, 4)}
    for attempt in (1, 2):
        with monkeypatch.context() as patch:
            failed = failing(patch, {1, 4}, 10**6)
            with pytest.raises(IncompleteError) as caught:
                pipeline.run(config)
        assert failed == {1: 2, 4: 2}, attempt
        said = str(caught.value)
        assert said.startswith(f"{out} has 4 of 7 tiles: ")
        assert all(f"tile {tile} failed twice ({reason})" in said for tile, reason in reasons.items())
        found = pipeline.status(out)
        assert found["quarantined"] == reasons
        assert (found["state"], found["tiles"]) == ("in-progress", {"done": 4, "total": 7})
    with pytest.raises(IncompleteError, match="tile 1 failed twice"):
        pipeline.verify(out)
    assert pipeline.run(config).complete
    assert pipeline.status(out)["quarantined"] == {}
    pairs.same(pairs.maps(out), bigncc.local_maps(f, g, 7))


def test_what_failed_before_comes_last(tmp_path, monkeypatch):
    *paths, _, _ = written(tmp_path)
    config = pairs.still(*paths, tmp_path / "out")
    pipeline.prepare(config)
    journal.quarantine(config.output.url, 0, "as planned")
    pipeline.run(config)
    lines = [
        line
        for path in sorted((tmp_path / "out.bigncc" / "journal").iterdir())
        for line in path.read_text().splitlines()
    ]
    assert [int(line.split()[2]) for line in lines] == [1, 2, 3, 4, 5, 0, 6]


def test_a_tile_that_is_done_is_not_said_to_have_failed(tmp_path, monkeypatch):
    *paths, _, _ = written(tmp_path)
    config = pairs.still(*paths, tmp_path / "out")
    pipeline.prepare(config)
    journal.quarantine(config.output.url, 0, "as planned")
    begun(monkeypatch, config, 6)  # dies between the row of the last tile and what comes after it
    assert pipeline.run(config).complete
    assert pipeline.status(config.output.url)["quarantined"] == {}
    assert pipeline.verify(config.output.url).faults == ()


CURSED = """
import sys
from bigncc import cli, lazy
make = lazy.tile
def fail(pair, window, pivot, tile, *rest):
    if tile.index == 2:
        raise ArithmeticError("cursed")
    return make(pair, window, pivot, tile, *rest)
lazy.tile = fail
cli.main()
"""


def test_a_tile_that_fails_is_exit_code_2_and_status_lists_it(tmp_path):
    written(tmp_path)
    words = ["run", "a", "b", "out", "--as-is", "output.chunks=[32, 32]", "engine.threads=1", "--json"]
    done = subprocess.run([sys.executable, "-c", CURSED, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "bigncc: " in done.stderr
    assert "out has 5 of 7 tiles: tile 2 failed twice (ArithmeticError: cursed); run the same" in done.stderr
    assert "Traceback" not in done.stderr
    *_, before, last = map(json.loads, done.stdout.splitlines())
    assert (before["event"], before["retried"], before["quarantined"]) == ("progress", 1, 1)
    assert before["tiles"]["done"] == before["tiles"]["total"]
    assert before["pixels"]["done"] < before["pixels"]["total"]
    assert (last["event"], last["exit_code"]) == ("error", 2)
    assert f"bigncc: {last['text']}\n" in done.stderr
    told = CliRunner().invoke(cli, ["status", str(tmp_path / "out"), "--json"])
    assert json.loads(told.stdout)["quarantined"] == {"2": "ArithmeticError: cursed"}


# --- an output that cannot be written ---------------------------------------------------------------------------------


def broken(patch, place, out, hit):
    """Let one kind of access to the output fail with EIO whenever ``hit()`` says so."""

    def breaks(path):
        if str(path).startswith(str(out)) and hit():
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def before(function, concerns):
        def call(self, *rest, **named):
            if concerns(self):
                breaks(self)
            return function(self, *rest, **named)

        return call

    def of_an_object(path):
        return "/c/" in str(path)

    if place == "pixels":
        patch.setattr(local, "_put", before(local._put, of_an_object))
    elif place == "read back":
        patch.setattr(local, "_get", before(local._get, of_an_object))
    else:
        sync = os.fsync

        def fsync(number):
            path = Path(f"/proc/self/fd/{number}").readlink()
            if path.suffix == ".jsonl":
                breaks(path)
            sync(number)

        patch.setattr(os, "fsync", fsync)


PLACES = ("pixels", "read back", "journal")


@pytest.mark.parametrize("place", PLACES)
def test_an_output_that_fails_once_is_written_all_the_same(tmp_path, monkeypatch, place):
    *paths, f, g = written(tmp_path)
    config = pairs.still(*paths, tmp_path / "out", {"output": {"chunks": [16, 16], "shards": [32, 32]}})
    count = itertools.count()
    with monkeypatch.context() as patch:
        broken(patch, place, tmp_path / "out", lambda: next(count) == 3)
        pipeline.run(config)
    assert next(count) > 4
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(f, g, 7))
    assert pipeline.verify(tmp_path / "out").faults == ()


@pytest.mark.parametrize("place", PLACES)
def test_an_output_that_fails_for_good_stops_the_run_until_it_is_sound_again(tmp_path, monkeypatch, place):
    *paths, f, g = written(tmp_path)
    config = pairs.still(*paths, tmp_path / "out", {"output": {"chunks": [16, 16], "shards": [32, 32]}})
    count = itertools.count()
    with monkeypatch.context() as patch:
        broken(patch, place, tmp_path / "out", lambda: next(count) >= 3)
        with pytest.raises(StoppedError, match="Input/output error, 5 times; the same command continues") as caught:
            pipeline.run(config)
    assert caught.value.exit_code == 75
    found = pipeline.status(tmp_path / "out")
    assert found["state"] == "in-progress"
    assert found["tiles"]["done"] < found["tiles"]["total"]
    assert found["quarantined"] == {}
    pipeline.run(config)
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(f, g, 7))
    assert pipeline.verify(tmp_path / "out").faults == ()
