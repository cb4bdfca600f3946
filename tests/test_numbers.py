"""Numbers at their extremes: against exact fractions, and never a warning or a word that nobody understands."""

import re
import warnings

import numpy as np
import pytest

import bigncc
from bigncc import Prefilter, Ssim, Translation, Window
from bigncc.errors import InputError
from bigncc.kernel import Pivot, lattice_pivot, local
from bigncc.maps import Asked
from bigncc.moments import STATISTICS
from tests.benchmarks import numbers

RNG = np.random.default_rng(0)
NOISE, MORE = RNG.normal(0, 1, (2, 20, 24))


def whole(found):
    assert sum(map(len, (each.wrong for each in found.values()))) == 0, [t.wrong[:2] for t in found.values() if t.wrong]
    return found


def test_a_draw_of_all_dtypes_is_what_exact_fractions_say():
    found = whole(numbers.soak(10 * len(numbers.DTYPES)))
    assert {name for _, name in found} == {numbers.name_of(np.dtype(each)) for each in numbers.DTYPES}
    assert sum(each.cases for each in found.values()) == 10 * len(numbers.DTYPES)
    assert set().union(*(each.status for each in found.values())) >= set(range(1, 9))
    assert all(each.ulp < 0.5000001 for (exact, _), each in found.items() if exact)


@pytest.mark.soak
def test_twenty_thousand_cases_are_what_exact_fractions_say():
    whole(numbers.soak(20000))


def test_the_draw_finds_a_kernel_that_is_wrong(monkeypatch):
    monkeypatch.setattr(numbers, "ROUNDED", 0)  # no rounding is allowed for
    monkeypatch.setattr(numbers, "local", lambda f, g, *rest, **named: local(f[..., ::-1], g, *rest, **named))
    assert any(each.wrong for each in numbers.soak(60).values())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("std", [1e155, 1e200, 1.7e308])
def test_a_min_std_whose_square_is_infinite_is_above_all(dtype, std):
    f = (50 + 9 * NOISE).astype(dtype)
    assert (local(f, f, Window(5, min_std=std)).status == 5).all()
    assert (local(f, f, Window(5, min_std=(0, std))).status == 4).all()


@pytest.mark.parametrize("weights", ["box", "gaussian", "footprint"])
@pytest.mark.parametrize(("rare", "often"), [(1e-16, 2e307), (1e10, 5e-322)])
def test_what_a_scale_cannot_hold_is_no_flat_window(weights, rare, often):
    # a hundred orders of magnitude in one image: what the pivot was not chosen for is 0, or infinite, in its scale
    f = NOISE * often
    f[:, :9] = rare * (1 + 0.1 * NOISE[:, :9])
    words = {"box": {"size": 5}, "gaussian": {"sigma": 0.6}, "footprint": {"size": 5, "footprint": "disk"}}[weights]
    pivot = lattice_pivot(f[:, 12:])
    assert pivot.scale != 1
    block = local(f, MORE, Window(weights=weights, **words), pivot=(pivot, 0.0))
    assert set(np.unique(block.status[:, :6])) == {8}
    f[:, :9] = rare
    assert set(np.unique(local(f, MORE, Window(weights=weights, **words), pivot=(pivot, 0.0)).status[:, :6])) == {3}


@pytest.mark.parametrize("weights", [{"size": 5}, {"weights": "gaussian", "sigma": 0.6}])
def test_products_that_have_lost_digits_give_no_value(weights):
    # of a pair of which one image has samples at 1e-160 in places, and the pivot was not chosen for these
    usual = local(NOISE, MORE, Window(**weights)).ncc
    for scale in 10.0 ** -np.arange(100, 165, 3):
        block = local(NOISE * scale, MORE * 1e140, Window(**weights))
        assert set(np.unique(block.status)) <= {1, 8}
        valid = block.status == 1
        np.testing.assert_allclose(block.ncc[valid], usual[valid], atol=1e-6)
        assert valid.all() if scale > 1e-140 else True
    assert not valid.any()


def test_a_variance_that_is_lost_is_not_below_min_std():
    # at 1e9 rounding leaves anything of a variance of 1: it is not known to be below 0.25, nor to be above
    f = NOISE + 1e9
    f[:, :9] = 0.0
    block = local(f, MORE, Window(5, min_std=(0.5, 0.0)), pivot=(0.0, 0.0))
    assert (block.status[:, 12:] == 8).all()
    assert (block.status[:, :6] == 3).all()
    # but what is lost is at most a millionth of what is there
    assert (local(f, MORE, Window(5, min_std=(1e4, 0.0)), pivot=(0.0, 0.0)).status[:, 12:] == 3).all()


@pytest.mark.parametrize("power", [-1000, -200, -130, -100, 120, 200, 1000])
def test_offsets_do_not_matter_at_any_scale(power):
    # a pivot is rounded to float32 only where that has as many digits
    f = (1e7 + NOISE) * 2.0**power
    found = bigncc.local_maps(f, MORE, 5)
    assert (found["status"] == 1).all()
    np.testing.assert_allclose(found["ncc"], bigncc.ncc(1e7 + NOISE, MORE, 5), atol=1e-6)


