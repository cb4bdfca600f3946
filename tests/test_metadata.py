"""What Zarr nodes say of themselves, as tifffile and others write it."""

import numpy as np
import pytest
import tifffile
import zarr

from bigncc.errors import InputError
from bigncc.storage import open_image
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
