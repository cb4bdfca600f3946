"""Gain and shift map from the config to the disk: what is stored is what arrays give, and proven as the rest is."""

import json
import shutil

import numpy as np
import pytest
import zarr

import bigncc
from bigncc import config, journal, pipeline, shift
from bigncc.errors import IncompleteError, InputError, RefusedError
from bigncc.nodes import first_node
from bigncc.output import open_output
from bigncc.pyramid import Halving, of_named
from tests import pairs, scenes
from tests.test_pipeline import Killed, killed_after

SHAPE = (150, 171)
OFFSET = (0.5, -1.25)
COMPONENTS = ("shift_y", "shift_x", "shift_peak", "shift_ratio", "shift_uncertainty")
MAPS = {
    "output": {"chunks": [48, 48]},
    "maps": ["shift", "ncc", "gain"],
    "shift": {"step": 8, "search_radius": 3},
    "window": {"size": 9},
}

PLAIN = ("maps=[ncc]", "shift.step=null", "shift.search_radius=8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A pair that is shifted a bit more than the transform says, with samples that are not valid in both images."""
    folder = tmp_path_factory.mktemp("maps")
    f, g = scenes.pair(1, SHAPE, 1.5, (1.5, -2.0))
    f[40:60, 20:50] = 0
    g = g[:, :160].copy()  # nodes and pixels that are outside of its view
    g[100:, 90:95] = 0
    pairs.store(folder / "a.zarr", f, (64, 64))
    pairs.store(folder / "b.zarr", g, (50, 64))
    (folder / "t.json").write_text(json.dumps({"kind": "translation", "offset": OFFSET}))
    return folder, f, g


def job(place, out, *words):
    folder, *_ = place
    sections = {"reference": {"nodata": 0}, "moving": {"nodata": 0}}
    given = {"registration": {"model": None, "transform": str(folder / "t.json"), "trust_field": True}}
    return pairs.job(str(folder / "a.zarr"), str(folder / "b.zarr"), out, sections, given, MAPS, *words)


@pytest.fixture(scope="module")
def made(place):
    url = place[0] / "made"
    result = pipeline.run(job(place, url))
    return url, result


def arrays(url):
    """Every array of an output by its path."""
    group = zarr.open_group(str(url), mode="r")
    return {path: node[...] for path, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}


def alike(one, two):
    assert one.keys() == two.keys()
    for path, array in one.items():
        kind = f"u{array.itemsize}"
        np.testing.assert_array_equal(array.view(kind), two[path].view(kind), err_msg=path)


def test_what_is_stored_is_what_arrays_give(place, made):
    _, f, g = place
    found = arrays(made[0])
    options = {"transform": bigncc.Translation(OFFSET), "nodata": 0}
    vectors = bigncc.shift_map(f, g, 9, step=8, search_radius=3, **options)
    maps = bigncc.local_maps(f, g, 9, ("ncc", "status", "gain"), **options)
    level, number = of_named(maps), 0
    wanted = {f"maps/{name}/0": array for name, array in vectors.items()}
    while f"{number}" in found:
        wanted |= {
            f"{number}": level.ncc,
            f"labels/status/{number}": level.status,
            f"maps/gain/{number}": level.further["gain"],
        }
        level, number = Halving(2, 0.0).reduced(level), number + 1
    assert number == 3
    alike(found, wanted)
    for name in ("gain", *COMPONENTS):
        values = found[f"maps/{name}/0"]
        assert 0.01 < np.isnan(values).mean() < 0.3
    # what is left of the shift is found
    inner = np.isfinite(vectors["shift_uncertainty"])
    assert inner.mean() > 0.8
    assert abs(np.median(vectors["shift_y"][inner]) - 1) < 0.1
    assert abs(np.median(vectors["shift_x"][inner]) + 0.75) < 0.1


def test_gain_is_after_minus_before(place, made):
    _, f, g = place
    found = arrays(made[0])
    beyond = np.zeros(SHAPE, np.uint16)
    beyond[:, :160] = g
    before = bigncc.local_maps(f, beyond, 9, nodata=0)
    both = (found["labels/status/0"] == 1) & (before["status"] == 1)
    wanted = np.where(both, found["0"] - before["ncc"], np.float32("nan"))
    np.testing.assert_array_equal(found["maps/gain/0"].view("u4"), wanted.view("u4"))


@pytest.mark.parametrize(
    "words",
    [
        ("output.chunks=[50, 40]", "engine.halo=read", "engine.threads=1"),
        ("output.shards=[64, 64]", "output.chunks=[32, 32]"),
        ("output.ome_version=0.4", "output.chunks=[171, 171]"),
        ("output.finest_level=1", "output.chunks=[40, 40]"),
    ],
)
def test_the_cut_cannot_be_seen(place, made, tmp_path, words):
    pipeline.run(job(place, tmp_path / "out", *words))
    one, two = arrays(tmp_path / "out"), arrays(made[0])
    alike({path: one[path] for path in two if path in one}, {path: two[path] for path in one if path in two})
    assert {f"maps/{name}/0" for name in COMPONENTS} <= one.keys()
    assert any(path.startswith("maps/gain/") for path in one.keys() & two.keys())
    assert not pipeline.verify(str(tmp_path / "out"), recompute=1000).faults


def test_parts_and_a_region(place, made, tmp_path):
    asked = job(place, tmp_path / "out", "output.region=16:120,24:160")
    pipeline.prepare(asked)
    for part in range(3):
        summary = pipeline.run(asked, part=(part, 3))
    assert summary.shift is not None  # the last share is of nodes
    assert pipeline.finish(str(tmp_path / "out")).complete
    one, two = arrays(tmp_path / "out"), arrays(made[0])
    np.testing.assert_array_equal(one["maps/gain/0"], two["maps/gain/0"][16:120, 24:160])
    for name in COMPONENTS:
        np.testing.assert_array_equal(one[f"maps/{name}/0"], two[f"maps/{name}/0"][2:15, 3:20])


def test_workers_make_the_same_maps(place, made, tmp_path):
    from distributed import LocalCluster

    options = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0", "processes": False}
    with LocalCluster(n_workers=1, threads_per_worker=2, memory_limit=0, **options) as running:
        words = "cluster.kind=address", f"cluster.address={running.scheduler_address}", "engine.memory=2GB"
        result = pipeline.run(job(place, tmp_path / "out", *words))
    assert result.shift == made[1].shift
    alike(arrays(tmp_path / "out"), arrays(made[0]))


def test_a_run_that_dies_among_the_nodes_is_continued_to_the_same_bytes(place, made, tmp_path, monkeypatch):
    asked = job(place, tmp_path / "out")
    total = pipeline.status(str(made[0]))["tiles"]["total"]
    with monkeypatch.context() as patch:
        killed_after(patch, total - 5)
        with pytest.raises(Killed):
            pipeline.run(asked)
    rows = journal.rows(asked.output.url, journal.read_plan(asked.output.url)["plan_id"])
    assert any(row.shift is not None for row in rows.values())
    assert len(rows) < total
    with pytest.raises(IncompleteError, match="what is there is right"):
        pipeline.verify(asked.output.url)
    result = pipeline.run(asked)
    assert (result.shift, result.summary) == (made[1].shift, made[1].summary)
    alike(arrays(tmp_path / "out"), arrays(made[0]))
    assert not pipeline.verify(asked.output.url, recompute=3).faults


def test_a_flipped_bit_is_found_in_every_map_and_computed_again(place, made, tmp_path):
    url = tmp_path / "made"
    shutil.copytree(made[0], url)
    shutil.copytree(f"{made[0]}.bigncc", f"{url}.bigncc")
    clean = {name: array.tobytes() for name, array in arrays(url).items()}
    victims = [sorted((url / "maps" / name / "0" / "c").rglob("[0-9]"))[-1] for name in ("gain", *COMPONENTS)]
    victims.append(sorted((url / "maps" / "gain" / "2" / "c").rglob("[0-9]"))[-1])
    for path in victims:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    faults = pipeline.verify(str(url)).faults
    for path in victims:
        assert any(str(path) in fault for fault in faults), path
    # the plan has the absolute place of its output; the run's words are those that made it
    out = open_output(url)
    assert out.components == COMPONENTS
    assert out.names == ("ncc", "status", "gain")
    for path in victims:
        shutil.copy(made[0] / path.relative_to(url), path)
    assert not pipeline.verify(str(url)).faults
    assert {name: array.tobytes() for name, array in arrays(url).items()} == clean


@pytest.mark.parametrize("words", ["mine", {"maps": "mine"}, {"maps": ["ncc"], "window": 3}, {"maps": ["shift"]}])
def test_what_an_output_says_of_its_maps_is_proven(place, tmp_path, words):
    asked = job(place, tmp_path / "out", "output.region=0:20,0:20", "output.pyramid=false")
    pipeline.run(asked)
    path = tmp_path / "out" / "zarr.json"
    before = json.loads(path.read_bytes())
    document = json.loads(path.read_bytes())
    document["attributes"]["bigncc"]["config"] = words
    path.write_text(json.dumps(document))
    assert str(path) in "".join(pipeline.verify(asked.output.url).faults)
    pipeline.complete(pipeline.prepare(asked, repair=True))
    assert json.loads(path.read_bytes()) == before


def test_what_the_inputs_do_not_give_is_found(made, monkeypatch):
    local = shift.local

    def wrong(*args, **rest):
        vectors = local(*args, **rest)
        vectors[1] += 1
        return vectors

    monkeypatch.setattr(shift, "local", wrong)
    faults = pipeline.verify(str(made[0]), recompute=1000).faults
    assert faults
    assert all("pixels of shift_x are not what the inputs give" in fault for fault in faults)


def test_files_too_many_are_found_and_only_ours_are_removed(place, tmp_path):
    asked = job(place, tmp_path / "out")
    pipeline.run(asked)
    plan_id = journal.read_plan(asked.output.url)["plan_id"]
    for name in ("maps/gain/9/c/0/0", "maps/shift_y/0/c/9/9", "maps/shift_z/0/c/0/0", "maps/notes.txt"):
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"?")
        assert pipeline.verify(asked.output.url).faults == (f"{path} is a file too many",)
        with pytest.raises(RefusedError, match="was not made by bigncc"):
            pipeline.prepare(asked, overwrite=plan_id)
        path.unlink()
    pipeline.prepare(job(place, tmp_path / "out", *PLAIN, "window.size=7"), overwrite=plan_id)
    assert not (tmp_path / "out" / "maps").exists()


