"""The pyramid: cells against exact means, and every level the same to the bit however it came to be."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import bigncc
from bigncc import capacity, config, engine, journal, pipeline
from bigncc.decision import stored_grid
from bigncc.errors import DoesNotFitError, IncompleteError, InputError, RefusedError
from bigncc.pyramid import Halving, Maps, of_named
from bigncc.tiles import Tile, coarse, roi_coarse, roi_of
from tests import oracle, pairs, strategies
from tests.test_pipeline import Killed, killed_after

EXTREMES = (0.0, 1.0, -1.0, 2.0**-149, -(2.0**-149), 2.0**-126, 1 - 2.0**-24, -1e-30, 0.1, -0.3)
FLAT = (0.0, float("nan"))


@st.composite
def maps(draw, most=9):
    """Coefficients and codes of some shape, NaN where there is none, and how many axes are halved."""
    axes = draw(st.sampled_from((2, 3)))
    batch = draw(st.integers(0, 1))
    shape = tuple(draw(st.integers(1, most)) for _ in range(axes + batch))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(("noise", "extremes")))
    values = rng.uniform(-1, 1, shape) if kind == "noise" else rng.choice(EXTREMES, shape)
    codes = draw(st.sampled_from(((1,), (1, 1, 1, 4), tuple(range(9)), (0, 2, 3, 4, 5, 6, 7, 8))))
    status = rng.choice(np.array(codes, np.uint8), shape)
    ncc = np.where(status == 1, values + 0.0, np.nan).astype(np.float32)
    there = draw(st.sampled_from((None, 0.0, 0.3, 1.0)))
    gain = None if there is None else np.where(rng.random(shape) < there, values, np.nan).astype(np.float32)
    return Maps(ncc, status, {} if gain is None else {"gain": gain}), axes, draw(st.sampled_from(FLAT))


@given(maps())
def test_a_cell_is_the_mean_of_its_valid_pixels_or_says_why_not(drawn):
    fine, axes, flat = drawn
    got = Halving(axes, flat).reduced(fine)
    means, codes = oracle.coarser(fine.ncc, fine.status, axes, flat)
    np.testing.assert_array_equal(got.status, codes)
    assert (got.ncc.dtype, got.status.dtype) == (np.float32, np.uint8)
    verify(got.ncc, means, codes, flat)
    if not fine.further:
        assert not got.further
    else:
        means, codes = oracle.coarser(
            fine.further["gain"], np.isfinite(fine.further["gain"]).astype(np.uint8), axes, flat
        )
        verify(got.further["gain"], means, codes, flat)


def verify(got, means, codes, flat):
    for value, mean, code in zip(got.ravel(), means.ravel(), codes.ravel(), strict=True):
        if code != 1:
            wanted = np.float32(flat if code in (3, 4, 5) else np.nan)
            assert value.view("u4") == wanted.view("u4")
            continue
        half = Fraction(float(np.spacing(abs(value)))) / 2
        # a float64 sum forgets what is 2^53 times smaller than what cancels
        assert abs(Fraction(float(value)) - mean) <= half * (1 + Fraction(1, 2**20)) + Fraction(1, 2**50)
        assert not (value == 0 and np.signbit(value))


@given(maps(), st.integers(0, 2**32 - 1))
def test_sums_that_are_exact_are_rounded_once_per_step(drawn, seed):
    (ncc, status, _), axes, flat = drawn
    grid = np.random.default_rng(seed).integers(-(2**20), 2**20, ncc.shape).astype(np.float32) / np.float32(2**20)
    got = Halving(axes, flat).reduced(Maps(grid, status))
    means, codes = oracle.coarser(grid, status, axes, flat)
    wanted = [np.float32(float(mean)) for mean in means[codes == 1]]
    np.testing.assert_array_equal(got.ncc[codes == 1], np.array(wanted, np.float32))


@given(maps(14), st.data())
def test_the_cut_cannot_be_seen(drawn, data):
    fine, axes, flat = drawn
    halving, shape = Halving(axes, flat), fine.ncc.shape
    fixed = len(shape) - axes
    block = tuple(data.draw(st.integers(1, 4)) * (1 if i < fixed else 2) for i in range(len(shape)))
    last = data.draw(st.integers(1, 4))
    tile = Tile(0, roi_of((0,) * len(shape), shape), (), ((last, ()),))
    pieces = [
        halving.piece(roi, of_named({name: np.ascontiguousarray(array[roi]) for name, array in fine.named.items()}))
        for roi in strategies.cover(shape, block)
    ]
    data.draw(st.randoms()).shuffle(pieces)
    whole = fine
    for level, (number, roi, got) in enumerate(halving.levels(tile, pieces), 1):
        whole = halving.reduced(whole)
        assert (number, roi) == (level, roi_coarse(tile.write, level, axes))
        assert whole.ncc.shape == coarse(shape, level, axes)
        same(got, whole)
    assert level == last


def same(got, wanted):
    pairs.same(got.named, wanted.named)


# --- on disk ----------------------------------------------------------------------------------------------------------


def levels(url):
    """Every stored level of an output, by its number."""
    group = zarr.open_group(str(url), mode="r")
    attributes = group.attrs.asdict()
    paths = [each["path"] for each in attributes.get("ome", attributes)["multiscales"][0]["datasets"]]
    return {int(path): Maps(group[path][...], group[f"labels/status/{path}"][...]) for path in paths}


def expected(finest, axes, count, flat=0.0):
    """The levels that follow from the finest one."""
    found = [Maps(finest["ncc"], finest["status"])]
    while len(found) < count:
        found.append(Halving(axes, flat).reduced(found[-1]))
    return dict(enumerate(found))


def grid_of(url):
    return stored_grid(journal.read_plan(str(url)))


WAYS = {
    "all in one round": (),
    "several rounds": ("small rounds",),
    "with the tiles": ("output.chunks=[16, 16]", "few tiles"),
    "odd chunks": ("output.chunks=[17, 9]", "few tiles"),
    "shards": ("output.shards=[64, 32]", "small rounds"),
    "shards with the tiles": ("output={chunks: [8, 8], shards: [16, 16]}", "few tiles"),
    "shards of odd chunks": ("output={chunks: [17, 9], shards: [51, 27]}", "few tiles"),
    "one tile": ("output.chunks=[200, 200]", "few tiles"),
    "wide chunks": ("output.chunks=[16, 200]", "few tiles", "small rounds"),
    "0.4": ("output.ome_version=0.4", "output.chunks=[16, 16]", "few tiles", "small rounds"),
    "one thread": ("engine.threads=1", "small rounds"),
    "NaN where it is flat": ("window.flat=.nan",),
}


def patched(monkeypatch, words):
    """Do what the words say that are no words of a config; return the others."""
    if "few tiles" in words:
        monkeypatch.setattr("bigncc.budget.TILES", 1)
        monkeypatch.setattr(capacity, "LARGEST", 70 * 70)
    if "small rounds" in words:
        monkeypatch.setattr(capacity, "LARGEST", 40 * 40)
    return [word for word in words if "=" in word]


@pytest.mark.parametrize("way", WAYS)
def test_every_level_is_the_same_to_the_bit(tmp_path, monkeypatch, way):
    reference, moving, f, g = pairs.pair(tmp_path)
    words = patched(monkeypatch, WAYS[way])
    pipeline.run(pairs.still(reference, moving, tmp_path / "out", *words))
    got, flat = levels(tmp_path / "out"), float("nan") if "flat" in way else 0.0
    wanted = expected(bigncc.local_maps(f, g, bigncc.Window(7, flat=flat)), 2, len(got), flat)
    assert got.keys() == wanted.keys()
    for level, one in got.items():
        same(one, wanted[level])
    grid = grid_of(tmp_path / "out")
    assert {"with the tiles": 2, "shards with the tiles": 3, "odd chunks": 0, "all in one round": 0}.get(
        way, grid.own
    ) == grid.own
    assert len(grid.rounds) > ("small rounds" in WAYS[way]) or not grid.rounds
    assert pipeline.verify(tmp_path / "out", recompute=100).faults == ()
    assert pipeline.status(tmp_path / "out")["pixels"] == {"done": 130 * 170, "total": 130 * 170}
    if "chunks=[200" not in "".join(words):  # the coarsest is a thumbnail, and no level before it is
        chunks = {level: zarr.open_array(f"{tmp_path}/out/{level}", mode="r") for level in got}
        one = [all(n <= c for n, c in zip(of.shape, of.chunks, strict=True)) for of in chunks.values()]
        assert one == [False] * (len(got) - 1) + [True]


def test_stacks_and_volumes(tmp_path, monkeypatch):
    monkeypatch.setattr("bigncc.budget.TILES", 1)
    monkeypatch.setattr(capacity, "LARGEST", 5 * 40 * 40)
    f, g = (strategies.image(seed, (7, 60, 75), "uint8", "noise") for seed in (1, 2))
    g[:4] = f[:4]
    paths = pairs.store(tmp_path / "a", f), pairs.store(tmp_path / "b", g)
    for name, axes, words in (
        ("planes", 2, {"output": {"chunks": [16, 16]}}),
        ("volume", 3, {"window": {"size": [3, 5, 5]}, "output": {"chunks": [2, 16, 16]}}),
    ):
        pipeline.run(pairs.still(*paths, tmp_path / name, words, axes=axes))
        got = levels(tmp_path / name)
        window = 7 if axes == 2 else (3, 5, 5)
        for level, wanted in expected(bigncc.local_maps(f, g, window), axes, len(got)).items():
            same(got[level], wanted)
        assert [one.ncc.shape[0] for one in got.values()] == ([7, 7, 7, 7] if axes == 2 else [7, 4, 2, 1])
        assert pipeline.verify(tmp_path / name, recompute=5).faults == ()


SHARDED = ("output={chunks: [8, 8], shards: [16, 8]}",)


@pytest.mark.parametrize(
    ("finest", "words"), [(1, ()), (2, ()), (4, ()), (2, ("output.chunks=[16, 16]",)), (1, SHARDED), (4, SHARDED)]
)
def test_a_finest_level_is_that_of_the_whole_pyramid(tmp_path, finest, words):
    reference, moving, f, g = pairs.pair(tmp_path)
    asked = pairs.still(reference, moving, tmp_path / "out", *words, {"output": {"finest_level": finest}})
    estimate = pipeline.plan(asked)
    result = pipeline.run(asked)
    got = levels(tmp_path / "out")
    assert min(got) == finest
    wanted = expected(bigncc.local_maps(f, g, 7), 2, max(got) + 1)
    for level, one in got.items():
        same(one, wanted[level])
    # the statistics are those of all pixels, and the disk has the levels only
    assert result.summary.pixels == 130 * 170
    stored = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name != "zarr.json"]
    assert len(stored) == estimate.objects
    assert estimate.disk == sum(5 * one.ncc.size for one in got.values())
    assert pipeline.verify(tmp_path / "out", recompute=100).faults == ()
    found = bigncc.open_result(tmp_path / "out")
    np.testing.assert_array_equal(found["ncc"], got[finest].ncc)
    np.testing.assert_allclose(found["y"][:2], (2**finest - 1) / 2 + np.arange(2) * 2**finest)
    shown = pipeline.panel(str(tmp_path / "out"))
    assert shown.factor == 2**finest
    assert shown.reference.shape == shown.ncc.shape == got[finest].ncc.shape
    if not words:  # how it is cut is nothing to a picture
        assert pipeline.report(str(tmp_path / "out")).exists()


def test_a_single_level(tmp_path):
    reference, moving, f, g = pairs.pair(tmp_path)
    pipeline.run(pairs.still(reference, moving, tmp_path / "alone", "output.pyramid=false"))
    pipeline.run(pairs.still(reference, moving, tmp_path / "second", "output={pyramid: false, finest_level: 2}"))
    assert levels(tmp_path / "alone").keys() == {0}
    wanted = expected(bigncc.local_maps(f, g, 7), 2, 3)
    ((number, got),) = levels(tmp_path / "second").items()
    assert number == 2
    same(got, wanted[2])


def test_plan_says_what_other_finest_levels_take(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    asked = [pairs.still(reference, moving, tmp_path / "out", {"output": {"finest_level": k}}) for k in range(3)]
    estimates = [pipeline.plan(each) for each in asked]
    for level, each in enumerate(estimates):
        assert each.alternatives == estimates[0].alternatives
        assert each.disk == each.alternatives[level]
    assert "GB with output.finest_level=2" in estimates[0].facts()["levels"]
    assert f"and {estimates[0].coarser} for coarser levels" in estimates[0].facts()["tiles"]


@pytest.mark.parametrize(
    ("finest", "chunk"), [(0, 1024), (2, 1024), (3, 512), (4, 256), (6, 64)],
)  # fmt: skip
def test_a_tile_is_whole_objects_of_a_coarser_finest_level(tmp_path, finest, chunk):
    zarr.create_array(str(tmp_path / "a"), shape=(20000, 30000), chunks=(1024, 1024), dtype="uint8")
    words = {"registration": {"model": "none"}, "engine": {"memory": "4GB", "threads": 2}}
    sections = {name: {"url": str(tmp_path / "a")} for name in ("reference", "moving")}
    asked = config.load([sections, words, {"output": {"url": str(tmp_path / "out"), "finest_level": finest}}])
    pipeline.prepare(asked)
    array = zarr.open_array(f"{tmp_path}/out/{finest}", mode="r")
    assert array.chunks == (chunk, chunk)
    grid = grid_of(tmp_path / "out")
    assert np.prod(grid.tile) <= capacity.LARGEST
    assert all(t % (chunk << finest) == 0 for t in grid.tile)


@pytest.mark.parametrize(
    ("words", "error", "sentence"),
    [
        ({"finest_level": 9}, InputError, r"finest_level is 9 and level 8 of \[130, 170\] .*: 0 to 8 are accepted"),
        (
            {"ome_version": "0.4", "shards": [64, 64]},
            InputError,
            r"output.shards is \[64, 64\] and OME-Zarr 0.4 has none",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path, words, error, sentence):
    reference, moving, *_ = pairs.pair(tmp_path)
    with pytest.raises(error, match=sentence):
        pipeline.run(pairs.still(reference, moving, tmp_path / "out", {"output": words}))
    assert not (tmp_path / "out").exists()


def test_another_pyramid_is_another_request(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    pipeline.prepare(pairs.still(reference, moving, tmp_path / "out"))
    for word in ("output.pyramid=false", "output.finest_level=1", "output.ome_version=0.4"):
        with pytest.raises(RefusedError, match=word.partition("=")[0]):
            pipeline.prepare(pairs.still(reference, moving, tmp_path / "out", word))


# --- finish -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A pair, and what a run in small rounds makes of it."""
    folder = tmp_path_factory.mktemp("whole")
    reference, moving, *_ = pairs.pair(folder)
    with pytest.MonkeyPatch.context() as patch:
        patched(patch, ["small rounds"])
        pipeline.run(pairs.still(reference, moving, folder / "out"))
    return reference, moving, objects_in(folder / "out")


