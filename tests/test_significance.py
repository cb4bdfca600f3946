"""What chance makes of smooth images: calibrated p-values and bounds, whatever the tiling; few false discoveries."""

import json
from itertools import pairwise

import dask
import dask.array as da
import numba
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, special, stats

import bigncc
from bigncc import Window, autocorrelation, pipeline, significance, tails
from bigncc.discoveries import BINS, Discoveries, PValues, discoveries_of, edge, merged, unpacked
from bigncc.errors import InputError
from bigncc.lazy import tile
from bigncc.maps import Asked
from bigncc.output import open_output
from bigncc.pair import Pair, each
from bigncc.prefilter import UNFILTERED, Prefilter
from bigncc.tiles import Plan, Tile, roi_pad
from tests import pairs, strategies
from tests.benchmarks.significance import TEXTURES, as_kind, rates, related, spectral, unrelated

MAPS = ("ncc", "status", "pvalue", "lower")


def bits(array):
    return array.view(f"u{array.itemsize}")


# calibration


@pytest.mark.parametrize("sigma", range(4))
def test_unrelated_images_are_called_related_as_seldom_as_said(sigma):
    ours, naive = rates((unrelated(seed, (256, 256), (sigma, sigma)) for seed in range(6)), 11)
    assert 0.03 < ours[0] < 0.07
    assert ours[1] < 0.015
    assert (naive[0] > 0.35) == (sigma > 0)


@pytest.mark.soak
@pytest.mark.parametrize("window", [7, 11, 21, (5, 9, 9)], ids=str)
@pytest.mark.parametrize("sigmas", [(0, 0), (1, 1), (2, 2), (3, 3), (0, 3), (1, 3)], ids=str)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_so_they_are_for_other_windows_and_samples(window, sigmas, kind):
    shape = (512, 512) if isinstance(window, int) else (80, 80, 80)
    ours, _ = rates((unrelated(seed, shape, sigmas, kind) for seed in range(8)), window)
    assert 0.03 < ours[0] < 0.07


@pytest.mark.parametrize("name", TEXTURES)
def test_other_textures_are_not_far_off(name):
    shape = (256, 256)
    images = ([spectral([seed, i], shape, TEXTURES[name]) for i in range(2)] for seed in range(4))
    assert 0.03 < rates(images, 11)[0][0] < 0.085


def test_an_image_may_be_smooth_in_one_half_and_rough_in_the_other():
    found = []
    for seed in range(6):
        halves = zip(unrelated(seed, (256, 300), (3, 3)), unrelated(seed + 50, (256, 300), (0, 0)), strict=True)
        f, g = (np.where(np.arange(300) < 150, smooth, rough) for smooth, rough in halves)
        p = bigncc.local_maps(f, g, 11, MAPS)["pvalue"]
        found.append([np.mean(p[:, part] < 0.05) for part in (slice(0, 118), slice(182, 300))])
    for rate in np.mean(found, axis=0):
        assert 0.025 < rate < 0.075


def test_borders_and_masks_are_no_discoveries():
    edge_rates, half_rates, thin_rates = [], [], []
    for seed in range(6):
        f, g = unrelated(seed, (200, 200), (2, 2))
        p = bigncc.local_maps(f, g, 11, MAPS)["pvalue"]
        edge_rates.append(np.mean(np.concatenate([p[:5].ravel(), p[:, -5:].ravel()]) < 0.05))
        stripes = np.arange(200) // 20 % 2 == 0
        found = bigncc.local_maps(f, g, Window(11, min_valid_fraction=0.3), MAPS, reference_mask=stripes & (f == f))
        cut = found["status"] == 1
        cut[:, (np.arange(200) % 40 > 4) & (np.arange(200) % 40 < 15)] = False  # only those that lack samples
        half_rates.append(np.mean(found["pvalue"][cut] < 0.05))
        thin = np.random.default_rng(seed).random(f.shape) < 0.6
        thin_rates.append(np.nanmean(bigncc.local_maps(f, g, 11, MAPS, moving_mask=thin)["pvalue"] < 0.05))
    assert 0.02 < np.mean(edge_rates) < 0.085
    assert 0.02 < np.mean(half_rates) < 0.085
    assert np.mean(thin_rates) < 0.07


