"""Local statistics against exact fractions, and against scikit-image and scipy."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter
from skimage.metrics import structural_similarity

import bigncc
from bigncc import Ssim, Window
from bigncc.errors import InputError
from bigncc.kernel import local
from bigncc.maps import Asked
from bigncc.moments import STATISTICS
from tests import oracle, strategies

DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "float32", "float64", "int32")
SSIM = Ssim(250.0, 0.02, 0.05)


def exact(pairs, ssim):
    """Every statistic of the pairs of a window, as fractions where they are rational; None where there is none."""
    n = len(pairs)
    f, g = (sum(values) for values in zip(*((a, b) for _, a, b in pairs), strict=True))
    ff, gg, fg = (sum(values) for values in zip(*((a * a, b * b, a * b) for _, a, b in pairs), strict=True))
    cov, vf, vg = (Fraction(m, 1) / n**2 for m in oracle.moments(pairs))
    c1, c2 = (Fraction(k) ** 2 * Fraction(ssim.data_range) ** 2 for k in (ssim.k1, ssim.k2))
    unbiased = Fraction(n, n - 1) if ssim.use_sample_covariance else 1
    mf, mg = Fraction(f) / n, Fraction(g) / n
    slope = cov / vf if vf else None
    return {
        "count": n,
        "mean_reference": mf,
        "mean_moving": mg,
        "std_reference": math.sqrt(vf),
        "std_moving": math.sqrt(vg),
        "covariance": cov,
        "slope": slope,
        "intercept": None if slope is None else mg - slope * mf,
        "ncc_uncentered": None if not ff or not gg else float(fg) / math.sqrt(ff) / math.sqrt(gg),
        "ssim": (2 * mf * mg + c1) * (2 * unbiased * cov + c2) / ((mf**2 + mg**2 + c1) * (unbiased * (vf + vg) + c2)),
    }


@st.composite
def cases(draw):
    ndim = draw(st.sampled_from((2, 2, 3)))
    shape = tuple(draw(st.integers(3, 9 if ndim == 2 else 6)) for _ in range(ndim))
    f, g = strategies.related(draw, shape, DTYPES)
    return (
        f,
        g,
        draw(strategies.validities(shape)),
        draw(strategies.validities(shape)),
        draw(strategies.windows(ndim, shape)),
    )


@given(cases())
@settings(max_examples=12)
def test_every_statistic_is_the_exact_one(case):
    f, g, vf, vg, window = case
    found = local(f, g, window, reference_validity=vf, moving_validity=vg, asked=Asked(STATISTICS, ssim=SSIM))
    ones = np.ones(f.shape, np.uint8)
    integers = all(image.dtype.kind in "bui" and image.dtype.itemsize < 4 for image in (f, g))
    for centre in np.ndindex(f.shape):
        pairs, *_ = oracle.samples(f, g, ones if vf is None else vf, ones if vg is None else vg, window, centre)
        status = found.status[centre]
        got = {name: float(found.further[name][centre]) for name in STATISTICS}
        assert got["count"] == len(pairs)
        if status in (2, 6, 7):
            assert all(math.isnan(value) for name, value in got.items() if name != "count")
            continue
        r = float(found.ncc[centre])
        assert got["squared"] == np.float32(r * r) or (math.isnan(r) and math.isnan(got["squared"]))
        assert got["absolute"] == abs(r) or (math.isnan(r) and math.isnan(got["absolute"]))
        if status == 8:
            assert math.isnan(got["std_reference"])
            assert math.isnan(got["ssim"])
            continue
        wanted = exact(pairs, SSIM)
        if status in (3, 5):
            wanted["slope"] = wanted["intercept"] = None
        scale = {
            name: max(abs(float(a)) for _, *pair in pairs for a in pair) for name in ("std_reference", "std_moving")
        }
        scale["covariance"] = scale["std_reference"] ** 2
        scale["intercept"] = scale["std_reference"] * max(1.0, abs(float(wanted["slope"] or 0)))
        for name, value in wanted.items():
            if value is None:
                assert math.isnan(got[name]), name
            else:
                near = 0.0 if integers else 1e-6 * max(1e-30, scale.get(name, abs(float(value))))
                assert abs(got[name] - float(value)) <= near + 2**-23 * abs(float(value)) + 2**-23 * scale.get(
                    name, 0.0
                ) * (name == "intercept"), (name, centre)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
@pytest.mark.parametrize("ssim", [Ssim(255.0), Ssim(255.0, use_sample_covariance=False), Ssim(200.0, 0.1, 0.2)])
def test_structural_similarity_is_that_of_scikit_image(dtype, ssim):
    rng = np.random.default_rng(3)
    f = rng.integers(0, 128, (40, 50))
    f, g = f.astype(dtype), (f // 2 + rng.integers(0, 60, f.shape)).astype(dtype)
    got = bigncc.local_maps(f, g, Window(7, border="reflect"), ("ssim",), ssim=ssim)["ssim"]
    options = {"K1": ssim.k1, "K2": ssim.k2, "use_sample_covariance": ssim.use_sample_covariance}
    _, wanted = structural_similarity(f, g, win_size=7, data_range=ssim.data_range, full=True, **options)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_the_data_range_of_integers_is_that_of_their_dtype():
    f = np.arange(400, dtype=np.uint8).reshape(20, 20)
    maps = [bigncc.local_maps(f, f[::-1], 5, ("ssim",), ssim=s)["ssim"] for s in (None, Ssim(255.0), Ssim(100.0))]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert (maps[0] != maps[2]).any()
    with pytest.raises(InputError, match=r"ssim.data_range is null and an image has dtype float32: the difference"):
        bigncc.local_maps(f.astype(np.float32), f, 5, ("ssim",))


def test_means_and_deviations_are_those_of_scipy():
    rng = np.random.default_rng(4)
    f, g = rng.normal(1000, 10, (2, 40, 50))
    names = ("mean_reference", "std_moving", "covariance")
    got = bigncc.local_maps(f, g, Window(9, border="mirror"), names)
    mean_f, mean_g, mean_gg, mean_fg = (uniform_filter(a, 9, mode="mirror") for a in (f, g, g * g, f * g))
    np.testing.assert_allclose(got["mean_reference"], mean_f, rtol=1e-6)
    np.testing.assert_allclose(got["std_moving"], np.sqrt(mean_gg - mean_g**2), rtol=1e-5)
    np.testing.assert_allclose(got["covariance"], mean_fg - mean_f * mean_g, atol=1e-4)


def test_what_is_asked_changes_no_coefficient():
    rng = np.random.default_rng(5)
    for dtype in (np.uint8, np.uint16, np.float32, np.float64):
        f, g = rng.integers(0, 4, (2, 30, 40)).astype(dtype)
        f[:12, :15] = 3
        plain, more = local(f, g, Window(5)), local(f, g, Window(5), asked=Asked(STATISTICS, ssim=SSIM))
        np.testing.assert_array_equal(plain.ncc.view("u4"), more.ncc.view("u4"))
        np.testing.assert_array_equal(plain.status, more.status)
        assert plain.summary == more.summary


def test_samples_of_extreme_size_have_statistics_too():
    rng = np.random.default_rng(6)
    f, g = rng.normal(5, 1, (2, 20, 30))
    names = ("ncc_uncentered", "slope", "ncc")
    usual = bigncc.local_maps(f, g, 5, names)
    huge = bigncc.local_maps(f * 2.0**300, g * 2.0**310, 5, names)
    np.testing.assert_allclose(huge["ncc_uncentered"], usual["ncc_uncentered"], atol=1e-6)
    np.testing.assert_allclose(huge["slope"], usual["slope"] * 2.0**10, rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"data_range": 0.0}, "ssim.data_range is 0.0: a finite number above 0 is accepted"),
        ({"k1": -1.0}, "ssim.k1 is -1.0: a finite number of at least 0 is accepted"),
        ({"k2": float("nan")}, "ssim.k2 is nan: a finite number of at least 0 is accepted"),
    ],
)
def test_constants_that_cannot_be_are_refused(words, sentence):
    with pytest.raises(InputError, match=sentence):
        Ssim(**words)
