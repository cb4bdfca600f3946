"""The tiling cannot be seen: numpy, dask with any chunks and tiles agree to the bit."""

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bigncc
from bigncc import Affine, Displacement, Ssim, Translation, Window
from bigncc.errors import InputError
from bigncc.kernel import lattice, lattice_pivot, local
from bigncc.lazy import merged, tile
from bigncc.maps import Asked, of_windows
from bigncc.nodes import components, node_counts
from bigncc.pair import SPREAD, Pair, each
from bigncc.resampling import pull
from bigncc.tiles import Plan
from tests import strategies

DTYPES = ("uint8", "int16", ">u2", "bool", "float32", "float64", "int32")


def bits(array):
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def same(one, two):
    for name in ("ncc", "status", *one.keys() & two.keys()):
        np.testing.assert_array_equal(bits(one[name]), bits(two[name]), err_msg=name)


@st.composite
def transforms(draw, shape):
    """None, a shift (whole or not), an affine map, or a rough displacement with nodes that nobody measured."""
    kind = draw(st.sampled_from(("none", "whole", "shift", "turn", "field")))
    if kind == "none":
        return None
    numbers = st.integers(-4, 4) if kind == "whole" else st.floats(-4, 4, width=32)
    if kind == "turn":
        matrix = np.eye(len(shape)) + np.random.default_rng(draw(st.integers(0, 99))).normal(0, 0.2, (len(shape),) * 2)
        return Affine(matrix.tolist(), tuple(draw(numbers) for _ in shape))
    if kind != "field":
        return Translation(tuple(draw(numbers) for _ in shape))
    step = draw(st.integers(1, 5))
    nodes = tuple(n // step + 1 for n in shape)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    field = rng.normal(0, 2, (len(shape), *nodes))
    field[rng.random(field.shape) < 0.02] = np.inf
    return Displacement(field, step=step, origin=draw(st.integers(-2, 2)))


@st.composite
def cases(draw, kinds=strategies.WEIGHTS):
    """A pair, all that belongs to it, and two different chunkings of it."""
    ndim = draw(st.sampled_from((2, 2, 2, 3)))
    batch = draw(st.sampled_from(((), (), (2,))))
    spatial = (19, 26) if ndim == 2 else (5, 9, 11)
    shape = batch + spatial
    transform = draw(transforms(spatial))
    extent = spatial if transform is None else tuple(n + draw(st.integers(-2, 3)) for n in spatial)
    dtypes = (draw(st.sampled_from(DTYPES)),)
    f, g = draw(strategies.images(shape, dtypes)), draw(strategies.images(batch + extent, dtypes))
    window = draw(strategies.windows(ndim, shape, kinds=kinds))
    masks = {}
    for name, image in (("reference_mask", f), ("moving_mask", g)):
        if draw(st.booleans()):
            masks[name] = np.random.default_rng(draw(st.integers(0, 99))).random(image.shape) < 0.8
    options = {
        "transform": transform,
        "order": draw(st.sampled_from((0, 1, 3))),
        "nodata": draw(st.sampled_from((None, 0, 7.25))),
        "pivot": (1.5, -2.0) if draw(st.booleans()) else None,
        "prefilter": draw(strategies.prefilters(ndim)),
        **masks,
    }
    chunks = tuple(tuple(draw(strategies.chunkings(n)) for n in image.shape) for image in (f, g))
    return f, g, window, options, chunks


def others(window, shape):
    """Another size or none, as it fits."""
    larger = tuple(min(size + 2, n - 1 + n % 2) for size, n in zip(window.shape, shape[-window.ndim :], strict=True))
    return () if larger == window.shape else (larger,)


@given(cases())
@settings(max_examples=8)
def test_chunks_cannot_be_seen(case):
    f, g, window, options, chunks = case
    maps = ("ncc", "status", "confidence", "ssim", "std_moving", "intercept", "ncc_uncentered")
    options["ssim"] = Ssim(100.0, use_sample_covariance=window.exact)
    if window.weights == "box":
        options["windows"] = others(window, f.shape)
        maps += ("spearman", *of_windows([window.shape, *options["windows"]]))
    whole = bigncc.local_maps(f, g, window, maps, **options)
    pieces = bigncc.local_maps(
        da.from_array(f, chunks=chunks[0], name=False),
        da.from_array(g, chunks=chunks[1], name=False),
        window,
        maps,
        **options,
    )
    assert all(isinstance(array, da.Array) for array in pieces.values())
    with dask.config.set(scheduler="threads"):
        got = dict(zip(pieces, dask.compute(*pieces.values()), strict=True))
    same(whole, got)
    assert whole["ncc"].shape == f.shape
    assert (whole["ncc"].dtype, whole["status"].dtype) == (np.float32, np.uint8)


@given(cases())
@settings(max_examples=9)
def test_gain_is_the_correlation_minus_that_of_the_images_as_they_are(case):
    f, g, window, options, chunks = case
    if options["transform"] is None:
        with pytest.raises(InputError, match="maps has gain and there is no transform"):
            bigncc.local_maps(f, g, window, ("gain",), **options)
        return
    arrays = (da.from_array(image, chunks=c, name=False) for image, c in zip((f, g), chunks, strict=True))
    found = bigncc.local_maps(*arrays, window, ("gain", "ncc", "status"), **options)
    found = dict(zip(found, dask.compute(*found.values()), strict=True))
    same(bigncc.local_maps(f, g, window, **options), found)
    # what lies beyond the moving image is outside of its view
    common = tuple(slice(0, min(n, m)) for n, m in zip(f.shape, g.shape, strict=True))
    framed, seen = np.zeros(f.shape, g.dtype), np.zeros(f.shape, bool)
    framed[common] = g[common]
    mask = options.get("moving_mask")
    seen[common] = True if mask is None else mask[common]
    nodata = options["nodata"]
    if nodata is not None:
        seen[common] &= g[common] != nodata
    masks = {"reference_mask": options.get("reference_mask"), "moving_mask": seen, "prefilter": options["prefilter"]}
    if options["pivot"] is None:  # those of the whole images
        options["pivot"] = tuple(lattice_pivot(image[np.ix_(*lattice(image.shape))]) for image in (f, g))
    levels = (nodata, None)
    before = bigncc.local_maps(f, framed, window, pivot=options["pivot"], nodata=levels, **masks)
    both = (before["status"] == 1) & (found["status"] == 1)
    wanted = np.where(both, found["ncc"] - before["ncc"], np.float32("nan"))
    np.testing.assert_array_equal(bits(found["gain"]), bits(wanted))


@given(cases(kinds=("box",)), st.data())
@settings(max_examples=8)
def test_chunks_cannot_be_seen_in_a_shift_map(case, data):
    f, g, window, options, chunks = case
    ndim = window.ndim
    search = {
        "step": tuple(data.draw(st.integers(min(n, 3), n)) for n in f.shape[-ndim:]),
        "search_radius": (0, 1, 2)[-ndim:],
    }
    whole = bigncc.shift_map(f, g, window, **search, **options)
    arrays = (da.from_array(image, chunks=c, name=False) for image, c in zip((f, g), chunks, strict=True))
    pieces = bigncc.shift_map(*arrays, window, **search, **options)
    assert list(pieces) == list(components("zyx"[-ndim:]))
    counts = node_counts(f.shape, (1,) * (f.ndim - ndim) + search["step"])
    for name, array in zip(pieces, dask.compute(*pieces.values()), strict=True):
        assert array.shape == counts
        np.testing.assert_array_equal(bits(array), bits(whole[name]), err_msg=name)


@given(st.data())
@settings(max_examples=9)
def test_tiles_cannot_be_seen(data):
    f, g, window, options, _ = data.draw(cases())
    options = {**options, "pivot": (1.5, -2.0), "nodata": None, "reference_mask": None, "moving_mask": None}
    asked = Asked(data.draw(st.sampled_from(((), ("confidence",)))), options["prefilter"])
    whole = bigncc.local_maps(f, g, window, ("ncc", "status", *asked.further), **options)
    batch = f.ndim - window.ndim
    objects = (1,) * batch + tuple(data.draw(st.integers(1, n)) for n in f.shape[batch:])
    extent = tuple(o * data.draw(st.integers(1, 3)) for o in objects)
    plan = Plan(f.shape, objects, extent, asked.margin(window.radius, f.ndim), (0,) * f.ndim, f.shape)
    pair = Pair(da.from_array(f, chunks=7), da.from_array(g, chunks=5))
    got = {name: np.zeros_like(array) for name, array in whole.items()}
    summaries = []
    for index in range(len(plan)):
        frame = plan[index], plan.origin, objects, options["transform"], options["order"]
        blocks = tile(pair, window, (options["pivot"],), *frame, asked=asked)

        def keep(block, roi):
            for name, array in got.items():
                array[roi] = block.further[name] if name in block.further else getattr(block, name)
            return block.summary

        summaries += each(blocks, keep, tuple(s.start for s in plan[index].write))
    same(whole, got)
    assert sum(s.pixels for s in summaries) == f.size


def far_vector():
    """A field of one vector that would make a block read nearly the whole image."""
    field = np.zeros((2, 60, 60))
    field[:, 13, 17] = 40
    return Displacement(field)


# what is more than twice as fine is split as well, but into no more pieces than that takes
@pytest.mark.parametrize(
    ("transform", "side", "pieces"), [(far_vector(), 60, 26), (Affine(((3.3, 0), (0, 3.3)), (0.5, 0.25)), 200, 40)]
)
def test_a_block_pulls_from_where_the_transform_says_however_far(transform, side, pieces, monkeypatch):
    rng = np.random.default_rng(1)
    f, g = (rng.integers(0, 255, (n, n), dtype=np.uint8) for n in (60, side))
    whole = bigncc.local_maps(f, g, 5, transform=transform)
    sizes = []

    def record(transform, block, *rest):
        sizes.append(block.size)
        return pull(transform, block, *rest)

    monkeypatch.setattr("bigncc.pair.pull", lambda *args, **frame: record(*args, *frame.values()))
    got = bigncc.local_maps(da.from_array(f, chunks=16), g, 5, transform=transform)
    same(whole, dict(zip(got, dask.compute(*got.values()), strict=True)))
    assert max(sizes) <= SPREAD * (16 + 4) ** 2 < g.size / 2
    assert 16 < len(sizes) < pieces


def test_the_kernel_is_what_is_computed():
    f, g = (strategies.image(seed, (40, 50), "uint16", "noise") for seed in (1, 2))
    block = local(f, g, Window(7))
    same({"ncc": block.ncc, "status": block.status}, bigncc.local_maps(f, g, 7))
    np.testing.assert_array_equal(bits(bigncc.ncc(f, g)), bits(block.ncc))


def test_nothing_is_computed_before_it_is_asked_for():
    def fail(block):
        message = "a block was computed"
        raise AssertionError(message)

    image = da.from_array(np.zeros((40, 40)), chunks=20).map_blocks(fail, meta=np.zeros((0, 0)))
    result = bigncc.local_maps(image, image, 5)
    assert result["ncc"].shape == (40, 40)
    with pytest.raises(AssertionError, match="a block was computed"):
        result["ncc"].compute()


def test_pulled_pixels_without_a_partner_say_so():
    f = strategies.image(1, (20, 20), "uint8", "noise")
    result = bigncc.local_maps(f, f, 3, transform=Translation((0, 15)))
    assert (result["status"][:, 7:] == 6).all()
    assert (result["status"][:, :5] == 1).all()


def test_masks_of_the_spatial_shape_hold_for_all_batches():
    f, g = (strategies.image(seed, (3, 20, 20), "uint8", "noise") for seed in (1, 2))
    mask = np.random.default_rng(0).random((20, 20)) < 0.7
    one = bigncc.local_maps(f, g, 5, reference_mask=mask)
    same(one, bigncc.local_maps(f, g, 5, reference_mask=np.broadcast_to(mask, f.shape)))


def test_nodata_can_differ_between_the_images():
    f, g = (strategies.image(seed, (20, 20), "uint8", "levels") for seed in (1, 2))
    one = bigncc.local_maps(f, g, 5, nodata=(1, None))
    same(one, bigncc.local_maps(f, g, 5, reference_mask=f != 1))


@pytest.mark.parametrize(
    ("shapes", "options", "sentence"),
    [
        (((9, 9), (9, 8)), {}, r"the images have shapes \[9, 9\] and \[9, 8\]: equal shapes are accepted"),
        (((9, 9), (1, 9)), {}, "equal shapes"),
        (((2, 9, 9), (3, 9, 9)), {"transform": Translation((1, 1))}, "equal axes in front of the window's"),
        (((9, 9), (9, 9)), {"window": 11}, r"window.size is \[11, 11\], larger than the image of \[9, 9\]"),
        (((9,), (9,)), {}, "at least 2 axes are accepted"),
        (((9, 9, 3), (9, 9, 3)), {"window": 3}, "a colour image taken for a stack: channel_axis=-1"),
        (((9, 9), (9, 9)), {"maps": ("ncc", "p")}, "maps has 'p': ncc, status, gain, confidence, .* are accepted"),
        (((9, 9), (9, 9)), {"reference_mask": np.ones((3, 3), bool)}, r"the mask has shape \[3, 3\]"),
        (((9, 9), (9, 9)), {"moving_mask": np.ones((9, 9), int)}, "bool of shape"),
        (((9, 9), (9, 9)), {"transform": Translation((1, 1, 1))}, "transform, region and image have 3, 2, 2 axes"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(shapes, options, sentence):
    f, g = (np.zeros(shape) for shape in shapes)
    with pytest.raises(InputError, match=sentence):
        bigncc.local_maps(f, g, **{"window": 5, **options})


def test_complex_images_are_refused():
    with pytest.raises(InputError, match="dtype is complex128"):
        bigncc.ncc(np.zeros((9, 9), complex), np.zeros((9, 9)))


def test_empty_images_have_empty_maps():
    assert bigncc.ncc(np.zeros((0, 20)), np.zeros((0, 20))).shape == (0, 20)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 12))
def test_merged_chunks_are_large_enough(sizes, least):
    got = merged(tuple(sizes), least)
    assert sum(got) == sum(sizes)
    assert len(got) == 1 or min(got) >= least