@pytest.mark.parametrize(("sigma", "truth", "least"), [(0, 0.6, 0.99), (1, 0.6, 0.85), (2, 0.9, 0.93), (3, 0.9, 0.75)])
def test_a_related_pair_is_called_so_and_bounded_from_below(sigma, truth, least):
    found = [bigncc.local_maps(*related(seed, (256, 256), sigma, truth), 11, MAPS) for seed in range(4)]
    assert np.mean([maps["pvalue"] < 0.05 for maps in found]) > least
    assert 0.02 < np.mean([maps["lower"] > truth for maps in found]) < 0.085
    assert all((maps["lower"] <= maps["ncc"]).all() for maps in found)
    surer = bigncc.local_maps(*related(0, (256, 256), sigma, truth), 11, MAPS, level=0.01)
    assert (surer["lower"] <= found[0]["lower"]).all()
    np.testing.assert_array_equal(bits(surer["pvalue"]), bits(found[0]["pvalue"]))


# what it is computed from


def spread(a, c, shares, shape):
    """The variance of r as the room computes it."""
    longest = max(shape)
    work = np.empty((11, 2 * longest)), np.empty(autocorrelation.SCALARS)
    return autocorrelation.bounded(a, c, shares, np.array(shape), work)


@pytest.mark.parametrize("shape", [(1, 7, 5), (3, 5, 5), (1, 1, 9), (1, 11, 11)])
@pytest.mark.parametrize("shares", [(1.0, 1.0), (0.6, 0.9)])
def test_the_variance_is_that_of_the_traces(shape, shares):
    rng, d = np.random.default_rng(1), np.arange(max(shape))
    a = np.array([np.exp(-(d**2) / (4 * rng.uniform(0.5, 4) ** 2)) for _ in shape])
    c = np.array([np.exp(-d / rng.uniform(0.5, 4)) for _ in shape])
    centred = np.eye(np.prod(shape)) - 1 / np.prod(shape)
    forms = []
    for rows, share in ((a, shares[0]), (c, shares[1])):
        texture = np.ones((1, 1))
        for row, n in zip(rows, shape, strict=True):
            texture = np.kron(texture, linalg.toeplitz(row[:n]))
        p = centred @ (share * texture + (1 - share) * np.eye(len(texture))) @ centred
        p /= np.trace(p)
        forms.append((1 + 2 * np.sum(p * p)) * p - 2 * p @ p)
    assert spread(a, c, shares, shape) == pytest.approx(np.sum(forms[0] * forms[1]), rel=1e-10)
    white = np.zeros((3, max(shape)))
    white[:, 0] = 1
    assert spread(white, white, shares, shape) == pytest.approx(1 / (np.prod(shape) - 1), rel=1e-12)


@pytest.mark.parametrize("sigma", [1, 3])
def test_the_second_order_is_nearer_to_what_is_drawn(sigma):
    n, d = 9, np.arange(9)
    row = np.exp(-(d**2) / (4 * sigma**2))
    root = linalg.cholesky(linalg.toeplitz(row) + 1e-9 * np.eye(n))
    rng = np.random.default_rng(0)
    f, g = (np.einsum("kij,ia,jb->kab", rng.standard_normal((20000, n, n)), root, root) for _ in range(2))
    r = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(f[:6000], g[:6000], strict=True)]
    rows = np.array([np.eye(1, n)[0], row, row])
    assert spread(rows, rows, (1.0, 1.0), (1, n, n)) == pytest.approx(np.mean(np.square(r)), rel=0.07)


