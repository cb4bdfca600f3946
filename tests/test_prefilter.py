"""What prefilters are called and how far they reach; and a run with one, a confidence map and masks, to the disk."""

import json

import numpy as np
import pytest
import xarray as xr

import bigncc
from bigncc import Prefilter, journal, pipeline
from bigncc.errors import InputError, RefusedError
from bigncc.filtering import filtered
from bigncc.kernel import Pivot
from bigncc.maps import Asked
from bigncc.prefilter import KINDS, UNFILTERED
from tests import pairs, scenes
from tests.test_further_maps import alike, arrays

LOG, DOG, STD = KINDS[1:]


@pytest.mark.parametrize(
    ("words", "ndim", "radius"),
    [
        ({}, 2, (0, 0)),
        ({"kind": LOG, "sigma": 2}, 2, (8, 8)),
        ({"kind": LOG, "sigma": 1.1, "truncate": 3}, 3, (3, 3, 3)),
        ({"kind": LOG, "sigma": (0, 2, 1)}, 3, (0, 8, 4)),
        ({"kind": DOG, "sigma": 2}, 2, (13, 13)),
        ({"kind": DOG, "sigma": 0, "sigma_wide": (1, 3)}, 2, (4, 12)),
        ({"kind": STD, "sigma": [2, 3]}, 2, (8, 12)),
        ({"kind": STD, "size": 15}, 3, (7, 7, 7)),
        ({"kind": STD, "size": (1, 5)}, 2, (0, 2)),
    ],
)
def test_how_far_it_reaches(words, ndim, radius):
    prefilter = Prefilter(**words)
    assert prefilter.radius(ndim) == radius
    assert bool(prefilter) == bool(words)
    window = (3, 4, 5)[-ndim:]
    assert Asked(prefilter=prefilter).margin(window, ndim) == tuple(map(sum, zip(radius, window, strict=True)))
    twice = Asked(("confidence",), prefilter)
    assert twice.margin(window, 4)[-ndim:] == tuple(r + 2 * w for r, w in zip(radius, window, strict=True))
    assert twice.margin(window, 4)[:-ndim] == (0,) * (4 - ndim)
    reach = (1, 0, 7)[-ndim:]
    assert twice.margin(window, ndim, reach) == tuple(map(sum, zip(radius, window, reach, strict=True)))


