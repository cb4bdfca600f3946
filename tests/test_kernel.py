"""The kernel: equal to exact arithmetic for integers, to 1e-6 and better for floats, and the laws of a correlation."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigncc import Window
from bigncc.errors import InputError
from bigncc.kernel import VERSION, common_dtype, lattice_pivot, local
from tests import oracle, strategies
from tests.implementations import IMPLEMENTATIONS

SHAPES = ((9, 11), (12, 7), (1, 13), (8, 8))


def bits(array):
    return array.view(f"u{array.itemsize}")


@st.composite
def cases(draw, dtypes, kinds=("box",)):
    shape = draw(st.sampled_from(SHAPES))
    f, g = strategies.related(draw, shape, dtypes)
    window = draw(strategies.windows(2, shape, kinds=kinds))
    return f, g, window, draw(strategies.validities(shape)), draw(strategies.validities(shape))


@given(cases(strategies.INTEGERS))
@settings(max_examples=80)
def test_integers_are_the_exact_value_rounded(case):
    f, g, window, vf, vg = case
    block = local(f, g, window, reference_validity=vf, moving_validity=vg)
    exact, status = oracle.maps(f, g, window, vf, vg)
    np.testing.assert_array_equal(block.status, status)
    oracle.assert_rounded(block.ncc, exact)


@given(cases(strategies.FLOATS))
@settings(max_examples=50)
def test_floats_are_close_to_the_exact_value(case):
    f, g, window, vf, vg = case
    pivot = (lattice_pivot(f), lattice_pivot(g))
    block = local(f, g, window, reference_validity=vf, moving_validity=vg, pivot=pivot)
    exact, status = oracle.maps(f, g, window, vf, vg)
    np.testing.assert_array_equal(block.status, status)
    for got, wanted in zip(block.ncc.ravel(), exact, strict=True):
        assert np.isnan(got) if wanted is None else abs(float(got) - float(wanted)) < 1e-6


@pytest.mark.parametrize("size", [(3, 3, 3), (1, 3, 5), (5, 1, 3)])
@pytest.mark.parametrize("border", ["shrink", "mirror", "valid"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_three_axes(size, border, dtype):
    f, g = (strategies.image(seed, (5, 6, 7), dtype, "noise") for seed in (1, 2))
    window = Window(size, border=border)
    block = local(f, g, window, pivot=(100.0, 100.0))
    exact, status = oracle.maps(f, g, window)
    np.testing.assert_array_equal(block.status, status)
    if dtype == "uint16":
        oracle.assert_rounded(block.ncc, exact)
    else:
        wanted = [np.nan if r is None else float(r) for r in exact]
        np.testing.assert_allclose(block.ncc.ravel(), wanted, atol=1e-6)


@pytest.mark.soak
def test_window_too_large_for_64_bit_products():
    rng = np.random.default_rng(3)
    f = rng.choice(np.array([0, 65535], np.uint16), (311, 313))
    g = np.where(rng.random(f.shape) < 0.5001, f, 65535 - f).astype(np.uint16)
    window = Window(311)
    block = local(f, g, window)
    every = np.ones(f.shape, np.uint8)
    for centre in ((155, 156), (0, 0), (310, 312), (17, 300)):
        exact, _ = oracle.pixel(f, g, every, every, window, centre)
        oracle.assert_rounded(block.ncc[centre].reshape(1), [exact])
        assert abs(block.ncc[centre]) < 0.01  # a small covariance is where a rounded product would show


@pytest.mark.parametrize("shape", [(15, 17), pytest.param((363, 363), marks=pytest.mark.soak)])
def test_the_narrowest_integers_hold_saturated_windows(shape):
    # sums of 8-bit samples reach 255 * 128 < 2^15 < 289 * 128, and 363^2 * 128^2 > 2^31
    f, g = np.zeros((2, *shape), np.uint8)
    f[0, 0] = f[-1, 2] = g[0, 0] = g[3, 5] = 255
    every = np.ones(shape, np.uint8)
    centre = shape[0] // 2, shape[1] // 2
    exact, _ = oracle.pixel(f, g, every, every, Window(shape), centre)
    oracle.assert_rounded(local(f, g, Window(shape)).ncc[centre].reshape(1), [exact])


@given(cases(strategies.INTEGERS[1:]))
@settings(max_examples=40)
def test_swapping_the_images_swaps_their_reasons_and_nothing_else(case):
    f, g, window, vf, vg = case
    window = Window(window.shape, border=window.border, min_valid_fraction=window.min_valid_fraction)
    there = local(f, g, window, reference_validity=vf, moving_validity=vg)
    back = local(g, f, window, reference_validity=vg, moving_validity=vf)
    np.testing.assert_array_equal(bits(there.ncc), bits(back.ncc))
    names = {3: 4, 4: 3, 6: 2}
    np.testing.assert_array_equal(
        np.vectorize(lambda c: {6: 2}.get(c, c))(there.status), np.vectorize(lambda c: names.get(c, c))(back.status)
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_an_image_correlates_with_itself_and_with_its_negative(dtype):
    f = strategies.image(5, (40, 50), dtype, "noise")
    g = (
        (255 - f.astype(int) if dtype == "uint8" else 60000 - f.astype(np.int64) // 2 * 2)
        if f.dtype.kind == "u"
        else -f
    )
    f = f // 2 * 2 if dtype == "uint16" else f
    assert (local(f, f, Window(5), pivot=(100.0, 100.0)).ncc == 1).all()
    if dtype == "uint16":
        g = 65534 - f
    np.testing.assert_array_equal(local(f, g.astype(dtype), Window(5), pivot=(100.0, -100.0)).ncc, -1)


def test_gain_and_offset_do_not_matter():
    f, g = (strategies.image(seed, (30, 40), "uint8", "noise") for seed in (1, 2))
    plain = local(f, g, Window(7)).ncc
    scaled = local(f, (g.astype(np.uint16) * 200 + 37), Window(7)).ncc
    np.testing.assert_array_equal(bits(plain), bits(scaled))


@pytest.mark.parametrize("value", [0.0, 0.7, 60001.0, -1e6, 1e-12])
@pytest.mark.parametrize("pivot", [0.0, 0.1, 1e5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_flat_is_flat_at_every_grey_level(value, pivot, dtype):
    f = np.full((40, 41), value, dtype)
    g = strategies.image(7, f.shape, dtype, "noise")
    block = local(f, g, Window(31), pivot=(pivot, 100.0))
    assert (block.status == 3).all()
    assert (block.ncc == 0).all()
    f[20, 20] = np.nextafter(f[20, 20], np.array(np.inf, dtype))
    near = local(f, g, Window(3), pivot=(pivot, 100.0)).status
    # one step of the least bit is not flat: it has a value, or is said to have no digits
    assert set(np.unique(near[19:22, 19:22])) <= {1, 8}
    near[19:22, 19:22] = 3
    assert (near == 3).all()


def test_flat_is_judged_by_the_samples_that_count():
    f = np.full((9, 9), 5.0)
    f[::2, ::2] = 9.0
    mask = np.ones(f.shape, np.uint8)
    mask[::2, ::2] = 0
    g = strategies.image(1, f.shape, "float64", "noise")
    window = Window(3, min_valid_fraction=0.0)
    assert set(np.unique(local(f, g, window, reference_validity=mask).status)) == {3}
    assert set(np.unique(local(f, g, window).status)) == {1}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("image", [0, 1])
def test_one_bad_sample_spoils_no_other_window(bad, image):
    f, g = (strategies.image(seed, (60, 70), "float32", "noise") for seed in (1, 2))
    clean = local(f, g, Window(7), pivot=(100.0, 100.0))
    (f, g)[image][30, 33] = bad
    dirty = local(f, g, Window(7), pivot=(100.0, 100.0))
    differ = bits(clean.ncc) != bits(dirty.ncc)
    expected = np.zeros_like(differ)
    expected[27:34, 30:37] = True
    assert not differ[~expected].any()
    assert differ[expected].any()
    if not np.isfinite(bad):
        assert (dirty.status == 1).all()  # even those that contain it go on without it


def test_far_from_the_pivot_there_are_no_digits():
    rng = np.random.default_rng(0)
    f, g = (rng.normal(0, 1, (40, 40)) for _ in range(2))
    offset = 1e9
    lost = local(f + offset, g, Window(5), pivot=(0.0, 0.0))
    kept = local(f + offset, g, Window(5), pivot=(offset, 0.0))
    assert (lost.status == 8).all()
    assert np.isnan(lost.ncc).all()
    np.testing.assert_allclose(kept.ncc, local(f, g, Window(5)).ncc, atol=1e-6)
    assert (local(f * 1e200, g, Window(5)).status == 8).all()


def test_no_zero_is_negative():
    f, g = np.zeros((3, 3)), np.full((3, 3), -0.0)
    f[0], g[0] = (-1.0, 1.0, -0.0), (0.0, -0.0, 1.0)
    f[1, 0], g[1, 0] = 0.0, -1.0
    assert np.signbit(f * g).all()  # so the covariance is -0.0
    value = local(f, g, Window(3)).ncc[1, 1]
    assert value == 0
    assert not np.signbit(value)


def test_scales_do_not_matter_to_floats():
    f, g = (strategies.image(seed, (30, 40), "float64", "noise") for seed in (1, 2))
    plain = local(f, g, Window(5)).ncc
    for scale in (2.0**-300, 2.0**250):
        np.testing.assert_array_equal(bits(local(f * scale, g, Window(5)).ncc), bits(plain))


def test_min_std_is_in_grey_levels():
    f = np.zeros((9, 9), np.uint16)
    f[:, ::2] = 10  # population standard deviation of 3 x 3 columns: sqrt(2/9) * 10 or so
    g = strategies.image(1, f.shape, "uint16", "noise")
    std = float(np.std(f[3:6, 3:6].astype(float)))
    window = Window(3, border="valid", min_std=(std * 1.001, 0))
    assert (local(f, g, window).status[1:-1, 1:-1] == 3).all()
    window = Window(3, border="valid", min_std=(std * 0.999, 0))
    assert (local(f, g, window).status[1:-1, 1:-1] == 1).all()


@given(st.data())
@settings(max_examples=60)
def test_a_core_with_its_margin_is_the_whole(data):
    shape = (17, 23)
    dtype = data.draw(st.sampled_from(("uint8", "uint16", "float32", "float64")))
    f, g = (data.draw(strategies.images(shape, (dtype,))) for _ in range(2))
    window = data.draw(strategies.windows(2, shape, kinds=strategies.WEIGHTS))
    vf, vg = (data.draw(strategies.validities(shape)) for _ in range(2))
    pivot = (1.0, 2.0)
    whole = local(f, g, window, reference_validity=vf, moving_validity=vg, pivot=pivot)
    starts = [data.draw(st.integers(0, n - 1)) for n in shape]
    stops = [data.draw(st.integers(a + 1, n)) for a, n in zip(starts, shape, strict=True)]
    read = tuple(
        slice(max(0, a - r), min(n, b + r)) for a, b, r, n in zip(starts, stops, window.radius, shape, strict=True)
    )
    core = tuple(slice(a - s.start, b - s.start) for a, b, s in zip(starts, stops, read, strict=True))
    part = local(
        f[read], g[read], window, core=core, pivot=pivot,
        reference_validity=None if vf is None else vf[read], moving_validity=None if vg is None else vg[read],
    )  # fmt: skip
    place = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
    np.testing.assert_array_equal(bits(part.ncc), bits(whole.ncc[place]))
    np.testing.assert_array_equal(part.status, whole.status[place])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("shape", [(3, 700, 300), (2500, 40), (5, 2300)])
def test_strips_and_bands_cannot_be_seen(shape, dtype):
    f, g = (strategies.image(seed, shape, dtype, "levels" if seed == 1 else "noise") for seed in (1, 2))
    window = Window((3, 5, 31)[-len(shape) :])
    whole = local(f, g, window, pivot=(100.0, 100.0))
    for top, left in ((0, 0), (shape[-2] // 2, shape[-1] // 2)):
        core = (*(slice(0, n) for n in shape[:-2]), slice(top, top + 35), slice(left, left + 35))
        core = tuple(slice(s.start, min(s.stop, n)) for s, n in zip(core, shape, strict=True))
        read = tuple(
            slice(max(0, s.start - r), min(n, s.stop + r)) for s, r, n in zip(core, window.radius, shape, strict=True)
        )
        inner = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(core, read, strict=True))
        part = local(f[read], g[read], window, core=inner, pivot=(100.0, 100.0))
        np.testing.assert_array_equal(bits(part.ncc), bits(whole.ncc[core]))
        np.testing.assert_array_equal(part.status, whole.status[core])


def test_summary_is_that_of_the_pixels():
    f, g = (strategies.image(seed, (50, 60), "uint8", "flat") for seed in (1, 2))
    mask = np.ones(f.shape, np.uint8)
    mask[10:30, 10:30] = 0
    block = local(f, g, Window(5), reference_validity=mask)
    values = block.ncc[block.status == 1].astype(np.float64)
    assert block.summary.counts == tuple(np.bincount(block.status.ravel(), minlength=9))
    units = np.rint(values * 2**24).astype(np.int64)
    assert block.summary.total == units.sum()
    assert block.summary.squares == ((units * units + 2**23) // 2**24).sum()
    assert (block.summary.low, block.summary.high) == (values.min(), values.max())
    assert block.summary.histogram == tuple(np.histogram(values, bins=64, range=(-1, 1))[0])


def test_batches_are_independent():
    f, g = (strategies.image(seed, (2, 3, 20, 21), "uint16", "noise") for seed in (1, 2))
    block = local(f, g, Window(5))
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(bits(block.ncc[index]), bits(local(f[index], g[index], Window(5)).ncc))


def test_nothing_is_outside_of_a_view_that_nobody_gave():
    rng = np.random.default_rng(0)
    for seed in range(20):
        f, g = (strategies.image(seed + i, (60, 2100), "uint16", "noise") for i in (0, 50))
        mask = (rng.random(f.shape) > 0.6).astype(np.uint8)
        assert set(np.unique(local(f, g, Window(3), reference_validity=mask).status)) == {1, 2}


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_everybody_answers_the_same_question(name):
    # the oracle of the benchmark's table: a competitor that were wrong would be no competitor
    entry = IMPLEMENTATIONS[name]
    if name == "scikit-image SSIM":
        f = strategies.image(1, (40, 50), "uint8", "noise")
        assert (entry.compute(f, f, 7) == 1).all()
        return
    f, g = (strategies.image(seed, (23, 31), "uint8", "noise") for seed in (1, 2))
    exact, _ = oracle.maps(f, g, Window(7))
    wanted = np.array(exact, float).reshape(f.shape)[3:-3, 3:-3]
    np.testing.assert_allclose(entry.compute(f, g, 7)[3:-3, 3:-3], wanted, atol=entry.tolerance)


GOLDEN = {
    ("uint8", (15, 15)): "9a381fa6cbf4a323",
    ("uint16", (5, 31)): "1cc80a972b113d88",
    ("uint16", (3, 5, 7)): "9a3923e5cfcf7c9e",
    ("float32", (15, 9)): "1cd52b0e73b929fd",
    ("float64", (5, 3, 3)): "742527b54231bc7d",
}


@pytest.mark.parametrize(("dtype", "size"), GOLDEN)
def test_golden_bits(dtype, size):
    # whoever changes these raises kernel.VERSION: half finished results must not be continued
    rng = np.random.default_rng(11)
    shape = (40, 2100) if len(size) == 2 else (9, 33, 70)
    f, g = (rng.integers(0, 255, shape) / (8 if dtype[0] == "f" else 1) for _ in range(2))
    f[..., :20] = 7
    mask = (rng.random(shape) > 0.1).astype(np.uint8)
    images = [image.astype(dtype) for image in (f, g + f)]
    found = hashlib.sha256()
    for validity in (None, mask):
        block = local(*images, Window(size), reference_validity=validity, pivot=(10.0, 20.0))
        found.update(block.ncc.tobytes() + block.status.tobytes() + repr(block.summary).encode())
    assert (VERSION, found.hexdigest()[:16]) == (4, GOLDEN[dtype, size])


WEIGHED = {
    ("uint8", "gaussian"): "6e47203a3ccfe950",
    ("float32", "gaussian"): "39ea1e9e34c38db2",
    ("uint8", "disk"): "ba7de5582edfc47b",
    ("uint16", "disk"): "09bc4ef230cd70d4",
    ("float32", "disk"): "09bc4ef230cd70d4",
}


@pytest.mark.parametrize(("dtype", "kind"), WEIGHED)
def test_golden_bits_of_other_weights(dtype, kind):
    rng = np.random.default_rng(11)
    f, g = rng.integers(0, 255, (2, 40, 1100))
    f[:, :20] = 7
    mask = (rng.random(f.shape) > 0.1).astype(np.uint8)
    images = [image.astype(dtype) for image in (f, g + f)]
    words = {"sigma": (1.5, 3)} if kind == "gaussian" else {"footprint": kind, "size": (15, 21)}
    window = Window(weights="gaussian" if kind == "gaussian" else "footprint", **words)
    found = hashlib.sha256()
    for validity in (None, mask):
        block = local(*images, window, reference_validity=validity, pivot=(10.0, 20.0))
        found.update(block.ncc.tobytes() + block.status.tobytes() + repr(block.summary).encode())
    assert (VERSION, found.hexdigest()[:16]) == (4, WEIGHED[dtype, kind])


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (0, 5, 5)])
def test_nothing_in_nothing_out(shape):
    empty = np.zeros(shape, np.uint8)
    block = local(empty, empty, Window(3))
    assert block.ncc.shape == block.status.shape == shape
    assert block.summary.pixels == 0


@pytest.mark.parametrize("dtype", ["complex64", "object", "U3", "datetime64[s]", "longdouble"])
def test_what_is_no_real_image_is_refused(dtype):
    with pytest.raises(InputError, match="dtype is .*: bool, integers and floats of at most 64 bits are accepted"):
        common_dtype(dtype, "uint8")


def test_a_grey_level_that_the_dtype_lacks_is_refused():
    image = np.zeros((5, 5), np.uint8)
    with pytest.raises(InputError, match=r"window.cval is 0.5: a grey level of dtype uint8"):
        local(image, image, Window(3, border="constant", cval=0.5))


def test_pivot_is_the_median_of_what_is_finite():
    assert lattice_pivot(np.array([np.nan, np.inf])) == (0.0, 1.0)
    assert lattice_pivot(np.array([1.0, np.nan, 3.0, 100.0])) == (3.0, 1.0)
    assert lattice_pivot(np.array([1e300])) == (1e300, 1.0)
    assert lattice_pivot(np.array([1e40, 1e40, 3e38], np.float64)) == (1e40, 1.0)


def test_a_scale_is_there_where_squares_would_not_fit():
    values = np.array([-1.0, 0.0, 2.0])
    assert lattice_pivot(values * 2.0**198).scale == 1.0
    assert lattice_pivot(values * 2.0**-198).scale == 1.0
    assert lattice_pivot(values * 2.0**400).scale == 2.0**-402
    assert lattice_pivot(values * 2.0**-700).scale == 2.0**698
    assert lattice_pivot(np.array([-1.7e308, 1.7e308])) == (0.0, 2.0**-1024)


@pytest.mark.parametrize("power", [-1000, -400, 300, 1015])
def test_any_float_is_within_reach(power):
    f, g = (strategies.image(seed, (30, 40), "float64", "noise") for seed in (1, 2))
    window = Window(5, min_std=(2.0, 0.0))
    far = Window(5, min_std=(2.0 * 2.0**power, 0.0))
    plain = local(f, g, window, pivot=(lattice_pivot(f), lattice_pivot(g)))
    scaled = f * 2.0**power
    block = local(scaled, g, far, pivot=(lattice_pivot(scaled), lattice_pivot(g)))
    np.testing.assert_array_equal(block.status, plain.status)
    assert {1, 3} == set(np.unique(plain.status))
    np.testing.assert_allclose(block.ncc, plain.ncc, atol=1e-6)