@numba.njit
def every(r, variance, table, out):
    """Fill `out` with the probabilities of coefficients."""
    for i in range(r.size):
        out[i] = tails.probability(r[i], variance[i], table)


def test_probabilities_are_those_of_student():
    rng = np.random.default_rng(0)
    variance = np.maximum(rng.uniform(0, 1, 50000) ** 2, 1e-6)
    r = np.sqrt(-np.expm1(-(rng.uniform(0, 15, 50000) ** 2) / (1 / variance - 1))) * rng.choice([-1, 1], 50000)
    found = np.empty(r.size)
    every(r, variance, significance.table(), found)
    freedom = 1 / variance - 1
    wanted = special.betainc(freedom / 2, 0.5, (1 - r) * (1 + r))
    told = (wanted > 1e-40) & (np.abs(r) < 1 - 1e-6)
    assert told.mean() > 0.4
    np.testing.assert_allclose(found[told], wanted[told], rtol=2e-3)
    t = stats.t.sf(2.0, 9.0) * 2
    one = np.empty(1)
    every(np.array([2 / np.sqrt(4 + 9.0)]), np.array([0.1]), significance.table(), one)
    assert one[0] == pytest.approx(t, rel=2e-3)
    # wherever in an array a value stands, and however long that is
    for start in range(9):
        for stop in range(start + 1, 30):
            part = np.empty(stop - start)
            every(r[start:stop], variance[start:stop], significance.table(), part)
            np.testing.assert_array_equal(bits(part), bits(found[start:stop]))


def test_identical_images_are_no_chance_and_flat_ones_say_nothing():
    f = unrelated(0, (60, 60), (1, 1))[0]
    found = bigncc.local_maps(f, f, 7, MAPS)
    assert found["pvalue"].max() < 1e-20
    assert found["lower"].min() > 0.99
    f[:30] = 5.0
    found = bigncc.local_maps(f, f, 7, MAPS)
    assert (found["status"] == 5).any()
    for name in ("pvalue", "lower"):
        np.testing.assert_array_equal(np.isfinite(found[name]), found["status"] == 1)


# the tiling cannot be seen


@st.composite
def cases(draw):
    """A pair, and what belongs to it."""
    ndim = draw(st.sampled_from((2, 2, 3)))
    shape = (75, 83) if ndim == 2 else (14, 34, 31)
    size = draw(st.sampled_from(((3, 5), (7, 3), (1, 5), (9, 9)) if ndim == 2 else ((1, 3, 3), (3, 3, 5))))
    kind = draw(st.sampled_from(("uint8", "uint16", "float32", "float64")))
    sigmas = tuple(draw(st.sampled_from((0, 1, 2))) for _ in range(2))
    f, g = unrelated(draw(st.integers(0, 99)), shape, sigmas, kind)
    if draw(st.booleans()):
        f[..., 5:20, :] = f.flat[0]
    window = Window(size, border=draw(st.sampled_from(("shrink", "valid"))), min_valid_fraction=0.2)
    options = {"pivot": (0.25, -0.5), "level": 0.1}
    if draw(st.booleans()):
        options["moving_mask"] = np.random.default_rng(1).random(shape) < 0.8
    if draw(st.booleans()):
        options["transform"] = bigncc.Translation((0.5, -1.25, 2.0)[-ndim:])
    if draw(st.sampled_from((False, False, True))):
        options["prefilter"] = Prefilter("difference_of_gaussians", sigma=0.5)
    return f, g, window, options


@given(cases(), st.data())
@settings(max_examples=9)
def test_chunks_cannot_be_seen(case, data):
    f, g, window, options = case
    whole = bigncc.local_maps(f, g, window, MAPS, **options)
    chunks = [tuple(data.draw(strategies.chunkings(n)) for n in f.shape) for _ in range(2)]
    arrays = [da.from_array(image, chunks=c, name=False) for image, c in zip((f, g), chunks, strict=True)]
    pieces = bigncc.local_maps(*arrays, window, MAPS, **options)
    for name, array in zip(pieces, dask.compute(*pieces.values()), strict=True):
        np.testing.assert_array_equal(bits(array), bits(whole[name]), err_msg=name)


