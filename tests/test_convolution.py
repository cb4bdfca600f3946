"""The loops of prefilters: the cut into cells cannot be seen, nor whether a sample is left out elsewhere."""

import numpy as np
import pytest

from bigncc import convolution

SHAPE = (7, 23, 31)
KINDS = (convolution.DIFFERENCE, convolution.LAPLACIAN, convolution.STANDARD)


def walked(image, valid, kind, radius, size, roi=None):
    """Filter a part of a block, all of it by default, in cells of some size."""
    roi = roi or [(0, n) for n in image.shape]
    rng = np.random.default_rng(3)
    taps = tuple(tuple(rng.random(r + 1) for _ in range(3)) for r in radius)
    if kind == convolution.STANDARD:
        taps = tuple((a, a, c) for a, _, c in taps)
    out = np.empty([b - a for a, b in roi])
    nz, ny, nx = (n + 2 * r for n, r in zip(size, radius, strict=True))
    work = (
        tuple(np.empty(nz * ny * nx) for _ in range(3)),
        tuple(np.empty(ny * nx) for _ in range(4)),
        tuple(np.empty(nx) for _ in range(4)),
        tuple(np.empty(size[2]) for _ in range(4)),
    )
    flags = np.ones((1, 1, 1), np.uint8) if valid is None else valid
    start = tuple(a for a, _ in roi)
    rest = (size, radius, taps, kind, (1e-12, 1.0), work, out)
    convolution.walk(image, flags, valid is not None, 0.25, start, *rest)
    return out.view(np.uint64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("radius", [(0, 2, 3), (1, 4, 2)])
def test_cells_and_blocks_cannot_be_seen(kind, radius):
    rng = np.random.default_rng(1)
    image, valid = rng.random(SHAPE), (rng.random(SHAPE) < 0.7).astype(np.uint8)
    for flags in (None, valid):
        whole = walked(image, flags, kind, radius, SHAPE)
        np.testing.assert_array_equal(whole, walked(image, flags, kind, radius, (2, 5, 7)))
        np.testing.assert_array_equal(whole, walked(image, flags, kind, radius, (1, 23, 3)))
        # a block with what is needed around a part of it
        block = np.ascontiguousarray(image[1:, 3:20, 4:])
        around = None if flags is None else np.ascontiguousarray(flags[1:, 3:20, 4:])
        part = walked(block, around, kind, radius, (1, 3, 8), [(1, 6), (4, 13), (3, 27)])
        np.testing.assert_array_equal(whole[2:, 7:16, 7:], part)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("radius", [(0, 2, 3), (1, 4, 2)])
def test_a_sample_that_is_left_out_changes_nothing_where_it_is_not_wanted(kind, radius):
    image, valid = np.random.default_rng(1).random(SHAPE), np.ones(SHAPE, np.uint8)
    whole = walked(image, None, kind, radius, (3, 8, 9))
    np.testing.assert_array_equal(whole, walked(image, valid, kind, radius, (3, 8, 9)))
    valid[3, 11, 15] = 0
    image[3, 11, 15] = np.nan
    got = walked(image, valid, kind, radius, (3, 8, 9))
    near = tuple(slice(c - r, c + r + 1) for c, r in zip((3, 11, 15), radius, strict=True))
    differs = got != whole
    assert differs[near].mean() > 0.9
    differs[near] = False
    assert not differs.any()
    assert np.isnan(got.view(np.float64)).sum() == 1
