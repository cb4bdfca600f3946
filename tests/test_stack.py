"""One stack against itself: what two images of its sections would give, from chunks that are decoded once."""

import json
import math

import numpy as np
import pytest
import zarr

import bigncc
from bigncc import config, journal, pipeline, reading
from bigncc import stack as room
from bigncc.errors import InputError
from bigncc.kernel import Pivot
from bigncc.summary import merge, unpacked_items
from tests import pairs, stacks, strategies

SHAPE = (9, 40, 50)
SMALL = {"output": {"chunks": [32, 32]}, "engine": {"threads": 2}}


def job(source, output, *words):
    """A config of one stack in small chunks."""
    sections = {"reference": {"url": str(source)}, "output": {"url": str(output)}}
    return config.load([sections, SMALL, *words])


def two_images(source, output, lag, count, *words, first=0, **options):
    """A config of the same sections as two images, whose shift nobody measures."""
    ranges = {"reference": (first, first + count - lag), "moving": (first + lag, first + count)}
    sections = {name: {"url": str(source), "z": z, **options} for name, z in ranges.items()}
    return pairs.still(str(source), str(source), output, sections, SMALL, *words)


def same_as_two_images(folder, lags, count, *words, first=0, **options):
    """Assert that each lag of `out` is what two images give, to the bit."""
    got = pairs.maps(folder / "out")
    for number, lag in enumerate(lags):
        other = folder / f"other{lag}"
        pipeline.run(two_images(folder / "stack", other, lag, count, *words, first=first, **options))
        mine = got if len(lags) == 1 else {name: values[number, : count - lag] for name, values in got.items()}
        pairs.same({name: np.ascontiguousarray(values) for name, values in mine.items()}, pairs.maps(other))


