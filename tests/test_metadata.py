"""What Zarr nodes say of themselves, as tifffile and others write it."""

import warnings

import numpy as np
import pytest
import tifffile
import zarr

import bigncc
from bigncc.errors import InputError
from bigncc.storage import open_image
from tests import pairs
from tests.zarrs import everything, ome, samples


def pyramid(path, image, levels=3, **options):
    """Write a pyramidal OME-TIFF."""
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        options = {"tile": (64, 64), "photometric": "rgb" if image.shape[-1] == 3 else "minisblack"} | options
        file.write(image, subifds=levels - 1, metadata={"axes": "YXS" if image.ndim == 3 else "YX"}, **options)
        for k in range(1, levels):
            file.write(image[:: 2**k, :: 2**k], subfiletype=1, **options)
    return path


@pytest.fixture
def opened(tmp_path):
    """Return a function that writes a pyramid and opens it as a store."""
    stores = []

    def write(image, levels=3):
        stores.append(tifffile.imread(pyramid(tmp_path / "a.ome.tif", image, levels), aszarr=True))
        return stores[-1]

    yield write
    for store in stores:
        store.close()


def test_a_pyramidal_tiff_is_an_image(opened):
    data = samples((200, 300))
    store = opened(data)
    image = open_image(store)
    assert (image.axes, image.levels, image.url) == (("y", "x"), ((200, 300), (100, 150), (50, 75)), "")
    np.testing.assert_array_equal(everything(image.array), data)
    assert [coarser.shape for coarser in image.coarser] == [(100, 150), (50, 75)]
    np.testing.assert_array_equal(everything(image.coarser[1]), data[::4, ::4])
    np.testing.assert_array_equal(everything(open_image(store, level=1).array), data[::2, ::2])
    with pytest.raises(InputError, match=r"has no level 3: 0 \(0\), 1 \(1\), 2 \(2\) is accepted"):
        open_image(store, level=3)


@pytest.mark.parametrize("levels", [1, 3])
def test_the_colours_of_a_tiff_are_channels(opened, levels):
    data = samples((200, 300, 3), "uint8")
    store = opened(data, levels)
    np.testing.assert_array_equal(everything(open_image(store, channel=1).array), data[..., 1])
    weighted = data.astype(int) @ (77, 150, 29)
    np.testing.assert_array_equal(everything(open_image(store, channel="grey").array), (weighted + 128) >> 8)
    with pytest.raises(InputError, match=r"has axes \(y, x, c\): .* or a choice of the channel"):
        open_image(store)


def test_coarser_levels_have_the_same_channel(tmp_path):
    data = samples((3, 16, 24))
    ome(tmp_path / "a", [data, data[:, ::2, ::2], data[:, ::4, ::4]], "cyx")
    image = open_image(tmp_path / "a", channel=2, level=1)
    assert [coarser.shape for coarser in image.coarser] == [(4, 6)]
    np.testing.assert_array_equal(everything(image.coarser[0]), data[2, ::4, ::4])
    assert open_image(tmp_path / "a", level=2).coarser == ()


@pytest.mark.parametrize(
    "document",
    [{"version": "0.1"}, {"version": "0.2", "datasets": []}, {"version": "0.1", "datasets": [{"path": "b"}]}],
)
def test_a_pyramid_without_its_levels_is_refused(tmp_path, document):
    group = zarr.create_group(str(tmp_path / "a"), zarr_format=2)
    group.attrs["multiscales"] = [document]
    with pytest.raises(InputError, match=r"names no levels|b cannot be opened"):
        open_image(tmp_path / "a")


# --- collections -----------------------------------------------------------------------------------------------------


def group(path, version, **attributes):
    """Write a group of a collection."""
    made = zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2)
    made.attrs.update({"ome": {"version": version, **attributes}} if version == "0.5" else attributes)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("series", [None, ["0", "1"], ["x/first", "second"]])
