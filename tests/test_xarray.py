"""DataArrays in, DataArrays out: names, coordinates and what is said of them."""

import json
from importlib.metadata import version

import dask.array as da
import numpy as np
import pytest
import rioxarray
import xarray as xr
from rasterio.transform import from_origin

import bigncc
import bigncc.xarray
from bigncc import pipeline
from bigncc.errors import InputError
from bigncc.output import write_image
from tests import pairs, scenes, strategies

F, G = (strategies.image(seed, (30, 40), "uint16", "noise") for seed in (1, 2))
Y, X = 500.0 - 10 * np.arange(30), 100.0 + 10 * np.arange(40)


def array(values, dims=("y", "x"), **more):
    return xr.DataArray(values, dims=dims, coords={"y": Y, "x": X, **more.pop("coords", {})}, **more)


def values(found):
    return {name: np.asarray(found[name].transpose("y", "x")) for name in found}


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("chunks", [None, {"y": 7, "x": 11}])
def test_the_values_are_those_of_the_arrays_whatever_the_order_of_the_axes(turn, chunks):
    f, g = array(F), array(G).transpose("x", "y")
    if turn:
        f = f.transpose("x", "y")
    if chunks:
        f, g = f.chunk(chunks), g.chunk(chunks)
    found = bigncc.local_maps(f, g, (5, 9))
    assert isinstance(found, xr.Dataset)
    assert found["ncc"].dims == f.dims
    pairs.same(values(found), bigncc.local_maps(F, G, (5, 9)))
    one = f.bigncc.ncc(g, window=(5, 9))
    assert one.name == "ncc"
    xr.testing.assert_identical(one.compute(), found["ncc"].compute())


def test_the_accessor_stays_lazy():
    def never(block):
        if block.size:
            raise AssertionError
        return block

    f, g = (
        array(da.from_array(image, chunks=16).map_blocks(never, dtype=image.dtype, meta=image[:0, :0]))
        for image in (F, G)
    )
    found = f.bigncc.local_maps(g, window=7)
    assert all(isinstance(found[name].data, da.Array) for name in ("ncc", "status"))
    assert found["ncc"].dtype == np.float32
    mixed = f.bigncc.ncc(array(G), window=7, transform=bigncc.Translation((0.5, 2)))
    assert isinstance(mixed.data, da.Array)
    with pytest.raises(AssertionError):
        mixed.compute()


def test_the_result_is_described_in_words_of_its_own():
    hostile = {"scale_factor": 3.0, "add_offset": 1.0, "_FillValue": 70000, "units": "m", "standard_name": "height"}
    f, g = array(F, attrs=hostile, name="height"), array(G, attrs=hostile)
    f.encoding = {"scale_factor": 3.0, "dtype": "int16", "_FillValue": -1}
    found = bigncc.local_maps(f, g, 5)
    for name in ("ncc", "status"):
        assert not set(hostile) & set(found[name].attrs)
        assert found[name].encoding == {}
        assert found[name].attrs["window"] == [5, 5]
        assert found[name].attrs["window_dims"] == "y x"
        assert found[name].attrs["versions"].startswith(f"bigncc {version('bigncc')}, numpy ")
    assert found["ncc"].attrs["valid_range"] == [-1, 1]
    assert found["ncc"].attrs["long_name"] == "normalised cross-correlation"
    assert len(found["status"].attrs["flag_meanings"].split()) == len(found["status"].attrs["flag_values"]) == 9
    shifted = bigncc.ncc(f, g, 5, transform=bigncc.Translation((0, 1.5)))
    assert shifted.attrs["transform"] == '{"kind": "translation", "offset": [0.0, 1.5]}'
    turned = bigncc.ncc(f, g, 5, transform=bigncc.Affine(((1, 0.01), (-0.01, 1)), (0, 1)))
    assert json.loads(turned.attrs["transform"]) == {
        "kind": "affine", "matrix": [[1, 0.01], [-0.01, 1]], "offset": [0, 1],
    }  # fmt: skip


def test_a_result_survives_a_file(tmp_path):
    found = bigncc.local_maps(array(F), array(G), 5, transform=bigncc.Displacement(np.zeros((2, 30, 40))))
    found.to_netcdf(tmp_path / "a.nc", engine="scipy")
    found.to_zarr(tmp_path / "a.zarr", consolidated=False)
    for again in (
        xr.open_dataset(tmp_path / "a.nc"),
        xr.open_dataset(tmp_path / "a.zarr", engine="zarr", consolidated=False),
    ):
        pairs.same(values(again.load()), values(found))
        xr.testing.assert_equal(again["y"], found["y"])
        again.close()