@pytest.fixture
def counted(monkeypatch):
    """Every stack that is read, with how often its chunks were decoded."""
    made = []

    class Noted(reading.Decoded):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

        @property
        def per_chunk(self):
            return self.decoded / math.prod(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    monkeypatch.setattr(room, "Decoded", Noted)
    return made


@pytest.mark.parametrize(
    ("dtype", "chunk", "lags", "words"),
    [
        ("uint8", 1, (1,), ()),
        ("uint16", 4, (2,), ("output.region=5:37,0:45", "engine.halo=read")),
        ("float32", 4, (1, 2), ()),
        ("float32", 16, (3, 1), ("output.ome_version=0.4", "window.size=[5, 3]")),
    ],
)
def test_a_stack_is_two_images_of_its_sections_to_the_bit(tmp_path, counted, dtype, chunk, lags, words):
    image = strategies.image(1, SHAPE, dtype, "noise")
    if dtype == "float32":  # so far from zero, differently in each section, that other pivots would be seen
        image += 1e6 * (1 + np.arange(9, dtype=dtype)[:, None, None])
    source = pairs.store(tmp_path / "stack", image, (min(chunk, 9), 20, 30))
    asked = job(source, tmp_path / "out", {"stack": {"lags": list(lags)}}, *words)
    (overhead,) = pipeline.plan(asked).decode_overhead.values()
    pipeline.run(asked)
    (kept,) = counted
    assert kept.per_chunk == 1.0
    shape = (len(lags),) * (len(lags) > 1) + (9 - min(lags),)
    got = pairs.maps(tmp_path / "out")
    assert got["ncc"].shape[:-2] == shape
    if "region" not in str(words):
        assert math.isclose(overhead, 9 / math.prod(shape))
    same_as_two_images(tmp_path, lags, 9, *words)
    for number, lag in enumerate(lags if len(lags) > 1 else ()):
        assert np.isnan(got["ncc"][number, 9 - lag :]).all()
        assert (got["status"][number, 9 - lag :] == 6).all()


def test_what_is_chosen_of_an_image_is_chosen_of_a_stack(tmp_path):
    image = strategies.image(1, (2, 2, 6, 40, 50), "uint8", "noise")
    source = pairs.store(tmp_path / "stack", image, (1, 1, 4, 20, 30), names=("t", "c", "z", "y", "x"))
    words = ("reference.time=1", "reference.channel=1", "reference.z=1:5")
    pipeline.run(job(source, tmp_path / "out", "stack.lags=[1, 2]", *words))
    same_as_two_images(tmp_path, (1, 2), 4, first=1, time=1, channel=1)
    assert pipeline.finish(str(tmp_path / "out")).table.sections == (1, 2, 3, 4)
    # channels and times stay what they are beside one lag
    result = pipeline.run(job(source, tmp_path / "all", "stack.lags=2", "output.chunks=[40, 50]"))
    pairs.same(pairs.maps(tmp_path / "all"), bigncc.local_maps(image[:, :, :4], image[:, :, 2:]))
    assert {(row.time, row.channel) for row in result.table.rows} == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("way", ["mask and nodata", "missing"])
def test_what_is_left_out_is_left_out_in_both_roles(tmp_path, way):
    image = strategies.image(1, SHAPE, "uint8", "noise") % 8
    source = pairs.store(tmp_path / "stack", image, (2, 20, 30))
    if way == "missing":
        options = {"missing_chunks": "nodata"}
        (tmp_path / "stack/c/2/0/1").unlink()
    else:
        mask = np.random.default_rng(1).random(SHAPE) < 0.7
        options = {"nodata": 3, "mask": {"url": pairs.store(tmp_path / "mask", mask, (3, 40, 50))}}
    words = ("output.chunks=[40, 50]", "window.min_valid_fraction=0.45")
    result = pipeline.run(job(source, tmp_path / "out", {"reference": options}, "stack.lags=[1, 2]", *words))
    same_as_two_images(tmp_path, (1, 2), 9, *words, **options)
    assert result.summary.counts[2] > 0
    if way == "missing":
        assert "1 chunks of stack are not stored" in result.notes


def test_no_tiling_and_no_stop_can_be_seen(tmp_path, counted):
    image = strategies.image(1, SHAPE, "float32", "noise")
    source = pairs.store(tmp_path / "stack", image, (4, 20, 30))
    words = ("stack.lags=[1, 2]", "output.pyramid=false")
    result = pipeline.run(job(source, tmp_path / "out", *words))
    whole, maps = pairs.files(tmp_path / "out"), pairs.maps(tmp_path / "out")
    # an array of jobs wants more tiles than there are groups of chunks
    other = ("engine.halo=read", "engine.threads=1", "cluster.array.jobs=20")
    assert pipeline.plan(job(source, tmp_path / "others", *words)).tile == (2, 4, 32, 32)
    assert pipeline.plan(job(source, tmp_path / "others", *words, *other)).tile == (1, 1, 32, 32)
    again = pipeline.run(job(source, tmp_path / "others", *words, *other))
    pairs.same(pairs.maps(tmp_path / "others"), maps)
    assert again.table.rows == result.table.rows
    # as after a kill: a line of the journal is torn, and objects are gone
    (lines,) = (tmp_path / "out.bigncc/journal").glob("*.jsonl")
    text = lines.read_bytes()
    lines.write_bytes(text[: len(text) // 2])
    for path in (tmp_path / "out/0/c/1").rglob("1"):
        path.unlink(missing_ok=True) if path.is_file() else None
    (tmp_path / "out.bigncc/COMPLETE.json").unlink()
    pipeline.run(job(source, tmp_path / "out", *words))
    assert pairs.files(tmp_path / "out") == whole
    assert not pipeline.verify(str(tmp_path / "out"), recompute=5).faults


def test_the_summaries_of_all_sections_are_the_summary_and_say_what_the_pixels_say(tmp_path):
    image = strategies.image(1, SHAPE, "uint16", "noise")
    source = pairs.store(tmp_path / "stack", image, (3, 20, 30))
    result = pipeline.run(job(source, tmp_path / "out", "stack.lags=[1, 3]", "output.chunks=[16, 16]"))
    assert merge(unpacked_items(_sections(tmp_path)).values()) == result.summary
    got = pairs.maps(tmp_path / "out")
    assert len(result.table.rows) == 8 + 6
    for row in result.table.rows:
        valid = got["status"][row.place] == 1
        seen = got["ncc"][row.place][valid].astype(float)
        assert (row.summary.pixels, row.summary.valid) == (valid.size, valid.sum())
        assert math.isclose(row.summary.mean, seen.mean(), abs_tol=1e-6)
        assert (row.summary.low, row.summary.high) == (seen.min(), seen.max())
    # what was read is known by one name
    assert {name for name, *_ in journal.fingerprints(str(tmp_path / "out"), _plan(tmp_path)["plan_id"])} == {"stack"}
    names = [each["label"] for each in zarr.open_group(tmp_path / "out").attrs["ome"]["omero"]["channels"]]
    assert names == ["z + 1", "z + 3"]
    found = bigncc.open_result(tmp_path / "out")
    assert found["mean"].dims == ("c", "z")
    assert np.isnan(found["mean"].values[1, 6:]).all()
    assert found["lag"].values.tolist() == [1, 3]
    assert math.isclose(
        found["mean"].values[0, 2], found["ncc"][0, 2].where(found["status"][0, 2] == 1).mean(), abs_tol=1e-6
    )


def _sections(folder):
    return zarr.open_group(folder / "out").attrs["bigncc"]["sections"]


def _plan(folder):
    return json.loads((folder / "out.bigncc/plan.json").read_text())


@pytest.mark.parametrize(("kind", "how", "chunk", "lags"), [("uint8", "blank", 16, [1]), ("uint16", "blur", 1, [1, 2])])
def test_bad_sections_are_found_and_no_others(tmp_path, counted, kind, how, chunk, lags):
    image = stacks.sections(40, (90, 110), kind=kind, how=how)
    source = pairs.store(tmp_path / "stack", image, (chunk, 64, 64))
    words = {"stack": {"lags": lags}, "output": {"chunks": [128, 128]}, "window": {"size": 15}}
    result = pipeline.run(job(source, tmp_path / "out.ome.zarr", words))
    assert result.table.suspects == (*stacks.SHIFTS, stacks.DAMAGED)
    assert not result.table.steps
    assert counted[0].per_chunk == 1.0
    out = str(tmp_path / "out.ome.zarr")
    assert bigncc.open_result(out).attrs["suspect_sections"] == list(result.table.suspects)
    assert pipeline.tabulate(out, 0.25).read_text().splitlines()[1].split(",")[15] == "0.25"
    assert pipeline.report(out) == tmp_path / "out.png"
    shown = pipeline.panel(out)
    first, second = shown.table.worst.pair
    assert set(shown.table.worst.suspects) <= {first, second}
    np.testing.assert_array_equal(shown.reference, image[first])
    np.testing.assert_array_equal(shown.moving, image[second])


def test_sections_are_registered_one_by_one_and_one_that_cannot_be_stops_nothing(tmp_path):
    image = stacks.sections(4, (140, 160), shifts={1: (3, -2)}, damaged=None)
    image[3] = 77
    source = pairs.store(tmp_path / "stack", image, (4, 100, 128))
    # blocks would have several sections, if these had no transforms of their own
    words = ("stack.lags=[1, 2]", "registration.model=translation", "output.chunks=[128, 128]", "engine.threads=1")
    result = pipeline.run(job(source, tmp_path / "out", *words))
    found = {(row.lag, row.section): row.match for row in result.table.rows}
    wanted = {(1, 0): (-3, 2), (1, 1): (3, -2), (2, 0): (0, 0)}
    for place, offset in wanted.items():
        np.testing.assert_allclose(found[place]["offset"], offset, atol=0.1)
        assert found[place]["quality"] > 0.9
    for place in ((1, 2), (2, 1)):
        assert found[place] == {"transform": None, "note": "no texture to be registered by in moving"}
    assert "3 of 5 of them registered as estimated, by y " in result.headline
    assert "2 could not be registered and are correlated as they are stored" in result.headline
    got = pairs.maps(tmp_path / "out")
    pivots = [tuple(Pivot(*each) for each in both) for both in _plan(tmp_path)["pivots"]]
    for number, lag in enumerate((1, 2)):
        for z in range(4 - lag):
            said = found[lag, z]["transform"]
            shift = None if said is None else bigncc.Translation(tuple(said["offset"]))
            alone = bigncc.local_maps(image[z], image[z + lag], transform=shift, pivot=pivots[number])
            pairs.same({name: np.ascontiguousarray(values[number, z]) for name, values in got.items()}, alone)
    assert (got["status"][1, 2:] == 6).all()
    # what is estimated is estimated once, and the picture shows what was correlated
    assert pipeline.run(job(source, tmp_path / "out", *words)) == result
    assert not pipeline.verify(str(tmp_path / "out"), recompute=3).faults
    assert pipeline.panel(str(tmp_path / "out")).moving is not None


def test_channels_of_two_images_have_statistics_of_their_own(tmp_path):
    f, g = (strategies.image(seed, (2, 40, 50), "uint8", "noise") for seed in (1, 2))
    g[1] = f[1]
    paths = [pairs.store(tmp_path / name, image, names=("c", "y", "x")) for name, image in (("a", f), ("b", g))]
    result = pipeline.run(pairs.job(*paths, tmp_path / "out"))
    first, second = (row.summary for row in result.table.rows)
    assert (second.mean, first + second) == (1.0, result.summary)
    assert result.table.facts()["mean NCC of channel 1"] == "1.0000"
    assert bigncc.open_result(tmp_path / "out")["mean"].dims == ("c",)


@pytest.mark.parametrize(
    ("names", "words", "sentence"),
    [
        (("z", "y", "x"), ("stack.lags=9",), "has 9 sections and stack.lags is 9: 1 to 8 are accepted"),
        (("z", "y", "x"), ("stack.lags=[1, 12]",), "has 9 sections and stack.lags is 1, 12: 1 to 8 are accepted"),
        (("z", "y", "x"), ("stack.lags=2", "reference.z=3:5"), "has 2 sections and stack.lags is 2: 1 to 1 are"),
        (("z", "y", "x"), ("stack.lags=1", "reference.z=3:4"), "has 1 sections .* two sections at least are accepted"),
        (
            ("z", "y", "x"),
            ("stack.lags=1", "reference.z=3"),
            r"has axes \(y, x\) and stack.lags is 1: a stack with an axis z",
        ),
        (("t", "y", "x"), ("stack.lags=1",), r"has axes \(t, y, x\) and stack.lags is 1: a stack with an axis z"),
        (
            ("c", "z", "y", "x"),
            ("stack.lags=[1, 2]",),
            "has 2 channels and stack.lags is 1, 2: one lag, or one channel",
        ),
        (("z", "y", "x"), ("stack.lags=1", "window.size=[3, 7, 7]"), "which spans sections: a number, or"),
        (("z", "y", "x"), ("stack.lags=0",), "config key stack.lags is 0: .*greater than 0"),
        (("z", "y", "x"), ("stack.lags=[1, 1]",), r"config key stack.lags is \[1, 1\]: each lag once is accepted"),
        (("z", "y", "x"), ("stack.lags=x",), "config key stack.lags is 'x': .*valid tuple"),
        (("z", "y", "x"), ("stack.lags=1", "moving.url=b"), r"stack lags is \[1\] and moving is another image"),
    ],
)
def test_what_is_no_stack_is_refused_in_a_sentence(tmp_path, names, words, sentence):
    shape = (2,) * (len(names) - 3) + SHAPE
    source = pairs.store(tmp_path / "stack", strategies.image(1, shape, "uint8", "noise"), names=names)
    with pytest.raises(InputError, match=sentence):
        pipeline.plan(job(source, tmp_path / "out", *words))


def test_a_stack_is_not_registered_by_the_verb_for_two_images(tmp_path):
    source = pairs.store(tmp_path / "stack", strategies.image(1, SHAPE, "uint8", "noise"))
    with pytest.raises(InputError, match="stack.lags is given: two images are accepted here"):
        pipeline.register(job(source, tmp_path / "out", "stack.lags=1", "registration.model=translation"))
