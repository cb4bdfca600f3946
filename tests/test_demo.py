"""The demo is a real pair: the measured disparity registers it, and the map says so."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from skimage import data
from skimage.io import imsave

from bigncc import config, demo, engine, pipeline
from bigncc.errors import InputError, RefusedError
from bigncc.output import open_output
from bigncc.report import UNDEFINED
from tests import pairs

MEANS = {"as-is": 0.06, "registered": 0.87}


def mean(folder, name):
    """Mean over the pixels with a value, from the pixels."""
    found = pairs.maps(folder / f"{name}.ome.zarr")
    return found["ncc"][found["status"] == 1].mean(dtype=float)


def close_up(picture, row):
    """Return the confidence panel of the first or second row of the picture, as 8-bit RGB."""
    height, width, _ = picture.shape
    part = picture[row * height // 2 : (row + 1) * height // 2, width // 2 : 3 * width // 4, :3]
    return np.round(part * 255).astype(np.uint8).reshape(-1, 3)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a demo") / "pair"
    said = list(demo.run(str(folder)))
    return folder, said


@pytest.mark.parametrize("name", MEANS)
def test_the_pair_agrees_where_it_is_registered_and_only_there(place, name):
    folder, said = place
    assert abs(mean(folder, name) - MEANS[name]) <= 0.01
    summary = pipeline.run(config.load([str(folder / f"{name}.yaml")])).summary
    assert abs(summary.mean - mean(folder, name)) < 1e-6
    assert any(line.strip().startswith(f"{name}: mean NCC {summary.mean:.2f} (moving image ") for line in said)
    assert pairs.maps(folder / f"{name}.ome.zarr")["ncc"].shape == (500, 741)


def test_what_is_said_is_there(place):
    folder, said = place
    assert f"picture: {folder}/demo.png" in said
    assert f"result:  {folder}/registered.ome.zarr" in said
    assert not any("\n" in line for line in said)


def test_the_other_sign_of_the_disparity_does_not_register(place, tmp_path):
    folder, _ = place
    np.save(tmp_path / "swapped.npy", -np.load(folder / "displacement.npy"))
    swapped = f"registration.displacement.url={tmp_path}/swapped.npy"
    words = [str(folder / "registered.yaml"), swapped, f"output.url={tmp_path}/swapped.ome.zarr"]
    with pytest.raises(InputError, match="clearly better with its components negated: mean correlation 0.8"):
        pipeline.run(config.load(words))
    pipeline.run(config.load([*words, "registration.trust_field=true"]))
    assert mean(tmp_path, "swapped") < 0.3 < 0.8 < mean(folder, "registered")


def test_the_picture_shows_both_results_and_what_has_no_value(place):
    folder, _ = place
    picture = imread(folder / "demo.png")
    height, width, _ = picture.shape
    assert 700 < height < 2500
    assert 1500 < width < 2500
    grey = np.array([int(UNDEFINED[i : i + 2], 16) for i in (1, 3, 5)])
    counts = [(np.abs(close_up(picture, row).astype(int) - grey) == 0).all(axis=1).sum() for row in (0, 1)]
    # every pixel of the pair as it is has a value; the registered one has holes where nobody measured
    unseen = (pairs.maps(folder / "registered.ome.zarr")["status"] != 1).mean()
    assert unseen > 0.02
    assert counts[1] > 0.01 * len(close_up(picture, 1))
    assert counts[0] < 0.05 * counts[1]
    for row in (0, 1):
        assert len(np.unique(close_up(picture, row), axis=0)) > 200
    # agreement is blue and disagreement is red
    blue = [np.mean(pixels[:, 2].astype(int) - pixels[:, 0] > 60) for pixels in (close_up(picture, r) for r in (0, 1))]
    assert blue[1] > 3 * blue[0]


def test_a_second_demo_in_the_same_folder_computes_nothing(place, monkeypatch):
    folder, said = place
    before = {name: found for name, found in pairs.files(folder).items() if name != "demo.png"}
    tiles = []
    compute = engine.compute
    monkeypatch.setattr(engine, "compute", lambda *words: tiles.append(words) or compute(*words))
    assert list(demo.run(str(folder))) == said
    assert tiles == []
    after = pairs.files(folder)
    assert after.pop("demo.png").startswith(b"\x89PNG")
    assert after == before


@pytest.mark.parametrize(
    "name", ["displacement.npy", "as-is.yaml", "registered.yaml", "registered.ome.zarr", "demo.png", "left.ome.zarr"]
)
def test_what_the_demo_did_not_make_is_refused_and_stays(tmp_path, name):
    path = tmp_path / name
    if name == "left.ome.zarr":
        pairs.store(path, np.zeros((3, 500, 741), np.uint8), names=("c", "y", "x"))
    else:
        path.write_text("precious")
    before = pairs.files(tmp_path)
    with pytest.raises(RefusedError, match=name) as caught:
        list(demo.run(str(tmp_path)))
    assert "\n" not in str(caught.value)
    after = pairs.files(tmp_path)
    assert {name: after[name] for name in before} == before
    # nobody waits for what cannot be drawn
    assert name != "demo.png" or not (tmp_path / "as-is.ome.zarr").exists()


def test_an_image_of_the_demo_that_was_changed_is_refused(tmp_path):
    steps = demo.run(str(tmp_path))
    next(steps)
    chunk = sorted(p for p in (tmp_path / "right.ome.zarr").rglob("c/*/*/*") if p.is_file())[0]
    # a chunk that is gone reads as black
    chunk.unlink()
    with pytest.raises(RefusedError, match=r"right.ome.zarr is not what an earlier demo left there"):
        next(demo.run(str(tmp_path)))


def test_the_config_of_the_demo_is_the_one_among_the_configs():
    path = Path(__file__).parent.parent / "configs" / "demo.yaml"
    assert path.read_text() == demo.stereo_job("registered", "bigncc-demo")


def test_the_results_carry_where_they_came_from(place):
    folder, _ = place
    attributes = open_output(folder / "registered.ome.zarr").attributes
    assert attributes["config"]["registration"]["displacement"]["url"] == f"{folder}/displacement.npy"
    assert attributes["config"]["window"]["size"] == demo.WINDOW


# --- photographs -----------------------------------------------------------------------------------------------------


def photo(path, image):
    """Write a picture as a camera or an editor would."""
    imsave(path, image, check_contrast=False)
    return str(path)


def test_two_views_of_a_scene_are_registered_by_optical_flow(tmp_path):
    left, right = (view[:250] for view in data.stereo_motorcycle()[:2])
    folder = tmp_path / "two views"
    said = list(demo.run_photos(str(folder), photo(tmp_path / "l.png", left), photo(tmp_path / "r.png", right)))
    assert said[0].endswith("l.png and " + f"{tmp_path}/r.png in grey: 250 x 741 pixels; window 9 x 9")
    assert "agree on no translation" in said[1]
    assert said[1].endswith(": the optical flow of scikit-image instead")
    assert abs(mean(folder, "as-is") - 0.06) < 0.02
    assert mean(folder, "registered") > 0.7
    flow = np.load(folder / "displacement.npy")
    assert flow.shape == (2, 250, 741)
    # along the rows, as the cameras stood side by side
    assert np.abs(flow[1]).mean() > 5 * np.abs(flow[0]).mean()
    assert imread(folder / "demo.png").shape[1] > 1500


def test_two_photographs_that_are_shifted_are_cropped_and_shifted_back(tmp_path):
    image = data.astronaut()[:300, 60:360]
    paths = photo(tmp_path / "a.jpg", image[:296, :280]), photo(tmp_path / "b.jpg", image[7:, 12:])
    said = list(demo.run_photos(str(tmp_path / "out"), *paths))
    assert "of 296 x 280 and 293 x 288 pixels, cropped to their common size: 293 x 280 pixels" in said[0]
    assert any("registered: mean NCC" in line and "moving image shifted by y -7, x -12 pixels" in line for line in said)
    assert mean(tmp_path / "out", "registered") > 0.8
    assert list(demo.run_photos(str(tmp_path / "out"), *paths)) == said


@pytest.mark.parametrize(
    ("image", "grey"),
    [
        (np.full((40, 50, 4), (10, 20, 30, 255), np.uint8), (77 * 10 + 150 * 20 + 29 * 30 + 128) >> 8),
        (np.full((40, 50), 300, np.uint16), 300),
        (np.full((40, 50), 0.25, np.float32), 0.25),
        (np.full((40, 50, 3), (0.5, 0.25, 1.0), np.float32), (77 * 0.5 + 150 * 0.25 + 29) / 256),
    ],
)
def test_pictures_become_grey(tmp_path, image, grey):
    path = photo(tmp_path / ("a.tif" if image.dtype.kind == "f" else "a.png"), image)
    found = demo._grey(path)
    assert found.shape == (40, 50)
    np.testing.assert_allclose(found, grey)


@pytest.mark.parametrize(("shape", "sentence"), [((5, 40), "have 5 x 40 pixels in common"), ((5, 40, 50), "has shape")])
def test_pictures_that_are_none_are_refused_in_a_sentence(tmp_path, shape, sentence):
    path = photo(tmp_path / "a.tif", np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match=sentence):
        list(demo.run_photos(str(tmp_path / "out"), path, path))
    assert not (tmp_path / "out").exists()
