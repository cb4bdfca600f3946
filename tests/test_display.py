"""Which layers a result has, finished or not, with its images or without, and which of them can be hosted."""

import json
import shutil

import numpy as np
import pytest

from bigncc import display, pipeline, streamed
from bigncc.errors import InputError
from bigncc.tiles import roi_of
from bigncc.transform import Translation, to_dict
from tests import pairs, stacks, zarrs


def everything(level):
    """All samples of a level."""
    return level.array[roi_of((0,) * len(level.array.shape), level.array.shape)]


def made(folder, *words, shape=(90, 110), out="out"):
    """Run a pair and return its arrays."""
    reference, moving, f, g = pairs.pair(folder, shape)
    pipeline.run(pairs.job(reference, moving, folder / out, *words))
    return f, g


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("display")
    return folder, *made(folder)


def test_layers_are_what_is_stored(whole):
    folder, f, g = whole
    found = display.displayed(folder / "out")
    assert [layer.name for layer in found.scene.layers] == ["reference", "moving", "confidence", "status"]
    assert found.notes == ()
    wanted = {"reference": f, "moving": g, **pairs.maps(folder / "out")}
    for path, name in zip(found.streams, wanted, strict=True):
        np.testing.assert_array_equal(everything(found.streams[path].levels[0]), wanted[name])
    low, high = np.percentile(f, (0.5, 99.5))
    assert found.scene.layers[0].window == (low, high)


def test_images_that_are_gone_leave_confidence_and_status(tmp_path):
    made(tmp_path)
    shutil.rmtree(tmp_path / "b.zarr")
    shown, (hosted, notes) = display.displayed(tmp_path / "out"), display.hosted(tmp_path / "out")
    for scene in (shown.scene, hosted):
        assert [layer.name for layer in scene.layers] == ["confidence", "status"]
    assert notes == shown.notes
    assert notes[0].startswith(f"the images are not shown: {tmp_path}/b.zarr does not exist: ")