@pytest.fixture
def rounds(whole, tmp_path, monkeypatch):
    """Make a run whose tiles are all done and whose rounds are not; return its config and what it makes in the end."""
    reference, moving, objects = whole
    patched(monkeypatch, ["small rounds"])
    asked = pairs.still(reference, moving, tmp_path / "out")
    pipeline.prepare(asked)
    for part in range(2):
        pipeline.run(asked, part=(part, 2))
    return asked, objects


def objects_in(folder):
    return {name: data for name, data in pairs.files(Path(folder)).items() if not name.endswith("zarr.json")}


def test_a_finish_that_was_killed_goes_on_where_it_was(rounds, monkeypatch):
    asked, whole = rounds
    url, grid = asked.output.url, grid_of(asked.output.url)
    made, coarsen = [], engine.coarsen

    def record(out, tile, *rest):
        made.append(tile.index)
        return coarsen(out, tile, *rest)

    monkeypatch.setattr(engine, "coarsen", record)
    for count in (1, 7, 3):
        with monkeypatch.context() as patch:
            killed_after(patch, count)
            with pytest.raises(Killed):
                pipeline.finish(url)
    assert pipeline.status(url)["tiles"]["done"] == grid.base + 11
    assert pipeline.finish(url).complete
    assert sorted(made) == list(range(grid.base, len(grid)))  # each once
    assert objects_in(url) == whole
    assert pipeline.verify(url, recompute=100).faults == ()


