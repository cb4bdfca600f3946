"""Which sections are bad, whatever else they are compared with; a table that says so, and nobody's file overwritten."""

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc.errors import RefusedError
from bigncc.layout import Layout
from bigncc.sections import CLEAR, COLUMNS, WEAK, culprits, outlying, table_of, write
from bigncc.summary import merge, packed_items
from tests.test_summary import of

LAYOUT = Layout((30, 4, 5), (1, 4, 5), ("z", "y", "x"), (40.0, 4, 4), (80.0, 0, 0), ("nanometer", None, None), "ncc")


def said(items, layout=LAYOUT, **config):
    """What an output says of itself."""
    return {"config": {"reference": {"z": None}, **config}, "registration": {}, "sections": packed_items(items)}


@st.composite
def planted(draw):
    count = draw(st.integers(8, 40))
    lags = draw(st.sampled_from([(1,), (2,), (1, 2), (1, 3), (1, 2, 3)]))
    # where bad sections are close to each other, what lies between them cannot be told from them by one lag
    apart = 3 * max(lags)
    bad, z = set(), draw(st.integers(0, 2 * apart))
    while z < count:
        bad.add(z)
        z += draw(st.integers(apart, 2 * apart))
    pairs = [(z, z + lag) for lag in lags for z in range(count - lag)]
    score = {True: st.floats(CLEAR + 0.1, 1000), False: st.floats(-5, WEAK - 0.1)}
    return bad, {pair: draw(score[bool(bad & set(pair))]) for pair in pairs}


@given(planted())
def test_the_sections_that_spoil_their_pairs_are_named_and_no_others(case):
    bad, scores = case
    assert culprits(scores)[0] == bad


def test_a_good_pair_clears_a_section_and_a_step_is_nobodys_fault():
    good, low = 0.0, 50.0
    assert culprits({(z, z + 1): low if z == 4 else good for z in range(9)}) == (set(), set())
    # what lies between bad sections is not needed to explain anything, and not cleared either
    between = {(z, z + 1): low if {z, z + 1} & {3, 5, 7} else good for z in range(9)}
    assert culprits(between) == ({3, 5, 7}, {4, 6})
    # but by another lag
    assert culprits(between | {(z, z + 2): low if {z, z + 2} & {3, 5, 7} else good for z in range(8)})[1] == set()
    assert culprits({(z, z): low if z == 3 else good for z in range(9)}) == ({3}, set())
    # of many beside each other all are named
    assert culprits({(z, z + 1): low if 9 < z < 30 else good for z in range(40)}) == (set(range(11, 30)), set())


values = st.lists(st.floats(0.5, 0.875, width=32), min_size=7, max_size=60)


@given(values, st.integers(0, 59), st.randoms())
def test_what_falls_far_below_its_neighbours_stands_out(means, place, random):
    place %= len(means)
    summaries = [of([mean] * 4) for mean in means]
    spread = 1.4826 * (max(means) - min(means)) + 0.02
    summaries[place] = of([-1.0] * 4) if 5 * spread < 1.5 else of([], (2, 2))
    assert outlying(summaries)[place] > CLEAR
    alike = [of([0.75] * 4)] * len(means)
    assert max(outlying(alike)) == 0.0
    # fewer than can tell what is ordinary tell nothing
    assert outlying(summaries[:6]) == [0.0] * 6


def test_a_share_without_a_value_stands_out_as_a_low_mean_does():
    summaries = [of([0.8] * 10) for _ in range(15)]
    summaries[4] = of([0.8] * 7, (2,) * 3)
    scores = outlying(summaries)
    assert [z for z, score in enumerate(scores) if score > CLEAR] == [4]


def rows_of(table):
    return list(csv.DictReader(io.StringIO(table.text())))


