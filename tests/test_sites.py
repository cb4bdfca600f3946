"""Sites lie where both images are, see what has texture at any scale, and their votes are counted."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc import sites
from bigncc.errors import RegistrationError
from bigncc.sites import Texture
from bigncc.tiles import roi_shape, roi_shift
from bigncc.transform import Translation
from tests import scenes

extents = st.integers(2, 3).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(1 if i < n - 2 else 32, 900), min_size=2, max_size=2) for i in range(n)))
)


@given(extents, st.data())
def test_sites_lie_within_both_images_and_are_alike(lengths, data):
    reference, moving = zip(*lengths, strict=True)
    shift = tuple(data.draw(st.integers(-n // 2, m // 2)) for n, m in zip(reference, moving, strict=True))
    texture = None
    if data.draw(st.booleans()):
        factors = tuple(data.draw(st.sampled_from((1, 2, 8, 64))) for _ in reference)
        shape = tuple(-(-n // f) for n, f in zip(reference, factors, strict=True))
        energy = np.random.default_rng(data.draw(st.integers(0, 99))).random(shape, dtype=np.float32)
        texture = Texture(energy, (0,) * len(shape), factors)
    try:
        places = sites.places(reference, moving, Translation(shift), texture)
    except RegistrationError as refusal:
        assert "pixels in common" in refusal.reason  # noqa: PT017
        common = [min(n, m - d) - max(0, -d) for n, m, d in zip(reference, moving, shift, strict=True)]
        assert min(common) < 1 or min(common[-2:]) < sites.SMALLEST
        return
    assert 1 <= len(places) <= sites.LATTICE[len(reference)] ** len(reference)
    assert len({roi_shape(place) for place in places}) == 1
    assert max(roi_shape(places[0])) <= sites.SITE[len(reference)]
    for place in places:
        for roi, shape in ((place, reference), (roi_shift(place, shift), moving)):
            assert all(0 <= s.start < s.stop <= n for s, n in zip(roi, shape, strict=True))


def test_a_site_goes_where_there_is_most_to_see():
    energy = np.zeros((128, 128), np.float32)
    energy[40, 21] = energy[90, 100] = 1
    places = sites.places((1024, 1024), (1024, 1024), Translation((0, 0)), Texture(energy, (0, 0), (8, 8)))
    for y, x in ((40 * 8 + 4, 21 * 8 + 4), (90 * 8 + 4, 100 * 8 + 4)):
        assert any(s.start <= y < s.stop and t.start <= x < t.stop for s, t in places)


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1.0, 1e30, 1e290])
@pytest.mark.parametrize("ground", [0, 1e6])
def test_texture_is_the_same_at_any_scale(scale, ground):
    image = scenes.scene(1, (64, 70), 1.0).astype(np.float64)
    wanted = sites.band(image)
    assert 0.1 < np.abs(wanted).max() <= 2
    np.testing.assert_allclose(sites.band((image + ground) * scale), wanted, atol=1e-5)
    np.testing.assert_allclose(np.abs(sites.band(-image)), np.abs(wanted), rtol=1e-3, atol=1e-5)


def test_the_smallest_difference_is_texture_and_none_is_not():
    image = np.ones((40, 40))
    assert not sites.band(image).any()
    assert not sites.band(np.full((9, 9), np.nan)).any()
    image[20, 20] = np.nextafter(1, 2)
    assert np.abs(sites.band(image)).max() > 0.1


def test_missing_samples_have_no_texture_and_spoil_none():
    image = scenes.scene(2, (80, 80), 1.0) + np.linspace(0, 50, 80)
    holes = image.copy()
    holes[30:40, 30:60] = np.nan
    found, wanted = sites.band(holes), sites.band(image)
    assert not found[30:40, 30:60].any()
    assert np.isfinite(found).all()
    ratio = np.abs(wanted).max() / np.abs(found).max()
    assert 0.5 < ratio < 2
    far = found[50:, 30:60] * (np.ptp(image[50:, 30:60]) / np.ptp(holes[50:, 30:60]))
    assert np.corrcoef(far.ravel(), wanted[50:, 30:60].ravel())[0, 1] > 0.98


@given(st.integers(3, 30), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_those_that_agree_are_found_in_any_order(true, stray, seed):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([rng.normal((7.3, -20.1), 0.1, (true, 2)), rng.uniform(40, 1000, (stray, 2))])
    peaks = np.concatenate([rng.uniform(10, 30, true), rng.uniform(3, 5, stray)])
    order = rng.permutation(len(peaks))
    agree = sites.vote(offsets[order], peaks[order])
    np.testing.assert_array_equal(agree, order < true)
    sites.check("translation", peaks[order], agree)


@pytest.mark.parametrize(
    ("peaks", "agreeing", "numbers"),
    [
        ([30.0, 30.0], 2, "of 2 sites 2 agree within 2 pixels, with 100 % of the evidence and a common peak of 42.4"),
        ([10.0] * 10, 4, "of 10 sites 4 agree within 2 pixels, with 40 %"),
        ([5.0] * 5, 5, "100 % of the evidence and a common peak of 11.2"),
    ],
)
def test_what_chance_says_is_refused_with_its_numbers(peaks, agreeing, numbers):
    agree = np.arange(len(peaks)) < agreeing
    with pytest.raises(RegistrationError, match=numbers):
        sites.check("translation", np.array(peaks), agree)


def test_what_just_suffices_is_accepted():
    sites.check("translation", np.array([7.0] * 3), np.ones(3, bool))
    sites.check("translation", np.array([6.0] * 10), np.arange(10) < 5)


def test_a_peak_is_measured_in_what_chance_correlates():
    f, g = (scenes.scene(seed, (700, 700), 1.5) for seed in (3, 4))
    lazy = [da.from_array(image, chunks=200) for image in (f, g)]
    still = Translation((0, 0))
    where = sites.places(f.shape, g.shape, still, None)
    _, _, chance = sites.ask(*lazy, still, where, 100)
    positions, targets, same = sites.ask(lazy[0], -3 * lazy[0] + 1, still, where, 100)
    assert chance.max() < 6
    assert same.min() > 20
    np.testing.assert_allclose(targets, positions, atol=1e-6)


def test_the_taper_is_symmetric_and_keeps_an_axis_of_one_pixel():
    taper = sites._taper((1, 8, 40))
    assert taper.shape == (1, 8, 40)
    np.testing.assert_allclose(taper, taper[:, ::-1, ::-1], atol=1e-6)
    assert taper.max() == 1
    assert 0 < taper.min() < 0.01
