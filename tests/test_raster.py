"""Pictures in a page, read back as a browser reads them."""

import base64
import io

import numpy as np
from PIL import Image

from bigncc import raster
from bigncc.layout import COLOURS
from bigncc.summary import STATUS


def read(uri):
    """Return the pixels of a picture, RGBA."""
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def test_grey_is_between_the_extremes_and_nothing_is_seen_through():
    image = np.arange(1000.0).reshape(20, 50)
    image[0, 0], image[3, 7] = np.nan, np.inf
    seen = read(raster.grey(image))
    assert seen.shape == (20, 50, 4)
    assert (seen[0, 0, 3], seen[3, 7, 3]) == (0, 0)
    assert (np.delete(seen[..., 3].ravel(), [0, 157]) == 255).all()
    there = seen[..., 0].ravel()[np.isfinite(image.ravel())].astype(int)
    assert (np.diff(there) >= 0).all()
    assert (there[0], there[-1]) == (0, 255)
    assert (seen[..., 0] == seen[..., 1]).all()
    for flat in (np.full((3, 4), 7.0), np.full((3, 4), np.nan)):
        assert read(raster.grey(flat)).shape == (3, 4, 4)


def test_coefficients_have_the_same_colour_whatever_is_beside_them():
    values = np.linspace(-1, 1, 41)
    whole = read(raster.diverging(values[None]))[0]
    for value, colour in zip(values, whole, strict=True):
        np.testing.assert_array_equal(read(raster.diverging(np.array([[value]])))[0, 0], colour)
    red, middle, blue = whole[0], whole[20], whole[40]
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert middle[:3].min() > 180
    ends = raster.ramp(2)
    np.testing.assert_array_equal([red[:3], blue[:3]], ends)
    assert raster.hexadecimal((0, 128, 255)) == "#0080ff"


def test_each_status_has_the_colour_of_its_label():
    codes = np.arange(len(STATUS), dtype=np.uint8)[None]
    seen = read(raster.statuses(codes))[0]
    assert seen[1, 3] == 0  # what has a value
    for code, colour in enumerate(COLOURS):
        if code != 1:
            np.testing.assert_array_equal(seen[code], colour)