def test_a_table_says_of_each_section_what_its_pixels_say():
    rng = np.random.default_rng(1)
    pixels = {(z,): rng.normal(0.7, 0.1, 200).clip(-1, 1).astype("f4").tolist() for z in range(30)}
    pixels[9,] = pixels[10,] = [0.1] * 200
    items = {place: of(values, (2, 3)) for place, values in pixels.items()}
    table = table_of(said(items, stack={"lags": [1]}), LAYOUT)
    lines = rows_of(table)
    assert tuple(lines[0]) == COLUMNS
    assert [int(line["section"]) for line in lines] == list(range(30))
    assert [float(line["position"]) for line in lines[:3]] == [80, 120, 160]
    assert {line["unit"] for line in lines} == {"nanometer"}
    assert [line["suspect"] for line in lines if line["suspect"]] == ["10", "10"]
    assert (table.suspects, table.steps, table.sections) == ((10,), (), tuple(range(31)))
    assert table.facts()["suspect sections"] == "10 (1 of 31)"
    for line, values in zip(lines, pixels.values(), strict=True):
        assert int(line["pixels"]) == 202
        assert math.isclose(float(line["percent_with_value"]), 100 * 200 / 202, abs_tol=1e-3)
        assert math.isclose(float(line["mean"]), np.mean(values), abs_tol=1e-6)
        assert math.isclose(float(line["percent_below"]), 100 * np.mean(np.array(values) < 0.5), abs_tol=1e-3)
        assert abs(float(line["q50"]) - np.median(values)) <= 2 / 64
        assert line["counted"] == "exact"
    assert rows_of(table_of(said(items), LAYOUT, 0.51))[0]["counted"] == "interpolated"
    assert merge(row.summary for row in table.rows) == merge(items.values())


def test_two_images_have_sections_that_are_bad_by_themselves_and_channels_have_means():
    layout = Layout((2, 30, 4, 5), (1, 1, 4, 5), ("c", "z", "y", "x"), (1,) * 4, (0,) * 4, (None,) * 4, "ncc")
    items = {(c, z): of([0.1 if (c, z) == (1, 6) else 0.5 + c / 4] * 9) for c in range(2) for z in range(30)}
    table = table_of({**said(items), "config": {"reference": {"z": [100, 130]}}}, layout)
    assert table.suspects == (106,)
    assert table.facts() == {
        "mean NCC of channel 0": "0.5000",
        "mean NCC of channel 1": f"{(29 * 0.75 + 0.1) / 30:.4f}",
        "suspect sections": "106 (1 of 30)",
    }
    assert {line["lag"] for line in rows_of(table)} == {""}
    assert table_of({"sections": [], **said({})}, layout) is None


def test_a_step_is_noted_and_what_is_not_registered_says_why():
    items = {(z,): of([0.1 if z == 12 else 0.8] * 9) for z in range(30)}
    matches = [
        {"transform": None, "note": "no texture"} if z == 3 else {"offset": [1, -2], "quality": 0.9, "transform": {}}
        for z in range(30)
    ]
    everything = {**said(items, stack={"lags": [1]}), "registration": {"sections": matches}}
    table = table_of(everything, LAYOUT)
    lines = rows_of(table)
    assert table.steps == ((12, 13),)
    assert (lines[12]["suspect"], lines[12]["note"]) == ("", "a step between 12 and 13")
    assert (lines[3]["offset_y"], lines[3]["note"]) == ("", "not registered: no texture")
    assert (lines[4]["offset_y"], lines[4]["offset_x"], lines[4]["quality"]) == ("1.000000", "-2.000000", "0.900")
    twins = table_of(said(items | {(7,): of([1.0] * 9)}, stack={"lags": [1]}), LAYOUT)
    assert (twins.twins, twins.suspects) == (((7, 8),), ())
    assert twins.facts()["more alike than others"] == "7 and 8"
    assert rows_of(twins)[7]["note"] == "7 and 8 are more alike than others"
    assert table.facts()["not registered"] == "1 of 30 pairs of sections, correlated as they are stored"


@pytest.mark.parametrize("content", [b"", b"section,position\n1,2\n", "directory"])
def test_a_file_that_is_not_ours_is_refused_and_stays(tmp_path, content):
    path = tmp_path / "out.csv"
    path.mkdir() if content == "directory" else path.write_bytes(content)
    table = table_of(said({(z,): of([0.5]) for z in range(30)}), LAYOUT)
    with pytest.raises(RefusedError, match=f"{path} exists and is no table of bigncc"):
        write(table, path)
    assert path.is_dir() or path.read_bytes() == content
    write(table, tmp_path / "ours.csv")
    write(table_of(said({(z,): of([0.25]) for z in range(30)}), LAYOUT), tmp_path / "ours.csv")
    assert ",0.250000," in (tmp_path / "ours.csv").read_text()