def test_a_result_is_shown_as_far_as_it_is(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    job = pairs.job(reference, moving, tmp_path / "out")
    pipeline.prepare(job)
    with pytest.raises(InputError, match=r"out has no tile yet: an output of which something has been computed"):
        display.displayed(tmp_path / "out")
    pipeline.run(job, part=(0, 2))
    found = display.displayed(tmp_path / "out")
    (ncc,), (status,) = (found.streams[name].levels for name in ("confidence", "status"))
    there = everything(status) > 0
    assert 0.2 < there.mean() < 0.8
    np.testing.assert_array_equal(np.isfinite(everything(ncc)), there)
    pipeline.run(job, part=(1, 2))
    pipeline.finish(str(tmp_path / "out"))
    found = display.displayed(tmp_path / "out")
    assert len(found.streams["confidence"].levels) > 1
    np.testing.assert_array_equal(
        everything(found.streams["confidence"].levels[0]), pairs.maps(tmp_path / "out")["ncc"]
    )


def test_what_is_stored_in_fewer_bits_has_its_values(tmp_path):
    made(tmp_path, "output.encoding=int16")
    values = everything(display.displayed(tmp_path / "out").streams["confidence"].levels[0])
    assert (values.dtype, np.nanmax(values)) == (np.float32, 1.0)
    scene, _ = display.hosted(tmp_path / "out")
    assert scene.layers[2].encoding.dtype == "int16"


def test_through_a_field_the_moving_image_is_pulled_as_it_was_correlated(tmp_path):
    np.save(tmp_path / "field.npy", np.random.default_rng(3).normal(0, 2, (2, 90, 110)))
    displacement = {
        "registration": {"model": None, "displacement": {"url": str(tmp_path / "field.npy")}, "trust_field": True}
    }
    _, g = made(tmp_path, displacement)
    found = display.displayed(tmp_path / "out")
    from bigncc.inputs import open_inputs
    from bigncc.resampling import pull

    inputs = open_inputs(pairs.job(str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr"), tmp_path / "o", displacement))
    region = roi_of((0, 0), g.shape)
    values, valid = pull(inputs.given, g, None, region, region, g.shape, 1)
    wanted = np.where(valid == 1, values, np.nan).astype(np.float32)
    np.testing.assert_array_equal(everything(found.streams["moving"].levels[0]), wanted)
    scene, notes = display.hosted(tmp_path / "out")
    assert [layer.name for layer in scene.layers] == ["reference", "confidence", "status"]
    assert notes == ("moving is not shown: a viewer does not pull it through a displacement field",)


@pytest.mark.parametrize("model", ["none", pytest.param("translation", marks=pytest.mark.soak)])
def test_sections_of_a_stack_are_beside_those_that_they_are_compared_with(tmp_path, model):
    sections = stacks.sections(5, (60, 70), shifts={2: (3, -2)}, damaged=None)
    zarrs.ome(tmp_path / "s.zarr", [sections, sections[:, ::2, ::2]], "zyx", chunks=(1, 32, 32))
    words = {"reference": {"url": str(tmp_path / "s.zarr")}, "output": {"url": str(tmp_path / "out")}}
    how = {"stack": {"lags": [1, 2]}, "registration": {"model": model}, "window": {"size": 7}}
    from bigncc import config

    pipeline.run(config.load([words, how]))
    found = display.displayed(tmp_path / "out")
    reference, moving = (found.streams[name].levels for name in ("reference", "moving"))
    assert [level.array.shape for level in reference] == [(2, 4, 60, 70), (2, 4, 30, 35)]
    assert [level.array.shape for level in moving] == [(2, 4, 60, 70), (2, 4, 30, 35)]
    np.testing.assert_array_equal(everything(reference[0])[1], sections[:4])
    seen = everything(moving[0])
    if model == "none":
        np.testing.assert_array_equal(seen[0], sections[1:])
        return
    # a lag beyond the stack has nothing, and section 2 is shifted back
    assert np.isnan(seen[1, 3]).all()
    inner = (slice(10, -10), slice(10, -10))
    agree = [np.corrcoef(seen[0, z][inner].ravel(), sections[z][inner].ravel())[0, 1] for z in range(4)]
    assert min(agree) > 0.7
    coarse = everything(moving[1])[0, 1][5:-5, 5:-5]
    assert np.corrcoef(coarse.ravel(), seen[0, 1][::2, ::2][5:-5, 5:-5].ravel())[0, 1] > 0.95
    assert display.hosted(tmp_path / "out")[1] == tuple(
        f"{role} is not shown: it is made of a stack" for role in ("reference", "moving")
    )


def test_images_are_hosted_with_the_result_they_lie_beside(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(to_dict(Translation((2.0, -3.0)))))
    inside = tmp_path / "folder"
    inside.mkdir()
    made(inside, {"registration": {"model": None, "transform": str(tmp_path / "t.json")}})
    scene, notes = display.hosted(inside / "out")
    assert [layer.path for layer in scene.layers] == ["a.zarr", "b.zarr", "out", "out/labels/status"]
    assert notes == ()
    # of an array alone pixel 0 reaches from 0 to 1; pixel (2, -3) of the moving image lies on the first one
    assert scene.layers[0].matrix == ((1.0, 0.0, -0.5), (0.0, 1.0, -0.5))
    assert scene.layers[1].matrix == ((1.0, 0.0, -2.5), (0.0, 1.0, 2.5))
    assert scene.layers[2].matrix == ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    made(tmp_path, out="elsewhere/out")
    assert display.hosted(tmp_path / "elsewhere/out")[1] == tuple(
        f"{role} is not shown: {tmp_path}/{name}.zarr is not beside the result"
        for role, name in (("reference", "a"), ("moving", "b"))
    )


def test_what_is_chosen_of_a_stored_image_cannot_be_hosted(tmp_path):
    data = zarrs.samples((3, 40, 50), "uint8")
    for name in "ab":
        zarrs.ome(tmp_path / f"{name}.zarr", [data], "cyx", chunks=(1, 40, 50))
    chosen = {"reference": {"channel": 1}, "moving": {"channel": "grey"}}
    pipeline.run(pairs.job(str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr"), tmp_path / "out", chosen))
    assert len(display.displayed(tmp_path / "out").scene.layers) == 4
    assert display.hosted(tmp_path / "out")[1] == tuple(
        f"{role} is not shown: it is a choice of what is stored" for role in ("reference", "moving")
    )


def test_where_nothing_small_is_stored_it_is_said(whole, monkeypatch):
    folder, *_ = whole
    monkeypatch.setattr(streamed, "MOST", 1000)
    notes = display.displayed(folder / "out").notes
    # the result has coarser levels of its own
    says = "has no small level: it is seen where a pixel of the screen shows up to 4 of its pixels"
    assert notes == tuple(f"{role} {says}" for role in ("reference", "moving"))


def test_nothing_is_written(whole):
    folder, *_ = whole
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    display.displayed(folder / "out")
    display.hosted(folder / "out")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
