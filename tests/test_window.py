"""The window: what is accepted, and the sentence where it is not."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
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


def test_a_gaussian_is_as_large_as_sigma_says():
    assert Window(weights="gaussian", sigma=1.5) == Window(11, weights="gaussian", sigma=(1.5, 1.5))
    assert Window(weights="gaussian", sigma=(0, 1, 2)).shape == (1, 9, 15)
    assert Window((9, 9, 9), weights="gaussian", sigma=1).sigma == (1.0, 1.0, 1.0)
    assert Window(weights="gaussian", sigma=1, truncate=2).shape == (5, 5)


def test_windows_are_values():
    cells = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    windows = [
        Window(7),
        Window(weights="gaussian", sigma=1.5),
        Window(7, weights="footprint", footprint="disk"),
        Window(weights="footprint", footprint=cells),
        Window(weights="footprint", footprint=np.array(cells) * 0.5 + 0.1),
    ]
    assert len(set(windows)) == 5
    for window in windows:
        for other in (pickle.loads(pickle.dumps(window)), replace(window, flat=0.0)):
            assert other == window
            assert hash(other) == hash(window)
        json.dumps(window.request)
    requests = [json.dumps(window.request) for window in windows]
    assert len(set(requests)) == 5
    assert [window.exact for window in windows] == [True, False, True, True, False]
    assert [window.samples for window in windows] == [49, 121, 29, 5, 9]


def test_a_window_without_words_is_a_box_of_seven():
    assert Window() == Window(7) == Window(None)
    assert Window(weights="footprint", footprint="disk").shape == (7, 7)


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
        ({"weights": "bell"}, "window.weights is 'bell': one of box, gaussian, footprint is accepted"),
        ({"sigma": 1.5}, "window.weights is box and window.sigma is given: window.weights=gaussian is accepted"),
        ({"weights": "gaussian"}, "window.weights is gaussian and window.sigma is null: window.sigma is accepted"),
        ({"weights": "footprint"}, "and window.footprint is null: window.footprint is accepted with it"),
        ({"footprint": "disk"}, "window.weights is box and window.footprint is given"),
        ({"weights": "gaussian", "sigma": 1, "footprint": "disk"}, "window.weights=footprint is accepted with it"),
        ({"truncate": 3}, "window.truncate is 3 and window.weights box: it belongs to gaussian"),
        ({"weights": "gaussian", "sigma": 0}, "window.sigma is 0: a number of pixels above 0, or 2 or 3 of 0 or more"),
        ({"weights": "gaussian", "sigma": (1, -1)}, "window.sigma is"),
        ({"weights": "gaussian", "sigma": (1,)}, "window.sigma is"),
        ({"weights": "gaussian", "sigma": "wide"}, "window.sigma is 'wide'"),
        ({"weights": "gaussian", "sigma": math.nan}, "window.sigma is nan"),
        ({"weights": "gaussian", "sigma": 0.1}, "not all 1"),
        ({"weights": "gaussian", "sigma": 1, "truncate": 11}, "window.truncate is 11: a number above 0 and up to 10"),
        (
            {"weights": "gaussian", "sigma": 3, "size": 7},
            r"window.size is \[7, 7\], and window.sigma \[3.0, 3.0\] with .* gives \[23, 23\]: the same",
        ),
        ({"weights": "gaussian", "sigma": (1, 1, 1), "size": 9}, r"gives \[9, 9, 9\]"),
        ({"weights": "footprint", "footprint": "star"}, "window.footprint is 'star': disk, ball, octagon, or an array"),
        ({"weights": "footprint", "footprint": "ball", "size": 9}, "window.footprint is ball and window.size"),
        (
            {"weights": "footprint", "footprint": np.ones((3, 3)), "size": 5},
            r"window.size is \[5, 5\] and window.footprint has shape \[3, 3\]: the same, or window.size=null",
        ),
    ],
)
def test_what_is_no_window_is_refused_in_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Window(**options)