@given(cases(), st.data())
@settings(max_examples=7)
def test_tiles_cannot_be_seen(case, data):
    f, g, window, options = case
    options.pop("moving_mask", None)
    whole = bigncc.local_maps(f, g, window, MAPS, **options)
    asked = Asked(("pvalue", "lower"), prefilter=options.get("prefilter", UNFILTERED), level=options["level"])
    objects = tuple(data.draw(st.integers(5, n)) for n in f.shape)
    extent = tuple(o * data.draw(st.integers(1, 3)) for o in objects)
    around = asked.margin(window.radius, f.ndim)
    plan = Plan(f.shape, objects, extent, around, (0,) * f.ndim, f.shape)
    pair = Pair(da.from_array(f, chunks=17), da.from_array(g, chunks=15))
    got = {name: np.zeros(f.shape, np.float32) for name in asked.further}
    counted = []
    for index in range(len(plan)):
        how = plan.origin, objects, options.get("transform"), 1, None, asked
        blocks = tile(pair, window, (options["pivot"],), plan[index], *how)

        def keep(block, roi):
            for name, array in got.items():
                array[roi] = block.further[name]
            return block.pvalues

        counted += each(blocks, keep, tuple(s.start for s in plan[index].write))
    for name, array in got.items():
        np.testing.assert_array_equal(bits(array), bits(whole[name]), err_msg=name)
    assert merged(counted) == counts_of(whole["pvalue"])


def test_a_margin_is_no_more_than_is_needed():
    """Cells of 7 from pixel 0 on: whoever is told less than the margin is told apart from who is told all."""
    f, g = unrelated(3, (61, 50), (1, 1))
    window, asked = Window((5, 5)), Asked(("pvalue",))
    (n, _) = asked.margin(window.radius, 2)
    assert n == 2 * 7 + 2 + 2
    whole = bigncc.local_maps(f, g, window, ("pvalue",), pivot=(0, 0))["pvalue"]
    pair, wrong = Pair(da.from_array(f), da.from_array(g)), []
    for row in range(24, 38):
        write = (slice(row, row + 1), slice(0, 50))
        for around in (n, n - 1):
            part = Tile(0, write, roi_pad(write, (around, 0), f.shape))
            blocks = tile(pair, window, ((0, 0),), part, (0, 0), (1, 50), None, 1, None, asked)
            (found,) = each(blocks, lambda block, _: block.further["pvalue"], (row, 0))
            same = np.array_equal(bits(found), bits(whole[row : row + 1]))
            assert same or around < n
            wrong.append(not same)
    assert any(wrong)


# discoveries


def counts_of(p):
    """The histogram of a map."""
    found = p[np.isfinite(p)]
    places = np.maximum(0, (found.view(np.uint32) >> 20).astype(int) - 504)
    return PValues(tuple(np.bincount(places, minlength=BINS).tolist()))


def benjamini_hochberg(p, share):
    """The largest p-value that is a discovery, and how many are."""
    p = np.sort(p.astype(float))
    steps = np.flatnonzero(p <= share * np.arange(1, p.size + 1) / p.size)
    return (p[steps[-1]], steps[-1] + 1) if steps.size else (0.0, 0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.floats(0, 1), st.sampled_from((0.01, 0.05, 0.2)))
