"""Lengths become pixels, footprints are read, and a run with either is one run, wherever it goes on."""

import json

import numpy as np
import pytest

import bigncc
from bigncc import Window, pipeline, storage
from bigncc.aperture import in_words, nanoseconds, open_footprint, scratch, settled
from bigncc.config import load
from bigncc.errors import InputError, RefusedError
from bigncc.inputs import open_inputs
from bigncc.lattice import pivots
from bigncc.pipeline import lattices
from bigncc.science import WindowConfig
from bigncc.weights import table_of
from tests import pairs
from tests.zarrs import ome, samples

SCALE = (2.0, 0.325, 0.65)


def volume(folder, units="micrometer"):
    """An image of 2 x 0.325 x 0.65 of a unit per voxel."""
    path = folder / f"{units}.ome.zarr"
    ome(path, [samples((9, 40, 50))], "zyx", units=units, steps=[[{"type": "scale", "scale": list(SCALE)}]])
    return storage.open_image(str(path))


@pytest.mark.parametrize(
    ("words", "shape", "note"),
    [
        (
            {"size": "10um"},
            (31, 15),
            "window.size 10um is taken as 31 x 15 pixels, 10.075 micrometer x 9.75 micrometer",
        ),
        (
            {"size": ["6um", "3.25um", "0.0026mm"]},
            (3, 11, 5),
            r"window.size 6um x 3.25um x 0.0026mm is taken as 3 x 11",
        ),
        ({"size": [3, "3250nm", 5]}, (3, 11, 5), "3 px x 3.575 micrometer x 5 px"),
        ({"size": "0.1um"}, (1, 1), None),
        ({"weights": "gaussian", "sigma": "0.65um"}, (15, 9), "window.sigma 0.65um is taken as 2 x 1 pixels"),
        (
            {"weights": "gaussian", "sigma": [0, "1\u00b5m", 1]},
            (1, 23, 9),
            "is taken as 0 x 3.07692 x 1 pixels, 0 px x 1 micrometer x 1 px",
        ),
    ],
)
def test_lengths_are_pixels_of_the_reference(tmp_path, words, shape, note):
    section = WindowConfig(**words)
    if note is None:
        with pytest.raises(InputError, match="not all 1"):
            settled(section, volume(tmp_path))
        return
    found, (window,), notes = settled(section, volume(tmp_path))
    assert window.shape == shape
    assert len(notes) == 1
    assert notes[0].startswith(note) or note in notes[0]
    # what is said in pixels says the same once more
    assert settled(found, volume(tmp_path / "again"))[1:] == ((window,), [])


@pytest.mark.parametrize("units", [None, "parsec"])
def test_without_a_scale_there_is_no_length(tmp_path, units):
    image = volume(tmp_path, units)
    with pytest.raises(
        InputError, match=r"window.size is 31um and .* gives no pixel size in such units: a number of pix"
    ):
        settled(WindowConfig(size="31um"), image)
    assert settled(WindowConfig(), image)[1] == (Window(7),)


@pytest.mark.parametrize("text", ["31 furlongs", "um", "-3um", "0um", "", "1e999um", "3,5um"])
def test_what_is_no_length_is_refused_at_the_door(text):
    sections = {name: {"url": name} for name in ("reference", "moving", "output")}
    with pytest.raises(InputError, match=r"window.size is .* is no length: a number of pixels, or one with nm, um, mm"):
        load([sections, {"window": {"size": text}}])


CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "zarr"])
def test_a_footprint_is_read_from_what_people_have(tmp_path, kind):
    path = tmp_path / f"cross.{kind}"
    if kind == "npy":
        np.save(path, CROSS.astype(bool))
    elif kind == "npz":
        np.savez(path, footprint=CROSS * 3, other=1)
    elif kind == "csv":
        path.write_text("0, 1, 0\n1, 1, 1\n0, 1, 0\n")
    else:
        pairs.store(path, CROSS.astype("uint8"))
    assert open_footprint(str(path)) == table_of(CROSS)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("there.csv", None, "window.footprint .*there.csv cannot be read .there is none.: rows of numbers with commas"),
        ("there.csv", b"1, 2\n3", "cannot be read"),
        ("there.csv", b"a, b, c", "cannot be read"),
        ("there.csv", b"1, 2", "has shape .1, 2.: weights of 0 or more"),
        ("there.npy", b"nothing", "cannot be read: a .npy or .npz file of plain numbers is accepted"),
    ],
)
def test_a_footprint_that_is_none(tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        open_footprint(str(tmp_path / name))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aperture")
    return folder, *pairs.pair(folder)


def job(place, out, *words):
    return pairs.job(*place[1:3], place[0] / out, *words)


@pytest.mark.parametrize("kind", ["gaussian", pytest.param("disk", marks=pytest.mark.soak), "table"])
def test_a_run_is_what_arrays_give(place, kind):
    folder, *_, f, g = place
    weights = np.random.default_rng(0).random((5, 3))
    np.save(folder / "weights.npy", weights)
    words, window = {
        "gaussian": ({"weights": "gaussian", "sigma": 1.5}, Window(weights="gaussian", sigma=1.5)),
        "disk": (
            {"weights": "footprint", "footprint": "disk", "size": 9},
            Window(9, weights="footprint", footprint="disk"),
        ),
        "table": (
            {"weights": "footprint", "footprint": str(folder / "weights.npy")},
            Window(weights="footprint", footprint=weights),
        ),
    }[kind]
    asked = job(place, kind, {"window": words})
    inputs = open_inputs(asked)
    result = bigncc.run(asked)
    (pivot,) = pivots(lattices(inputs))
    pairs.same(pairs.maps(result.url), bigncc.local_maps(f, g, window, pivot=pivot))
    assert pipeline.verify(result.url, recompute=2).faults == ()
    assert bigncc.open_result(result.url).attrs["window"] == (9 if kind == "disk" else list(window.shape))


def test_a_footprint_that_changes_is_another_request(place, tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("1,1,1\n")
    asked = job(place, "changed", {"window": {"weights": "footprint", "footprint": str(path)}})
    ready = pipeline.prepare(asked)
    said = json.loads((place[0] / "changed.bigncc" / "plan.json").read_text())
    assert said["config"]["window"]["footprint"] == str(path)
    assert said["request"]["window"]["footprint"] == table_of([[1, 1, 1]]).digest
    # what it is multiplied by is nothing that could be seen
    path.write_text("2,2,2\n")
    assert pipeline.prepare(asked).job.plan_id == ready.job.plan_id
    path.write_text("1,0,1\n")
    with pytest.raises(RefusedError, match="window.footprint is '.*' there, '.*' asked"):
        pipeline.prepare(asked)
    # and so is one that is there no more for those who go on with the plan
    with pytest.raises(RefusedError, match="is not what the plan of .* was made with"):
        pipeline.job_of(ready.job.url, said, open_inputs(asked))


def test_the_request_of_a_box_is_what_it_was(place):
    inputs = open_inputs(job(place, "box", "window.size=9"))
    assert inputs.window.request == {
        "size": (9, 9), "border": "shrink", "cval": 0.0, "min_valid_fraction": 0.5, "flat": 0.0, "min_std": (0.0, 0.0),
    }  # fmt: skip


def test_plan_says_what_a_window_takes(place):
    bell, box = (
        pipeline.plan(job(place, "planned", *words))
        for words in (("window.weights=gaussian", "window.sigma=3"), ("window.size=23",))
    )
    assert bell.facts()["window"].startswith("Gaussian of sigma 3 x 3, 23 x 23 pixels: about ")
    assert box.facts()["window"].startswith("box, 23 x 23 pixels: about 8 ns")
    assert bell.seconds > box.seconds
    assert bell.memory > box.memory


def test_costs_by_kind():
    disk = Window(31, weights="footprint", footprint="disk")
    table = Window(weights="footprint", footprint=np.arange(9).reshape(3, 3))
    assert in_words(disk).startswith("disk of 709 samples, 31 x 31 pixels: about ")
    assert in_words(table).startswith("footprint of 8 weights, 3 x 3 pixels")
    assert nanoseconds(Window(7)) < nanoseconds(disk)
    assert scratch(Window(7)) == 0 < scratch(disk)


@pytest.mark.parametrize("words", [("window.weights=gaussian", "window.sigma=1.5", "maps=[ncc, shift]")])
def test_a_shift_map_searches_for_a_box(place, words):
    with pytest.raises(InputError, match="maps has shift and window.weights is gaussian: box is accepted with it"):
        open_inputs(job(place, "shifted", *words))
    with pytest.raises(InputError, match="maps has shift and .* box is accepted with it"):
        bigncc.shift_map(*place[3:], Window(weights="gaussian", sigma=1.5))


GAUSSIAN = ("window.weights=gaussian", "window.sigma=1.5")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*GAUSSIAN, "maps=[ncc, spearman]"), "maps has spearman and window.weights is gaussian: box is accepted"),
        ((*GAUSSIAN, "maps=[ncc, count]"), "maps has count and window.weights is gaussian, of which samples count by"),
        ((*GAUSSIAN, "maps=[ncc, ssim]"), "ssim.use_sample_covariance is true and window.weights is gaussian"),
        ((*GAUSSIAN, "window.size=[[11, 11], [5, 5]]"), "window.size is .5, 5., and window.sigma"),
    ],
)
def test_what_weights_have_no_answer_for(place, words, sentence):
    with pytest.raises(InputError, match=sentence):
        open_inputs(job(place, "unanswered", *words))


def test_several_windows_are_disks_of_several_sizes(place):
    words = ("window.weights=footprint", "window.footprint=disk", "window.size=[[5, 5], [11, 11]]")
    inputs = open_inputs(job(place, "several", *words))
    assert [window.samples for window in inputs.windows] == [13, 81]
    result = bigncc.open_result(bigncc.run(inputs.config).url)
    (pivot,) = pivots(lattices(inputs))
    wanted = bigncc.local_maps(*place[3:], inputs.windows[1], ("ncc",), pivot=pivot)["ncc"]
    np.testing.assert_array_equal(result["ncc_11x11"], wanted)
    with pytest.raises(InputError, match="of several windows, numbers of pixels are accepted"):
        job(place, "several", "window.size=[[5um, 5um], [11, 11]]")


def test_a_window_through_the_sections_of_a_stack_is_refused(tmp_path):
    path = pairs.store(tmp_path / "stack.zarr", samples((5, 40, 50)))
    np.save(tmp_path / "three.npy", np.ones((3, 3, 3)))
    given = {"reference": {"url": path}, "output": {"url": str(tmp_path / "out")}, "stack": {"lags": [1]}}
    window = {"weights": "footprint", "footprint": str(tmp_path / "three.npy")}
    with pytest.raises(InputError, match=r"stack.lags is given and the window has size \[3, 3, 3\], which spans"):
        open_inputs(load([given, {"window": window}]))
    with pytest.raises(InputError, match=r"window.sigma \[1.0, 1.0, 1.0\], which spans sections"):
        load([given, {"window": {"weights": "gaussian", "sigma": [1, 1, 1]}}])
