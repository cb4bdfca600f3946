"""Values that are stored with fewer bits: how far off they are, and that all else holds as it does for exact ones."""

import json

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import bigncc
from bigncc import config, pipeline, report
from bigncc.decision import stored_grid
from bigncc.encoding import EXACT, Encoding
from bigncc.errors import InputError, RefusedError
from bigncc.footprint import disk, layout_of
from bigncc.inputs import open_inputs
from bigncc.journal import read_plan
from bigncc.layout import encodings_of
from bigncc.maps import PIXELS, Further
from bigncc.picture import panel
from bigncc.pyramid import Halving, of_named
from tests import pairs, scenes
from tests.test_pipeline import Killed, killed_after

FIXED = [Encoding(dtype, None, largest) for dtype in ("int16", "uint8") for largest in (1.0, 2.0)]
FLOATS = [Encoding("float16"), *(Encoding("float32", bits) for bits in (1, 7, 10, 22))]
WAYS = {
    "float16": ["output.encoding=float16"],
    "int16": ["output.encoding=int16"],
    "uint8": ["output.encoding=uint8"],
    "keepbits": ["output.keepbits=7"],
}
WINDOW = 5
GAIN = {"maps": ["ncc", "gain"], "registration": {"model": None}}

values_encodings_of = arrays.arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.floats(-1, 1, width=32) | st.sampled_from([np.nan, -0.0, 1.0, -1.0, 2.0**-14, -(2.0**-15), 1.5 / 127]),
)


def bits(array):
    return array.view(f"u{array.itemsize}")


def same(one, two):
    assert one.dtype == two.dtype
    np.testing.assert_array_equal(bits(one), bits(two))


@given(values_encodings_of, st.sampled_from(FIXED))
def test_fixed_point_is_half_a_step_off_at_most(values, how):
    values = values * np.float32(how.largest)
    stored = how.encoded(values)
    again = how.decoded(stored)
    assert stored.dtype == how.dtype
    np.testing.assert_array_equal(np.isnan(again), np.isnan(values))
    there = ~np.isnan(values)
    assert (np.abs(again[there].astype(float) - values[there]) <= how.step / 2 * (1 + 1e-5)).all()
    same(how.encoded(again), stored)
    assert not (bits(again) == 1 << 31).any()
    order = np.argsort(values[there])
    assert (np.diff(stored[there][order].astype(int)) >= 0).all()
    if how.dtype == "int16":  # to the bit, half to even
        same(again[there], np.float32(np.rint(values[there].astype(float) / how.step) * how.step + 0.0))


@given(values_encodings_of, st.sampled_from(FLOATS))
def test_floats_are_rounded_half_to_even(values, how):
    again = how.decoded(stored := how.encoded(values))
    assert stored.dtype == how.dtype
    kept, least = (10, -14) if how.dtype == "float16" else (how.keepbits, -126)
    exponents = np.maximum(np.frexp(values.astype(float))[1] - 1, least)
    step = np.ldexp(1.0, exponents - kept)
    with np.errstate(invalid="ignore"):
        same(again, (np.rint(values / step) * step).astype(np.float32) + np.float32(0))
    same(how.encoded(again), stored)
    assert (bits(again)[np.isnan(values)] == 0x7FC00000).all()


@pytest.mark.parametrize("how", FIXED)
def test_the_ends_and_zero_are_exact(how):
    values = np.float32([-how.largest, -0.0, 0, how.largest])
    same(how.decoded(how.encoded(values)), values + np.float32(0))
    # what a last bit is wrong is no fill and does not come out at the other end
    beyond = np.float32([-how.largest, how.largest]) * np.float32(1 + 1e-6)
    np.testing.assert_allclose(how.decoded(how.encoded(beyond)), values[[0, 3]], atol=how.step)
    for attribute in ("scale_factor", "add_offset", "_FillValue"):
        assert json.loads(json.dumps(how.attributes))[attribute] == how.attributes[attribute]


def test_what_has_no_known_ends_stays_as_it_is(monkeypatch):
    monkeypatch.setitem(PIXELS, "grey", Further("grey levels"))
    monkeypatch.setitem(PIXELS, "share", Further("a share", (0.0, 1.0)))
    maps = ("ncc", "gain", "grey", "share")
    found = encodings_of(maps, "int16", None)
    assert found == {
        "ncc": Encoding("int16"),
        "gain": Encoding("int16", None, 2.0),
        "grey": EXACT,
        "share": Encoding("int16"),
    }
    assert encodings_of(maps, "float16", None)["grey"] == EXACT
    assert {how.keepbits for how in encodings_of(maps, "float32", 7).values()} == {7}
    assert all(how.exact for how in encodings_of(maps, "float32", None).values())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encodings")
    f, g = scenes.pair(1, (130, 150), 1.5, (0.5, -1.25))
    f[40:60, 20:50] = 0
    f[80:90, 100:] = 7
    pairs.store(folder / "a.zarr", f, (64, 64))
    pairs.store(folder / "b.zarr", g, (50, 64))
    (folder / "t.json").write_text(json.dumps({"kind": "translation", "offset": [0.5, -1.25]}))
    options = {"transform": bigncc.Translation((0.5, -1.25)), "nodata": (0, None)}
    return folder, bigncc.local_maps(f, g, WINDOW, ("ncc", "status", "gain"), **options)


