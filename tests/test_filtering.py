"""Prefilters: the definition by a slow sum, scipy where nothing is left out, and constants that stay constant."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bigncc import Prefilter
from bigncc.filtering import bytes_per_pixel, filtered, nanoseconds, prefiltered, scratch
from bigncc.kernel import Pivot
from bigncc.prefilter import UNFILTERED
from tests import strategies

LOG = Prefilter("laplacian_of_gaussian", sigma=2)
DOG = Prefilter("difference_of_gaussians", sigma=1.5)
BOX = Prefilter("local_standardisation", size=9)
SOFT = Prefilter("local_standardisation", sigma=2.5)
EACH = pytest.mark.parametrize("prefilter", [LOG, DOG, BOX, SOFT], ids=("log", "dog", "box", "soft"))


def whole(image):
    return tuple(slice(0, n) for n in image.shape)


def kernels(prefilter, sigmas, radius):
    """The Gaussian and its Laplacian as arrays, 0 beyond where they end; a box of ones."""
    grid = np.meshgrid(*(np.arange(-r, r + 1.0) for r in radius), indexing="ij")
    if prefilter.size is not None:
        return np.ones(grid[0].shape), None
    g, h = np.ones(grid[0].shape), np.zeros(grid[0].shape)
    for x, sigma in zip(grid, sigmas, strict=True):
        reach = int(prefilter.truncate * sigma + 0.5)
        line = np.where(np.abs(x) <= reach, np.exp(-0.5 * (x / sigma) ** 2) if reach else x == 0, 0.0)
        g *= line
        h += x**2 / sigma**4 - 1 / sigma**2 if reach else 0
    return g / g.sum(), h * g / g.sum()


def slow(image, valid, prefilter):
    """The definition, sample by sample."""
    radius = prefilter.radius(image.ndim)
    narrow, wide = ((), ()) if prefilter.size is not None else prefilter.sigmas(image.ndim)
    (g, h), (w, _) = kernels(prefilter, narrow, radius), kernels(prefilter, wide, radius)
    padded = [np.pad(each, [(r, r) for r in radius]) for each in (np.where(valid, image, 0.0), valid * 1.0)]
    out = np.full(image.shape, np.nan)
    for place in zip(*np.nonzero(valid), strict=True):
        f, v = (each[tuple(slice(c, c + 2 * r + 1) for c, r in zip(place, radius, strict=True))] for each in padded)
        mean = (g * v * f).sum() / (g * v).sum()
        if prefilter.kind == "difference_of_gaussians":
            out[place] = mean - (w * v * f).sum() / (w * v).sum()
        elif prefilter.kind == "laplacian_of_gaussian":
            out[place] = (h * v * (f - mean)).sum() / (g * v).sum()
        else:
            std = np.sqrt((g * v * (f - mean) ** 2).sum() / (g * v).sum())
            out[place] = (image[place] - mean) / std if std > 0 else 0.0
    return out


@given(st.data())
@settings(max_examples=25)
def test_it_is_the_sum_that_the_definition_says(data):
    ndim = data.draw(st.sampled_from((2, 2, 3)))
    shape = (11, 14) if ndim == 2 else (4, 7, 9)
    prefilter = data.draw(strategies.prefilters(ndim).filter(bool))
    seed = data.draw(st.integers(0, 999))
    image = strategies.image(seed, shape, data.draw(st.sampled_from(("uint8", "int16", ">u2", "float32"))), "noise")
    valid = np.random.default_rng(seed).random(shape) < data.draw(st.sampled_from((0.4, 0.9, 1.0)))
    # a window of a single sample, or of two alike, has no contrast but what rounding leaves
    got = filtered(image, valid.astype(np.uint8), prefilter, whole(image), Pivot(np.median(image)))
    wanted = slow(image.astype(np.float64), valid, prefilter)
    np.testing.assert_array_equal(np.isnan(got), ~valid)
    scale = 1.0 if prefilter.kind == "local_standardisation" else np.std(image.astype(np.float64))
    np.testing.assert_allclose(got[valid] / scale, wanted[valid] / scale, atol=1e-9)


@pytest.mark.parametrize("truncate", [4.0, 6.0])
def test_scipy_says_the_same_inside(truncate):
    image = strategies.image(1, (70, 80), "uint16", "noise")
    f, ones, inside = image.astype(np.float64), np.ones(image.shape), (slice(20, -20),) * 2
    options = {"truncate": truncate, "mode": "constant"}

    def found(kind, **words):
        return filtered(image, None, Prefilter(kind, truncate=truncate, **words), whole(image), Pivot(30000.0))

    def alike(got, wanted, atol=1e-10):
        np.testing.assert_allclose(got[inside] / wanted.std(), wanted[inside] / wanted.std(), atol=atol)

    log = ndimage.gaussian_laplace(f, 2, **options)
    constant = ndimage.gaussian_laplace(ones, 2, **options) * ndimage.gaussian_filter(f, 2, **options)
    alike(found("laplacian_of_gaussian", sigma=2), log - constant)
    if truncate == 6.0:  # what scipy makes of a constant is gone
        alike(found("laplacian_of_gaussian", sigma=2), log, 1e-6)
    narrow, wide = (ndimage.gaussian_filter(f, s, **options) for s in ((1.5, 1.0), (2.4, 1.6)))
    alike(found("difference_of_gaussians", sigma=(1.5, 1.0)), narrow - wide)
    mean, square = (ndimage.gaussian_filter(each, 2, **options) for each in (f, f * f))
    alike(found("local_standardisation", sigma=2), (f - mean) / np.sqrt(square - mean**2))
    if truncate == 4.0:
        mean, square = (ndimage.uniform_filter(each, 9) for each in (f, f * f))
        got = filtered(image, None, BOX, whole(image), Pivot(30000.0))
        alike(got, (f - mean) / np.sqrt(square - mean**2), 1e-8)


@EACH
@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
@pytest.mark.parametrize("pivot", [0.0, 1234.5])
def test_a_constant_is_nothing_whatever_is_left_out(prefilter, dtype, pivot):
    image = strategies.image(1, (60, 70), dtype, "noise")
    image[:, 20:] = 60001 if dtype == "uint16" else 0.7e6
    valid = np.random.default_rng(2).random(image.shape) < 0.6
    reach = prefilter.radius(2)[1]
    for codes in (None, valid.astype(np.uint8)):
        got = filtered(image, codes, prefilter, whole(image), Pivot(pivot))
        assert (got[:, 20 + reach :][valid[:, 20 + reach :]] == 0).all()
        assert (got[:, :20][valid[:, :20]] != 0).all()


@EACH
def test_one_nan_spoils_itself(prefilter):
    image = strategies.image(1, (50, 50), "float32", "noise")
    image[25, 25], image[10, 40] = np.nan, np.inf
    got = filtered(image, None, prefilter, whole(image), Pivot(100.0))
    assert list(zip(*np.nonzero(~np.isfinite(got)), strict=True)) == [(10, 40), (25, 25)]


@EACH
@pytest.mark.parametrize("scale", [1.0, 2.0**-500, 2.0**500])
def test_grey_levels_far_from_one(prefilter, scale):
    image = strategies.image(1, (30, 40), "float64", "noise")
    plain = filtered(image, None, prefilter, whole(image), Pivot(100.0))
    unit = 1.0 if prefilter.kind == "local_standardisation" else scale
    got = filtered(image * scale, None, prefilter, whole(image), Pivot(100.0 * scale, 1 / scale))
    np.testing.assert_array_equal(got, plain * unit)


def test_batches_are_filtered_each_by_itself():
    image = strategies.image(1, (2, 3, 20, 30), "uint8", "noise")
    codes = (np.random.default_rng(0).random(image.shape) < 0.9).astype(np.uint8)
    codes[1, 2] = 1
    roi = slice(3, 18), slice(0, 30)
    got = filtered(image, codes, LOG, roi, Pivot(100.0))
    assert got.shape == (2, 3, 15, 30)
    for index in np.ndindex(2, 3):
        one = filtered(image[index], codes[index], LOG, roi, Pivot(100.0))
        np.testing.assert_array_equal(got[index], one)


def test_the_margin_that_is_left_is_that_of_the_window():
    f, g = (strategies.image(seed, (40, 50), "uint16", "noise") for seed in (1, 2))
    flags = np.ones(f.shape, np.uint8)
    flags[:5] = 2
    images = {"reference": f, "moving": g, "moving_validity": flags, "reference_validity": None}
    core = slice(2, 20), slice(18, 40)
    found, inner, pivots = prefiltered(images, core, (3, 4), BOX, (Pivot(5.0, 0.5), 7.0))
    assert (inner, pivots) == ((slice(2, 20), slice(4, 26)), (Pivot(), Pivot()))
    assert set(found) == {"reference", "moving", "moving_validity"}
    assert {each.shape for each in found.values()} == {(23, 30)}
    np.testing.assert_array_equal(found["moving_validity"], flags[:23, 14:44])
    # each about its own pivot, from which nothing is left of a contrast that is far too small beside it
    found, *_ = prefiltered(images, core, (3, 4), BOX, (5.0, 1e15))
    assert (found["reference"] != 0).all()
    assert (found["moving"][5:] == 0).all()
    *_, pivots = prefiltered(images, core, (3, 4), DOG, (Pivot(5.0, 0.5), 7.0))
    assert pivots == (Pivot(0.0, 0.5), Pivot())


def test_what_it_takes_grows_with_the_filter():
    wide = Prefilter("laplacian_of_gaussian", sigma=9)
    assert 0 == nanoseconds(UNFILTERED, 2) < nanoseconds(LOG, 2) < nanoseconds(LOG, 3) < nanoseconds(wide, 3)
    assert 0 == scratch(UNFILTERED, 2) < scratch(LOG, 2) < scratch(wide, 2) < 2**27
    assert 0 == bytes_per_pixel(UNFILTERED, 2) < bytes_per_pixel(LOG, 2) < bytes_per_pixel(LOG, 3)
