"""From two arrays on disk to a map on disk: the same bits as in memory, whatever memory, chunks and tiles."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import zarr

import bigncc
from bigncc import Displacement, Translation, Window, capacity, engine, journal, pipeline, placement, search
from bigncc.decision import stored_grid
from bigncc.errors import DoesNotFitError, IncompleteError, InputError, RefusedError, RegistrationError
from bigncc.kernel import Pivot
from bigncc.output import open_output, write_image
from tests import pairs, scenes, strategies, zarrs


def pivots_of(plan, channel=0):
    """The pivots that a plan wrote down, as they are given to local_maps."""
    return tuple(Pivot(*pivot) for pivot in plan["pivots"][channel])


def run(folder, reference, moving, *words, out="out.ome.zarr", axes=2):
    pipeline.run(pairs.still(reference, moving, folder / out, *words, axes=axes))
    return pairs.maps(folder / out)


def registered(folder, reference, moving, *words, out="out.ome.zarr"):
    """Run where the words say how the images are registered, and are looked at for it; by default as they are."""
    pipeline.run(pairs.job(reference, moving, folder / out, *words))
    return pairs.maps(folder / out)


@pytest.mark.parametrize(
    ("window", "border", "dtype", "chunks"),
    [
        (7, "shrink", "uint16", (50, 50)),
        (7, "shrink", "uint8", (33, 170)),
        (5, "mirror", "int16", (17, 19)),
        ([31, 5], "valid", "float32", (130, 170)),
        ([1, 9], "constant", "float64", (50, 50)),
        (65, "nearest", "uint16", (50, 50)),
    ],
)
def test_the_map_on_disk_is_the_map_in_memory(tmp_path, window, border, dtype, chunks):
    reference, moving, f, g = pairs.pair(tmp_path, dtype=dtype, chunks=chunks)
    got = registered(tmp_path, reference, moving, {"window": {"size": window, "border": border}})
    plan = journal.read_plan(str(tmp_path / "out.ome.zarr"))
    assert math.prod(-(-n // t) for n, t in zip(f.shape, plan["tiles"]["tile"], strict=True)) >= 16
    size = window if isinstance(window, int) else tuple(window)
    pairs.same(got, bigncc.local_maps(f, g, Window(size, border=border), pivot=pivots_of(plan)))


def test_memory_threads_and_input_chunks_cannot_be_seen(tmp_path, monkeypatch):
    reference, moving, f, g = pairs.pair(tmp_path)
    first = run(tmp_path, reference, moving, out="first")
    tiles = journal.read_plan(str(tmp_path / "first"))["tiles"]["tile"]
    # so little that a tile is one object
    monkeypatch.setattr(capacity, "LARGEST", 40 * 40)
    second = run(tmp_path, reference, moving, {"engine": {"threads": 1}}, out="second")
    assert journal.read_plan(str(tmp_path / "second"))["tiles"]["tile"] == [32, 32] != tiles
    pairs.same(first, second)
    other = pairs.store(tmp_path / "c.zarr", f, (13, 170)), pairs.store(tmp_path / "d.zarr", g, (130, 7))
    pairs.same(first, run(tmp_path, *other, out="third"))


def test_a_stack_is_a_batch_of_planes_and_a_volume_is_not(tmp_path):
    f, g = (strategies.image(seed, (3, 40, 50), "uint16", "noise") for seed in (1, 2))
    paths = pairs.store(tmp_path / "a", f), pairs.store(tmp_path / "b", g)
    pairs.same(run(tmp_path, *paths, out="planes"), bigncc.local_maps(f, g, 7))
    volume = run(
        tmp_path, *paths, {"window": {"size": [3, 5, 5]}, "output": {"chunks": [2, 32, 32]}}, out="volume", axes=3
    )
    pairs.same(volume, bigncc.local_maps(f, g, (3, 5, 5)))


def test_each_channel_of_a_float_image_has_a_pivot_of_its_own(tmp_path):
    rng = np.random.default_rng(0)
    f = rng.normal(0, 1, (2, 40, 50)) + np.array([0, 1e8])[:, None, None]
    write_image(str(tmp_path / "a"), f, ("c", "y", "x"), "a")
    write_image(str(tmp_path / "b"), f * 2 + 1, ("c", "y", "x"), "b")
    got = run(tmp_path, str(tmp_path / "a"), str(tmp_path / "b"))
    plan = journal.read_plan(str(tmp_path / "out.ome.zarr"))
    pivots = [pivots_of(plan, channel) for channel in range(2)]
    assert len(plan["pivots"]) == 2
    assert abs(pivots[1][0].value - 1e8) < 100
    for channel in range(2):
        wanted = bigncc.local_maps(f[channel], f[channel] * 2 + 1, 7, pivot=pivots[channel])
        pairs.same({name: got[name][channel] for name in got}, wanted)
        assert (got["status"][channel] == 1).all()


@pytest.mark.parametrize("way", ["transform", "displacement", "reversed"])
def test_given_transforms_are_applied(tmp_path, way):
    f = strategies.image(1, (130, 170), "uint16", "noise")
    g = strategies.image(2, (120, 181), "uint16", "noise")
    paths = pairs.store(tmp_path / "a", f), pairs.store(tmp_path / "b", g, (31, 47))
    if way == "transform":
        transform = Translation((1.25, -3.5))
        (tmp_path / "t.json").write_text(json.dumps({"kind": "translation", "offset": [1.25, -3.5]}))
        words = {"registration": {"model": None, "transform": str(tmp_path / "t.json")}}
    else:
        field = np.random.default_rng(0).normal(0, 3, (2, 14, 18))
        field[:, 5, 5] = np.nan
        transform = Displacement(field, step=10, origin=(1, 2))
        np.save(tmp_path / "field.npy", field if way == "displacement" else field[::-1])
        components = "forward" if way == "displacement" else "reversed"
        described = {"url": str(tmp_path / "field.npy"), "step": 10, "origin": [1, 2], "components": components}
        words = {"registration": {"model": None, "displacement": described}}
    got = registered(tmp_path, *paths, words)
    pivot = pivots_of(journal.read_plan(str(tmp_path / "out.ome.zarr")))
    wanted = bigncc.local_maps(f, g, 7, transform=transform, pivot=pivot)
    pairs.same(got, wanted)
    assert {1, 6} <= set(np.unique(wanted["status"]))


def test_masks_and_nodata_from_files(tmp_path):
    reference, moving, f, g = pairs.pair(tmp_path, dtype="uint8")
    labels = np.random.default_rng(0).integers(0, 4, f.shape, dtype=np.uint8)
    path = pairs.store(tmp_path / "labels", labels)
    words = {
        "reference": {"url": reference, "mask": {"url": path, "valid": [1, 2, 3]}},
        "moving": {"url": moving, "mask": {"url": path, "invalid": [3]}, "nodata": 7},
    }
    got = run(tmp_path, reference, moving, words)
    wanted = bigncc.local_maps(f, g, 7, reference_mask=labels > 0, moving_mask=labels != 3, nodata=(None, 7))
    pairs.same(got, wanted)
    assert 2 in got["status"]


def test_a_region_is_that_part_of_the_whole(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    whole = run(tmp_path, reference, moving, out="whole")
    part = run(tmp_path, reference, moving, "output.region=40:90,33:170", out="part")
    pairs.same(part, {name: array[40:90, 33:170] for name, array in whole.items()})
    steps = zarr.open_group(str(tmp_path / "part"), mode="r").attrs["ome"]["multiscales"][0]["datasets"][0]
    assert steps["coordinateTransformations"][1] == {"type": "translation", "translation": [40.0, 33.0]}


def test_summary_is_that_of_the_pixels_and_stays_with_the_output(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    result = pipeline.run(pairs.still(reference, moving, tmp_path / "out"))
    got = pairs.maps(tmp_path / "out")
    values = got["ncc"][got["status"] == 1].astype(float)
    assert result.summary.counts == tuple(np.bincount(got["status"].ravel(), minlength=9))
    assert math.isclose(result.summary.mean, values.mean(), abs_tol=1e-7)
    attributes = zarr.open_group(str(tmp_path / "out"), mode="r").attrs["bigncc"]
    assert attributes["state"] == "complete"
    assert attributes["summary"] == result.summary.to_dict()
    assert attributes["config"]["window"]["size"] == [7, 7]
    assert attributes["versions"]["bigncc"]
    assert journal.read_complete(str(tmp_path / "out"))["digest"] == attributes["digest"]


class Killed(BaseException):
    """Nothing that bigncc could catch by mistake."""


def killed_after(monkeypatch, tiles):
    """Make the run die when that many tiles are recorded."""
    append = journal.Writer.append
    count = []

    def die(self, row):
        append(self, row)
        count.append(row.tile)
        if len(count) == tiles:
            raise Killed

    monkeypatch.setattr(journal.Writer, "append", die)
    return count


def computed(monkeypatch):
    """Record which tiles are computed from now on."""
    compute, tiles = engine.compute, []

    def record(job, pair, output, tile, *rest):
        tiles.append(tile.index)
        return compute(job, pair, output, tile, *rest)

    monkeypatch.setattr(engine, "compute", record)
    return tiles


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path, monkeypatch):
    reference, moving, *_ = pairs.pair(tmp_path)
    whole = run(tmp_path, reference, moving, out="whole")
    with monkeypatch.context() as patch:
        done = killed_after(patch, 7)
        with pytest.raises(Killed):
            run(tmp_path, reference, moving)
    assert len(done) == 7
    found = pipeline.status(str(tmp_path / "out.ome.zarr"))
    assert (found["state"], found["tiles"]["done"]) == ("in-progress", 7)
    tiles = computed(monkeypatch)
    # another machine: other memory and threads change nothing
    pairs.same(whole, run(tmp_path, reference, moving, {"engine": {"memory": "2GB", "threads": 1}}))
    grid = stored_grid(journal.read_plan(str(tmp_path / "out.ome.zarr")))
    assert sorted(tiles + done) == list(range(grid.base))
    assert found["tiles"]["total"] == len(grid) > grid.base
    tiles.clear()
    run(tmp_path, reference, moving)
    assert tiles == []
    assert pipeline.status(str(tmp_path / "out.ome.zarr"))["state"] == "complete"


@pytest.mark.parametrize("fault", ["delete", "flip", "empty", "swap"])
@pytest.mark.parametrize("name", ["0", "labels/status/0"])
def test_tiles_whose_bytes_changed_are_computed_again(tmp_path, monkeypatch, fault, name):
    reference, moving, *_ = pairs.pair(tmp_path)
    whole = run(tmp_path, reference, moving)
    objects = sorted(p for p in (tmp_path / "out.ome.zarr" / name / "c").rglob("*") if p.is_file())
    victim, other = objects[3], objects[-1]
    before = victim.read_bytes()
    if fault == "delete":
        victim.unlink()
    elif fault == "empty":
        victim.write_bytes(b"")
    elif fault == "flip":
        victim.write_bytes(before[:9] + bytes([before[9] ^ 4]) + before[10:])
    else:
        victim.write_bytes(other.read_bytes())
    assert not victim.exists() or victim.read_bytes() != before
    tiles = computed(monkeypatch)
    pairs.same(whole, run(tmp_path, reference, moving))
    assert len(tiles) == 1
    assert victim.read_bytes() == before


def test_another_request_is_refused_with_the_key_that_differs(tmp_path):
    reference, moving, _f, g = pairs.pair(tmp_path)
    run(tmp_path, reference, moving)
    before = pairs.files(tmp_path / "out.ome.zarr")
    other = pairs.store(tmp_path / "other", g + 1)
    for words, sentence in (
        ((reference, moving, "window.size=9"), r"window.size is \[7, 7\] there, \[9, 9\] asked"),
        ((reference, moving, "window.border=valid"), "window.border is 'shrink' there, 'valid' asked"),
        ((reference, moving, "output.region=0:50,0:50"), "output.region is None there"),
        ((reference, other), "moving.samples is .* there, .* asked"),
        ((reference, moving, "moving.nodata=3"), "moving.nodata is None there, 3.0 asked"),
    ):
        with pytest.raises(RefusedError, match=sentence):
            run(tmp_path, *words)
    assert pairs.files(tmp_path / "out.ome.zarr") == before


def test_not_a_number_is_the_same_request_as_itself(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path, dtype="float32")
    words = ({"window": {"flat": math.nan}, "moving": {"url": moving, "nodata": math.nan}},)
    first = run(tmp_path, reference, moving, *words)
    assert np.isnan(first["ncc"][first["status"] == 4]).all()
    pairs.same(first, run(tmp_path, reference, moving, *words))
    text = (tmp_path / "out.ome.zarr" / "zarr.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert pipeline.report(str(tmp_path / "out.ome.zarr")).exists()


def test_another_kernel_version_is_refused(tmp_path, monkeypatch):
    reference, moving, *_ = pairs.pair(tmp_path)
    run(tmp_path, reference, moving)
    monkeypatch.setattr("bigncc.kernel.VERSION", 10**6)
    with pytest.raises(RefusedError, match="was begun with kernel version"):
        run(tmp_path, reference, moving)


@pytest.mark.parametrize("kind", ["file", "folder", "zarr", "copy"])
def test_an_output_that_is_not_ours_is_left_alone(tmp_path, kind):
    reference, moving, f, _ = pairs.pair(tmp_path)
    out = tmp_path / "out.ome.zarr"
    if kind == "file":
        out.write_text("precious")
    elif kind == "folder":
        out.mkdir()
        (out / "precious").write_text("data")
    elif kind == "zarr":
        pairs.store(out, f)
    else:  # a result whose journal is gone: nobody can tell what of it is true
        run(tmp_path, reference, moving)
        Path(journal.directory(str(out))).rename(tmp_path / "elsewhere")
    before = out.read_bytes() if kind == "file" else pairs.files(out)
    with pytest.raises(RefusedError, match="exists: a path that does not exist or an empty directory is accepted"):
        run(tmp_path, reference, moving)
    assert (out.read_bytes() if kind == "file" else pairs.files(out)) == before
    assert not Path(journal.directory(str(out))).exists()


def test_what_does_not_fit_is_refused_before_a_pixel_is_read(tmp_path, monkeypatch):
    reference, moving, *_ = pairs.pair(tmp_path)
    with pytest.raises(DoesNotFitError, match="raise engine.memory or lower output.chunks"):
        run(tmp_path, reference, moving, "engine.memory=100MB")
    assert not (tmp_path / "out.ome.zarr").exists()
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1000}))
    with pytest.raises(DoesNotFitError, match="MB free: .* MB, what the output may take, fit"):
        run(tmp_path, reference, moving)
    assert not (tmp_path / "out.ome.zarr").exists()


@pytest.mark.parametrize("memory", range(365, 420, 5))
def test_what_is_planned_is_not_refused_afterwards(tmp_path, memory):
    f = np.random.default_rng(0).integers(0, 9, (600, 700), dtype=np.uint8)
    paths = pairs.store(tmp_path / "a", f, (150, 350)), pairs.store(tmp_path / "b", f, (600, 100))
    # to measure a shift takes memory too
    asked = pairs.job if memory % 15 == 10 else pairs.still
    config = asked(*paths, tmp_path / "out", {"engine": {"memory": memory * 10**6}, "output": {"chunks": [64, 64]}})
    try:
        estimate = pipeline.plan(config)
    except DoesNotFitError:
        assert memory < 370
    else:
        assert estimate.memory <= estimate.memory_limit
        assert pipeline.run(config).complete


def test_a_resumed_run_that_no_longer_fits_says_so(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    run(tmp_path, reference, moving)
    with pytest.raises(DoesNotFitError, match="engine.memory is 300 MB and the tiles of this run need"):
        run(tmp_path, reference, moving, "engine.memory=300MB")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"window": {"size": 131}}, r"window.size is \[131, 131\], larger than the image of \[130, 170\]"),
        ({"window": {"size": [3, 3, 3]}}, "has axes y, x: z, y, x at the end are accepted"),
        ({"output": {"region": "0:50,0:171"}}, r"output.region is 0:50,0:171: 2 ranges inside of \[130, 170\]"),
        ({"output": {"chunks": [4, 4, 4]}}, r"output.chunks is \[4, 4, 4\]: 2 numbers are accepted"),
        (
            {"registration": {"model": None, "transform": "nothing.json"}},
            "registration.transform 'nothing.json' cannot",
        ),
        ({"reference": {"url": "nothing.zarr"}}, "nothing.zarr"),
        ({"reference": {"level": 3}}, "level"),
        ({"reference": {"channel": 3}}, "channel"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(tmp_path, change, sentence):
    reference, moving, *_ = pairs.pair(tmp_path)
    with pytest.raises(InputError, match=sentence) as caught:
        run(tmp_path, reference, moving, change)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.ome.zarr").exists()


def test_a_transform_of_other_axes_is_refused(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"kind": "translation", "offset": [1, 2, 3]}))
    with pytest.raises(InputError, match="the transform has 3 axes: 2 are accepted"):
        registered(tmp_path, reference, moving, {"registration": {"model": None, "transform": str(path)}})


def test_a_corrupt_input_chunk_stops_the_run_with_its_name(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    chunk = sorted((Path(moving) / "c").rglob("2"))[-1]
    chunk.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"b.zarr/c/2/2 \(7 bytes\) cannot be read at \["):
        run(tmp_path, reference, moving)


def test_plan_computes_nothing_and_says_what_a_run_takes(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    config = pairs.still(reference, moving, tmp_path / "out")
    estimate = pipeline.plan(config)
    assert not (tmp_path / "out").exists()
    assert not Path(journal.directory(str(tmp_path / "out"))).exists()
    pipeline.run(config)
    grid = journal.read_plan(str(tmp_path / "out"))["tiles"]
    assert estimate.tiles == math.prod(-(-n // t) for n, t in zip(estimate.shape, grid["tile"], strict=True))
    objects = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name != "zarr.json"]
    assert len(objects) == estimate.objects
    assert sum(p.stat().st_size for p in objects) <= estimate.disk * 1.01 + 1000
    assert estimate.memory <= estimate.memory_limit
    assert set(estimate.facts()) == {"output", "tiles", "memory", "disk", "levels", "decoding", "time", "window"}


def test_status_works_at_every_stage(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    out = str(tmp_path / "out")
    with pytest.raises(InputError, match="out"):
        pipeline.status(out)
    config = pairs.still(reference, moving, out)
    pipeline.prepare(config)
    assert pipeline.status(out)["tiles"]["done"] == 0
    result = pipeline.run(config)
    complete = pipeline.status(out)
    assert complete["state"] == "complete"
    assert complete["pixels"] == {"done": 130 * 170, "total": 130 * 170}
    Path(journal.directory(out)).rename(tmp_path / "gone")
    alone = pipeline.status(out)  # the output can be read without its journal
    assert {**complete, "url": ""} == {**alone, "url": ""}
    assert sum(alone["status"].values()) == result.summary.pixels


def test_two_starts_share_one_plan(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    first = pipeline.prepare(pairs.job(reference, moving, tmp_path / "out"))
    second = pipeline.prepare(pairs.job(reference, moving, tmp_path / "out", "engine.memory=900MB"))
    assert (first.job, first.headline) == (second.job, second.headline)


def test_the_headline_says_what_is_done_with_the_moving_image(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"kind": "translation", "offset": [1.5, -2]}))
    given = {"registration": {"model": None, "transform": str(path)}}
    np.save(tmp_path / "field.npy", np.zeros((2, 3, 3)))
    field = {"registration": {"model": None, "displacement": {"url": str(tmp_path / "field.npy"), "step": 80}}}
    out = tmp_path / "o"
    for words, wanted in (
        ((), "moving image correlated as it is stored; residual shift unknown: not measured yet"),
        ((given,), "moving image shifted by y +1.5, x -2 pixels"),
        ((field,), "moving image pulled through the displacement field field.npy"),
        (
            ("registration.model=translation",),
            "moving image to be registered (translation): not estimated yet",
        ),
    ):
        assert pipeline.plan(pairs.job(reference, moving, out, *words)).headline == wanted


def test_a_picture_of_an_unfinished_result_is_refused(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    pipeline.prepare(pairs.still(reference, moving, tmp_path / "out"))
    with pytest.raises(IncompleteError, match=r"has 0 of \d+ tiles: run the same command again"):
        pipeline.report(str(tmp_path / "out"))


# --- what is estimated ------------------------------------------------------------------------------------------------

ESTIMATED = "registration.model=translation"


def shifted(folder, offset=(6.4, -3.7), shape=(230, 250), **options):
    """Write a pair of which one is shifted; return paths and arrays."""
    f, g = scenes.pair(1, shape, 1.0, offset, **options)
    return pairs.store(folder / "a.zarr", f), pairs.store(folder / "b.zarr", g), f, g


def test_the_moving_image_is_registered_by_default_and_it_is_the_registered_image_that_is_correlated(tmp_path):
    reference, moving, f, g = shifted(tmp_path)
    result = bigncc.run(
        {"reference": {"url": reference}, "moving": {"url": moving}, "output": {"url": tmp_path / "out"}}
    )
    plan = journal.read_plan(result.url)
    found = bigncc.register(f, g).transform
    assert np.abs(np.subtract(found.offset, (6.4, -3.7))).max() < 0.06
    assert plan["registration"]["transform"] == {"kind": "translation", "offset": list(found.offset)}
    wanted = bigncc.local_maps(f, g, 7, transform=found, pivot=pivots_of(plan))
    pairs.same(pairs.maps(tmp_path / "out"), wanted)
    assert result.summary.mean > 0.8
    assert result.headline.startswith("moving image shifted by y +6.")
    assert re.search(
        r"measured y \+6\.\d+, x -3\.\d+, uncertain by 0\.0\d+ px; (\d+) of \1 sites agree", result.headline
    )


def test_a_transform_is_estimated_once_and_kept_in_plan_and_output(tmp_path, monkeypatch):
    reference, moving, *_ = shifted(tmp_path)
    config = pairs.job(reference, moving, tmp_path / "out", ESTIMATED)
    first = pipeline.prepare(config)
    monkeypatch.setattr(placement, "estimate", lambda *_, **__: pytest.fail("estimated again"))
    again = pipeline.prepare(config)
    assert again.job == first.job
    assert str(again.inputs.registration) == str(first.inputs.registration)
    pipeline.run(config)
    kept = open_output(tmp_path / "out").attributes["registration"]
    assert kept == journal.read_plan(str(tmp_path / "out"))["registration"]
    assert kept["estimate"]["transform"] == {"kind": "translation", "offset": list(first.job.transform.offset)}
    pipeline.report(str(tmp_path / "out"))
    # how it is estimated is part of the request
    for word in ("registration.upsample_factor=20", "registration.model=none", "registration.order=3"):
        with pytest.raises(RefusedError, match=r"registration\.(upsample_factor|transform|order) is"):
            pipeline.run(pairs.job(reference, moving, tmp_path / "out", ESTIMATED, word))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 9))])
def test_an_aligned_pair_is_not_shifted_and_its_map_is_that_of_as_is(tmp_path, seed):
    f, g = scenes.pair(seed, (230, 250), 1.0, (0, 0))
    paths = pairs.store(tmp_path / "a", f), pairs.store(tmp_path / "b", g)
    prepared = pipeline.prepare(pairs.job(*paths, tmp_path / "registered", ESTIMATED))
    assert prepared.job.transform.offset == (0, 0)
    assert prepared.headline.startswith("moving image not shifted: the measured y ")
    pairs.same(registered(tmp_path, *paths, ESTIMATED, out="registered"), registered(tmp_path, *paths, out="as-is"))
    said = pipeline.prepare(pairs.job(*paths, tmp_path / "as-is")).headline
    assert said.startswith("moving image correlated as it is stored; residual shift measured y ")


def test_a_residual_is_reported_and_not_applied(tmp_path):
    reference, moving, f, g = shifted(tmp_path)
    result = pipeline.run(pairs.job(reference, moving, tmp_path / "out"))
    assert re.search(r"as it is stored; residual shift measured y \+6\.\d+, x -3\.\d+, uncertain", result.headline)
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(f, g, 7))
    kept = open_output(tmp_path / "out").attributes["registration"]
    assert kept["transform"] == "none"
    assert kept["estimate"]["measured"]["offset"][0] == pytest.approx(6.4, abs=0.06)


def test_a_residual_that_cannot_be_measured_costs_no_map(tmp_path):
    f, g = strategies.image(1, (130, 170), "uint16", "noise"), np.full((130, 170), 7, np.uint16)
    paths = pairs.store(tmp_path / "a", f), pairs.store(tmp_path / "b", g)
    result = pipeline.run(pairs.job(*paths, tmp_path / "out"))
    assert result.headline == (
        "moving image correlated as it is stored; residual shift unknown: "
        "none of 12 sites has texture and samples in both images to be registered by"
    )
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(f, g, 7))
    pipeline.report(result.url)
    with pytest.raises(RegistrationError, match="no texture to be registered by in moving"):
        pipeline.run(pairs.job(*paths, tmp_path / "other", ESTIMATED))
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "other.bigncc").exists()


def test_a_region_is_shifted_as_the_whole_is(tmp_path):
    reference, moving, *_ = shifted(tmp_path)
    whole = registered(tmp_path, reference, moving, ESTIMATED, out="whole")
    part = registered(tmp_path, reference, moving, ESTIMATED, "output.region=10:60,100:190", out="part")
    pairs.same(part, {name: array[10:60, 100:190] for name, array in whole.items()})


def test_masks_extents_and_stacks_are_registered(tmp_path):
    f, g = scenes.pair(3, (230, 250), 1.0, (4.25, 2.5))
    f[40:120, 60:200] = 65535
    stack = np.stack([np.zeros_like(f), f, f]), np.stack([np.zeros_like(g), g, g])[:, :200, :240]
    paths = pairs.store(tmp_path / "a", stack[0]), pairs.store(tmp_path / "b", stack[1])
    prepared = pipeline.prepare(
        pairs.job(*paths, tmp_path / "out", ESTIMATED, {"reference": {"url": paths[0], "nodata": 65535}})
    )
    assert np.abs(np.subtract(prepared.job.transform.offset, (4.25, 2.5))).max() < 0.1
    assert prepared.inputs.registration.quality > 0.9


def test_a_volume_is_registered_along_three_axes(tmp_path):
    f, g = scenes.pair(4, (30, 80, 90), 0.8, (1.5, 2.0, -3.25))
    paths = pairs.store(tmp_path / "a", f), pairs.store(tmp_path / "b", g)
    words = (ESTIMATED, {"window": {"size": [3, 5, 5]}, "output": {"chunks": [8, 32, 32]}})
    result = pipeline.run(pairs.job(*paths, tmp_path / "out", *words))
    assert result.headline.startswith("moving image shifted by z +1.")
    assert result.summary.mean > 0.7


def test_a_pyramid_spares_the_coarse_search_the_pixels(tmp_path, monkeypatch):
    offset = (37.25, -20.5)
    for name, image in zip("ab", scenes.pair(5, (1200, 1300), 1.5, offset), strict=True):
        half = image.reshape(600, 2, 650, 2).mean((1, 3)).astype(image.dtype)
        zarrs.ome(tmp_path / name, [image, half], "yx", chunks=(200, 200))
    sizes = []
    mean = search.block_mean
    monkeypatch.setattr(search, "block_mean", lambda image, factors: sizes.append(image.shape) or mean(image, factors))
    prepared = pipeline.prepare(pairs.job(str(tmp_path / "a"), str(tmp_path / "b"), tmp_path / "out", ESTIMATED))
    assert sizes == [(600, 650), (600, 650)]
    assert np.abs(np.subtract(prepared.job.transform.offset, offset)).max() < 0.06


def test_neighbouring_tiles_are_registered_by_their_metadata(tmp_path):
    whole, other = scenes.pair(6, (300, 900), 1.5, (0.4, 3.75))
    for name, image, start in (("a", whole[:, :500], 7.0), ("b", other[:, 400:], 7.0 + 0.5 * 397)):
        steps = [[{"type": "scale", "scale": [0.5, 0.5]}, {"type": "translation", "translation": [3.0, start]}]]
        zarrs.ome(tmp_path / name, [image], "yx", steps=steps, units="micrometer", chunks=(64, 64))
    words = (ESTIMATED, "registration.initial=metadata")
    prepared = pipeline.prepare(pairs.job(str(tmp_path / "a"), str(tmp_path / "b"), tmp_path / "out", *words))
    assert np.abs(np.subtract(prepared.job.transform.offset, (0.4, 3.75 - 400))).max() < 0.1


def test_pixel_sizes_that_differ_are_noted_or_refused(tmp_path):
    for name, image, scale in zip("ab", scenes.pair(7, (230, 250), 1.0, (2.5, 0)), (1.0, 1.001), strict=True):
        zarrs.ome(tmp_path / name, [image], "yx", steps=[[{"type": "scale", "scale": [scale, scale]}]], chunks=(64, 64))
    notes = pipeline.prepare(
        pairs.job(str(tmp_path / "a"), str(tmp_path / "b"), tmp_path / "out", ESTIMATED)
    ).inputs.notes
    assert any(
        "axis y has scale 1 in reference and 1.001 in moving, by which pixels may be off by 0.23 px" in n for n in notes
    )


@pytest.mark.parametrize("kind", ["array", "group", "store"])
def test_images_can_be_zarr_objects(tmp_path, kind):
    reference, _, f, g = shifted(tmp_path)
    memory = zarr.storage.MemoryStore()
    if kind == "group":
        made = zarr.create_group(memory)
        other = zarrs.ome(tmp_path / "g", [g], "yx", chunks=(64, 64))
        made.create_array("0", data=g, chunks=(64, 64))
        made.attrs.update(other.attrs.asdict())
    else:
        made = zarr.create_array(memory, data=g, chunks=(64, 64))
    given = {
        "array": zarr.open_array(reference, mode="r"),
        "group": reference,
        "store": zarr.storage.LocalStore(reference),
    }
    sections = {
        "reference": {"url": given[kind]},
        "moving": {"url": memory if kind == "store" else made},
        "output": {"url": tmp_path / "out", "chunks": [64, 64]},
    }
    result = bigncc.run(sections)
    plan = journal.read_plan(result.url)
    transform = bigncc.Translation(plan["registration"]["transform"]["offset"])
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(f, g, 7, transform=transform, pivot=pivots_of(plan)))
    assert plan["config"]["reference"]["url"] == reference
    # the same content is the same request, wherever it is
    assert bigncc.run({**sections, "reference": {"url": reference}}).summary == result.summary
    # what is in memory cannot be seen any more, the rest can
    assert pipeline.report(result.url).is_file()


def test_a_transform_is_written_and_can_be_given(tmp_path):
    reference, moving, *_ = shifted(tmp_path)
    config = pairs.job(reference, moving, tmp_path / "out", ESTIMATED)
    found = pipeline.register(config, str(tmp_path / "t.json"))
    assert not (tmp_path / "out").exists()
    given = {"registration": {"model": None, "transform": str(tmp_path / "t.json")}}
    pairs.same(
        registered(tmp_path, reference, moving, given, out="given"), registered(tmp_path, reference, moving, ESTIMATED)
    )
    assert json.loads((tmp_path / "t.json").read_text()) == {
        "kind": "translation",
        "offset": list(found.transform.offset),
    }
    with pytest.raises(RefusedError, match="t.json exists"):
        pipeline.register(config, str(tmp_path / "t.json"))