def job(place, out, *words):
    folder, _ = place
    sections = {"reference": {"nodata": 0}, "window": {"size": WINDOW}, "registration": {"trust_field": True}}
    given = {"registration": {"transform": str(folder / "t.json")}}
    return pairs.job(
        str(folder / "a.zarr"),
        str(folder / "b.zarr"),
        out,
        {"output": {"chunks": [32, 32]}},
        sections,
        GAIN,
        given,
        *words,
    )


def levels(place, how):
    """Every level of all maps, by a way of its own: encoded, decoded, halved exactly, encoded."""
    found, exact, number = {}, of_named(place[1]), 0
    while True:
        stored = {"ncc": how["ncc"].encoded(exact.ncc), "gain": how["gain"].encoded(exact.further["gain"])}
        found |= {f"{number}": stored["ncc"], f"maps/gain/{number}": stored["gain"]}
        found[f"labels/status/{number}"] = exact.status
        if max(exact.ncc.shape) < 2:
            return found
        decoded = {name: how[name].decoded(each) for name, each in stored.items()}
        exact = Halving(2, 0.0).reduced(of_named(decoded | {"status": exact.status}))
        number += 1


def stored(url):
    group = zarr.open_group(str(url), mode="r")
    return {path: node[...] for path, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("int16", []),
        ("uint8", ["output.ome_version=0.4", "output.chunks=[70, 70]"]),
        ("float16", ["output.finest_level=1", "output.chunks=[16, 16]"]),
        ("keepbits", ["output.shards=[64, 64]"]),
        ("int16", ["output.ome_version=0.4", "engine.threads=1"]),
    ],
)
def test_a_level_is_the_same_however_it_came_to_be(place, tmp_path, way, words):
    asked = job(place, tmp_path / "out", *WAYS[way], *words)
    result = pipeline.run(asked)
    how = encodings_of(asked.maps, asked.output.encoding, asked.output.keepbits)
    found, wanted = stored(tmp_path / "out"), levels(place, how)
    assert {f"maps/gain/{asked.output.finest_level}", "2"} <= found.keys() <= wanted.keys()
    for path, array in found.items():
        same(array, wanted[path])
    assert not pipeline.verify(asked.output.url, recompute=1000).faults
    # statistics are of the exact values
    exact = place[1]["ncc"][place[1]["status"] == 1]
    assert result.summary.low == exact.min()
    assert result.summary.high == exact.max()


def test_levels_are_made_of_levels_somewhere(place, tmp_path):
    pipeline.prepare(asked := job(place, tmp_path / "out", *WAYS["int16"]))
    assert stored_grid(read_plan(asked.output.url)).rounds


def test_a_run_that_dies_is_continued_and_what_is_broken_is_made_again(place, tmp_path, monkeypatch):
    pipeline.run(job(place, tmp_path / "whole", *WAYS["uint8"]))
    asked = job(place, tmp_path / "out", *WAYS["uint8"])
    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            pipeline.run(asked)
    assert pipeline.run(asked).complete
    before = stored(tmp_path / "out")
    for path, array in stored(tmp_path / "whole").items():
        same(array, before[path])
    victims = [sorted((tmp_path / "out" / part / "c").rglob("[0-9]"))[-1] for part in ("0", "1", "2", "maps/gain/0")]
    for path in victims:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    assert len(pipeline.verify(asked.output.url).faults) == len(victims)
    pipeline.run(asked)
    assert not pipeline.verify(asked.output.url, recompute=3).faults