@settings(max_examples=150)
def test_the_threshold_is_that_of_benjamini_and_hochberg_or_a_bit_below(seed, size, true, share):
    rng = np.random.default_rng(seed)
    p = np.where(rng.random(size) < true, 10.0 ** rng.uniform(-12, -1, size), rng.random(size)).astype(np.float32)
    limit, n = counts_of(p).threshold(share)
    _, most = benjamini_hochberg(p, share)
    assert n == np.count_nonzero(p < limit) <= most
    assert limit <= share  # and so it bounds the share of false ones as theirs does
    # none is missed that is an eighth below their threshold, which a procedure for larger p-values says
    surely, least = benjamini_hochberg(np.minimum(p * 1.125, 1), share)
    assert n >= least
    assert limit >= surely / 1.125


def test_bins_are_those_of_float32():
    values = np.array([0.0, 1e-45, 2.0**-64, 1e-12, 0.049, 0.05, 0.999, 1.0], np.float32)
    for value in values:
        (index,) = np.flatnonzero(counts_of(np.array([value])).counts)
        assert index == 0 or edge(index) <= value
        assert value < edge(index + 1)
    assert all(1 < b / a <= 1.125 for a, b in pairwise(map(edge, range(BINS))))
    assert edge(BINS - 1) == 1.0
    some, none = counts_of(values), PValues()
    assert none + some == some + none == some
    assert merged([some, some]).pixels == 16
    assert unpacked(json.loads(json.dumps(some.packed()))) == some
    assert unpacked(none.packed()) == none
    found = Discoveries(some, 0.05)
    assert discoveries_of(json.loads(json.dumps(found.to_dict()))) == found


def test_nothing_may_be_discovered():
    assert PValues().threshold(0.05) == (0.0, 0)
    assert "0 pixels of 0 tested" in Discoveries(PValues(), 0.05).facts()["discoveries"]
    found = Discoveries(counts_of(np.full(10, 0.5, np.float32)), 0.05)
    assert found.facts()["discoveries"].startswith("no p < x keeps the share of false discoveries below 5 %")


def test_few_discoveries_are_false():
    """Half of each image agrees: among the discoveries the share that lies in the other half is below what was said."""
    shares = []
    for seed in range(6):
        f, g = unrelated(seed, (200, 200), (1, 1))
        g[:, 100:] = related(seed, (200, 200), 1, 0.9)[1][:, 100:]
        f[:, 100:] = related(seed, (200, 200), 1, 0.9)[0][:, 100:]
        p = bigncc.local_maps(f, g, 11, MAPS)["pvalue"]
        limit, n = counts_of(p).threshold(0.1)
        shares.append(np.count_nonzero(p[:, :89] < limit) / n)
    assert 0.0 < np.mean(shares) < 0.1


# from the config to the disk


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("significance")
    f, g = related(1, (150, 171), 1, 0.8, "uint16")
    f[40:60, 20:50] = 0
    return folder, pairs.store(folder / "a.zarr", f, (64, 64)), pairs.store(folder / "b.zarr", g, (50, 64)), f, g


def job(place, out, *words):
    asked = {"reference": {"nodata": 0}, "maps": ["ncc", "pvalue", "lower"], "window": {"size": 7}}
    return pairs.still(place[1], place[2], out, asked, *words)


def arrays(url):
    group = zarr.open_group(str(url), mode="r")
    return {path: node[...] for path, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("engine.halo=read", "output.chunks=[50, 40]", "engine.threads=1"),
        ("output.shards=[96, 96]", "significance.level=0.01", "report.threshold=0.1"),
    ],
)
def test_what_is_stored_is_what_arrays_give(place, tmp_path, words):
    *_, f, g = place
    asked = job(place, tmp_path / "out", *words)
    result = pipeline.run(asked)
    level = asked.significance.level
    wanted = bigncc.local_maps(f, g, 7, MAPS, nodata=(0, None), level=level)
    found = arrays(tmp_path / "out")
    for name in ("pvalue", "lower"):
        np.testing.assert_array_equal(bits(found[f"maps/{name}/0"]), bits(wanted[name]), err_msg=name)
    counts = counts_of(wanted["pvalue"])
    assert result.discoveries == Discoveries(counts, level)
    limit, n = counts.threshold(level)
    assert n > 1000
    said = f"p < {limit:.3g} keeps the share of false discoveries below {100 * level:g} %: {n} pixels"
    assert said in result.further()["discoveries"]
    assert "not alignment" in result.further()["tested"]
    kept = open_output(str(tmp_path / "out")).attributes["discoveries"]
    assert (kept["p_below"], kept["pixels"], kept["share"]) == (limit, n, level)
    assert pipeline.status(str(tmp_path / "out"))["discoveries"] == kept
    assert not pipeline.verify(str(tmp_path / "out"), recompute=100).faults
    opened = bigncc.open_result(tmp_path / "out")
    assert opened["pvalue"].attrs["discoveries_p_below"] == limit
    assert "not of alignment" in opened["pvalue"].attrs["long_name"]


