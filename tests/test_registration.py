"""A known shift is found within what is said of it, and no shift is found where there is none."""

import json

import dask.array as da
import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter, zoom
from skimage import data

from bigncc import fit, sites
from bigncc.errors import RegistrationError
from bigncc.registration import estimate, registration_from_dict, residual
from bigncc.sites import SITE
from bigncc.transform import Affine, Translation, points
from tests import scenery, scenes

NEEDED = "3 sites, 50 % and 12 are needed"


def lazy(*images, chunks=128):
    return tuple(da.from_array(image, chunks=chunks) for image in images)


def error(found, offset):
    return np.abs(np.subtract(found.transform.offset, offset)).max()


@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
@pytest.mark.parametrize("seed", range(2))
def test_a_shift_by_parts_of_a_pixel_is_found(seed, sigma):
    offset = scenes.offset(seed, 150)
    found = estimate(*lazy(*scenes.pair(seed, (700, 640), sigma, offset)))
    assert error(found, offset) < 0.06
    assert (np.abs(np.subtract(found.offset, offset)) <= found.uncertainty).all()
    assert found.quality > 0.9
    assert found.sites.positions.shape == found.sites.offsets.shape == found.sites.residuals.shape
    np.testing.assert_allclose(
        found.sites.offsets - found.sites.residuals, [found.transform.offset] * len(found.sites.peaks)
    )


@pytest.mark.parametrize("shape", [(60, 90, 100), (7, 130, 120)])
def test_volumes_are_shifted_along_three_axes(shape):
    offset = (2.3, -7.6, 11.25) if shape[0] > 10 else (0, 3.5, -4.25)
    found = estimate(*lazy(*scenes.pair(3, shape, 1.0, offset), chunks=50))
    assert found.transform.ndim == 3
    assert error(found, offset) < 0.1


@pytest.mark.parametrize("offset", [(0, 0), (17, -40), (0, 5.5)])
def test_what_differs_from_whole_pixels_by_no_more_than_its_uncertainty_is_whole(offset):
    found = estimate(*lazy(*scenes.pair(5, (500, 400), 1.5, offset)))
    whole = [d == int(d) for d in offset]
    assert [d == int(d) for d in found.transform.offset] == whole
    assert all(a == b for a, b, is_whole in zip(found.transform.offset, offset, whole, strict=True) if is_whole)
    assert found.is_identity == (offset == (0, 0))
    said = str(found)
    if found.is_identity:
        assert said.startswith("not shifted: the measured y ")
        assert "is no more than its uncertainty of 0.02" in said
    else:
        assert said.startswith("shifted by y +17, x -40 pixels" if all(whole) else "shifted by y +0, x +5.5")
    assert f"{found.sites.agree.sum()} of {len(found.sites.agree)} sites agree" in said


@pytest.mark.parametrize("sigma", [0.7, 3.0])
@pytest.mark.parametrize("size", [64, 96, 200, 500])
@pytest.mark.parametrize("seed", range(2))
def test_unrelated_scenes_are_refused_with_the_numbers(seed, size, sigma):
    f, g = scenes.scene(seed, (size, size), sigma), scenes.scene(seed + 100, (size, size), sigma)
    with pytest.raises(RegistrationError, match=r"agree on no translation|in common|at most 0.5") as caught:
        estimate(*lazy(f, g))
    assert "--as-is" in str(caught.value)
    assert "--as-is" not in caught.value.reason
    assert "\n" not in str(caught.value)


def test_unrelated_photographs_are_refused():
    photos = [image.astype(float) for image in (data.camera(), data.coins(), data.brick(), data.moon(), data.text())]
    for i, first in enumerate(photos):
        for second in photos[:i]:
            with pytest.raises(RegistrationError, match=NEEDED):
                estimate(*lazy(first, second))


