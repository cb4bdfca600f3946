"""A row of samples becomes a line of moments, and what does not count or is not there an exact zero."""

import numpy as np
import pytest

from bigncc.lines import count_row, load_moments, strip_of


def images(masked):
    rng = np.random.default_rng(0)
    f, g = rng.normal(100, 3, (2, 3, 5, 12)).astype(np.float32)
    joint = (rng.random(f.shape) < 0.7).astype(np.uint8) if masked else np.zeros((1, 1, 12), np.uint8)
    if masked:
        f[joint == 0] = np.nan
    return f, g, joint, joint


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lead", [0, 3])
@pytest.mark.parametrize(("plane", "row"), [(1, 2), (0, 0), (2, 4), (-1, 2), (3, 2), (1, -1), (1, 5)])
def test_moments_are_those_of_the_samples_that_count(masked, lead, plane, row):
    f, g, joint, _ = both = images(masked)
    left, right, pitch = 2, 9, 14
    line = np.full(6 * pitch, np.nan)
    load_moments(line, both, masked, True, (100.0, 101.0), plane, row, (0, left, right, lead, pitch))
    wanted = np.zeros((6, pitch))
    if 0 <= plane < 3 and 0 <= row < 5:
        counts = joint[plane, row, left:right] == 1 if masked else np.ones(right - left, bool)
        a, b = (
            np.where(counts, image[plane, row, left:right].astype(float) - middle, 0)
            for image, middle in ((f, 100.0), (g, 101.0))
        )
        wanted[:, lead : lead + right - left] = a, b, a * a, b * b, a * b, counts
    np.testing.assert_array_equal(line.reshape(6, pitch), wanted)


def test_counts_of_columns_run():
    joint, (left, right, lead) = images(True)[2], (2, 9, 3)
    counts = np.zeros(14, np.int32)
    for row in range(8):  # three rows at a time, the last ones beyond the image
        count_row(counts, joint, (0, 2, row), row - 3, (0, left, right, lead, 14))
        wanted = joint[:2, max(0, row - 2) : row + 1, left:right].sum((0, 1))
        np.testing.assert_array_equal(counts[lead : lead + right - left], wanted)


def test_strips_are_as_wide_as_the_ring_allows():
    assert strip_of((11, 11), 11, 50) == 50
    assert strip_of((3, 3), 3, 10**6) == 1024
    assert strip_of((1, 501, 501), 501, 10**6) == 501
    assert strip_of((23, 23), 23, 10**6) < strip_of((23, 23), 23, 10**6, 4)
