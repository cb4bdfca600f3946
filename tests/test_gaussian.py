"""Gaussian windows: close to exact arithmetic, and what scipy says where scipy is right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate, gaussian_filter
from skimage.metrics import structural_similarity

import bigncc
from bigncc import Window, gaussian
from bigncc.gaussian import fold, share
from bigncc.kernel import lattice_pivot, local
from bigncc.lines import strip_of
from bigncc.weights import taps
from tests import oracle, strategies
from tests.implementations import from_means
from tests.test_kernel import cases


def close(case):
    """Assert that a block is that of the oracle."""
    f, g, window, vf, vg = case
    pivot = lattice_pivot(f), lattice_pivot(g)
    block = local(f, g, window, reference_validity=vf, moving_validity=vg, pivot=pivot)
    exact, status = oracle.maps(f, g, window, vf, vg)
    np.testing.assert_array_equal(block.status, status)
    wanted = np.array([np.nan if r is None else float(r) for r in exact]).reshape(f.shape)
    np.testing.assert_allclose(block.ncc, wanted, atol=1e-6)


@given(cases((*strategies.FLOATS[:2], "uint8", "int16", ">u2"), kinds=("gaussian",)))
@settings(max_examples=25)
def test_every_window_is_close_to_the_exact_value(case):
    close(case)


@pytest.mark.soak
@given(cases((*strategies.FLOATS, *strategies.INTEGERS), kinds=("gaussian",)))
@settings(max_examples=1000)
def test_a_thousand_are_close_to_the_exact_value(case):
    close(case)


@pytest.mark.parametrize("border", ["shrink", "mirror", "valid"])
def test_three_axes(border):
    f, g = (strategies.image(seed, (5, 6, 7), "float32", "noise") for seed in (1, 2))
    mask = (np.random.default_rng(0).random(f.shape) < 0.8).astype(np.uint8)
    close((f, g, Window(weights="gaussian", sigma=(0.5, 0.6, 0.9), border=border), mask, None))


@pytest.mark.parametrize(
    ("sigma", "shape"), [((1.5, 1.5), (60, 70)), ((3, 2), (60, 70)), ((0, 1.2), (40, 50)), ((1.5, 1, 2), (14, 24, 26))]
)
@pytest.mark.parametrize("border", ["reflect", "mirror", "nearest"])
def test_it_is_what_scipy_says(sigma, shape, border):
    f, g = (gaussian_filter(strategies.image(seed, shape, "float64", "noise"), 0.8) for seed in (1, 2))
    wanted = from_means(f, g, lambda image: gaussian_filter(image, sigma, mode=border, truncate=3.5))
    window = Window(weights="gaussian", sigma=sigma, border=border)
    np.testing.assert_allclose(local(f, g, window, pivot=(100.0, 100.0)).ncc, wanted, atol=2e-6)


def test_at_the_edge_it_is_a_normalised_convolution():
    f, g = (strategies.image(seed, (40, 50), "float64", "noise") for seed in (1, 2))
    valid = np.random.default_rng(0).random(f.shape) < 0.7

    def smooth(image):
        return gaussian_filter(image * valid, 1.5, mode="constant", truncate=3.5)

    weight = smooth(np.ones(f.shape))
    wanted = from_means(f - 100, g - 100, lambda image: smooth(image) / weight)
    window = Window(weights="gaussian", sigma=1.5, min_valid_fraction=0.0)
    found = local(f, g, window, pivot=(100.0, 100.0), reference_validity=valid.astype(np.uint8))
    np.testing.assert_allclose(found.ncc, wanted, atol=2e-6)


def test_what_is_far_from_the_middle_counts_less():
    f, g = (strategies.image(seed, (31, 31), "float64", "noise") for seed in (1, 2))
    g[:, :16] = f[:, :16]
    box, bell = (
        local(f, g, window, pivot=(100.0, 100.0)).ncc[15, 11]
        for window in (Window(15), Window(weights="gaussian", sigma=2))
    )
    assert bell > box + 0.05


@given(st.integers(0, 12), st.floats(0.3, 4), st.integers(1, 30), st.data())
def test_what_lies_within_the_image_weighs_the_same_to_the_bit(radius, sigma, length, data):
    # or a block with masks would differ from one without
    weights, unit = taps(sigma, radius), data.draw(st.floats(0.1, 1))
    line = np.zeros(length + 2 * radius)
    line[radius : radius + length] = unit
    out = np.empty(length)
    fold(out, line, np.arange(2 * radius + 1), weights)
    assert out.tolist() == [share(weights, place, length, unit) for place in range(length)]


def test_a_strip_stays_in_the_cache():
    for size in (3, 11, 101):
        window = Window(weights="gaussian", sigma=size // 2 / 3.5)
        strip = strip_of(window.shape, size, 10**6)
        assert strip >= 64
        assert gaussian.scratch(window) >= 48 * size * (strip + size - 1)
    assert strip_of((11, 11), 11, 50) == 50
    few, many = (gaussian.nanoseconds(Window(weights="gaussian", sigma=s)) for s in (1, 3))
    assert 0 < few < many


def test_structural_similarity_is_that_of_scikit_image():
    rng = np.random.default_rng(3)
    f = rng.integers(0, 128, (40, 50)).astype(np.uint8)
    g = (f // 2 + rng.integers(0, 60, f.shape)).astype(np.uint8)
    window = Window(weights="gaussian", sigma=1.5, border="reflect")
    got = bigncc.local_maps(f, g, window, ("ssim",), ssim=bigncc.Ssim(255.0, use_sample_covariance=False))["ssim"]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, wanted = structural_similarity(f, g, full=True, **options)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "dtype", ["uint8", *(pytest.param(each, marks=pytest.mark.soak) for each in ("int16", "float64"))]
)
@pytest.mark.parametrize("kind", ["gaussian", "footprint"])
def test_statistics_are_weighted(kind, dtype):
    f, g = (strategies.image(seed, (40, 50), dtype, "noise") for seed in (1, 2))
    words = {"sigma": 1.5} if kind == "gaussian" else {"footprint": "disk", "size": 9}
    window = Window(weights=kind, border="mirror", **words)
    mass = window.table.array / window.samples if kind == "footprint" else None

    def mean(image):
        if mass is not None:
            return correlate(image, mass, mode="mirror")
        return gaussian_filter(image, 1.5, mode="mirror", truncate=3.5)

    a, b = f.astype(float), g.astype(float)
    found = bigncc.local_maps(f, g, window, ("mean_reference", "std_moving", "covariance"))
    np.testing.assert_allclose(found["mean_reference"], mean(a), rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(found["std_moving"], np.sqrt(mean(b * b) - mean(b) ** 2), rtol=1e-5)
    covariance = mean(a * b) - mean(a) * mean(b)
    np.testing.assert_allclose(found["covariance"], covariance, atol=1e-5 * float(np.abs(covariance).max()))