def test_extents_may_differ_and_shifts_may_be_larger_than_half_the_image():
    whole, other = scenes.pair(7, (900, 900), 1.0, (0.4, -0.3))
    found = estimate(*lazy(whole[:520, 100:700], other[350:, 30:430]))
    assert error(found, (0.4 - 350, -0.3 + 70)) < 0.06
    found = estimate(*lazy(whole[:600, :600], other[300:, 300:]))
    assert error(found, (0.4 - 300, -0.3 - 300)) < 0.06


def test_contrast_may_be_inverted():
    f, g = scenes.pair(8, (400, 400), 1.0, (3.25, -8.5), kind="float32")
    assert error(estimate(*lazy(f, -g)), (3.25, -8.5)) < 0.06


def test_samples_that_are_missing_are_no_texture():
    offset = (6.4, -3.7)
    f, g = scenes.pair(9, (700, 700), 1.5, offset, kind="float32")
    rng = np.random.default_rng(0)
    for image in (f, g):
        image[gaussian_filter(rng.standard_normal(image.shape), 20) > 0.01] = np.nan
        assert 0.2 < np.isnan(image).mean() < 0.5
    assert error(estimate(*lazy(f, g)), offset) < 0.1


def test_small_differences_on_a_bright_ground_are_texture():
    offset = (6.4, -3.7)
    f, g = scenes.pair(9, (500, 500), 1.5, offset, kind="float64")
    assert error(estimate(*lazy(1e9 + f / 1500, g)), offset) < 0.06


def test_an_image_that_changed_in_part_is_registered_by_the_rest():
    offset = (-12.3, 5.6)
    f, g = scenes.pair(10, (900, 900), 1.0, offset)
    g[:, 560:] = 9000 + 900 * scenes.scene(11, (900, 340), 1.0)
    found = estimate(*lazy(f, g))
    assert error(found, offset) < 0.06
    assert found.sites.agree.mean() < 0.8
    # half of a site is enough
    assert (found.sites.positions[found.sites.agree][:, 1] < 560 + 128).all()


def test_specimens_on_empty_glass_are_found():
    offset = (25.4, -31.8)
    f, g = (image.astype(float) for image in scenes.pair(12, (2400, 2400), 1.5, offset, noise=0))
    there = np.zeros(f.shape)
    # between the middles of the lattice, where blind sites would look
    for y, x in ((440, 450), (790, 1160), (1150, 810), (1500, 1520)):
        there[y : y + 80, x : x + 80] = 1
    moved = np.roll(there, (25, -32), (0, 1))
    rng = np.random.default_rng(1)
    f, g = (
        500 + (image - image.mean()) * gaussian_filter(where, 4) + 40 * rng.standard_normal(f.shape)
        for image, where in ((f, there), (g, moved))
    )
    found = estimate(*lazy(f, g, chunks=400))
    assert error(found, offset) < 0.1


def test_an_image_that_is_stretched_is_refused():
    f = scenes.scene(13, (900, 900), 2.0)
    with pytest.raises(RegistrationError, match=rf"sites \d+ agree within 2 pixels, with \d+ % .* {NEEDED}"):
        estimate(*lazy(f, zoom(f, 1.04, order=1)))


@pytest.mark.parametrize("way", [estimate, residual])
@pytest.mark.parametrize("which", ["reference", "moving", "both"])
def test_images_without_texture_are_refused(way, which):
    f, g = scenes.pair(14, (300, 300), 1.0, (0, 0), kind="float32")
    if which != "moving":
        f[...] = 7.25
    if which != "reference":
        g[...] = 1e6
    with pytest.raises(RegistrationError, match="texture"):
        way(*lazy(f, g))


@pytest.mark.parametrize("shape", [(20, 300), (300, 31), (1, 1)])
def test_images_that_are_too_small_are_refused(shape):
    f = scenes.scene(15, shape, 0.7) if shape != (1, 1) else np.ones(shape)
    with pytest.raises(RegistrationError, match="32 x 32 are needed|no texture"):
        estimate(*lazy(f, f))


