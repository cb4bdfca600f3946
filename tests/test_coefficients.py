"""Differences of products are rounded once, whatever their size; exactly equal samples are found, whatever the gaps."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from bigncc import Window
from bigncc.coefficients import inverse_root, wide_difference
from bigncc.kernel import local


@given(st.integers(2, 2**31 - 1), st.data())
def test_wide_differences_are_rounded_once(n, data):
    def sums(limit):
        return st.integers(-limit, limit) | st.sampled_from((-limit, -1, 0, 1, limit))

    f, g = (data.draw(sums(2**15 * n)) for _ in range(2))
    fg = data.draw(sums(2**30 * n) | st.just(f * g // n) | st.just(-(-f * g // n)))
    if abs(fg) > 2**30 * n:
        fg = 2**30 * n
    exact = n * fg - f * g
    got = wide_difference(n, fg, f, g)
    assert abs(Fraction(got) - exact) <= Fraction(abs(exact), 2**52)
    assert (got == 0) == (exact == 0)


@given(st.floats(1.0, 2.0**126))
def test_inverse_roots_are_those_of_float64(x):
    got = Fraction(inverse_root(x))
    # (got (1 + e))^2 x = 1 tells e without a root that is itself rounded
    assert abs(got * got * Fraction(x) - 1) / 2 <= Fraction(4, 2**53)


@pytest.mark.parametrize(("shape", "size"), [((90, 80), (7, 5)), ((90, 80), (21, 1)), ((7, 50, 40), (3, 7, 5))])
@pytest.mark.parametrize("masked", [False, True])
def test_equal_samples_are_found_whatever_is_between_them(shape, size, masked):
    rng = np.random.default_rng(4)
    # plateaus of two levels and single samples that differ, among which rows and columns without any plateau
    f = np.kron(rng.integers(0, 2, [-(-n // 12) for n in shape]), np.ones([12] * len(shape)))
    f = f[tuple(slice(0, n) for n in shape)].astype(np.float32) + 0.7
    odd = rng.random(shape) < 0.01
    odd[..., 40:60, :] |= rng.random(odd[..., 40:60, :].shape) < 0.5
    f[odd] += rng.random(int(odd.sum()), np.float32) + 1
    # most of what differs does not count; and neither do some whole rows
    valid = ~odd | (rng.random(shape) < 0.3) if masked else np.ones(shape, bool)
    if masked:
        valid[..., 20:30, :] = False
    g = rng.normal(size=shape).astype(np.float32)
    window = Window(size, min_valid_fraction=0.0, border="valid")
    inner = tuple(slice(n // 2, m - n // 2) for n, m in zip(size, shape, strict=True))
    status = local(f, g, window, reference_validity=valid.astype(np.uint8)).status[inner]
    axes = tuple(range(-len(size), 0))
    low, high = (
        op(sliding_window_view(np.where(valid, f, fill), size), axis=axes)
        for op, fill in ((np.min, np.inf), (np.max, -np.inf))
    )
    count = sliding_window_view(valid, size).sum(axes)
    flat = (low == high) & (count >= 2)
    assert 0.05 < flat.mean() < 0.95
    np.testing.assert_array_equal(status == 3, flat)
    np.testing.assert_array_equal(status == 2, count < 2)
