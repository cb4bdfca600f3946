"""Several windows in one pass: each as if it were alone, and the best of them."""

import json

import numpy as np
import pytest
import zarr

import bigncc
from bigncc import Window, pipeline
from bigncc.config import load
from bigncc.errors import InputError
from bigncc.scales import largest
from tests import pairs

SIZES = (5, (3, 9), 11)
NAMES = ("ncc_3x9", "ncc_11x11", "best", "scale")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    place = tmp_path_factory.mktemp("scales")
    pairs.pair(place, (150, 170), chunks=(64, 64))
    (place / "none.json").write_text(json.dumps({"kind": "translation", "offset": [0, 0]}))
    return place, *(zarr.open_array(place / f"{name}.zarr", mode="r")[...] for name in "ab")


@pytest.mark.parametrize("border", ["shrink", "valid", "reflect"])
def test_each_is_what_it_is_alone(pair, border):
    _, f, g = pair
    mask = np.random.default_rng(1).random(f.shape) < 0.7
    f = np.where(np.arange(f.shape[1]) < 30, 7, f).astype(f.dtype)
    window = Window(SIZES[0], border=border, flat=float("nan"))
    found = bigncc.local_maps(f, g, window, ("ncc", "status", *NAMES), windows=SIZES[1:], reference_mask=mask)
    alone = [
        bigncc.local_maps(f, g, Window(size, border=border, flat=float("nan")), reference_mask=mask) for size in SIZES
    ]
    for name, one in zip(("ncc", *NAMES[:2]), alone, strict=True):
        np.testing.assert_array_equal(found[name].view("u4"), one["ncc"].view("u4"))
    np.testing.assert_array_equal(found["status"], alone[0]["status"])
    values = np.array([np.where(one["status"] == 1, one["ncc"], -np.inf) for one in alone])
    none = np.isinf(values).all(axis=0)
    assert 0 < none.mean() < 0.5
    np.testing.assert_array_equal(found["best"], np.where(none, np.float32("nan"), values.max(axis=0)))
    np.testing.assert_array_equal(found["scale"], np.where(none, np.nan, 1 + values.argmax(axis=0)))


def test_of_equal_ones_the_first_counts():
    ncc, valid = np.full((1, 2), 0.5, np.float32), np.array([[1, 2]], np.uint8)
    best, scale = largest([(ncc, valid), (ncc, valid), (ncc - 1, valid)])
    np.testing.assert_array_equal(best, [[0.5, np.nan]])
    np.testing.assert_array_equal(scale, [[1, np.nan]])


def job(place, out, *words):
    images = {"reference": {"url": f"{place}/a.zarr"}, "moving": {"url": f"{place}/b.zarr"}}
    registration = {"transform": f"{place}/none.json"}
    return load([{**images, "output": {"url": str(out)}, "registration": registration}, *words])


def test_a_run_has_a_map_for_each(pair, tmp_path):
    place, f, g = pair
    words = ("window.size=[[5, 5], [3, 9], [11, 11]]", "maps=[ncc, ssim]", "output.chunks=[32, 32]")
    done = pipeline.run(job(place, tmp_path / "out", *words))
    assert done.complete
    result = bigncc.open_result(tmp_path / "out")
    assert set(result) == {"ncc", "status", "ssim", *NAMES}
    wanted = bigncc.local_maps(f, g, SIZES[0], ("ncc", "status", "ssim", *NAMES), windows=SIZES[1:])
    for name, array in wanted.items():
        np.testing.assert_array_equal(result[name].values, array)
    assert result["ncc_3x9"].attrs["long_name"] == "normalised cross-correlation, window 3x9"
    assert not pipeline.verify(tmp_path / "out", recompute=2).faults
    # what it says of itself is enough to go on with it, and to draw it
    assert pipeline.run(job(place, tmp_path / "out", *words)).complete
    assert set(pipeline.panel(str(tmp_path / "out")).further) == {"ssim", *NAMES}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("window.size=[[5, 5], [5, 5]]",), r"sizes \[5, 5\], \[5, 5\]: sizes of as many axes each, each once"),
        (("window.size=[[5, 5], [3, 5, 5]]",), r"sizes \[5, 5\], \[3, 5, 5\]: sizes of as many axes each, each once"),
        (("window.size=[[5, 5], [4, 4]]",), r"^window.size is \[4, 4\]: odd whole numbers"),
        (("maps=[ncc, best]",), "'best' is no map of this window: ncc, gain, "),
        (("window.size=[[5, 5], [199, 5]]",), r"window.size is \[199, 5\], larger than the image"),
    ],
)
def test_what_cannot_be_is_refused(pair, tmp_path, words, sentence):
    with pytest.raises(InputError, match=sentence):
        pipeline.plan(job(pair[0], tmp_path / "out", *words))


def test_a_map_of_no_window_is_refused(pair):
    _, f, g = pair
    with pytest.raises(InputError, match=r"maps has 'ncc_7x7': ncc, status, .*, ncc_11x11, best, scale are accepted"):
        bigncc.local_maps(f, g, 5, ("ncc_7x7",), windows=(11,))