def test_a_region_parts_and_the_report(place, tmp_path):
    *_, f, g = place
    asked = job(place, tmp_path / "out", "output.region=16:120,24:160", "maps=[ncc, pvalue]")
    pipeline.prepare(asked)
    for part in range(3):
        assert pipeline.run(asked, part=(part, 3)).discoveries is None  # which only all of them have
    assert pipeline.finish(str(tmp_path / "out")).discoveries is not None
    wanted = bigncc.local_maps(f, g, 7, ("pvalue",), nodata=(0, None))["pvalue"]
    found = arrays(tmp_path / "out")
    assert "maps/lower/0" not in found
    np.testing.assert_array_equal(bits(found["maps/pvalue/0"]), bits(wanted[16:120, 24:160].copy()))
    panel = pipeline.panel(str(tmp_path / "out"))
    assert panel.discoveries.pvalues == counts_of(wanted[16:120, 24:160].copy())
    assert pipeline.report(str(tmp_path / "out")).read_bytes().startswith(b"\x89PNG")


def test_what_it_takes_is_said(place, tmp_path):
    more, plain = (pipeline.plan(job(place, tmp_path / "out", *words)) for words in ((), ("maps=[ncc]",)))
    assert more.seconds > 2 * plain.seconds
    assert more.memory > plain.memory
    assert more.disk > 2 * plain.disk
    ready = pipeline.prepare(job(place, tmp_path / "out"))
    assert ready.job.plan.margin == (19, 19)
    assert ready.job.asked == Asked(("pvalue", "lower"))


def test_labelled_arrays_have_words():
    import xarray as xr

    f, g = (xr.DataArray(image, dims=("y", "x")) for image in unrelated(0, (40, 50), (1, 1)))
    found = bigncc.local_maps(f, g, 5, ("pvalue",), level=0.01)
    assert "independent" in found["pvalue"].attrs["long_name"]
    np.testing.assert_array_equal(found["pvalue"], bigncc.local_maps(f.data, g.data, 5, ("pvalue",))["pvalue"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("window.border=reflect",), "window.border is reflect and maps has pvalue or lower: .*shrink or valid"),
        (("significance.level=0.6",), "significance.level is 0.6"),
        (("maps=[ncc]", "significance.level=0.01"), r"config key significance is .*: maps is \[ncc\]"),
    ],
)
def test_what_cannot_be_told_is_refused(place, tmp_path, words, said):
    with pytest.raises(InputError, match=said):
        pipeline.plan(job(place, tmp_path / "out", *words))


def test_arrays_are_refused_alike():
    f, g = unrelated(0, (20, 20), (0, 0), "uint8")
    with pytest.raises(InputError, match="window.border is constant"):
        bigncc.local_maps(f, g, Window(5, border="constant"), ("lower",))
    with pytest.raises(InputError, match="significance.level is 1"):
        bigncc.local_maps(f, g, 5, ("lower",), level=1)
    assert as_kind(np.zeros(2), "uint8").tolist() == [128, 128]
