"""The picture: block means of what is there, grey where there is nothing, and nobody's file overwritten."""

import math
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread, imsave

from bigncc import picture, pipeline, report
from bigncc.errors import RefusedError
from bigncc.finished import beside
from bigncc.pyramid import Halving, Maps
from bigncc.report import MARK, UNDEFINED, Panel
from bigncc.summary import BINS, STATUS, UNIT, Summary
from tests import pairs, strategies


def summary(values):
    """Statistics of some coefficients, one pixel each."""
    counts = tuple(np.bincount(np.where(np.isnan(values), 2, 1), minlength=len(STATUS)).tolist())
    seen = values[~np.isnan(values)]
    units = np.round(seen * UNIT).astype(int), np.round(seen**2 * UNIT).astype(int)
    histogram = tuple(np.histogram(seen, BINS, (-1, 1))[0].tolist())
    low, high = (seen.min(), seen.max()) if seen.size else (math.inf, -math.inf)
    return Summary(counts, int(units[0].sum()), int(units[1].sum()), float(low), float(high), histogram)


def panel(ncc, **changes):
    """Make a panel of tiny images."""
    ncc = np.asarray(ncc, np.float32)
    images = np.arange(ncc.size, dtype=np.float32).reshape(ncc.shape)
    return replace(Panel("title", images, -images, ncc, summary(ncc.ravel().astype(float)), 1), **changes)