def test_a_gaussian_of_one_sample_has_too_few():
    f = NOISE[:, :1]
    for size in ((1, 3), (1, 5)):
        window = Window(weights="gaussian", sigma=(0, size[1] // 2 * 0.29))
        assert window.shape == size
        assert (local(f, f, window).status == 2).all()
        assert (local(f, f, Window(size)).status == 2).all()


@pytest.mark.parametrize(
    ("dtype", "cval"), [("float32", 1e300), ("float16", 1e5), ("uint8", -1.0), ("uint64", 2.0**64), ("int64", 1e300)]
)
def test_a_grey_level_beyond_the_image_that_its_dtype_does_not_hold_is_refused(dtype, cval):
    f = np.arange(100).reshape(10, 10).astype(dtype)
    with pytest.raises(
        InputError, match=re.escape(f"window.cval is {cval}: a grey level of dtype {dtype} is accepted")
    ):
        bigncc.ncc(f, f, Window(3, border="constant", cval=cval))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int64", "uint64", "bool"])
@pytest.mark.parametrize("nodata", [1e300, -1e300, np.inf, -9999.0, 2**70])
def test_nodata_that_no_sample_can_have_leaves_all_of_them(dtype, nodata):
    f = (50 + 9 * NOISE).astype(dtype)
    f[::2] = 1
    found = bigncc.local_maps(f, f, 5, nodata=nodata)
    np.testing.assert_array_equal(found["ncc"], bigncc.ncc(f, f, 5))


@pytest.mark.parametrize("scale", [1e200, 1e308, 1e-200, 1e-300])
def test_structural_similarity_has_no_scale(scale):
    f, g = NOISE / 20, MORE / 20
    usual = bigncc.local_maps(f, g, 5, ("ssim",), ssim=Ssim(1.0))["ssim"]
    found = bigncc.local_maps(f * scale, g * scale, 5, ("ssim",), ssim=Ssim(scale))["ssim"]
    np.testing.assert_allclose(found, usual, atol=1e-6)


@pytest.mark.parametrize("one", [1e-300, 1e-100, 1.0, 1e100, 1e300])
@pytest.mark.parametrize("other", [1e-300, 1.0, 1e300])
def test_statistics_are_what_a_float32_can_say_of_the_true_ones(one, other):
    usual = local(NOISE, MORE, Window(5), asked=Asked(STATISTICS, ssim=Ssim(1.0))).further
    f, g = NOISE * one, MORE * other
    found = bigncc.local_maps(f, g, 5, [name for name in STATISTICS if name != "ssim"])
    units = {
        "mean_reference": one, "std_reference": one, "mean_moving": other, "std_moving": other, "intercept": other,
    }  # fmt: skip
    with np.errstate(all="ignore"):
        for name, values in found.items():
            wanted = usual[name].astype(np.longdouble) * np.longdouble(units.get(name, 1.0))
            if name == "covariance":
                wanted = wanted * np.longdouble(one) * np.longdouble(other)
            if name == "slope":
                wanted = wanted / np.longdouble(one) * np.longdouble(other)
            wanted = wanted.astype(np.float32)
            assert not (np.signbit(values) & (values == 0)).any()
            beyond = np.isinf(wanted) | (np.abs(wanted) < 1e-30) | (np.abs(wanted) > 1e38)
            np.testing.assert_allclose(values[~beyond], wanted[~beyond], rtol=2e-5, atol=2e-5)
            np.testing.assert_array_equal(np.isnan(values), False)


def test_covariance_and_slope_of_nothing_are_zero_at_any_scale():
    f = np.zeros((9, 9))
    f[4, 4] = 1.0
    g = np.zeros((9, 9))
    g[4, 3:6] = -1.0, 0.0, 1.0
    window = Window(9, border="valid")
    for one, other in ((1e308, 1e308), (1e-308, 1e-308), (1e308, 1e-308), (1e-308, 1e308)):
        pivot = tuple(Pivot(0.0, 2.0**-1024 if scale > 1 else 2.0**1000) for scale in (one, other))
        block = local(f * one, g * other, window, pivot=pivot, asked=Asked(("covariance", "slope")))
        assert [float(block.further[name][4, 4]) for name in ("covariance", "slope")] == [0.0, 0.0]


@pytest.mark.parametrize(
    "prefilter",
    [
        Prefilter("laplacian_of_gaussian", sigma=1.0),
        Prefilter("difference_of_gaussians", sigma=1.0),
        Prefilter("local_standardisation", size=3),
        Prefilter("local_standardisation", sigma=1.0),
    ],
)
def test_what_a_prefilter_cannot_hold_is_no_sample_and_not_zero(prefilter):
    f = NOISE * 5e-322
    f[:, 20:] = 1e200 * NOISE[:, 20:]
    found = bigncc.local_maps(f, MORE, 3, prefilter=prefilter, pivot=(Pivot(0.0, 2.0**1000), 0.0))
    assert set(np.unique(found["status"][:, -1])) == {2}
    assert set(np.unique(found["status"][:, :10])) == {1}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", ">f8"])
def test_no_sample_makes_a_warning_in_any_map(dtype):
    maps = (*STATISTICS, "spearman", "confidence", "pvalue", "lower", "ncc", "status")
    for number, kind in enumerate(numbers.OF_FLOATS):
        rng = np.random.default_rng(number)
        f, g = (numbers.floats(rng, (14, 15), np.dtype(dtype), kind) for _ in range(2))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = bigncc.local_maps(f, g, 5, maps, ssim=Ssim(1.0))
            bigncc.ncc(f, g, 5, transform=Translation((0.3, 0.4)))
        for name in ("ncc", "spearman", "ncc_uncentered", "squared", "absolute", "confidence", "lower"):
            assert (np.abs(found[name][~np.isnan(found[name])]) <= 1).all(), name
        assert (np.isnan(found["ncc"]) == np.isin(found["status"], (2, 6, 7, 8))).all()
