"""The confidence map: exactly the mean that it says, from strips that make up what is around a core."""

from fractions import Fraction
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import bigncc
from bigncc import Window
from bigncc.confidence import beside, confidence, grown
from tests import strategies

UNIT = 2**24


def slow(ncc, status, radius):
    """The definition, pixel by pixel, in fractions of whole units."""
    out = np.full(ncc.shape, np.nan, np.float32)
    for place in zip(*np.nonzero(status == 1), strict=True):
        near = tuple(slice(max(0, c - r), c + r + 1) for c, r in zip(place, radius, strict=True))
        values = np.maximum(ncc[near][status[near] == 1], 0)
        total = sum(round(Fraction(float(value)) * UNIT) for value in values)
        # one division in float64, then rounded to float32
        out[place] = np.float32(float(Fraction(total, len(values) * UNIT)))
    return out


@given(st.data())
@settings(max_examples=30)
def test_it_is_the_mean_of_what_has_a_value(data):
    shape = data.draw(st.sampled_from(((9, 12), (1, 7), (4, 5, 6))))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    ncc, status = rng.uniform(-1, 1, shape).astype(np.float32), rng.choice(np.array([1, 1, 1, 2, 5], np.uint8), shape)
    ncc[status == 2], ncc[status == 5] = np.nan, 0
    radius = tuple(data.draw(st.integers(0, 4)) for _ in shape)
    wanted = slow(ncc, status, radius)
    core = tuple(slice(a, data.draw(st.integers(a + 1, n))) for n in shape for a in [data.draw(st.integers(0, n - 1))])
    whole = grown(core, radius, shape)
    inner = tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(core, whole, strict=True))
    got = confidence(ncc[whole], status[whole], inner, radius)
    np.testing.assert_array_equal(got, wanted[core])
    assert np.nanmin(got, initial=0) >= 0
    assert np.nanmax(got, initial=1) <= 1


@given(st.data())
def test_strips_make_up_what_is_around(data):
    shape = (6, 7, 5)[-data.draw(st.sampled_from((2, 3))) :]
    core = tuple(slice(a, data.draw(st.integers(a + 1, n))) for n in shape for a in [data.draw(st.integers(0, n - 1))])
    whole = grown(core, tuple(data.draw(st.integers(0, 3)) for _ in shape), shape)
    times = np.zeros(shape, int)
    for roi in [core, *beside(core, whole)]:
        assert times[roi].size
        times[roi] += 1
    assert (times[whole] == 1).all()
    assert times.sum() == times[whole].size


def test_arrays_have_it_of_their_coefficients():
    f, g = (strategies.image(seed, (40, 50), "uint16", "noise") for seed in (1, 2))
    f[:12, :12] = 9
    g[:, :25] = f[:, :25]
    for border in ("shrink", "valid", "mirror"):
        window = Window((5, 9), border=border, flat=0.0)
        maps = bigncc.local_maps(f, g, window, ("confidence", "ncc", "status"))
        wanted = slow(maps["ncc"], maps["status"], window.radius)
        np.testing.assert_array_equal(maps["confidence"], wanted)
    assert maps["confidence"][20, 10] == 1
    assert maps["confidence"][20, 40] < 0.2
    # nothing is said of what has no contrast, nor does it count against its surroundings
    assert np.isnan(maps["confidence"][3, 3])
    assert maps["confidence"][10, 10] == 1


def test_batches_and_volumes():
    f, g = (strategies.image(seed, (2, 6, 12, 11), "uint8", "noise") for seed in (1, 2))
    for size, axes in (((3, 5), 2), ((3, 3, 5), 3)):
        maps = bigncc.local_maps(f, g, size, ("confidence", "ncc", "status"))
        for index in product(*map(range, f.shape[: 4 - axes])):
            wanted = slow(maps["ncc"][index], maps["status"][index], [n // 2 for n in size])
            np.testing.assert_array_equal(maps["confidence"][index], wanted)