BIG = "output.chunks=[200, 200]"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_stored_opens_everywhere(place, tmp_path, way, version):
    asked = job(place, tmp_path / "out", *WAYS[way], f"output.ome_version={version}", BIG, "output.pyramid=false")
    pipeline.run(asked)
    raw = zarr.open_array(str(tmp_path / "out" / "0"), mode="r")
    how = encodings_of(asked.maps, asked.output.encoding, asked.output.keepbits)
    assert (raw.dtype, raw.attrs.get("_FillValue")) == (how["ncc"].dtype, how["ncc"].attributes.get("_FillValue"))
    assert np.isnan(raw.fill_value) if raw.dtype.kind == "f" else raw.fill_value == how["ncc"].fill
    ours = bigncc.open_result(tmp_path / "out")
    for folder, name in (("", "ncc"), ("maps/gain", "gain")):
        wanted = how[name].decoded(how[name].encoded(place[1][name]))
        same(ours[name].values, wanted)
        theirs = xr.open_zarr(tmp_path / "out" / folder, consolidated=False)["0"]
        assert theirs.dims == ("y", "x")
        # of eight bits a reader in float64 has other last bits
        np.testing.assert_allclose(theirs.values, wanted, rtol=0, atol=2e-7 if way == "uint8" else 0)
    same(ours["status"].values, place[1]["status"])
    document = json.loads((tmp_path / "out" / ("zarr.json" if version == "0.5" else ".zattrs")).read_text())
    document = document["attributes"]["ome"] if version == "0.5" else document
    window = {"int16": (-(2**14), 2**14), "uint8": (0, 254)}.get(way, (-1, 1))
    shown = document["omero"]["channels"][0]["window"]
    assert (shown["min"], shown["max"], shown["start"], shown["end"]) == (*window, *window)


def test_a_result_is_an_image_whose_fill_is_no_sample(place, tmp_path):
    pipeline.run(job(place, tmp_path / "out", BIG, *WAYS["int16"]))
    assert bigncc.open_image(tmp_path / "out").nodata == (-(2**15),)
    assert bigncc.open_image(tmp_path / "out" / "labels" / "status").nodata == ()


def test_pictures_are_of_values(place, tmp_path):
    pipeline.run(job(place, tmp_path / "exact", BIG))
    pipeline.run(job(place, tmp_path / "out", BIG, *WAYS["uint8"]))
    one, two = (panel(str(tmp_path / name)) for name in ("exact", "out"))
    np.testing.assert_allclose(one.ncc, two.ncc, atol=1 / 254 + 1e-6)
    np.testing.assert_allclose(one.further["gain"], two.further["gain"], atol=1 / 127 + 1e-6)
    assert report.facts(one.summary) == report.facts(two.summary)


def test_another_encoding_is_another_request(place, tmp_path):
    asked = job(place, tmp_path / "out", *WAYS["uint8"])
    pipeline.prepare(asked)
    with pytest.raises(RefusedError, match=r"output.encoding is 'uint8' there, 'int16' asked"):
        pipeline.run(job(place, tmp_path / "out", *WAYS["int16"]))
    with pytest.raises(RefusedError, match="output.encoding is 'uint8' there, None asked"):
        pipeline.run(job(place, tmp_path / "out"))
    plain = read_plan(pipeline.prepare(job(place, tmp_path / "plain")).job.url)
    assert not {"encoding", "keepbits"} & (plain["layout"].keys() | plain["request"]["output"].keys())


def test_metadata_that_says_something_else_is_found_and_repaired(place, tmp_path):
    asked = job(place, tmp_path / "out", *WAYS["int16"], "output.ome_version=0.4", "output.chunks=[70, 70]")
    pipeline.run(asked)
    path = tmp_path / "out" / "1" / ".zattrs"
    path.write_text(path.read_text().replace("scale_factor", "scale"))
    assert pipeline.verify(asked.output.url).faults == (f"{path} is not what was written there",)
    pipeline.prepare(asked, repair=True)
    assert pipeline.run(asked).complete
    assert not pipeline.verify(asked.output.url).faults
    array = tmp_path / "out" / "0" / ".zarray"
    array.write_text(array.read_text().replace("<i2", "<i4"))
    with pytest.raises(InputError, match=r"0/.zarray is not what was written there"):
        pipeline.run(asked)


def test_what_it_takes_on_disk(place, tmp_path):
    sizes = {way: disk(layout_of(open_inputs(job(place, tmp_path / "out", *words)))) for way, words in WAYS.items()} | {
        "exact": disk(layout_of(open_inputs(job(place, tmp_path / "out"))))
    }
    assert sizes["keepbits"] == sizes["exact"]
    for way, each in (("float16", 5), ("int16", 5), ("uint8", 3)):
        assert sizes[way] * 9 == sizes["exact"] * each


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["output.keepbits=10", "output.encoding=int16"],
            "output.keepbits is 10: encoding is int16, and with encoding",
        ),
        (["output.keepbits=0"], "config key output.keepbits is 0: input should be greater than or equal to 1"),
        (["output.keepbits=23"], "config key output.keepbits is 23: input should be less than 23"),
        (
            ["output.encoding=int8"],
            "config key output.encoding is 'int8': input should be 'float32', 'float16', 'int16'",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_the_door(words, sentence):
    sections = {name: {"url": name} for name in ("reference", "moving", "output")}
    with pytest.raises(InputError, match=sentence):
        config.load([sections, *words])
