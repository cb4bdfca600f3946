"""README does what it says: its Python and its commands, typed as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rioxarray
import tifffile
import xarray as xr

from bigncc.output import write_image
from tests import scenes
from tests.test_metadata import pyramid
from tests.test_xarray import raster

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
OFFSET = (6.4, -3.75)


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
    (place / "job.yaml").write_text(
        "reference: {url: a.ome.zarr}\nmoving: {url: b.ome.zarr}\noutput: {url: job.ome.zarr}\n"
    )
    (place / "pairs.csv").write_text(blocks("csv")[0])
    (place / "configs").symlink_to(Path(__file__).parent.parent / "configs")
    return place


# affine 2 says this of 3 wherever it multiplies
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
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
    found = []
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), names)
        found.append(names.get("confidence"))
    for image in names["pair"].values():
        image["url"].close()
    assert len(found) == 7
    # the three lines of the forum's question
    assert found[0].shape == f.shape
    assert np.abs(np.subtract(names["registration"].transform.offset, OFFSET)).max() < 0.06
    assert np.nanmean(found[0]) > 0.8
    assert set(names["maps"]) == {"ncc", "status"}
    assert names["volume"].shape == (8, 30, 40)
    assert names["colour"].shape == (40, 50, 3)
    assert names["result"].headline.startswith("moving image shifted by y +6.")
    assert names["doubtful"].dims == ("y", "x")
    assert set(names["slips"]) == {f"shift_{name}" for name in ("y", "x", "peak", "ratio", "uncertainty")}
    assert np.nanmean(names["gain"]) > 0.5
    accessor, geotiff = found[3], found[4]
    assert isinstance(accessor.data, da.Array)
    np.testing.assert_allclose(accessor, 1)
    again = rioxarray.open_rasterio("confidence.tif").squeeze()
    np.testing.assert_array_equal(again, geotiff)
    np.testing.assert_allclose(again, 1, atol=1e-6)
    assert tifffile.imread("moving.ome.tif").shape == f.shape
    assert (folder / "slides.ome.zarr" / "0").is_dir()


def test_the_commands_of_readme(folder):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    typed = [line for block in blocks("sh") if ".venv" not in block for line in block.splitlines()]
    typed += re.findall(r"`(bigncc register [^`]*)`", README)
    assert len(typed) == 19
    for command in typed:
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, (command, done.stderr)
    for name in (
        "out.ome.zarr",
        "out.png",
        "job.ome.zarr",
        "parts.ome.zarr",
        "workers.ome.zarr",
        "t.json",
        "array.sh",
        "ab.ome.zarr",
        "pairs.sh",
    ):
        assert (folder / name).exists()
