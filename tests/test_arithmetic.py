"""Integers as narrow as hold the sums, and the same result with wider ones."""

import numpy as np
import pytest

from bigncc.arithmetic import exact, rounded


@pytest.mark.parametrize(
    ("n", "simple", "products", "kind"),
    [
        (255, np.int16, np.int32, np.float64),
        (256, np.int32, np.int32, np.float64),
        (2**17 - 1, np.int32, np.int32, np.float64),
        (2**17, np.int32, np.int64, np.float64),
        (2**20, np.int32, np.int64, np.int64),
    ],
)
def test_the_narrowest_that_hold(n, simple, products, kind):
    image = np.zeros((2, 2), np.uint8)
    found = exact(image, image, n)
    assert (found.simple, found.products, found.kind, found.wide) == (simple, products, kind, False)
    assert max(n * 128, np.iinfo(simple).max) == np.iinfo(simple).max
    assert n * 128**2 <= np.iinfo(products).max


def test_16_bits_are_about_the_middle_of_what_there_is():
    f, g = np.array([[1000, 1100]], np.uint16), np.array([[0, 65535]], np.uint16)
    assert exact(f, f, 9).middles == (1050, 1050)
    assert exact(f, f, 9).products == np.int32
    assert exact(f, g, 9).products == np.int64
    # whatever is in this block, all blocks round alike
    assert exact(f, f, 310**2).wide
    assert exact(g, g, 310**2).wide
    assert not exact(g, g, 200**2).wide
    assert rounded((1.5, 2.0)).middles == (1.5, 2.0)