def block_means(image, factor):
    """Means of the finite samples of each block, the slow way."""
    height, width = image.shape
    means = np.full((-(-height // factor), -(-width // factor)), np.nan)
    for i, j in np.ndindex(means.shape):
        block = image[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor].astype(float)
        if np.isfinite(block).any():
            means[i, j] = block[np.isfinite(block)].mean()
    return means


def share(picture, colour):
    """Share of a picture's pixels that have a colour ``#rrggbb``."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return (np.round(picture[..., :3] * 255) == wanted).all(axis=-1).mean()


def colours(picture):
    """Return the number of colours of a picture; rows of samples would be sorted for seconds."""
    codes = np.round(picture * 255).astype(np.uint32) << np.arange(0, 8 * picture.shape[-1], 8, dtype=np.uint32)
    return len(np.unique(codes.sum(axis=-1)))


@pytest.mark.parametrize("shape", [(1, 1), (40, 2), (2, 40)])
def test_a_tiny_panel_makes_a_picture(tmp_path, shape):
    path = tmp_path / "out.png"
    report.draw([panel(np.linspace(-1, 1, math.prod(shape)).reshape(shape))], path)
    picture = imread(path)
    assert picture.shape[1] == 1980
    assert 300 < picture.shape[0] < 1100
    assert colours(picture) > 20
    assert MARK in path.read_bytes()[:256]


def test_each_panel_has_a_row_and_an_earlier_picture_is_replaced(tmp_path):
    path = tmp_path / "out.png"
    one = panel([[0.5, 1.0], [-1.0, np.nan]])
    report.draw([one], path)
    height = len(imread(path))
    report.draw([one, one, one], path)
    assert len(imread(path)) == pytest.approx(3 * height, abs=3)
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_a_map_without_a_value_is_grey(tmp_path):
    nothing, all_there = panel(np.full((20, 30), np.nan)), panel(np.full((20, 30), 0.25))
    report.draw([nothing], tmp_path / "nothing.png")
    report.draw([all_there], tmp_path / "all.png")
    shares = [share(imread(tmp_path / name), UNDEFINED) for name in ("nothing.png", "all.png")]
    assert shares[0] > 0.05 > 20 * shares[1]  # letters have a few grey pixels
    assert report.facts(nothing.summary) == {
        "pixels": "600, 0.0 % of them with a value",
        "too few valid samples": "600 pixels",
    }


def test_images_that_are_gone_or_hold_nothing_leave_the_map(tmp_path):
    ncc = np.linspace(-1, 1, 600).reshape(20, 30)
    report.draw([panel(ncc)], tmp_path / "whole.png")
    report.draw([panel(ncc, reference=None, moving=None)], tmp_path / "gone.png")
    empty = np.full((20, 30), np.nan, np.float32)
    report.draw([panel(ncc, reference=empty, moving=empty)], tmp_path / "empty.png")
    whole, gone, nothing = (imread(tmp_path / f"{name}.png") for name in ("whole", "gone", "empty"))
    half = whole.shape[1] // 2
    for other in (gone, nothing):
        assert other.shape == whole.shape
        np.testing.assert_array_equal(other[:, half + 60 :], whole[:, half + 60 :])
        assert (other[:, :half] != whole[:, :half]).any()
    assert share(nothing[:, :half], UNDEFINED) > 0.1


@pytest.mark.parametrize("kind", ["text", "picture", "empty file", "folder"])
def test_a_file_that_is_not_ours_is_refused_and_stays(tmp_path, kind):
    path = tmp_path / "out.png"
    if kind == "text":
        path.write_text("precious")
    elif kind == "picture":
        imsave(path, np.zeros((4, 4)))
    elif kind == "folder":
        path.mkdir()
        (path / "precious").write_text("data")
    else:
        path.touch()
    before = pairs.files(tmp_path)
    with pytest.raises(RefusedError, match=r"out.png exists and is no picture of bigncc"):
        report.draw([panel([[0.5]])], path)
    assert pairs.files(tmp_path) == before


def test_facts_of_nothing_and_of_something():
    assert report.facts(Summary()) == {"pixels": "0, 0.0 % of them with a value"}
    found = report.facts(summary(np.array([0.25, 0.75, np.nan, np.nan])))
    assert found["pixels"] == "4, 50.0 % of them with a value"
    assert found["mean NCC"] == "0.5000, standard deviation 0.2500"
    assert found["range"] == "0.2500 to 0.7500"
    assert found["too few valid samples"] == "2 pixels"
    assert "valid" not in found


@pytest.mark.soak
@pytest.mark.parametrize("pyramid", [False, True])
def test_a_large_result_is_shown_by_block_means_of_valid_pixels(tmp_path, monkeypatch, pyramid):
    monkeypatch.setattr(picture, "PICTURE", 660)
    shape = (701, 2003)  # no multiple of anything
    f, g = (strategies.image(seed, shape, "uint8", "noise") for seed in (1, 2))
    g[:, :900] = f[:, :900]
    g[200:260, 300:380] = 7
    g[300:420, 1500:] = 255
    paths = pairs.store(tmp_path / "a", f, (300, 700)), pairs.store(tmp_path / "b", g, (701, 199))
    words = {"moving": {"nodata": 255}, "output": {"chunks": [256, 512], "pyramid": pyramid}}
    pipeline.run(pairs.job(*paths, tmp_path / "out", words))
    found = pipeline.panel(str(tmp_path / "out"))
    # of a pyramid the coarsest level that is large enough
    factor = 2 if pyramid else 3
    assert found.factor == factor
    assert found.ncc.shape == ((351, 1002) if pyramid else (234, 668))
    got = pairs.maps(tmp_path / "out")
    assert {1, 2, 4} <= set(np.unique(got["status"]))
    wanted = block_means(np.where(got["status"] == 1, got["ncc"], np.nan), factor)
    if pyramid:  # where less than half of a cell has a value, it has none
        wanted[Halving(2, 0.0).reduced(Maps(**got)).status != 1] = np.nan
    assert 0 < np.isnan(wanted).mean() < 0.2
    np.testing.assert_allclose(found.ncc, wanted, atol=1e-6)
    np.testing.assert_allclose(found.reference, block_means(f, factor), rtol=1e-6)
    np.testing.assert_allclose(found.moving, block_means(np.where(g == 255, np.nan, g), factor), rtol=1e-6)
    assert found.summary.pixels == math.prod(shape)


def test_the_picture_of_a_region_shows_that_region(tmp_path):
    reference, moving, f, g = pairs.pair(tmp_path)
    words = ("output.region=41:90,33:170", {"registration": {"model": None, "transform": str(tmp_path / "t.json")}})
    (tmp_path / "t.json").write_text('{"kind": "translation", "offset": [2, -40]}')
    pipeline.run(pairs.job(reference, moving, tmp_path / "out", *words))
    found = pipeline.panel(str(tmp_path / "out"))
    assert found.factor == 1
    assert found.title == "moving image shifted by y +2, x -40 pixels"
    np.testing.assert_array_equal(found.reference, f[41:90, 33:170])
    pulled = np.full((49, 137), np.nan)  # where x - 40 < 0 there is nothing to see
    pulled[:, 7:] = g[43:92, 0:130]
    np.testing.assert_array_equal(found.moving, pulled)
    got = pairs.maps(tmp_path / "out")
    np.testing.assert_array_equal(found.ncc, np.where(got["status"] == 1, got["ncc"], np.nan))
    assert pipeline.report(str(tmp_path / "out")) == tmp_path / "out.png"
    assert len(imread(tmp_path / "out.png")) > 100


def test_of_a_stack_the_first_channel_and_the_middle_plane_are_shown(tmp_path):
    f, g = (strategies.image(seed, (2, 5, 30, 40), "uint8", "noise") for seed in (1, 2))
    paths = (pairs.store(tmp_path / name, image, names=("c", "z", "y", "x")) for name, image in (("a", f), ("b", g)))
    pipeline.run(pairs.job(*paths, tmp_path / "out"))
    found = pipeline.panel(str(tmp_path / "out"))
    np.testing.assert_array_equal(found.reference, f[0, 2])
    np.testing.assert_array_equal(found.moving, g[0, 2])
    np.testing.assert_array_equal(found.ncc, pairs.maps(tmp_path / "out")["ncc"][0, 2])


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """A result whose moving image was pulled through a file, in a folder."""
    folder = tmp_path_factory.mktemp("shifted")
    reference, moving, *_ = pairs.pair(folder, (70, 100))
    (folder / "t.json").write_text('{"kind": "translation", "offset": [2, 1]}')
    given = {"registration": {"model": None, "transform": str(folder / "t.json")}}
    pipeline.run(pairs.job(reference, moving, folder / "out", given))
    return folder


@contextmanager
def renamed(path, name):
    """Give a file another name for a while."""
    other = path.rename(path.with_name(name))
    try:
        yield
    finally:
        other.rename(path)


@pytest.mark.parametrize("name", ["out", "out.zarr", "out.ome.zarr", "a.b.ome.zarr"])
def test_the_picture_lies_beside_the_output_under_its_name(tmp_path, name):
    wanted = f"{name.removesuffix('.zarr').removesuffix('.ome')}.png"
    assert beside(str(tmp_path / name), ".png") == tmp_path / wanted
    assert beside(f"s3://bucket/folder/{name}", ".png") == Path.cwd() / wanted


def test_a_result_whose_images_are_gone_is_still_drawn(shifted):
    before = pipeline.panel(str(shifted / "out"))
    with renamed(shifted / "b.zarr", "elsewhere"):
        after = pipeline.panel(str(shifted / "out"))
        assert after.reference is None
        assert after.moving is None
        np.testing.assert_array_equal(after.ncc, before.ncc)
        assert pipeline.report(str(shifted / "out")) == shifted / "out.png"
    assert (shifted / "out.png").is_file()


def test_a_result_whose_transform_is_gone_is_still_drawn(shifted):
    with renamed(shifted / "t.json", "elsewhere.json"):
        assert pipeline.panel(str(shifted / "out")).reference is None


def test_a_result_whose_field_is_gone_is_still_drawn(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path, (70, 100))
    np.save(tmp_path / "d.npy", np.ones((2, 70, 100)))
    given = {"registration": {"model": None, "displacement": {"url": str(tmp_path / "d.npy")}}}
    pipeline.run(pairs.job(reference, moving, tmp_path / "out", given))
    (tmp_path / "d.npy").unlink()
    assert pipeline.panel(str(tmp_path / "out")).reference is None
    assert pipeline.report(str(tmp_path / "out")).is_file()
