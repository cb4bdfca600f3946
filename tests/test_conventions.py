"""What CF attributes call no sample is no sample, wherever xarray writes it."""

import base64
import struct

import numpy as np
import pytest
import xarray as xr
import zarr

import bigncc
from bigncc.conventions import left_out
from bigncc.errors import InputError
from bigncc.storage import open_image
from tests import pairs
from tests.zarrs import everything, ome, plain, samples


def written(path, version, encoding, data=None):
    """Write a variable with gaps as xarray does; return the path of its array."""
    if data is None:
        data = np.random.default_rng(0).normal(100, 5, (40, 50)).astype("f4")
        data[3:9, 10:30] = np.nan
    dataset = xr.Dataset({"a": (("y", "x"), data)})
    dataset.to_zarr(path, mode="w", zarr_format=version, encoding={"a": encoding}, consolidated=False)
    return str(path / "a")


PACKED = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 100.0, "_FillValue": -32768}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("encoding", "nodata"),
    [
        ({"_FillValue": -9999.0}, (-9999.0,)),
        ({"_FillValue": np.float32(1e20)}, (float(np.float32(1e20)),)),
        ({"_FillValue": -1.0, "missing_value": -1.0}, (-1.0,)),
        ({"missing_value": -1.0}, (-1.0,)),
        ({"_FillValue": np.nan}, ()),
        ({}, ()),
        (PACKED, (-32768.0,)),
        ({**PACKED, "add_offset": 0.0, "_FillValue": 0}, (0.0,)),
        ({"dtype": "uint8", "_FillValue": 255}, (255.0,)),
    ],
)
def test_what_xarray_writes_is_left_out(tmp_path, version, encoding, nodata):
    image = open_image(written(tmp_path / "a", version, encoding))
    assert (image.nodata, image.axes) == (nodata, ("y", "x"))
    gaps = np.isin(everything(image.array), nodata) if nodata else np.isnan(everything(image.array))
    assert (gaps == (np.arange(50) >= 10) * (np.arange(50) < 30) * np.isin(np.arange(40), range(3, 9))[:, None]).all()


@pytest.mark.parametrize("version", [2, 3])
def test_black_is_a_grey_level(tmp_path, version):
    data = samples((8, 9))
    array = plain(tmp_path / "a", data, version=version, fill_value=0)
    assert open_image(tmp_path / "a").nodata == ()
    if version == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = ["y", "x"]
        assert open_image(tmp_path / "a").nodata == ()
    group = ome(tmp_path / "b", [data], "yx", "0.4" if version == 2 else "0.5", fill_value=7)
    group["0"].attrs["_ARRAY_DIMENSIONS"] = ["y", "x"]
    assert open_image(tmp_path / "b").nodata == ()


@pytest.mark.parametrize(
    ("attributes", "dtype", "found"),
    [
        ({"_FillValue": -1, "missing_value": [3, 4.5, -1]}, "i2", (-1.0, 3.0, 4.5)),
        ({"_FillValue": base64.b64encode(struct.pack("<d", -0.5)).decode()}, "f4", (-0.5,)),
        ({"_FillValue": "NaN", "missing_value": "-Infinity"}, "f4", (-np.inf,)),
        ({"_FillValue": np.int16(-3), "missing_value": np.array([2, 3])}, "i2", (-3.0, 2.0, 3.0)),
        ({"_FillValue": None, "missing_value": []}, "i2", ()),
        ({"_Unsigned": "true", "scale_factor": np.float32(0.5)}, "u2", ()),
        ({"_Unsigned": "false"}, "i2", ()),
    ],
)
def test_levels_in_any_writing(attributes, dtype, found):
    assert left_out(attributes, np.dtype(dtype), "a") == found


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"scale_factor": -0.1}, "a has scale_factor -0.1, and r has its sign: a positive number is accepted"),
        ({"scale_factor": 0}, "a has scale_factor 0"),
        ({"scale_factor": float("nan")}, "a has scale_factor nan"),
        ({"scale_factor": "half"}, "a has scale_factor 'half'"),
        ({"_Unsigned": "true"}, "a has _Unsigned 'true' and dtype int16: samples of the type that is meant"),
        ({"_FillValue": "none"}, "a has _FillValue 'none': a number is accepted"),
        ({"missing_value": "AAAA"}, "a has missing_value 'AAAA': a number is accepted"),
    ],
)
def test_what_would_give_another_correlation_is_refused(attributes, sentence):
    with pytest.raises(InputError, match=sentence):
        left_out(attributes, np.dtype("i2"), "a")
    image = xr.DataArray(np.zeros((9, 9), "i2"), dims=("y", "x"), attrs=attributes)
    with pytest.raises(InputError, match=sentence.replace("a has", "the DataArray has")):
        bigncc.ncc(image, image, 3)


@pytest.mark.parametrize("version", [2, 3])
def test_packed_samples_are_correlated_without_their_gaps(tmp_path, version):
    rng = np.random.default_rng(1)
    f, g = (rng.normal(100, 5, (60, 70)).astype("f4") for _ in range(2))
    g[:, :30] = f[:, :30]
    f[5:25, 40:60] = g[30:50, 3:20] = np.nan
    first, second = (written(tmp_path / name, version, PACKED, image) for name, image in (("a", f), ("b", g)))
    result = bigncc.run(pairs.job(first, second, tmp_path / "out"))
    assert result.notes == tuple(
        f"samples of -32768 in {name} are left out, as its file says" for name in ("reference", "moving")
    )
    raw = [zarr.open_array(path, mode="r")[...] for path in (first, second)]
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(*raw, nodata=-32768.0))
    opened = [xr.open_zarr(tmp_path / name, consolidated=False)["a"] for name in "ab"]
    meant = bigncc.local_maps(*(image.load() for image in opened))
    found = pairs.maps(tmp_path / "out")
    np.testing.assert_array_equal(found["status"], meant["status"])
    np.testing.assert_allclose(found["ncc"], meant["ncc"], atol=2e-6)
    attributes = zarr.open_group(tmp_path / "out", mode="r")["0"].attrs.asdict()
    assert not {"_FillValue", "scale_factor", "add_offset"} & set(attributes)


def test_the_config_has_the_last_word(tmp_path):
    data = samples((40, 50), "i2")
    data[3:9, 10:30] = -7
    first, second = (str(tmp_path / name) for name in "ab")
    for path in (first, second):
        plain(path, data, chunks=(20, 20)).attrs["_FillValue"] = -7
    none = ("reference.nodata=.nan", "moving.nodata=.nan")
    assert bigncc.run(pairs.job(first, second, tmp_path / "all", *none)).notes == ()
    pairs.same(pairs.maps(tmp_path / "all"), bigncc.local_maps(data, data))
    bigncc.run(pairs.job(first, second, tmp_path / "out"))
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(data, data, nodata=-7.0))
    # what the file says and the config repeats is one request
    same = ("reference.nodata=-7", "moving.nodata=-7")
    assert bigncc.run(pairs.job(first, second, tmp_path / "out", *same)).complete
