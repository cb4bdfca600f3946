"""README does what it says: its Python and its commands, typed as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rioxarray
import SimpleITK as sitk
import skimage.transform
import tifffile
import xarray as xr

import bigncc
from bigncc import demo
from bigncc.output import write_image
from bigncc.resampling import pull
from bigncc.tiles import roi_of
from tests import forked, scenes, stacks
from tests.test_masks import label
from tests.test_metadata import pyramid
from tests.test_xarray import raster

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
OFFSET = (6.4, -3.75)

# affine 2 says this of 3 wherever it multiplies
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All files that README names."""
    place = tmp_path_factory.mktemp("readme")
    f, g = scenes.pair(1, (260, 300), 1.0, OFFSET)
    for name, image in (("a", f), ("b", g)):
        write_image(str(place / f"{name}.ome.zarr"), image, ("y", "x"), name)
    for name, image in (("reference", f), ("moving", g)):
        pyramid(place / f"{name}.ome.tif", image)
    scene = scenes.scene(5, (400, 420), 3.0).astype("float32")
    raster(place / "a.tif", scene[40:340, 50:360], (500000, 5000000), 10)
    raster(place / "b.tif", scene, (500000 - 500, 5000000 + 400), 10)
    sections = stacks.sections(12, (120, 150), shifts={4: (3, -2)}, damaged=9)
    write_image(str(place / "stack.ome.zarr"), sections, ("z", "y", "x"), "stack")
    (place / "job.yaml").write_text(
        "reference: {url: a.ome.zarr}\nmoving: {url: b.ome.zarr}\noutput: {url: job.ome.zarr}\n"
    )
    (place / "pairs.csv").write_text(blocks("csv")[0])
    cells = np.zeros(f.shape, "uint16")
    cells[40:90, 60:100], cells[150:220, 160:260] = 1, 2
    label(place / "a.ome.zarr" / "labels" / "cells", [cells], ("y", "x"))
    (place / "configs").symlink_to(Path(__file__).parent.parent / "configs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        list(demo.run("bigncc-demo"))
    return place


def test_the_python_of_readme(folder, monkeypatch):
    monkeypatch.chdir(folder)
    f, g = scenes.pair(1, (260, 300), 1.0, OFFSET)
    rng = np.random.default_rng(0)
    names = {"reference": f, "moving": g, "valid": rng.random(f.shape) < 0.9}
    names |= {name: rng.random((8, 30, 40)) for name in ("volume_a", "volume_b")}
    names |= {name: rng.random((40, 50, 3)) for name in ("photo_a", "photo_b")}
    names |= {
        name: xr.DataArray(da.from_array(image, chunks=100), dims=("y", "x"))
        for name, image in (("first", f), ("second", f * 2.0))
    }
    found = {}
    for code in blocks("python"):
        if "Displacement.sample" in code:  # the recipes, below
            continue
        exec(compile(code, "README.md", "exec"), names)
        found[code] = names.get("confidence")
    for image in names["pair"].values():
        image["url"].close()
    assert len(found) == 15

    def confidence(words):
        (value,) = (value for code, value in found.items() if words in code)
        return value

    forum = confidence("registration = bigncc.register")
    assert forum.shape == f.shape
    assert np.abs(np.subtract(names["registration"].transform.offset, OFFSET)).max() < 0.06
    assert np.nanmean(forum) > 0.8
    assert set(names["maps"]) == {"ncc", "status"}
    assert names["volume"].shape == (8, 30, 40)
    assert names["colour"].shape == (40, 50, 3)
    assert names["result"].headline.startswith("moving image shifted by y +6.")
    assert names["doubtful"].dims == ("y", "x")
    assert set(names["slips"]) == {f"shift_{name}" for name in ("y", "x", "peak", "ratio", "uncertainty")}
    assert np.nanmean(names["gain"]) > 0.5
    assert set(np.unique(names["scales"]["scale"])) == {1, 2, 3}
    assert {size: round(spread, 2) for size, spread in names["spread"].items()} == {
        7: 0.45,
        15: 0.28,
        31: 0.15,
        61: 0.08,
    }
    assert set(names["table"]["label"]) == {1, 2}
    assert (names["table"]["ncc"] > 0.8).all()
    assert len(names["doubtful_cells"]) == 0
    assert np.allclose(names["min_std"], (5.7, 4.9), atol=0.05)
    every, those = names["chosen"].values()
    assert [round(100 * each.size / every.size, 1) for each in (every, those)] == [100, 4.7]
    assert [round(float(each.mean()), 2) for each in (every, those)] == [0.29, 0.86]
    assert [f"{100 * (each < 0.5).mean():.1g}" for each in (every, those)] == ["8e+01", "0.006"]
    accessor, geotiff = confidence("first.bigncc.ncc"), confidence("rioxarray")
    assert isinstance(accessor.data, da.Array)
    np.testing.assert_allclose(accessor, 1)
    again = rioxarray.open_rasterio("confidence.tif").squeeze()
    np.testing.assert_array_equal(again, geotiff)
    np.testing.assert_allclose(again, 1, atol=1e-6)
    assert tifffile.imread("moving.ome.tif").shape == f.shape
    assert (folder / "slides.ome.zarr" / "0").is_dir()


def pulled(code, scene, **names):
    """The moving array through the field of a recipe, NaN outside of its view, and the field."""
    (recipe,) = (block for block in blocks("python") if "Displacement.sample" in block and code in block)
    names["bigncc"] = bigncc
    exec(compile(recipe, "README.md", "exec"), names)
    shape, field = names["reference"].shape, names["field"]
    roi, source = roi_of((0,) * len(shape), shape), roi_of((0,) * len(shape), scene.shape)
    values, codes = pull(field, scene, None, roi, source, scene.shape, 1)
    return np.where(codes == 1, values, np.nan), field


def agree(ours, theirs, error):
    """Both see the same, as far as the scene, of slope below 1 per pixel, may differ within the error."""
    common = np.isfinite(ours) & np.isfinite(theirs)
    assert common.mean() > 0.5
    assert (np.isfinite(ours) != np.isfinite(theirs)).mean() < 0.05
    assert 0 <= error < 0.05
    assert np.abs(ours - theirs)[common].max() < error + 1e-4


def image_of(array, spacing, origin, turn):
    """An image of SimpleITK that lies askew."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    direction = np.eye(array.ndim)
    direction[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    image.SetDirection(direction.ravel().tolist())
    return image


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_recipe_of_simpleitk(ndim, capsys):
    reference, scene = np.zeros((30, 140, 160)[-ndim:]), scenes.scene(3, (36, 150, 170)[-ndim:], 3.0)
    fixed = image_of(reference, (0.5, 0.8, 2.0)[:ndim], (3.0, -2.0, 5.0)[:ndim], 0.2)
    moving = image_of(scene, (0.45, 0.85, 1.9)[:ndim], (1.0, -4.0, 4.0)[:ndim], 0.15)
    bent = sitk.BSplineTransformInitializer(fixed, [3] * ndim)
    bend = np.random.default_rng(1).normal(0, {2: 0.5, 3: 0.05}[ndim], bent.GetNumberOfParameters())
    bent.SetParameters(bend.tolist())
    affine = sitk.AffineTransform(ndim)
    affine.Scale(1.02)
    transform = sitk.CompositeTransform([affine, bent])
    theirs = sitk.Resample(sitk.Cast(moving, sitk.sitkFloat64), fixed, transform, sitk.sitkLinear, np.nan)
    ours, field = pulled("TransformPoint", scene, reference=reference, fixed=fixed, moving=moving, transform=transform)
    agree(ours, sitk.GetArrayFromImage(theirs), field.error)
    assert float(capsys.readouterr().out) == field.error


def test_the_recipe_of_scikit_image():
    reference, moving = np.zeros((140, 160)), scenes.scene(3, (150, 170), 3.0)
    warp = skimage.transform.ProjectiveTransform([[1.02, -0.08, 9], [0.06, 0.97, 4], [2e-5, -3e-5, 1]])
    theirs = skimage.transform.warp(moving, warp, output_shape=reference.shape, order=1, cval=np.nan)
    ours, field = pulled("warp(pixels", moving, reference=reference, warp=warp)
    agree(ours, theirs, field.error)


def test_the_commands_of_readme(folder):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    typed = [line for block in blocks("sh") if ".venv" not in block for line in block.splitlines()]
    typed += re.findall(r"`(bigncc register [^`]*)`", README)
    assert len(typed) == 40
    with forked.started() as bigncc_cli:
        for command in typed:
            words = shlex.split(command, comments=True)
            if words[0] == "bigncc" and ">" not in words:
                done = bigncc_cli(folder, *words[1:])
            else:
                shell, streams = ["/bin/sh", "-c", command], {"capture_output": True, "text": True, "timeout": 300}
                done = subprocess.run(shell, cwd=folder, env=environment, **streams)
            assert done.returncode == 0, (command, done.stderr)
    for name in (
        "out.ome.zarr",
        "out.png",
        "sections.csv",
        "job.ome.zarr",
        "parts.ome.zarr",
        "workers.ome.zarr",
        "t.json",
        "array.sh",
        "ab.ome.zarr",
        "pairs.sh",
        "bigncc-demo/estimated.ome.zarr",
    ):
        assert (folder / name).exists()
