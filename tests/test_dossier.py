"""What is told of a result is what its maps say: facts, regions, and pictures of them to the pixel."""

import json

import numpy as np
import pytest

import bigncc
from bigncc import dossier, pipeline, raster
from bigncc.finished import finished
from bigncc.picture import panel_of
from bigncc.summary import STATUS
from tests import results, stacks
from tests.test_raster import read

THRESHOLD = 0.5


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A result and its maps."""
    folder = tmp_path_factory.mktemp("dossier")
    paths, f, g = results.pair(folder)
    url = results.run(paths, folder / "out")
    return url, f, g, bigncc.open_result(url).load()


def told(url, count=8):
    """Return all that is told of a result."""
    found = finished(url)
    return dossier.dossier(found, panel_of(found), THRESHOLD, dossier.worst(found, THRESHOLD, count))


def test_facts_are_those_of_the_maps(made):
    url, _, _, maps = made
    facts = json.loads(json.dumps(pipeline.facts(url), allow_nan=False))
    valid = maps.ncc.values[maps.status.values == 1].astype(float)
    assert facts["ncc"]["valid"] == valid.size
    assert abs(facts["ncc"]["mean"] - valid.mean()) < 1e-6
    assert abs(facts["share_below"] - (valid < THRESHOLD).mean()) < 1e-12
    assert facts["share_below_is_exact"]
    for limit, share in facts["below"]:
        assert abs(share - (valid < limit).mean()) < 0.01
    counts = np.bincount(maps.status.values.ravel(), minlength=len(STATUS))
    assert facts["status"] == {name: n for name, n in zip(STATUS, counts.tolist(), strict=True) if n}
    assert facts["cost"]["tiles_timed"] == facts["proof"]["tiles"]
    assert 0 < facts["cost"]["longest_seconds"] <= facts["cost"]["seconds"]
    assert facts["images"]["reference"].endswith("/a.zarr")


def test_the_planted_box_is_the_worst_region_in_pixels_and_in_units(made):
    url, _, _, maps = made
    first = pipeline.facts(url)["regions"][0]
    for axis, planted in zip("yx", results.BOX, strict=True):
        a, b = first["box"][axis]
        # to a cell, which is as wide as a window
        assert abs(a - planted.start) <= 8
        assert abs(b - planted.stop) <= 8
        span = first["physical"][axis]
        assert span["unit"] == results.UNIT
        # what coordinates select is the box
        assert maps.sel({axis: slice(span["from"] - 1e-9, span["to"] + 1e-9)}).sizes[axis] == b - a
        np.testing.assert_allclose(maps[axis].values[[a, b - 1]], [span["from"], span["to"]])
    assert first["mean"] < 0.2


def test_regions_do_not_depend_on_chunks_nor_on_what_is_computed_of_the_reference(made, tmp_path):
    url, *_ = made
    paths, *_ = results.pair(tmp_path)
    other = pipeline.facts(results.run(paths, tmp_path / "chunks", "output.chunks=[32, 48]"))
    mine = pipeline.facts(url)
    assert other["regions"] == mine["regions"]
    assert other["plan_id"] != mine["plan_id"]
    part = pipeline.facts(results.run(paths, tmp_path / "part", "output.region=40:170,64:230"))["regions"][0]
    for axis in "yx":
        assert np.abs(np.subtract(part["box"][axis], mine["regions"][0]["box"][axis])).max() <= 8
        assert abs(part["physical"][axis]["from"] - part["box"][axis][0] * results.SCALE) < 1e-9


@pytest.mark.parametrize("finest", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_the_pictures_of_a_region_are_its_pixels(made, tmp_path, finest):
    url, f, g, maps = made
    if finest:
        paths, *_ = results.pair(tmp_path)
        url = results.run(paths, tmp_path / "out", f"output.finest_level={finest}")
    found = told(url)
    (top, bottom), (left, right) = (found.facts["regions"][0]["box"][axis] for axis in "yx")
    start = [
        min(max(0, (a + b) // 2 - 80), n - 160)
        for (a, b), n in zip(((top, bottom), (left, right)), f.shape, strict=True)
    ]
    part = tuple(slice(a, a + 160) for a in start)
    reference, moving, ncc = found.crops[0]
    assert reference.uri == raster.grey(f[part].astype(float))
    assert moving.uri == raster.grey(g[part].astype(float))
    values = np.where(maps.status == 1, maps.ncc, np.nan)[part]
    if finest:
        maps = bigncc.open_result(url, level=0)
        whole = np.where(maps.status == 1, maps.ncc, np.nan).repeat(2, axis=0).repeat(2, axis=1)
        values = whole[part]
    assert ncc.uri == raster.diverging(values)
    (box,) = ncc.boxes
    assert (box.x + start[1], box.y + start[0], box.width, box.height) == (left, top, right - left, bottom - top)


def test_the_overview_shows_status_by_reason_and_regions_where_they_are(made):
    url, _, _, maps = made
    found = told(url, 1)
    assert [picture.name for picture in found.overview] == [
        "reference", "moving, as pulled onto the reference", "confidence: NCC", "no value, by reason",
    ]  # fmt: skip
    assert found.overview[3].uri == raster.statuses(maps.status.values)
    (box,) = found.overview[2].boxes
    (top, bottom), (left, right) = (found.facts["regions"][0]["box"][axis] for axis in "yx")
    assert (box.y, box.x, box.height, box.width) == (top, left, bottom - top, right - left)
    assert read(found.overview[2].uri).shape[:2] == results.SHAPE


def test_a_large_plane_is_shown_by_means_and_everything_stays_small(made, monkeypatch):
    url, *_ = made
    monkeypatch.setattr(dossier, "MOST", 100)
    found = told(url, 1)
    assert {(picture.height, picture.width) for picture in found.overview} == {(67, 87)}
    (box,) = found.overview[2].boxes
    assert box.x * 3 == found.facts["regions"][0]["box"]["x"][0]
    image = np.array([[1.0, np.nan, 5.0], [3.0, np.nan, np.nan]])
    np.testing.assert_array_equal(dossier._reduced(image, 2), [[2.0, 5.0]])


@pytest.mark.soak
def test_a_result_whose_images_are_gone_is_told_all_the_same(tmp_path):
    paths, *_ = results.pair(tmp_path)
    url = results.run(paths, tmp_path / "out")
    before = told(url)
    paths[1].rename(tmp_path / "elsewhere")
    after = told(url)
    assert after.facts == before.facts
    assert after.overview == before.overview[2:]
    assert after.crops == tuple(crops[2:] for crops in before.crops)


def test_a_stack_names_sections_by_their_numbers_in_the_file(tmp_path):
    image = stacks.sections(16, (120, 150), shifts={}, damaged=9, how="blank")
    image[9] = np.random.default_rng(0).integers(0, 255, image[9].shape, np.uint8)
    results.image(tmp_path / "stack.zarr", image)
    words = {"stack": {"lags": [1]}, "reference": {"z": [2, 15]}, "moving": {"z": [2, 15]}}
    found = told(results.run([tmp_path / "stack.zarr"] * 2, tmp_path / "out", words), 2)
    assert {tuple(region["box"]["z"]) for region in found.facts["regions"]} == {(8, 9), (9, 10)}
    assert found.facts["stack"]
    assert found.shown == "the two sections that agree least"
    assert [row["section"] for row in found.facts["sections"]] == list(range(2, 14))
    assert set(found.charts) == {"histogram", "cumulative", "sections"}


@pytest.mark.soak
def test_regions_of_a_volume_have_three_axes(tmp_path):
    paths, f, _ = results.pair(tmp_path, shape=(12, *results.SHAPE))
    found = told(
        results.run(paths, tmp_path / "out", {"window": {"size": [3, 9, 9]}, "output": {"chunks": [12, 64, 64]}})
    )
    first = found.facts["regions"][0]
    assert first["box"]["z"] == [0, 12]
    assert found.shown == "section z 6"
    assert found.crops[0][0].height == 160
    assert read(found.crops[0][0].uri).shape == (160, 160, 4)
    assert f.ndim == 3