def test_the_series_of_bioformats2raw_are_addressed_by_path(tmp_path, version, series):
    group(tmp_path / "a", version, **{"bioformats2raw.layout": 3})
    if series:
        group(tmp_path / "a" / "OME", version, series=series)
    data = [samples((8, 9), seed=i) for i in range(2)]
    for path, image in zip(series or ["0", "1"], data, strict=True):
        ome(tmp_path / "a" / path, [image], "yx", version)
        np.testing.assert_array_equal(everything(open_image(tmp_path / "a" / path).array), image)
    each = ", ".join(f"{tmp_path}/a/{path}" for path in series or ["0", "1"])
    with pytest.raises(InputError, match=rf"a is a bioformats2raw collection of several images: {each} are accepted"):
        open_image(tmp_path / "a")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_only_series_is_opened_by_its_collection(tmp_path, version):
    data = samples((8, 9))
    for name, series in (("a", None), ("b", ["x"])):
        group(tmp_path / name, version, **{"bioformats2raw.layout": 3})
        group(tmp_path / name / "OME", version, **({"series": series} if series else {}))
        ome(tmp_path / name / ("x" if series else "0"), [data], "yx", version)
        image = open_image(tmp_path / name)
        np.testing.assert_array_equal(everything(image.array), data)
        assert open_image(image.url).digest == image.digest


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_fields_of_a_plate_are_addressed_by_path(tmp_path, version):
    wells = [{"path": path, "rowIndex": 0, "columnIndex": i} for i, path in enumerate(("A/1", "A/2", "B/1"))]
    # a plate that bioformats2raw wrote is a plate
    group(tmp_path / "p", version, plate={"wells": wells}, **{"bioformats2raw.layout": 3})
    group(tmp_path / "p" / "OME", version, series=["A/1/0"])
    for i, (well, fields) in enumerate({"A/1": 2, "A/2": 1, "B/1": 9}.items()):
        group(tmp_path / "p" / well, version, well={"images": [{"path": str(k)} for k in range(fields)]})
        for k in range(fields):
            ome(tmp_path / "p" / well / str(k), [samples((4, 5), seed=10 * i + k)], "yx", version)
    for path, seed in (("A/1/1", 1), ("A/2", 10), ("B/1/8", 28)):
        image = open_image(tmp_path / "p" / path)
        np.testing.assert_array_equal(everything(image.array), samples((4, 5), seed=seed))
    there = rf"{tmp_path}/p/A/1/0, {tmp_path}/p/A/1/1, {tmp_path}/p/A/2/0, {tmp_path}/p/B/1/0, .*/p/B/1/6, \.\.\. are"
    with pytest.raises(InputError, match=rf"p is an HCS plate of several images: {there} accepted"):
        open_image(tmp_path / "p")
    with pytest.raises(InputError, match=r"A/1 is a well of an HCS plate of several images: .*/A/1/0, .*/A/1/1 are"):
        open_image(tmp_path / "p" / "A" / "1")


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"plate": {"wells": [{"path": "A/7"}]}}, "is an HCS plate that holds 0/: the path of one image"),
        ({"plate": {"wells": 7}}, "is an HCS plate that holds 0/"),
        ({"well": {"images": [{"path": "7"}]}}, "a/7 cannot be opened"),
        ({"well": {"images": [{"path": "../a/0"}]}}, "names a level '../a/0': a relative path inside of the image"),
        ({"well": {"images": [{"path": "."}]}}, r"names a level '\.': a relative path"),
        ({"labels": []}, "is a list of label images that holds 0/"),
        ({"bioformats2raw.layout": 2}, "is a bioformats2raw collection that holds 0/"),
    ],
)
def test_collections_that_name_no_image(tmp_path, attributes, sentence):
    group(tmp_path / "a", "0.5", **attributes)
    ome(tmp_path / "a" / "0", [samples((4, 5))], "yx")
    with pytest.raises(InputError, match=sentence):
        open_image(tmp_path / "a")


def test_levels_that_grow_are_refused(tmp_path):
    data = samples((2, 16, 24))
    for i, order in enumerate(([1, 0], [0, 2, 1])):
        levels = [data[:, :: 2**k, :: 2**k] for k in order]
        ome(tmp_path / str(i), levels, "zyx", steps=[[{"type": "scale", "scale": [1.0] * 3}]] * len(levels))
        sentence = rf"/{i} has level {i + 1} \({i + 1}\) of shape .* after one of shape .*: levels from the largest"
        with pytest.raises(InputError, match=sentence):
            open_image(tmp_path / str(i), level=1)


# --- other libraries -------------------------------------------------------------------------------------------------


def scene(shape):
    """Return a pair that agrees in one half, with a corner that is black in both."""
    f, g = samples(shape, seed=1), samples(shape, seed=2)
    g[..., : shape[-1] // 2] = f[..., : shape[-1] // 2]
    f[..., :40, :40] = g[..., :40, :40] = 0
    return f, g


def by_ome_zarr(path, image, version):
    """Write with ome-zarr-py."""
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_image

    form = FormatV04() if version == "0.4" else FormatV05()
    store = zarr.open_group(path, mode="w", zarr_format=form.zarr_format)
    write_image(image, store, scale_factors=[2], axes="cyx", fmt=form, storage_options={"chunks": (1, 32, 32)})


def by_ngff_zarr(path, image, version):
    """Write with ngff-zarr."""
    import ngff_zarr

    axes = {"scale": {"c": 1, "y": 0.5, "x": 0.25}, "translation": {"c": 0, "y": 3.0, "x": 0}}
    made = ngff_zarr.to_ngff_image(image, dims=("c", "y", "x"), axes_units={"y": "micrometer"}, **axes)
    pyramid = ngff_zarr.to_multiscales(made, [2], ngff_zarr.Methods.DASK_IMAGE_NEAREST, chunks=32)
    ngff_zarr.to_ome_zarr(path, pyramid, version=version)


@pytest.mark.parametrize(
    ("write", "version", "suffix"),
    [
        (by_ome_zarr, "0.4", "ome.zarr"),
        (by_ome_zarr, "0.5", "ome.zarr"),
        (by_ngff_zarr, "0.4", "ome.zarr"),
        (by_ngff_zarr, "0.5", "ome.zarr"),
        (by_ngff_zarr, "0.6", "ome.zarr"),
        (by_ngff_zarr, "0.5", "ozx"),
    ],
)
def test_images_of_other_libraries(tmp_path, write, version, suffix):
    images = scene((2, 70, 90))
    names = [str(tmp_path / f"{name}.{suffix}") for name in "ab"]
    for name, image in zip(names, images, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of theirs
            write(name, image, version)
        found = open_image(name)
        assert (found.axes, found.nodata, found.calibrated) == (("c", "y", "x"), (), True)
        assert found.levels == ((2, 70, 90), (2, 35, 45))
        if write is by_ngff_zarr:
            assert (found.scale, found.translation, found.units[1]) == ((1, 0.5, 0.25), (0, 3, 0), "micrometer")
        # neither library stores the black corner
        assert found.array.absent > 0 or suffix == "ozx"
        np.testing.assert_array_equal(everything(found.array), image)
    bigncc.run(pairs.job(*names, tmp_path / "out"))
    pairs.same(pairs.maps(tmp_path / "out"), bigncc.local_maps(*images))