def test_another_search_is_another_request(place, made):
    with pytest.raises(RefusedError, match=r"shift.search_radius is \[3, 3\] there, \[4, 4\] asked"):
        pipeline.prepare(job(place, made[0], "shift.search_radius=4"))


def test_a_result_opens_with_the_places_of_its_nodes(place, made, tmp_path):
    found = bigncc.open_result(made[0])
    assert set(found) == {"ncc", "status", "gain", *COMPONENTS}
    assert found["gain"].dims == ("y", "x")
    assert found["shift_x"].dims == ("node_y", "node_x")
    start = first_node((8, 8))
    np.testing.assert_array_equal(found["node_y"], found["y"][start[0] :: 8])
    np.testing.assert_array_equal(found["node_x"], found["x"][start[1] :: 8])
    assert bigncc.open_result(made[0], level=2)["gain"].shape == (38, 43)


def test_what_it_takes_is_said(place, made, tmp_path):
    asked = job(place, tmp_path / "out")
    found, url = pipeline.plan(asked), made[0]
    stored = arrays(url)
    assert found.disk == sum(array.nbytes for array in stored.values())
    files = [path for path in url.rglob("*") if path.is_file() and path.name != "zarr.json"]
    assert found.objects == len(files)
    assert found.tiles + found.nodes + found.coarser == pipeline.status(str(url))["tiles"]["total"]
    assert f"and {found.nodes} for the shift map" in found.facts()["tiles"]
    plain = pipeline.plan(job(place, tmp_path / "out", *PLAIN))
    assert plain.seconds < found.seconds
    assert plain.memory <= found.memory
    assert plain.decode_overhead["reference"] < found.decode_overhead["reference"]
    assert plain.nodes == 0