@pytest.mark.parametrize("parts", [2, 5])
def test_a_finish_is_shared(rounds, parts):
    asked, whole = rounds
    url, grid = asked.output.url, grid_of(asked.output.url)
    for part in reversed(range(parts)):
        result = pipeline.finish(url, part=(part, parts))
        assert not result.complete
        assert journal.read_complete(url) is None
    assert grid.base < pipeline.status(url)["tiles"]["done"]
    assert objects_in(url).items() <= whole.items()
    assert pipeline.finish(url).complete
    assert objects_in(url) == whole


def test_parts_of_a_finish_wait_for_all_tiles(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    asked = pairs.still(reference, moving, tmp_path / "out")
    pipeline.prepare(asked)
    pipeline.run(asked, part=(0, 2))
    for part in ((0, 1), (0, 2), (1, 2)):
        with pytest.raises(IncompleteError, match=r"out has \d+ of \d+ tiles"):
            pipeline.finish(asked.output.url, part=part)


@pytest.mark.parametrize("version", ["0.5", pytest.param("0.4", marks=pytest.mark.soak)])
@pytest.mark.parametrize("fault", ["flipped", "gone"])
def test_nothing_is_made_of_what_is_wrong(tmp_path, version, fault):
    reference, moving, *_ = pairs.pair(tmp_path)
    asked = pairs.still(reference, moving, tmp_path / "out", f"output.ome_version={version}")
    pipeline.run(asked)
    before = pairs.files(tmp_path / "out")
    for path in (tmp_path / "out" / "2").rglob("*"):  # a level that is to be made again
        if path.name.isdecimal() and path.is_file():
            path.unlink()
    victim = tmp_path / "out" / ("0/c/1/1" if version == "0.5" else "0/1/1")
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 4
    victim.unlink() if fault == "gone" else victim.write_bytes(data)
    with pytest.raises(IncompleteError, match=rf"{victim} .*: bigncc run with the words of this run"):
        pipeline.finish(tmp_path / "out")
    assert pipeline.run(asked).complete
    assert pairs.files(tmp_path / "out") == before
    assert pipeline.verify(tmp_path / "out").faults == ()


def test_a_tile_of_a_round_that_fails_twice_is_quarantined_and_made_later(rounds, monkeypatch):
    asked, whole = rounds
    url, grid = asked.output.url, grid_of(asked.output.url)

    def fail(*_):
        message = "cursed"
        raise ArithmeticError(message)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "coarsen", fail)
        with pytest.raises(IncompleteError, match=rf"tile {grid.base} failed twice \(ArithmeticError: cursed\)"):
            pipeline.finish(url)
    assert pipeline.finish(url).complete
    assert pipeline.status(url)["quarantined"] == {}
    assert objects_in(url) == whole


