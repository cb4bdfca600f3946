"""Pixels with places of their own: quick lines and single pixels agree; how warped runs were cut cannot be seen."""

import os
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest

import bigncc
from bigncc import Affine, Displacement, Window
from bigncc.interpolation import COMPILED, VALID
from bigncc.lazy import tile
from bigncc.pair import Pair, each
from bigncc.reading import Decoded
from bigncc.resampling import pull, source_roi
from bigncc.tiles import Plan, roi_of
from tests import strategies
from tests.test_lazy import same
from tests.transforms import ORDERS, everything, same_bits

SHAPE = (61, 83)


def transform_of(rng, ndim=2):
    """An affine map that turns by up to 30 degrees, or a field of nodes some of which nobody measured."""
    if rng.random() < 0.5:
        matrix = np.eye(ndim) + rng.normal(0, 0.2, (ndim, ndim))
        return Affine(matrix.tolist(), tuple(rng.normal(0, 6, ndim).tolist()))
    step = tuple(rng.integers(1, 18, ndim).tolist())
    field = rng.normal(0, 3, (ndim, *(n // s + 2 for n, s in zip(SHAPE[-ndim:], step, strict=True))))
    field[:, rng.random(field.shape[1:]) < 0.02] = np.nan
    return Displacement(field, step=step, origin=tuple(rng.integers(-20, 5, ndim).tolist()))


@pytest.mark.parametrize("seed", range(50))
def test_a_warped_run_does_not_show_its_tiling(seed):
    rng = np.random.default_rng(seed)
    kind, order = rng.choice(["uint8", "uint16", "float32"]), int(rng.choice([0, 1, 1, 3]))
    f = strategies.image(seed, SHAPE, "uint16", "noise")
    g = strategies.image(seed + 99, tuple(rng.integers(50, 90, 2).tolist()), kind, "noise")
    transform, window, pivot = (
        transform_of(rng),
        Window(tuple((2 * rng.integers(1, 6, 2) + 1).tolist())),
        (30000.0, 100.0),
    )
    whole = bigncc.local_maps(f, g, window, transform=transform, order=order, pivot=pivot)
    assert (whole["status"] == 1).mean() > 0.05
    objects = tuple(rng.integers(9, 40, 2).tolist())
    extent = tuple(int(o * rng.integers(1, 4)) for o in objects)
    plan = Plan(f.shape, objects, extent, window.radius, (0, 0), f.shape)
    chunks = tuple(tuple(rng.integers(5, 40, 2).tolist()) for _ in range(2))
    images = (da.from_array(image, chunks=c) for image, c in zip((f, g), chunks, strict=True))
    if rng.random() < 0.5:  # as runs read what is stored, with memory for next to nothing
        images = (Decoded(Stored(image, c), 10**4, 1) for image, c in zip((f, g), chunks, strict=True))
    pair, apart = Pair(*images), rng.random() < 0.5
    got = {"ncc": np.zeros(f.shape, np.float32), "status": np.zeros(f.shape, np.uint8)}

    def keep(block, roi):
        got["ncc"][roi], got["status"][roi] = block.ncc, block.status

    for index in range(len(plan)):
        for part in plan.parts(plan[index], objects) if apart else [plan[index]]:
            blocks = tile(pair, window, (pivot,), part, plan.origin, objects, transform, order)
            each(blocks, keep, tuple(s.start for s in part.write))
    same(whole, got)


@pytest.mark.parametrize("order", ORDERS)
def test_not_a_bit_of_what_is_pulled_depends_on_the_block(order):
    # correlations are rounded to float32 and would not show it
    for seed in range(50):
        rng = np.random.default_rng([seed, order])
        transform, moving = transform_of(rng), rng.normal(size=(70, 75))
        whole = pull(transform, moving, None, everything(SHAPE), everything(moving.shape), moving.shape, order)
        for roi in strategies.cover(SHAPE, tuple(rng.integers(7, 40, 2).tolist())):
            source = source_roi(transform, roi, moving.shape, order)
            part = pull(transform, moving[source], None, roi, source, moving.shape, order)
            assert all(same_bits(one, np.ascontiguousarray(all_[roi])) for one, all_ in zip(part, whole, strict=True))


class Stored:
    """An array in chunks."""

    def __init__(self, array, chunks):
        self.array, self.chunks = array, chunks
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, key):
        return self.array[key]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("kind", [*COMPILED, np.int16])
@pytest.mark.parametrize("masked", [False, True])
def test_quick_lines_and_single_pixels_agree_to_the_bit(ndim, kind, masked):
    rng = np.random.default_rng(ndim)
    shape, extent = (30, 41, 33)[-ndim:], (18, 21, 24)[-ndim:]
    image = rng.normal(100, 40, shape).clip(0).astype(kind)
    validity = (rng.random(shape) < 0.99).astype(np.uint8) if masked else None
    matrix = np.eye(ndim) + rng.normal(0, 0.1, (ndim, ndim))
    matrix[0] = np.eye(ndim)[0]  # whole pixels along one axis, fractions along the others
    turned = Affine(matrix.tolist(), (3.0, *rng.normal(4, 1, ndim - 1).tolist()))
    bent, moved = rng.normal(3, 1, (ndim, *(3,) * ndim)), np.full((ndim, *(1,) * ndim), 2.0)
    for transform in (turned, Displacement(bent, step=9), Displacement(moved)):
        for order in (1, 3):
            # lines that stay inside are quick; with further pixels that leave the image, each one is asked by itself
            inside, beyond = roi_of((4,) * ndim, extent), roi_of((4,) * ndim, (*extent[:-1], 200))
            some, more = (
                pull(transform, image, validity, roi, everything(shape), shape, order) for roi in (inside, beyond)
            )
            assert (some[1] == VALID).mean() > 0.1
            for one, other in zip(some, more, strict=True):
                assert same_bits(one, np.ascontiguousarray(other[..., : extent[-1]]))


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("kind", [kind for kind in (*COMPILED, np.float16, np.int32) if kind is not np.float64])
def test_samples_of_any_type_are_mixed_as_float64(kind, order):
    rng = np.random.default_rng(8)
    image, roi = rng.normal(100, 40, (30, 30)).clip(0).astype(kind), roi_of((0, 0), (24, 24))
    for transform in (transform_of(rng), transform_of(rng), bigncc.Translation((1.3, 2.7))):
        for shape in ((30, 30), (20, 20)):
            part = image[: shape[0], : shape[1]]
            one = pull(transform, part, None, roi, everything(shape), shape, order)
            other = pull(transform, part.astype(np.float64), None, roi, everything(shape), shape, order)
            assert all(same_bits(a, b) for a, b in zip(one, other, strict=True))
            assert (one[1] == VALID).mean() > 0.1


def test_every_line_that_can_be_is_quick():
    # with the interpreter, in which each pixel that is asked by itself can be counted
    script = (
        "import numpy as np; from bigncc import Affine, warping; from bigncc.resampling import pull\n"
        "from bigncc.tiles import roi_of\n"
        "asked, pixel = [], warping._pull_pixel\n"
        "warping._pull_pixel = lambda *args: asked.append(1) or pixel(*args)\n"
        "roi = roi_of((0, 0), (20, 20))\n"
        "for shift in (8, -3):\n"
        "    pull(Affine(((0.9, -0.1), (0.1, 0.9)), (shift, 2)), np.ones((40, 40)), None, roi,\n"
        "         roi_of((0, 0), (40, 40)), (40, 40), 1)\n"
        "    print(len(asked))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, check=True, capture_output=True
    )
    none, some = map(int, done.stdout.split())
    assert none == 0
    assert 0 < some < 140
