"""A result as it was asked for, whatever level is stored, and both images from their levels where there are any."""

import numpy as np
import pytest
import zarr
from scipy.ndimage import gaussian_filter

import bigncc
from bigncc import finished as room
from bigncc.finished import finished
from tests import results
from tests.test_report import block_means


@pytest.mark.parametrize("finest", [pytest.param(0, marks=pytest.mark.soak), 2])
def test_extent_and_grid_are_those_of_full_resolution(tmp_path, finest):
    paths, *_ = results.pair(tmp_path)
    words = f"output.finest_level={finest}", "output.region=8:171,16:247"
    found = finished(results.run(paths, tmp_path / "out", *words))
    for gone in (False, True):
        if gone:
            paths[0].rename(tmp_path / "elsewhere")
            found = finished(found.output.url)
            assert found.inputs is None
            assert found.images(found.plane(found.shape, None)) is None
        assert found.shape == (163, 231)
        assert found.origin == (8, 16)
        scale, translation = found.grid
        np.testing.assert_allclose(scale, results.SCALE)
        np.testing.assert_allclose(translation, (8 * results.SCALE, 16 * results.SCALE))


def test_cells_are_means_of_valid_pixels_from_any_level(tmp_path):
    paths, *_ = results.pair(tmp_path)
    url = results.run(paths, tmp_path / "out", "output.pyramid=false")
    flat = finished(url)
    maps = bigncc.open_result(url)
    values = np.where(maps.status == 1, maps.ncc, np.nan)
    means, side = room.cells(flat, (), 8)
    assert side == (8, 8)
    np.testing.assert_allclose(means, block_means(values, 8), atol=1e-6)
    stepped = finished(results.run(paths, tmp_path / "levels"))
    assert room.level_for(stepped, 8) == (3, 1)
    assert room.level_for(stepped, 32) == (3, 4)
    assert room.level_for(flat, 8) == (0, 8)
    # where all of a cell has a value
    whole = block_means(np.isfinite(values).astype(float), 8) == 1
    assert whole.mean() > 0.9
    np.testing.assert_allclose(room.cells(stepped, (), 8)[0][whole], means[whole], atol=1e-6)


def levelled(path, samples, factor):
    """Give an image a level of means; return its array."""
    group = zarr.open_group(str(path))
    height, width = (n // factor for n in samples.shape)
    means = samples[: height * factor, : width * factor].reshape(height, factor, width, factor).mean(axis=(1, 3))
    level = group.create_array("1", data=means.astype(samples.dtype), chunks=(32, 32))
    said = group.attrs.asdict()["ome"]
    steps = [
        {"type": "scale", "scale": [results.SCALE * factor] * 2},
        {"type": "translation", "translation": [results.SCALE * (factor - 1) / 2] * 2},
    ]
    said["multiscales"][0]["datasets"].append({"path": "1", "coordinateTransformations": steps})
    group.attrs["ome"] = said
    return level


@pytest.mark.parametrize(
    "shift",
    [pytest.param(None, marks=pytest.mark.soak), pytest.param((8.0, -12.0), marks=pytest.mark.soak), (2.5, 6.25)],
)
def test_levels_of_the_images_show_what_the_images_do(tmp_path, shift):
    rng, names = np.random.default_rng(3), ("a.zarr", "b.zarr")
    images = [gaussian_filter(rng.normal(128, 400, results.SHAPE), 6).clip(0, 255).astype(np.uint8) for _ in names]
    paths = [tmp_path / name for name in names]
    levels = []
    for path, image in zip(paths, images, strict=True):
        results.image(path, image)
    words = []
    if shift is not None:
        (tmp_path / "t.json").write_text(f'{{"kind": "translation", "offset": {list(shift)}}}')
        given = {"model": None, "transform": str(tmp_path / "t.json"), "trust_field": True}
        words = [{"registration": given}]
    url = results.run(paths, tmp_path / "out", *words)
    plane = (slice(0, 200), slice(0, 260))
    streamed = finished(url).small_images(plane, 4)
    levels = [levelled(path, image, 4) for path, image in zip(paths, images, strict=True)]
    shown = finished(url).small_images(plane, 4)
    for one, other in zip(shown, streamed, strict=True):
        both = np.isfinite(one) & np.isfinite(other)
        assert both.mean() > 0.85
        assert np.abs(one - other)[both].mean() < 1.5
    # of eight pixels four fours, and of six what the images say
    assert finished(url).small_images(plane, 8)[0].shape == (25, 33)
    levels[0][...] = 0
    assert finished(url).small_images(plane, 4)[0].max() == 0
    assert finished(url).small_images(plane, 6)[0].max() > 0