def test_the_report_shows_them(made):
    shown = pipeline.panel(str(made[0]))
    gain = arrays(made[0])["maps/gain/0"]
    np.testing.assert_array_equal(shown.further["gain"], gain.astype(float))
    assert shown.shift.lengths == made[1].shift
    assert shown.shift.dy.shape == shown.shift.dx.shape == (shown.shift.y.size, shown.shift.x.size) == (19, 21)
    np.testing.assert_array_equal(shown.shift.y, range(3, 150, 8))
    assert "nodes" in made[1].further()["shift"]
    assert pipeline.report(str(made[0])).read_bytes().startswith(b"\x89PNG")


def test_channels_and_planes_have_maps_of_their_own(tmp_path):
    f, g = scenes.pair(2, (2, 3, 40, 44), 1.0, (0.0, 0.0, 1.0, 0.0))
    names = ("c", "z", "y", "x")
    paths = [pairs.store(tmp_path / name, image, (1, 2, 20, 44), names) for name, image in (("a", f), ("b", g))]
    (tmp_path / "t.json").write_text('{"kind": "translation", "offset": [0, 1]}')
    given = {
        "registration": {"model": None, "transform": str(tmp_path / "t.json"), "trust_field": True},
        "maps": ["ncc", "gain", "shift"],
    }
    for size, step, axes in ((7, (7, 7), "yx"), ([3, 7, 7], (3, 7, 7), "zyx")):
        if len(axes) == 3:
            (tmp_path / "t.json").write_text('{"kind": "translation", "offset": [0, 0, 1]}')
        url = tmp_path / f"out{len(axes)}"
        words = {
            "window": {"size": size},
            "shift": {"search_radius": 1},
            "output": {"chunks": [2, 16, 16][-len(axes) :]},
        }
        pipeline.run(pairs.job(*paths, url, given, words))
        transform = bigncc.Translation((0, 0, 1)[-len(axes) :])
        wanted = bigncc.shift_map(f, g, tuple(step), search_radius=1, transform=transform)
        found = arrays(url)
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[f"maps/{name}/0"].view("u4"), array.view("u4"))
        assert {name.split("_")[1] for name in wanted} - {"peak", "ratio", "uncertainty"} == set(axes)
        opened = bigncc.open_result(url)
        assert opened["shift_y"].dims == ("c", *(() if len(axes) == 3 else ("z",)), *(f"node_{a}" for a in axes))
        assert not pipeline.verify(str(url), recompute=2).faults
        assert pipeline.panel(str(url)).shift.dy.ndim == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("registration.transform=null", "registration.model=none", "moving.url=REFERENCE"),
            r"registration.model=none \(--as-is\) leaves it 0",
        ),
        (("registration.transform=IDENTITY",), "a transform that moves nothing leaves it 0 everywhere"),
        (("maps=[gain]",), "config key maps is .*: ncc, and others at most once each"),
        (("maps=[ncc, ncc]",), "config key maps is .*at most once"),
        (("maps=[ncc, flow]",), "config key maps .*'flow' is no map of this window"),
        (("maps=[ncc]",), r"config key shift is .*: maps is \[ncc\], and with shift among them it is accepted"),
        (("shift.step=160",), r"shift.step is \[160, 160\] and the output has \[150, 171\] pixels"),
        (("shift.search_radius=0",), r"shift.search_radius is \[0, 0\]: at least 1 along an axis"),
        (("shift.search_radius=[1, 2, 3]",), r"shift.search_radius is \[1, 2, 3\]: 2 whole numbers"),
    ],
)
def test_maps_that_say_nothing_are_refused(place, tmp_path, words, said):
    (tmp_path / "i.json").write_text('{"kind": "translation", "offset": [0, 0]}')
    places = {"IDENTITY": tmp_path / "i.json", "REFERENCE": place[0] / "a.zarr"}
    for name, path in places.items():
        words = [word.replace(name, str(path)) for word in words]
    with pytest.raises(InputError, match=said):
        pipeline.plan(job(place, tmp_path / "out", *words))


def test_without_further_maps_a_plan_says_what_it_always_said(place, tmp_path):
    pipeline.prepare(job(place, tmp_path / "out", *PLAIN))
    plan = journal.read_plan(str(tmp_path / "out"))
    assert not {"maps", "shift"} & (plan["config"].keys() | plan["request"].keys())
    assert not {"maps", "step", "nodes", "reach"} & plan["layout"].keys()
    assert "nodes" not in plan["tiles"]
    assert config.Config.model_validate({**plan["config"], "engine": {}}).maps == ("ncc",)