def test_neighbouring_tiles_are_registered_from_where_they_are_said_to_be():
    whole, other = scenes.pair(16, (500, 1700), 1.5, (0.4, 3.7))
    first, second = whole[:, :900], other[:, 800:]
    found = estimate(*lazy(first, second), start=(5.0, -790.0))
    assert error(found, (0.4, 3.7 - 800)) < 0.06
    assert (found.sites.positions[:, 1] > 790).all()
    with pytest.raises(RegistrationError, match="have 500 x 0 pixels in common and 32 x 32 are needed"):
        estimate(*lazy(first, second), start=(0, 1000.0))


def counted(image, chunks, seen):
    """Return a dask array that counts the samples of the blocks it computes."""

    def block(part):
        if part.size:
            seen.append(part.size)
        return part

    return da.from_array(image, chunks=chunks).map_blocks(block, dtype=image.dtype, meta=np.empty((0, 0), image.dtype))


def test_a_coarser_level_spares_reading_the_whole():
    offset = (37.3, -55.6)
    images = scenes.pair(17, (2500, 2300), 2.0, offset)
    halves = [image[: 2 * (n := image.shape[0] // 2)].reshape(n, 2, -1, 2).mean((1, 3)) for image in images]
    quarters = [half.reshape(625, 2, -1, 2).mean((1, 3)) for half in halves]
    whole, less = [], []
    plain = estimate(*(counted(image, 256, whole) for image in images))
    levels = tuple(
        [da.from_array(half, chunks=500), da.from_array(quarter, chunks=500)]
        for half, quarter in zip(halves, quarters, strict=True)
    )
    found = estimate(*(counted(image, 256, less) for image in images), coarser=levels)
    for registration in (plain, found):
        assert error(registration, offset) < 0.06
    assert sum(whole) > 2 * images[0].size
    # the sites only: at most four chunks each, and twice as the whole pixels change
    assert max(less) <= 256**2
    assert sum(less) < sum(whole) - 1.9 * images[0].size


def test_levels_that_do_not_fit_are_left_alone():
    f, g = scenes.pair(18, (2200, 2200), 1.5, (4.5, 3.25))
    odd = tuple([da.zeros((700, 700)), da.zeros((500, 500))] for _ in range(2))
    assert error(estimate(*lazy(f, g), coarser=odd), (4.5, 3.25)) < 0.06


@pytest.mark.parametrize("offset", [(0.6, -0.3), (40.4, 25.75)])
def test_a_residual_is_measured_at_sites_alone(offset):
    images = scenes.pair(19, (1900, 1900), 1.5, offset)
    seen = []
    found = residual(*(counted(image, 256, seen) for image in images))
    assert error(found, offset) < 0.06
    assert SITE[2] == 256
    assert len(found.sites.peaks) == 36


def test_sites_are_asked_again_as_seen_through_what_they_said(monkeypatch):
    asked, ask = [], sites.ask
    monkeypatch.setattr(sites, "ask", lambda *words: asked.append(words[2].offset) or ask(*words))
    residual(*lazy(*scenes.pair(23, (600, 600), 1.5, (40.4, 25.75))))
    assert asked[0] == (0, 0)
    np.testing.assert_allclose(asked[-1], (40.4, 25.75), atol=0.06)
    assert 2 <= len(asked) <= 4


def test_a_residual_is_looked_for_where_the_level_shows_something():
    offset = (1.5, -0.25)
    f, g = scenes.pair(20, (3000, 3000), 1.5, offset, noise=0)
    empty = np.ones(f.shape, bool)
    for k in range(6):
        empty[500 * k + 20 : 500 * k + 200, 40:230] = empty[40:210, 500 * k + 30 : 500 * k + 210] = False
    f[empty], g[np.roll(empty, (1, 0), (0, 1))] = 20000, 9000
    level = f.reshape(750, 4, 750, 4).mean((1, 3))
    found = residual(*lazy(f, g, chunks=500), coarser=[da.from_array(level, chunks=250)])
    assert error(found, offset) < 0.2
    # blind sites see little, and no two of them the same
    with pytest.raises(RegistrationError, match="are uncertain by"):
        residual(*lazy(f, g, chunks=500))


def test_what_is_written_down_is_what_was_found():
    found = estimate(*lazy(*scenes.pair(21, (300, 300), 1.0, (2.5, 0))))
    again = registration_from_dict(json.loads(json.dumps(found.to_dict())))
    assert (again.transform, again.offset, again.uncertainty) == (found.transform, found.offset, found.uncertainty)
    assert (again.quality, str(again), again.facts()) == (found.quality, str(found), found.facts())
    for name, values in vars(found.sites).items():
        np.testing.assert_array_equal(getattr(again.sites, name), values)
        assert getattr(again.sites, name).dtype == values.dtype


def test_the_facts_are_those_of_the_sites():
    found = estimate(*lazy(*scenes.pair(22, (400, 400), 1.0, (2.5, -1.25))))
    facts = found.facts()
    assert facts["measured"].startswith("y +2.")
    assert f"{len(found.sites.peaks)} sites agree" in facts["quality"]
    assert f"lowest {found.sites.peaks.min():.1f}" in facts["peaks"]


@pytest.mark.parametrize(("model", "masked"), [("rigid", 0.0), ("affine", 0.2)])
def test_what_is_turned_is_found_to_a_part_of_a_pixel(model, masked):
    side = 500
    true = scenery.transform(7, model, side)
    found = estimate(*lazy(*scenery.pair(7, true, side, masked=masked)), model)
    assert found.model == model
    assert scenery.corner_error(found.measured, true, side) < 0.15
    assert str(found).startswith("pulled through an affine transform: turned by ")
    again = registration_from_dict(json.loads(json.dumps(found.to_dict())))
    assert (again.transform, again.measured, again.facts()) == (found.transform, found.measured, found.facts())


def test_what_is_masked_moves_no_peak():
    offset = (12.4, -7.3)
    f, g = scenes.pair(24, (700, 700), 1.5, offset, noise=0, kind="float32")
    rng = np.random.default_rng(1)
    for image in (f, g):
        blots = gaussian_filter(rng.standard_normal(image.shape), 25)
        image[blots > np.quantile(blots, 0.8)] = np.nan
    assert error(estimate(*lazy(f, g)), offset) < 0.01


def test_a_volume_is_turned_and_stretched():
    shape = (32, 128, 132)
    volume = scenes.scene(3, shape, 1.8)
    matrix = np.array([[1.01, 0, 0.004], [0, 0.99, 0.12], [-0.01, -0.12, 0.99]])
    middle = (np.array(shape) - 1) / 2
    true = Affine(tuple(map(tuple, matrix.tolist())), tuple((middle - matrix @ middle + (1.3, -4.2, 2.7)).tolist()))
    back = true.inverse()
    moved = affine_transform(volume, back.matrix, back.offset, order=3)
    found = estimate(*(da.from_array(image.astype(np.float32), chunks=64) for image in (volume, moved)), "affine")
    corners = fit.corners(shape)
    off = np.abs(points(found.measured, corners) - points(true, corners)).max(axis=0)
    assert (off < (0.4, 0.1, 0.1)).all()  # of 32 planes several have nothing to be compared with


@pytest.mark.parametrize("model", ["rigid", "affine"])
def test_unrelated_scenes_are_on_no_model(model):
    f, g = (scenes.scene([31, i], (300, 300), 1.5) for i in (0, 1))
    with pytest.raises(RegistrationError, match=f"agree on no {model} transform|no {model} transform is found"):
        estimate(*lazy(f, g), model)


def test_what_does_not_differ_from_whole_pixels_is_a_shift_by_them():
    f, g = scenes.pair(25, (400, 400), 1.0, (3, -5))
    found = estimate(*lazy(f, g), "affine")
    assert found.transform == Translation((3.0, -5.0))
    assert isinstance(found.measured, Affine)