def test_coordinates_and_conflicting_scalars():
    f = array(F, coords={"time": 1, "band": 3, "row": ("y", np.arange(30)), "lat": (("y", "x"), np.ones(F.shape))})
    g = array(G, coords={"time": 2, "band": 3, "other": 7})
    found = bigncc.ncc(f, g)
    assert set(found.coords) == {"y", "x", "band", "row", "lat"}
    xr.testing.assert_identical(found["lat"], f["lat"].drop_vars("time"))


@pytest.mark.parametrize("dim", ["y", "x"])
def test_an_axis_that_runs_the_other_way_is_turned(dim):
    turned = array(G).isel({dim: slice(None, None, -1)})
    mask = xr.DataArray(np.random.default_rng(0).random(G.shape) < 0.7, dims=("y", "x"))
    wanted = bigncc.local_maps(F, G, 5, moving_mask=mask.values)
    for given in (mask.isel({dim: slice(None, None, -1)}), mask.isel({dim: slice(None, None, -1)}).values):
        found = bigncc.local_maps(array(F), turned, 5, moving_mask=given)
        pairs.same(values(found), wanted)
        np.testing.assert_array_equal(found["y"], Y)
    with pytest.raises(InputError, match=rf"coordinate {dim} ascends in one image and descends in the other"):
        bigncc.ncc(array(F), turned, transform=bigncc.Translation((0, 0)))


def test_coordinates_may_differ_by_a_thousandth_of_a_pixel():
    near = array(G).assign_coords(y=Y + 0.009)
    pairs.same(values(bigncc.local_maps(array(F), near)), bigncc.local_maps(F, G))
    far = array(G).assign_coords(y=Y + 0.011)
    sentence = (
        r"coordinate y runs from 500.0 to 210.0 in reference and .*, up to 0.0011 pixels apart: less than 0.001 is"
    )
    with pytest.raises(InputError, match=sentence):
        bigncc.ncc(array(F), far)
    # a transform says where the images lie
    bigncc.ncc(array(F), far, transform=bigncc.Translation((0, 0.5)))
    bare = xr.DataArray(G, dims=("y", "x"))
    pairs.same(values(bigncc.local_maps(array(F), bare)), bigncc.local_maps(F, G))


def test_axes_in_front_are_batches_wherever_they_are():
    f, g = (strategies.image(seed, (30, 40, 4), "uint8", "noise") for seed in (1, 2))
    times = np.array(["2020-01-01", "2020-01-13", "2020-01-25", "2020-02-06"], "M8[ns]")
    a, b = (xr.DataArray(image, dims=("latitude", "longitude", "time"), coords={"time": times}) for image in (f, g))
    found = bigncc.ncc(a, b.transpose("time", "longitude", "latitude"), 5)
    assert found.dims == a.dims
    for i in range(4):
        np.testing.assert_array_equal(found[..., i], bigncc.ncc(f[..., i], g[..., i], 5))
    spatial = np.random.default_rng(0).random((30, 40)) < 0.7
    masked = bigncc.ncc(a, b, 5, reference_mask=spatial)
    by_time = xr.DataArray(np.array([True, False, True, True]), dims="time")
    both = bigncc.local_maps(a, b, 5, moving_mask=by_time)
    assert (both["status"][..., 1] == 2).all()
    np.testing.assert_array_equal(masked[..., 2], bigncc.ncc(f[..., 2], g[..., 2], 5, reference_mask=spatial))
    with pytest.raises(InputError, match="coordinate time runs from"):
        bigncc.ncc(a, b.assign_coords(time=times + np.timedelta64(1, "D")), 5)
    with pytest.raises(InputError, match="coordinate time runs from .* to d in moving: the same in both is accepted"):
        bigncc.ncc(a, b.assign_coords(time=list("abcd")), 5)
    with pytest.raises(InputError, match=r"nodata is \(1, 2, 3\): one grey level, or a pair"):
        bigncc.ncc(a, b, 5, nodata=(1, 2, 3))


def test_volumes():
    f, g = (strategies.image(seed, (6, 9, 11), "uint8", "noise") for seed in (1, 2))
    a, b = (xr.DataArray(image, dims=("z", "y", "x")) for image in (f, g))
    found = bigncc.ncc(a.transpose("x", "y", "z"), b, (3, 5, 5))
    np.testing.assert_array_equal(found.transpose("z", "y", "x"), bigncc.ncc(f, g, (3, 5, 5)))