def test_a_level_that_is_made_again_is_not_complete_meanwhile(tmp_path, monkeypatch):
    reference, moving, *_ = pairs.pair(tmp_path)
    pipeline.run(pairs.still(reference, moving, tmp_path / "out"))
    before = pairs.files(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "3" / "c")
    with monkeypatch.context() as patch:
        killed_after(patch, 1)
        with pytest.raises(Killed):
            pipeline.finish(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "zarr.json").read_text())["attributes"]["bigncc"]["state"] == "in-progress"
    assert journal.read_complete(str(tmp_path / "out")) is None
    pipeline.finish(tmp_path / "out")
    assert pairs.files(tmp_path / "out") == before


def test_a_row_of_what_is_not_there_any_more_completes_nothing(tmp_path, monkeypatch):
    reference, moving, *_ = pairs.pair(tmp_path)
    pipeline.run(pairs.still(reference, moving, tmp_path / "out"))
    shutil.rmtree(tmp_path / "out" / "3" / "c")
    monkeypatch.setattr(engine, "coarsen", lambda *_: 1 / 0)
    with pytest.raises(IncompleteError, match="failed twice"):
        pipeline.finish(tmp_path / "out")
    assert journal.read_complete(str(tmp_path / "out")) is None


def test_rounds_keep_to_the_memory(tmp_path):
    zarr.create_array(str(tmp_path / "a"), shape=(20000, 20000), chunks=(256, 256), dtype="uint8")
    sections = {name: {"url": str(tmp_path / "a")} for name in ("reference", "moving")}
    most = {}
    for memory in ("400MB", "2GB"):
        words = {"registration": {"model": "none"}, "engine": {"memory": memory, "threads": 1}}
        output = {"url": str(tmp_path / memory), "chunks": [256, 256]}
        try:
            pipeline.prepare(config.load([sections, words, {"output": output}]))
        except DoesNotFitError as error:
            pytest.fail(str(error))
        most[memory] = max(np.prod(step.tile) for step in grid_of(tmp_path / memory).rounds)
    assert most["400MB"] * capacity.COARSENING <= 400 * 10**6 - capacity.RESERVED
    assert most["400MB"] > 2**21
