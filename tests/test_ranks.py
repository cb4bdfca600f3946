"""Rank correlation against scipy, window by window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

import bigncc
from bigncc.errors import InputError
from bigncc.kernel import local
from bigncc.maps import Asked
from tests import oracle, strategies

DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "float32", "float64")


@st.composite
def cases(draw):
    ndim = draw(st.sampled_from((2, 2, 3)))
    shape = tuple(draw(st.integers(3, 8 if ndim == 2 else 5)) for _ in range(ndim))
    f, g = strategies.related(draw, shape, DTYPES)
    masks = draw(strategies.validities(shape)), draw(strategies.validities(shape))
    return f, g, *masks, draw(strategies.windows(ndim, shape))


@given(cases())
@settings(max_examples=25)
def test_it_is_the_correlation_of_ranks(case):
    f, g, vf, vg, window = case
    found = local(f, g, window, reference_validity=vf, moving_validity=vg, asked=Asked(("spearman",)))
    got, ones = found.further["spearman"], np.ones(f.shape, np.uint8)
    for centre in np.ndindex(f.shape):
        pairs, *_ = oracle.samples(f, g, ones if vf is None else vf, ones if vg is None else vg, window, centre)
        status = found.status[centre]
        if status in (2, 6, 7):
            assert np.isnan(got[centre])
            continue
        # doubled and about their mean, they are integers
        a, b = (
            2 * rankdata([float(v) for v in values]) - len(pairs) - 1 for values in list(zip(*pairs, strict=True))[1:]
        )
        if status in (3, 4, 5) or not (a @ a and b @ b):
            np.testing.assert_equal(float(got[centre]), window.flat)
        else:
            assert got[centre] == np.float32((a @ b) / np.sqrt((a @ a) * (b @ b)))


def test_it_does_not_change_with_what_keeps_the_order():
    rng = np.random.default_rng(1)
    f = rng.integers(0, 200, (30, 1100)).astype(np.uint8)
    g = (f // 3 + rng.integers(0, 50, f.shape)).astype(np.uint8)
    plain = bigncc.local_maps(f, g, 5, ("spearman",))["spearman"]
    other = bigncc.local_maps(np.exp(f / 20.0), g.astype(np.float32) ** 3, 5, ("spearman",))["spearman"]
    np.testing.assert_array_equal(plain, other)
    assert 0.3 < plain.mean() < 1


def test_large_windows_are_refused():
    f = np.zeros((50, 50), np.uint8)
    with pytest.raises(
        InputError, match=r"maps has spearman and window.size \[33, 33\] has 1089 samples: at most 1024"
    ):
        bigncc.local_maps(f, f, 33, ("spearman",))
