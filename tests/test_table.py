"""A table of pairs: a run for each line, whatever becomes of the others; what is no table is one sentence."""

import pytest

from bigncc import pipeline, table
from bigncc.errors import IncompleteError, InputError, StoppedError
from tests import pairs
from tests.test_cli import bigncc_cli, good

HEAD = "reference,moving,output"
BAD_INPUT, INCOMPLETE = 4, 2


def written(folder, *lines, name="pairs.csv"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_a_line_wins_over_what_holds_for_all_and_leaves_the_others_alone(tmp_path):
    path = written(
        tmp_path,
        "\ufeffoutput , reference,moving,window.size,reference.mask.url,window.border",
        "o1,a,b,9,,",
        '"o,2",s3://bucket/a,b,"[3, 5]",m.zarr,mirror',
        "",
        "o3,a,null,,,",
    )
    common = [{"reference": {"mask": {"url": "all.zarr"}}}, "window.size=7", "registration.model=none"]
    one, two, three = table.configs(path, common)
    assert [config.output.url for config in (one, two, three)] == ["o1", "o,2", "o3"]
    assert [config.window.size for config in (one, two, three)] == [9, (3, 5), 7]
    assert [config.window.border for config in (one, two, three)] == ["shrink", "mirror", "shrink"]
    assert [config.reference.mask.url for config in (one, two, three)] == ["all.zarr", "m.zarr", "all.zarr"]
    assert two.reference.url == "s3://bucket/a"
    assert three.moving.url == "null"  # a path is text
    assert [[c.output.url for c in table.configs(path, common, (i, 2))] for i in range(2)] == [["o1"], ["o,2", "o3"]]
    assert table.configs(path, common, (0, 9)) == []


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ((), "is empty: a line of names"),
        ((HEAD,), "names no pair"),
        (("reference,moving", "a,b"), "has no column output: reference, moving, output, and keys"),
        ((f"{HEAD},window", "a,b,c,7"), "has a column 'window'"),
        ((f"{HEAD},image.level", "a,b,c,7"), "has a column 'image.level'"),
        ((f"{HEAD},output", "a,b,c,d"), "has 2 columns output: one is accepted"),
        (
            (f"{HEAD},window.sizes", "a,b,c,7"),
            r"line 2: config key window.sizes is unknown \(is size meant\?\): size, weights",
        ),
        ((f"{HEAD},window.border", "a,b,c,wrap"), "line 2: config key window.border is 'wrap'"),
        ((HEAD, "a,b,c", "a,b"), "line 3 has 2 cells: 3, one for each column"),
        ((HEAD, "a,,c"), "line 2 has no moving: a path or an address"),
        ((HEAD, "a,b,c", "", "d,e,./x/../c/"), "line 4: output .*/c is that of line 2: one for each pair"),
        ((HEAD, '"a,b,c'), r"cannot be read \(unexpected end of data\)"),
        ((HEAD, "a,b,c.zip"), "line 2: config key output.url is 'c.zip': zip files are read"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(tmp_path, lines, sentence):
    path = tmp_path / "pairs.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(InputError, match=sentence) as caught:
        table.configs(str(path), [])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("data", "sentence"), [(None, "No such file"), (b"\xff\xfe\x00", "can't decode")])
def test_a_table_that_cannot_be_read(tmp_path, data, sentence):
    path = tmp_path / "pairs.csv"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=f"cannot be read .*{sentence}.*comma-separated values"):
        table.configs(str(path), [])


def test_one_that_fails_keeps_no_other_waiting(tmp_path):
    listed = table.configs(written(tmp_path, HEAD, *(f"a,b,o{i}" for i in range(9))), [])
    seen, said = [], []

    def attempt(config):
        seen.append(config.output.url)
        if config.output.url in {"o1", "o3", "o5", "o7"}:
            raise (InputError("no image") if config.output.url == "o1" else ZeroDivisionError("by\nzero"))

    with pytest.raises(IncompleteError, match=r"^4 of 9 pairs failed \(o1, o3, o5 and 1 more\): the same command"):
        table.run(listed, attempt, said.append)
    assert seen == [f"o{i}" for i in range(9)]
    assert said[:2] == ["o1: no image", "o3: ZeroDivisionError: by zero"]
    table.run(listed[:1], attempt, said.append)


def test_a_stop_stops_all(tmp_path):
    seen, stop = [], StoppedError("stopped")

    def attempt(config):
        seen.append(config)
        raise stop

    with pytest.raises(StoppedError):
        table.run(table.configs(written(tmp_path, HEAD, "a,b,c", "a,b,d"), []), attempt, seen.append)
    assert len(seen) == 1


def test_parts_of_a_table_make_all_maps_but_that_of_a_bad_pair(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    lines = [f"a.zarr,b.zarr,o{i},{size}" for i, size in enumerate((3, 5, 7))]
    written(tmp_path, f"{HEAD},window.size", *lines[:1], "a.zarr,nowhere.zarr,lost,9", *lines[1:])
    words = ("run", "--pairs", "pairs.csv", "registration.model=none")
    first = bigncc_cli(tmp_path, *words, "--part", "0/2")
    assert first.returncode == INCOMPLETE
    *_, named, last = first.stderr.splitlines()
    assert "Traceback" not in first.stderr
    assert "bigncc: 1 of 2 pairs failed (lost): the same command tries these again" in (named, last)
    assert "nowhere.zarr does not exist" in first.stderr
    assert "complete: 2 pairs" in good(tmp_path, *words, "--part", "1/2")
    for i, size in enumerate((3, 5, 7)):
        assert pipeline.status(tmp_path / f"o{i}")["state"] == "complete"
        pipeline.run(pairs.job(reference, moving, tmp_path / f"alone{i}", f"window.size={size}"))
        pairs.same(pairs.maps(tmp_path / f"o{i}"), pairs.maps(tmp_path / f"alone{i}"))