REFUSED = [
    ({"kind": "log"}, "prefilter.kind is 'log': one of none, laplacian_of_gaussian, "),
    ({"kind": LOG}, "and prefilter.sigma is null: a number of pixels is accepted"),
    ({"kind": STD}, "prefilter.sigma is null: a number of pixels or prefilter.size is accepted"),
    ({"sigma": 2}, "prefilter.sigma is 2.* and prefilter.kind is none: another kind is accepted"),
    ({"truncate": 3}, "prefilter.truncate is 3.* and prefilter.kind is none"),
    (
        {"kind": LOG, "sigma": 2, "sigma_wide": 3},
        "sigma_wide is 3.*: prefilter.sigma or prefilter.truncate is accepted",
    ),
    ({"kind": DOG, "sigma": 2, "size": 3}, "prefilter.size is 3 and prefilter.kind is difference_of_gaussians"),
    ({"kind": STD, "sigma": 2, "size": 3}, "prefilter.sigma is 2.* and prefilter.size is given: prefilter.size is"),
    ({"kind": STD, "size": 3, "truncate": 3}, "prefilter.truncate is 3"),
    ({"kind": LOG, "sigma": -1}, "prefilter.sigma is -1.*: numbers of at least 0 that reach at most 1000 pixels"),
    ({"kind": LOG, "sigma": float("nan")}, "prefilter.sigma is nan"),
    ({"kind": LOG, "sigma": 251}, "prefilter.sigma is 251.* and prefilter.truncate 4: .* at most 1000 pixels"),
    ({"kind": LOG, "sigma": 2, "truncate": 0}, "prefilter.truncate is 0.*: a number above 0"),
    ({"kind": LOG, "sigma": 0.1}, "less than a pixel along all axes"),
    ({"kind": LOG, "sigma": (1, 2, 3)}, r"prefilter.sigma is \[1.*, 2.*, 3.*\] and the window has 2 axes"),
    (
        {"kind": DOG, "sigma": 2, "sigma_wide": 2},
        r"prefilter.sigma_wide is \[2.*\] .*: no less along any axis, and more",
    ),
    ({"kind": DOG, "sigma": 2, "sigma_wide": (1, 3)}, "prefilter.sigma_wide is"),
    ({"kind": STD, "size": 4}, "prefilter.size is 4: odd whole numbers up to 2001"),
    ({"kind": STD, "size": 1}, "prefilter.size is 1: "),
    ({"kind": STD, "size": (3, 3, 3)}, r"prefilter.size is \[3, 3, 3\] and the window has 2 axes"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_what_says_nothing_is_refused_in_a_sentence(words, said, tmp_path):
    with pytest.raises(InputError, match=said):
        bigncc.ncc(np.zeros((9, 9)), np.zeros((9, 9)), 3, prefilter=Prefilter(**words))
    if words.get("kind") == "log":
        return  # the config has a sentence of its own
    a, b, *_ = pairs.pair(tmp_path, (20, 20))
    with pytest.raises(InputError, match=said):
        pipeline.plan(pairs.job(a, b, tmp_path / "out", {"prefilter": words}))


def test_the_data_range_of_what_is_filtered_is_not_that_of_a_dtype(tmp_path):
    f, prefilter = np.zeros((20, 20), np.uint8), Prefilter(STD, size=3)
    with pytest.raises(InputError, match="ssim.data_range is null and prefilter.kind is local_standardisation: "):
        bigncc.local_maps(f, f, 3, ("ssim",), prefilter=prefilter)
    a, b, *_ = pairs.pair(tmp_path, (20, 20))
    words = {"prefilter": {"kind": STD, "size": 3}, "maps": ["ncc", "ssim"]}
    with pytest.raises(InputError, match=r"ssim.data_range is null .*: the difference between the highest possible"):
        pipeline.plan(pairs.job(a, b, tmp_path / "out", words))
    pipeline.plan(pairs.job(a, b, tmp_path / "out", words, "ssim.data_range=6"))


def test_only_a_prefilter_is_one(tmp_path):
    with pytest.raises(InputError, match="prefilter is 'log': a Prefilter is accepted"):
        bigncc.ncc(np.zeros((9, 9)), np.zeros((9, 9)), 3, prefilter="log")
    with pytest.raises(InputError, match="config key prefilter.kind is 'log': input should be 'none', "):
        pairs.job("a", "b", tmp_path / "out", "prefilter.kind=log")
    with pytest.raises(InputError, match="config key prefilter.width is unknown: kind, sigma, "):
        pairs.job("a", "b", tmp_path / "out", "prefilter.width=3")


@pytest.mark.parametrize("words", [{"kind": LOG, "sigma": 1.2}, {"kind": STD, "size": (3, 7)}], ids=KINDS[1::2])
def test_it_is_as_if_the_images_were_filtered_first(words):
    f, g = scenes.pair(3, (60, 70), 1.0, (1.0, 2.0))
    mask, prefilter, maps = np.random.default_rng(0).random(f.shape) < 0.9, Prefilter(**words), ("ncc", "status")
    roi = tuple(slice(0, n) for n in f.shape)
    a = filtered(f, mask.astype(np.uint8), prefilter, roi, Pivot(20000.0))
    b = filtered(g, None, prefilter, roi, Pivot(9000.0))
    given = {"prefilter": prefilter, "reference_mask": mask, "pivot": (20000.0, 9000.0)}
    before = bigncc.local_maps(f, g, 7, maps, **given)
    alike(before, bigncc.local_maps(a, b, 7, maps, pivot=(0.0, 0.0)))
    search = {"step": 8, "search_radius": 2}
    alike(bigncc.shift_map(f, g, 7, **search, **given), bigncc.shift_map(a, b, 7, **search, pivot=(0.0, 0.0)))
    after = bigncc.local_maps(f, g, 7, (*maps, "gain"), transform=bigncc.Translation((1.0, 2.0)), **given)
    both = (before["status"] == 1) & (after["status"] == 1)
    np.testing.assert_array_equal(after["gain"][both], (after["ncc"] - before["ncc"])[both])
    assert both.mean() > 0.9
    assert np.median(after["gain"][both]) > 0.3


SHAPE = (100, 131)
OFFSET = (0.5, -1.25)
WORDS = {
    "output": {"chunks": [48, 48]},
    "maps": ["ncc", "gain", "confidence", "shift"],
    "shift": {"step": 16, "search_radius": 2},
    "window": {"size": 9},
    "prefilter": {"kind": LOG, "sigma": [1.5, 1.0]},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A pair with a mask, nodata, an area without contrast and one outside of the moving image's view."""
    folder = tmp_path_factory.mktemp("prefilter")
    f, g = scenes.pair(1, SHAPE, 1.0, (0.5, -1.25))
    f[20:40, 20:50], g[60:, 70:75] = 0, 0
    f[75:, :30] = 777
    g = g[:, :122].copy()
    mask = np.random.default_rng(1).random(SHAPE) < 0.95
    pairs.store(folder / "a.zarr", f, (64, 64))
    pairs.store(folder / "b.zarr", g, (50, 64))
    pairs.store(folder / "m.zarr", mask, (40, 64))
    (folder / "t.json").write_text(json.dumps({"kind": "translation", "offset": OFFSET}))
    return folder, f, g, mask


def job(place, out, *words):
    folder, *_ = place
    sections = {"reference": {"nodata": 0, "mask": {"url": str(folder / "m.zarr")}}, "moving": {"nodata": 0}}
    given = {"registration": {"model": None, "transform": str(folder / "t.json")}}
    return pairs.job(str(folder / "a.zarr"), str(folder / "b.zarr"), out, sections, given, WORDS, *words)


@pytest.fixture(scope="module")
def made(place):
    url = place[0] / "made"
    pipeline.run(job(place, url))
    return url


@pytest.fixture(scope="module")
def wanted(place):
    """What arrays give."""
    _, f, g, mask = place
    options = {"transform": bigncc.Translation(OFFSET), "nodata": 0, "reference_mask": mask}
    options["prefilter"] = Prefilter(**WORDS["prefilter"])
    maps = bigncc.local_maps(f, g, 9, ("ncc", "status", "gain", "confidence"), **options)
    return maps, bigncc.shift_map(f, g, 9, step=16, search_radius=2, **options)


def test_what_is_stored_is_what_arrays_give(made, wanted):
    found, (maps, vectors) = arrays(made), wanted
    named = {"0": maps["ncc"], "labels/status/0": maps["status"]}
    named |= {f"maps/{name}/0": maps[name] for name in ("gain", "confidence")}
    named |= {f"maps/{name}/0": array for name, array in vectors.items()}
    alike(named, {path: found[path] for path in named})
    valid = maps["status"] == 1
    assert 0.7 < valid.mean() < 0.99
    np.testing.assert_array_equal(np.isfinite(maps["confidence"]), valid)
    assert {3, 6} <= set(np.unique(maps["status"]))
    assert np.median(maps["confidence"][valid]) > 0.5


@pytest.mark.parametrize(
    "words",
    [
        ("output.shards=[64, 64]", "output.chunks=[32, 32]", "engine.halo=overlap", "engine.threads=1"),
        ("output.chunks=[9, 131]", "output.pyramid=false", "engine.halo=read", "maps=[ncc, confidence]"),
    ],
)
def test_the_cut_cannot_be_seen(place, made, tmp_path, words):
    if "confidence]" in words[-1]:
        words = (*words, "shift.step=null", "shift.search_radius=8")
    pipeline.run(job(place, tmp_path / "out", *words))
    one, two = arrays(tmp_path / "out"), arrays(made)
    both = one.keys() & two.keys()
    assert {"0", "labels/status/0", "maps/confidence/0"} <= both
    alike({path: one[path] for path in both}, {path: two[path] for path in both})
    assert not pipeline.verify(str(tmp_path / "out"), recompute=1000).faults


def test_a_region_knows_its_surroundings(place, made, tmp_path):
    pipeline.run(job(place, tmp_path / "out", "output.region=16:80,24:120", "output.pyramid=false"))
    one, two = arrays(tmp_path / "out"), arrays(made)
    for path in ("0", "labels/status/0", "maps/confidence/0", "maps/gain/0"):
        np.testing.assert_array_equal(one[path], two[path][16:80, 24:120])


def test_sections_are_filtered_each_by_itself(tmp_path):
    f, g = scenes.pair(2, (3, 40, 44), 1.0, (0.0, 0.0, 0.0))
    paths = [pairs.store(tmp_path / name, image, (2, 20, 44), ("z", "y", "x")) for name, image in (("a", f), ("b", g))]
    words = {"prefilter": {"kind": STD, "size": 7}, "maps": ["ncc", "confidence"], "output": {"chunks": [16, 16]}}
    pipeline.run(pairs.job(*paths, tmp_path / "out", words))
    found = arrays(tmp_path / "out")
    for z in range(3):
        maps = bigncc.local_maps(f[z], g[z], 7, ("ncc", "confidence"), prefilter=Prefilter(STD, size=7))
        np.testing.assert_array_equal(found["0"][z], maps["ncc"])
        np.testing.assert_array_equal(found["maps/confidence/0"][z], maps["confidence"])


def test_what_it_takes_is_said(place, made, tmp_path):
    asked = job(place, tmp_path / "out", "maps=[ncc]", "shift.step=null", "shift.search_radius=8")
    plain = job(place, tmp_path / "out", "maps=[ncc]", "shift.step=null", "shift.search_radius=8")
    plain = plain.model_copy(update={"prefilter": type(plain.prefilter)()})
    more, less = pipeline.plan(asked), pipeline.plan(plain)
    assert less.seconds < more.seconds
    assert less.memory < more.memory
    assert less.decode_overhead["reference"] <= more.decode_overhead["reference"]
    beside = pipeline.plan(asked.model_copy(update={"maps": ("ncc", "confidence")}))
    assert more.seconds < beside.seconds
    assert more.memory < beside.memory


def test_another_filter_is_another_request_and_other_words_for_it_are_not(place, made, tmp_path):
    with pytest.raises(RefusedError, match=r"prefilter.sigma is \[1.5, 1.0\] there, \[2.0, 2.0\] asked"):
        pipeline.prepare(job(place, made, "prefilter.sigma=2"))
    words = "maps=[ncc]", "shift.step=null", "shift.search_radius=8"
    for sigma in ("2", "[2.0, 2]"):
        pipeline.prepare(job(place, tmp_path / "out", *words, f"prefilter.sigma={sigma}"))
    plan = journal.read_plan(str(tmp_path / "out"))
    assert plan["request"]["prefilter"] == {"kind": LOG, "sigma": [2.0, 2.0], "truncate": 4.0}
    assert plan["tiles"]["margin"] == [12, 12]


def test_without_a_prefilter_a_plan_says_what_it_always_said(tmp_path):
    a, b, *_ = pairs.pair(tmp_path, (20, 20))
    pipeline.prepare(pairs.job(a, b, tmp_path / "out"))
    plan = journal.read_plan(str(tmp_path / "out"))
    assert not {"prefilter", "maps"} & (plan["config"].keys() | plan["request"].keys())


def test_a_result_says_what_it_was_filtered_by(made):
    words = {"kind": LOG, "sigma": [1.5, 1.0], "truncate": 4.0}
    assert json.loads(bigncc.open_result(made).attrs["prefilter"]) == words
    f = xr.DataArray(scenes.scene(1, (20, 30), 1.0), dims=("y", "x"))
    given = Prefilter(LOG, sigma=(1.5, 1.0))
    found = bigncc.local_maps(f, f, 5, ("ncc", "confidence"), prefilter=given)
    assert json.loads(found["ncc"].attrs["prefilter"]) == words
    assert "prefilter" not in bigncc.ncc(f, f, 5).attrs
    np.testing.assert_array_equal(found["ncc"], bigncc.ncc(f.data, f.data, 5, prefilter=given))
    assert Prefilter() == UNFILTERED
