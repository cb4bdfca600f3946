"""The window: what is accepted, and the sentence where it is not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc import Window
from bigncc.errors import InputError
from bigncc.window import as_window


def test_an_int_means_y_and_x():
    assert Window(7) == Window((7, 7)) == as_window(7)
    assert Window(7).shape == (7, 7)
    assert Window((1, 3, 5)).radius == (0, 1, 2)
    assert Window(7, min_std=2).deviations == (2.0, 2.0)


def test_the_value_of_flat_windows_has_no_sign():
    for flat in (-math.nan, -0.0):
        assert math.copysign(1, Window(7, flat=flat).flat) == 1


@given(st.lists(st.integers(0, 40), min_size=2, max_size=3))
def test_radius_and_size_belong_together(radius):
    if any(radius):
        assert Window(tuple(2 * r + 1 for r in radius)).radius == tuple(radius)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 4}, r"window.size is \[4, 4\]: odd whole numbers of at least 1, not all 1, are accepted"),
        ({"size": 0}, "odd whole numbers"),
        ({"size": -3}, "odd whole numbers"),
        ({"size": 1}, "not all 1"),
        ({"size": (3, 2)}, "odd whole numbers"),
        ({"size": (3.0, 3.0)}, "odd whole numbers"),
        ({"size": (3,)}, r"2 numbers \(y, x\) or 3 numbers \(z, y, x\) are accepted"),
        ({"size": (3, 3, 3, 3)}, "2 numbers"),
        ({"size": 65535}, "fewer than 2\\^31 samples"),
        ({"border": "wrap"}, "window.border is 'wrap': one of shrink, valid, reflect"),
        ({"min_valid_fraction": 1.5}, r"window.min_valid_fraction is 1.5: a number in \[0, 1\]"),
        ({"min_valid_fraction": math.nan}, "window.min_valid_fraction"),
        ({"flat": 1.0}, "window.flat is 1.0: 0 or nan is accepted"),
        ({"cval": math.inf}, "window.cval is inf: a finite grey level"),
        ({"min_std": -1}, "window.min_std is .* two finite numbers"),
        ({"min_std": (1, 2, 3)}, "window.min_std is .* two finite numbers"),
    ],
)
def test_what_is_no_window_is_refused_in_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Window(**options)