def test_fill_values_among_the_attributes_are_nodata():
    f = array(F, attrs={"_FillValue": np.uint16(F[3, 4]), "missing_value": [int(F[9, 9]), int(F[20, 20])]})
    wanted = bigncc.local_maps(F, G, 5, reference_mask=~np.isin(F, [F[3, 4], F[9, 9], F[20, 20], F[0, 0]]))
    pairs.same(values(bigncc.local_maps(f, array(G), 5, nodata=(float(F[0, 0]), None))), wanted)
    # what was decoded has it in the encoding, where it is a packed number
    decoded = array(F)
    decoded.encoding["_FillValue"] = F[3, 4]
    pairs.same(values(bigncc.local_maps(decoded, array(G), 5)), bigncc.local_maps(F, G, 5))


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (lambda: G, "moving is of type ndarray and the other image a DataArray"),
        (lambda: array(G).rename(y="row"), r"reference has dims \(y, x\) and moving \(row, x\)"),
        (lambda: array(G).isel(y=slice(20)), "dim y has length 30 in reference and 20 in moving"),
        (lambda: array(G).astype(complex), "dtype is complex128"),
        (lambda: array(G).to_dataset(name="a"), "moving is of type Dataset"),
    ],
)
def test_what_does_not_match_is_refused(other, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        bigncc.ncc(array(F), other(), 5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "mask", [np.ones((2, 2, 2), bool), np.ones((3, 3), bool), xr.DataArray(np.ones(3, bool), dims="t")]
)
def test_masks_that_do_not_fit_are_refused(mask):
    with pytest.raises(InputError, match="the mask has"):
        bigncc.ncc(array(F), array(G), 5, reference_mask=mask)


def test_colours():
    f, g = (strategies.image(seed, (30, 40, 3), "uint8", "noise") for seed in (1, 2))
    bare = [xr.DataArray(image) for image in (f, g)]
    with pytest.raises(InputError, match=r"shape \[30, 40, 3\] and dims without names, which looks like a colour"):
        bigncc.ncc(*bare, 5)
    named = [image.rename(dim_0="y", dim_1="x", dim_2="band") for image in bare]
    wanted = bigncc.ncc(f, g, 5, channel_axis=-1)
    np.testing.assert_array_equal(bigncc.ncc(*bare, 5, channel_axis=-1), wanted)
    np.testing.assert_array_equal(bigncc.ncc(*named, 5), wanted)


@pytest.mark.parametrize("chunks", [None, 64])
def test_dataarrays_are_registered(chunks):
    f, g = scenes.pair(1, (200, 180), 1.0, (3.25, -6.5))
    a, b = (xr.DataArray(image, dims=("y", "x")) for image in (f, g))
    if chunks:
        a, b = a.chunk(chunks), b.chunk(chunks)
    found = bigncc.register(a, b.transpose("x", "y"))
    assert found.transform == bigncc.register(f, g).transform
    np.testing.assert_array_equal(a.bigncc.ncc(b, 9, transform=found), bigncc.ncc(f, g, 9, transform=found))
    colours = bigncc.register(*(image.expand_dims(band=3, axis=-1) for image in (a, b)), channel_axis=-1)
    assert colours.transform == found.transform


def raster(path, image, origin, pixel, nodata=None):
    made = xr.DataArray(image, dims=("y", "x")).rio.write_crs("EPSG:32633")
    made = made.rio.write_transform(from_origin(*origin, pixel, pixel))
    if nodata is not None:
        made = made.rio.write_nodata(nodata)
    made.rio.to_raster(path)
    return path


# affine 2 says this of 3 wherever it multiplies
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_rasters_go_out_and_come_back(tmp_path):
    scene = scenes.scene(5, (400, 420), 3.0).astype("float32")
    scene[50:80, 60:90] = -9999
    first = raster(tmp_path / "a.tif", scene[40:340, 50:360], (500000, 5000000), 10, -9999)
    second = raster(tmp_path / "b.tif", scene, (500000 - 500, 5000000 + 400), 10, -9999)
    a, b = (rioxarray.open_rasterio(path).squeeze() for path in (first, second))
    found = bigncc.ncc(a, b.rio.reproject_match(a), window=9)
    assert found.rio.crs == a.rio.crs
    assert found.rio.transform() == a.rio.transform()
    # the second raster has a hole in the first one's grid
    assert np.isnan(found).any()
    np.testing.assert_allclose(found.values[np.isfinite(found.values)], 1, atol=1e-6)
    found.rio.to_raster(tmp_path / "ncc.tif")
    again = rioxarray.open_rasterio(tmp_path / "ncc.tif").squeeze()
    np.testing.assert_array_equal(again.values, found.values)
    assert again.rio.crs == a.rio.crs
    assert again.rio.transform() == a.rio.transform()
    masked = rioxarray.open_rasterio(first, masked=True, chunks=128).squeeze()
    np.testing.assert_array_equal(masked.bigncc.ncc(b.rio.reproject_match(a), window=9).values, found.values)


def test_the_grid_mapping_is_kept_where_it_was_said():
    f = array(F, coords={"crs": 0}, attrs={"grid_mapping": "crs"})
    found = bigncc.ncc(f, array(G))
    assert found.attrs["grid_mapping"] == "crs"
    assert "crs" in found.coords
    f = array(F, coords={"crs": 0})
    f.encoding["grid_mapping"] = "crs"
    assert bigncc.ncc(f, array(G)).encoding == {"grid_mapping": "crs"}


def test_a_result_opens_with_coordinates_in_physical_units(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    config = pairs.job(reference, moving, tmp_path / "out", "output.region=30:90,40:140")
    pipeline.prepare(config)
    assert bigncc.open_result(tmp_path / "out").attrs["state"] == "in-progress"
    result = pipeline.run(config)
    found = bigncc.open_result(tmp_path / "out")
    assert found.attrs["state"] == "complete"
    assert found.attrs["headline"] == result.headline
    assert found.attrs["window"] == [7, 7]
    assert f"zarr {version('zarr')}" in found.attrs["versions"]
    assert isinstance(found["ncc"].data, da.Array)
    pairs.same(values(found.load()), pairs.maps(tmp_path / "out"))
    np.testing.assert_array_equal(found["y"], np.arange(30, 90))
    assert found.sel(x=slice(50, 60))["status"].shape == (60, 11)
    with pytest.raises(InputError, match="has no level 9"):
        bigncc.open_result(tmp_path / "out", level=9)
    with pytest.raises(InputError, match="is no output of bigncc"):
        bigncc.open_result(tmp_path / "a.zarr")


def test_units_of_a_result(tmp_path):
    from tests import zarrs

    steps = [[{"type": "scale", "scale": [0.5, 0.25]}, {"type": "translation", "translation": [10.0, -3.0]}]]
    for name, image in (("a", F), ("b", G)):
        zarrs.ome(tmp_path / name, [image], "yx", steps=steps, units="micrometer")
    pipeline.run(pairs.job(str(tmp_path / "a"), str(tmp_path / "b"), tmp_path / "out"))
    found = bigncc.open_result(tmp_path / "out")
    np.testing.assert_allclose(found["x"], -3 + 0.25 * np.arange(40))
    assert found["y"].attrs == {"units": "micrometer"}


def test_channels_of_a_result(tmp_path):
    for name, image in (("a", F), ("b", G)):
        write_image(str(tmp_path / name), np.stack([image, image[::-1]]), ("c", "y", "x"), name)
    pipeline.run(pairs.job(str(tmp_path / "a"), str(tmp_path / "b"), tmp_path / "out"))
    found = bigncc.open_result(tmp_path / "out")
    assert found["ncc"].dims == ("c", "y", "x")
    np.testing.assert_array_equal(found["ncc"][0].values, bigncc.ncc(F, G))


def test_a_shift_map_has_the_coordinates_of_its_nodes():
    f, g = scenes.pair(3, (60, 72), 1.5, (1.0, -2.0))
    coords = {"y": 5.0 + 0.5 * np.arange(60), "x": 9.0 - 0.25 * np.arange(72), "band": 3}
    first = xr.DataArray(da.from_array(f, chunks=32), dims=("y", "x"), coords=coords)
    second = xr.DataArray(g, dims=("y", "x"), coords=coords)
    found = first.bigncc.shift_map(second, 9, step=(8, 5), search_radius=4)
    wanted = bigncc.shift_map(f, g, 9, step=(8, 5), search_radius=4)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert isinstance(found[name].data, da.Array)
        np.testing.assert_array_equal(found[name], array)
        assert found[name].attrs["window"] == [9, 9]
    np.testing.assert_array_equal(found["y"], coords["y"][3::8])
    np.testing.assert_array_equal(found["x"], coords["x"][2::5])
    assert found["band"] == 3
    assert found["shift_x"].attrs["units"] == "pixel"
    gained = first.bigncc.local_maps(second, 9, ("gain",), transform=bigncc.Translation((1, -2)))
    assert gained["gain"].dims == ("y", "x")
    assert float(gained["gain"].mean()) > 0.4
