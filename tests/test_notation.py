"""Amounts, times and lines as people write them."""

import pytest

from bigncc.notation import bytes_of, line_of, region_of, seconds_of, time_of


@pytest.mark.parametrize(
    ("text", "seconds"), [("4h", 14400), ("3h50m", 13800), ("1h0m1s", 3601), ("90m", 5400), ("45s", 45)]
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds
    assert time_of(text) == text


@pytest.mark.parametrize("text", ["", "4", "4 h", "h", "1d", "50m3h", "0s", "-1h", "04:00:00", 4, None])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="is no time: one such as 3h50m"):
        time_of(text)


def test_lines_are_single_and_hold_something():
    assert line_of("module load x") == "module load x"
    for text in ("", "  ", "a\nb"):
        with pytest.raises(ValueError, match="a line of text is accepted"):
            line_of(text)


def test_amounts_and_regions_that_are_none():
    with pytest.raises(ValueError, match="is no amount of memory"):
        bytes_of("4 apples")
    with pytest.raises(ValueError, match="is no region"):
        region_of("1:2:3")
