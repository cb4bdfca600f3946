"""Amounts, times and lines as people write them."""

import pytest

from bigncc.notation import METRES, bytes_of, extents_of, line_of, metres_of, region_of, seconds_of, time_of


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


@pytest.mark.parametrize(
    ("text", "metres"),
    [("31um", 31e-6), ("1.5 \u00b5m", 1.5e-6), ("3e2nm", 3e-7), ("2mm", 2e-3), ("7micrometer", 7e-6)],
)
def test_lengths(text, metres):
    assert metres_of(text) == pytest.approx(metres)
    assert extents_of([text, 5, "7"]) == (text, 5, 7)


def test_units_are_what_ome_zarr_calls_them():
    for unit, size in (("angstrom", 1e-10), ("nanometer", 1e-9), ("micrometer", 1e-6), ("meter", 1)):
        assert METRES[unit] == size


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
