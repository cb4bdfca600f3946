"""Windows with a footprint: exact for integers that count or not, close to the exact value otherwise."""

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.ndimage import correlate

from bigncc import Window, shaped
from bigncc.kernel import local
from tests import oracle, strategies
from tests.implementations import from_means
from tests.test_gaussian import close
from tests.test_kernel import bits, cases

CELLS = ("drawn", "cells")


def exact(case):
    """Assert that a block is the oracle's, rounded."""
    f, g, window, vf, vg = case
    block = local(f, g, window, reference_validity=vf, moving_validity=vg)
    wanted, status = oracle.maps(f, g, window, vf, vg)
    np.testing.assert_array_equal(block.status, status)
    oracle.assert_rounded(block.ncc, wanted)


@given(cases(strategies.INTEGERS, kinds=CELLS))
@settings(max_examples=40)
def test_integers_are_the_exact_value_rounded(case):
    exact(case)


@given(cases((*strategies.FLOATS[:2], "uint8", "int16"), kinds=("table", "table", *CELLS)))
@settings(max_examples=30)
def test_floats_and_weights_are_close_to_the_exact_value(case):
    close(case)


@pytest.mark.soak
@given(cases(strategies.INTEGERS, kinds=CELLS))
@settings(max_examples=1000)
def test_a_thousand_are_the_exact_value_rounded(case):
    exact(case)


@pytest.mark.soak
@given(cases((*strategies.FLOATS[:2], *strategies.INTEGERS), kinds=("table", *CELLS)))
@settings(max_examples=1000)
def test_a_thousand_are_close_to_the_exact_value(case):
    close(case)


@pytest.mark.parametrize("border", ["shrink", "mirror", "valid"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_three_axes(border, dtype):
    f, g = (strategies.image(seed, (5, 6, 7), dtype, "noise") for seed in (1, 2))
    mask = (np.random.default_rng(0).random(f.shape) < 0.8).astype(np.uint8)
    case = f, g, Window((3, 5, 3), weights="footprint", footprint="ball", border=border), None, mask
    (close if dtype == "float32" else exact)(case)


@pytest.mark.soak
def test_windows_too_large_for_64_bit_products():
    rng = np.random.default_rng(3)
    f = rng.choice(np.array([0, 65535], np.uint16), (311, 313))
    g = np.where(rng.random(f.shape) < 0.5001, f, 65535 - f).astype(np.uint16)
    table = np.ones((311, 311))
    table[155, 155] = 0
    window = Window(weights="footprint", footprint=table)
    core = slice(155, 156), slice(155, 158)
    block, every = local(f, g, window, core=core), np.ones(f.shape, np.uint8)
    for x in range(3):
        wanted, _ = oracle.pixel(f, g, every, every, window, (155, 155 + x))
        oracle.assert_rounded(block.ncc[:, x], [wanted])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_footprint_of_ones_is_a_box(dtype):
    f, g = (strategies.image(seed, (40, 50), dtype, "flat") for seed in (1, 2))
    one, other = (local(f, g, w) for w in (Window((5, 9)), Window(weights="footprint", footprint=np.ones((5, 9)))))
    np.testing.assert_array_equal(bits(one.ncc), bits(other.ncc))
    np.testing.assert_array_equal(one.status, other.status)
    assert one.summary == other.summary


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
@pytest.mark.parametrize("kind", ["disk", "octagon", "table"])
def test_it_is_what_scipy_says(dtype, kind):
    f, g = (strategies.image(seed, (50, 60), dtype, "noise") for seed in (1, 2))
    options = {"size": (9, 13), "footprint": kind}
    if kind == "table":
        options = {"footprint": np.random.default_rng(0).random((5, 7))}
    window = Window(weights="footprint", border="mirror", **options)
    mass = window.table.array / window.table.array.sum()
    wanted = from_means(f - 100.0, g - 100.0, lambda image: correlate(image, mass, mode="mirror"))
    np.testing.assert_allclose(local(f, g, window, pivot=(100.0, 100.0)).ncc, wanted, atol=2e-6)


def test_in_three_dimensions_too():
    f, g = (strategies.image(seed, (12, 20, 21), "float32", "noise") for seed in (1, 2))
    window = Window((3, 7, 5), weights="footprint", footprint="ball", border="nearest")
    mass = window.table.array / window.table.array.sum()
    f64, g64 = (image.astype(float) - 100 for image in (f, g))
    wanted = from_means(f64, g64, lambda image: correlate(image, mass, mode="nearest"))
    np.testing.assert_allclose(local(f, g, window, pivot=(100.0, 100.0)).ncc, wanted, atol=2e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_flat_is_judged_by_the_samples_that_count(weighted):
    # a ring around a middle that differs, at grey levels that no sum of floats keeps
    ring = np.ones((5, 5))
    ring[1:4, 1:4] = 0
    ring[0, 0] = 0.3 if weighted else 1.0
    window = Window(weights="footprint", footprint=ring)
    f = np.full((30, 31), 0.7)
    f[12:15, 12:15] = 0.8
    g = strategies.image(1, f.shape, "float64", "noise")
    status = local(f, g, window, pivot=(0.1, 100.0)).status
    flat = np.ones(f.shape, bool)
    for y, x in np.argwhere(f == 0.8):
        flat[y - 2 : y + 3, x - 2 : x + 3] &= ring[::-1, ::-1] == 0
    np.testing.assert_array_equal(status, np.where(flat, 3, 1))
    assert status[13, 13] == 3  # the middle differs, and does not count
    # and a sample that differs and is masked does not count either
    mask = (f != 0.8).astype(np.uint8)
    assert set(np.unique(local(f, g, window, pivot=(0.1, 100.0), reference_validity=mask).status)) == {3}


def test_one_step_of_the_least_bit_is_not_flat():
    f = np.full((30, 31), 0.7)
    f[14, 15] = np.nextafter(0.7, 1)
    g = strategies.image(1, f.shape, "float64", "noise")
    window = Window(7, weights="footprint", footprint="disk")
    for pair, code in (((f, g), 3), ((g, f), 4)):
        status = local(*pair, window, pivot=(0.1, 0.1)).status
        near = np.zeros(f.shape, bool)
        near[11:18, 12:19] = window.table.array > 0
        assert set(np.unique(status[near])) <= {1, 8}
        assert (status[~near] == code).all()


def test_two_samples_with_weight_are_needed_whatever_they_weigh():
    table = np.full((3, 3), 1e-6)
    table[1, 1] = 1
    window = Window(weights="footprint", footprint=table, min_valid_fraction=0.9)
    f, g = (strategies.image(seed, (20, 20), "float64", "noise") for seed in (1, 2))
    mask = np.zeros(f.shape, np.uint8)
    mask[5, 5] = mask[12, 12] = mask[12, 13] = 1
    status = local(f, g, window, pivot=(100.0, 100.0), reference_validity=mask).status
    assert status[5, 5] == 2
    assert status[12, 12] == status[12, 13] == 1
    assert (status == 1).sum() == 2


def test_what_it_takes_grows_with_what_is_added():
    small, large = (Window(n, weights="footprint", footprint="disk") for n in (5, 31))
    assert 0 < shaped.nanoseconds(small) < shaped.nanoseconds(large)
    assert shaped.scratch(small) < shaped.scratch(Window((31, 31, 31), weights="footprint", footprint="ball"))
