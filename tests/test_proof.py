"""Every planted fault is found by its name, nothing right is called wrong, and repair brings the same bytes back."""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from bigncc import engine, journal, objects, pipeline
from bigncc.config import Config
from bigncc.decision import stored_grid
from bigncc.errors import BignccError, DoesNotFitError, IncompleteError, InputError, RefusedError
from bigncc.layout import Layout, map_name
from bigncc.output import open_output
from tests import pairs, strategies
from tests.test_pipeline import Killed, killed_after

LAYOUTS = {
    "plain": {"output": {"chunks": [32, 32]}},
    "sharded": {"output": {"chunks": [32, 32], "shards": [64, 64]}},
    "tiles of several objects": {"output": {"chunks": [16, 16]}},
    "0.4": {"output": {"chunks": [32, 32], "ome_version": "0.4"}},
    "coarse": {"output": {"chunks": [8, 8], "finest_level": 1}},
}

PLAIN = Layout((70, 100), (32, 32), ("y", "x"), (1, 1), (0, 0), (None, None), "ncc", halved=2, levels=(0, 1, 2))
"""What the first of them looks like."""


@dataclass(frozen=True)
class Made:
    """A finished output in a folder of its own, and the config that it was made with."""

    folder: Path
    config: Config

    @property
    def url(self):
        return self.config.output.url


def job(reference, moving, output, *words):
    """A config whose moving image is shifted by nothing, and so no shift is measured."""
    still = Path(reference).with_name("still.json")
    still.write_text(json.dumps({"kind": "translation", "offset": [0, 0]}))
    return pairs.job(reference, moving, output, {"registration": {"model": None, "transform": str(still)}}, *words)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Make an output of each layout once, and beside it an output of other pixels; return a function."""
    folders = {}

    def original(layout):
        if layout not in folders:
            folder = folders[layout] = tmp_path_factory.mktemp("made")
            reference, moving, *_ = pairs.pair(folder, (70, 100))
            pipeline.run(job(reference, moving, folder / "out", LAYOUTS[layout]))
            pipeline.run(job(moving, reference, folder / "other", LAYOUTS[layout], "window.size=5"))
        return folders[layout]

    return original


@pytest.fixture
def made(request, originals, tmp_path):
    """Copy a finished output; `indirect` chooses the layout."""
    layout = getattr(request, "param", "plain")
    original = originals(layout)
    for name in ("out", "out.bigncc", "other"):
        shutil.copytree(original / name, tmp_path / name)
    return Made(tmp_path, job(str(original / "a.zarr"), str(original / "b.zarr"), tmp_path / "out", LAYOUTS[layout]))


every_layout = pytest.mark.parametrize("made", LAYOUTS, indirect=True)


def repaired(made):
    return pipeline.complete(pipeline.prepare(made.config, repair=True))


def complaints(url, **how):
    """What verify says, be it a list or one sentence."""
    try:
        return pipeline.verify(url, **how).faults
    except InputError as error:
        return (str(error),)


# --- faults -----------------------------------------------------------------------------------------------------------
# Each changes one thing below a folder that holds `out`, its journal and `other`, and returns what verify must name.


def pick(rng, things):
    return things[rng.integers(len(things))]


def files_of(url):
    """The stored objects of an output."""
    return sorted(path for path in Path(url).rglob("*") if path.is_file() and not is_metadata(path))


def is_metadata(path):
    return path.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup")


def metadata_in(folder):
    """The metadata files of the output in a folder, by their names from there on."""
    paths = sorted(path for path in (folder / "out").rglob("*") if is_metadata(path))
    return [str(path.relative_to(folder)) for path in paths]


def flipped(data, rng):
    place = int(rng.integers(len(data)))
    return data[:place] + bytes([data[place] ^ (1 << rng.integers(8))]) + data[place + 1 :]


BYTES = {
    "cut": lambda data, rng: data[: rng.integers(1, len(data))],
    "one bit flipped": flipped,
    "zeroed": lambda data, _: bytes(len(data)),
    "emptied": lambda *_: b"",
    "grown": lambda data, _: data + bytes(8),
}


def of_bytes(change):
    def fault(folder, rng):
        victim = pick(rng, files_of(folder / "out"))
        victim.write_bytes(change(victim.read_bytes(), rng))
        return (str(victim),)

    return fault


def deleted(folder, rng):
    victim = pick(rng, files_of(folder / "out"))
    victim.unlink()
    return (str(victim),)


def swapped(folder, rng):
    one = pick(rng, files_of(folder / "out"))
    first = one.read_bytes()
    # both are right by their checksums, and neither is where it was written
    two = pick(rng, [path for path in files_of(folder / "out") if path.read_bytes() != first])
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)
    return str(one), str(two)


def replaced(folder, rng):
    pairs_of = [(path, folder / "other" / path.relative_to(folder / "out")) for path in files_of(folder / "out")]
    victim, foreign = pick(rng, [(a, b) for a, b in pairs_of if a.read_bytes() != b.read_bytes()])
    victim.write_bytes(foreign.read_bytes())
    return (str(victim),)


def beside_the_grid(folder, rng):
    victim = pick(rng, files_of(folder / "out"))
    stranger = victim.with_name("99") if rng.random() < 0.5 else victim.parent.with_name("99") / "0"
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_bytes(victim.read_bytes())
    return (str(stranger),)


def file_too_many(folder, rng):
    places = sorted({folder / "out", *(path.parent for path in (folder / "out").rglob("*"))})
    stranger = pick(rng, places) / pick(rng, [".zattrs", "notes.txt", "zarr.json.bak", ".nfs0001"])
    stranger.write_text("{}")
    return (str(stranger),)


def leaves(document, path=()):
    """Yield the place of each value in a document."""
    inner = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in inner:
        if isinstance(value, (dict, list)) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def other_than(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return f"{value}x" if isinstance(value, str) else "x"


def edit(path, leaf):
    """Change one value of a JSON file."""
    document = json.loads(path.read_bytes())
    holder = document
    for key in leaf[:-1]:
        holder = holder[key]
    holder[leaf[-1]] = other_than(holder[leaf[-1]])
    path.write_text(json.dumps(document))


def edited(*names):
    def fault(folder, rng):
        path = folder / pick(rng, names or metadata_in(folder))
        edit(path, pick(rng, list(leaves(json.loads(path.read_bytes())))))
        return (str(path),)

    return fault


def meaning(data):
    """A JSON document; None if it is none."""
    try:
        return json.loads(data)
    except ValueError:
        return None


def one_bit(*names):
    def fault(folder, rng):
        path = folder / pick(rng, names or metadata_in(folder))
        before = path.read_bytes()
        # 1E-5 for 1e-5 is no fault
        while meaning(after := flipped(before, rng)) == meaning(before):
            pass
        path.write_bytes(after)
        return (str(path),)

    return fault


def without_metadata(folder, rng):
    path = folder / pick(rng, metadata_in(folder))
    path.unlink()
    return (str(path),)


def of_the_journal(change):
    def fault(folder, rng):
        path = pick(rng, sorted((folder / "out.bigncc" / "journal").iterdir()))
        lines = path.read_bytes().splitlines(keepends=True)
        place, lines = change(lines, rng)
        tile = path.read_bytes().splitlines()[place].split(b" ")[2].decode()
        path.write_bytes(b"".join(lines))
        return (f"tile {tile} has no row",)

    return fault


def line_removed(lines, rng):
    place = int(rng.integers(len(lines)))
    return place, lines[:place] + lines[place + 1 :]


def line_flipped(lines, rng):
    place = int(rng.integers(len(lines)))
    return place, [*lines[:place], flipped(lines[place], rng), *lines[place + 1 :]]


def line_torn(lines, rng):
    return len(lines) - 1, [*lines[:-1], lines[-1][: rng.integers(len(lines[-1]))]]


OBJECTS = {
    **{name: of_bytes(change) for name, change in BYTES.items()},
    "deleted": deleted,
    "swapped": swapped,
    "replaced": replaced,
}
RECORDS = {
    "line removed": of_the_journal(line_removed),
    "line flipped": of_the_journal(line_flipped),
    "line torn": of_the_journal(line_torn),
    "record edited": edited("out.bigncc/COMPLETE.json"),
    "record flipped": one_bit("out.bigncc/COMPLETE.json"),
}
ATTRIBUTES = {
    "metadata edited": edited(),
    "metadata flipped": one_bit(),
    "metadata removed": without_metadata,
}
SURPLUS = {"object beside the grid": beside_the_grid, "file too many": file_too_many}
PLANS = {"plan edited": edited("out.bigncc/plan.json"), "plan flipped": one_bit("out.bigncc/plan.json")}
FAULTS = OBJECTS | RECORDS | ATTRIBUTES | SURPLUS | PLANS


def plant(folder, rng):
    """Plant one fault of any kind; return the names that verify must say."""
    return FAULTS[pick(rng, list(FAULTS))](folder, rng)


def unsaid(url, what, faults):
    """Names that no fault says: neither itself nor, in a tile of several objects, as one of these."""
    missing = [name for name in what if not any(name in fault for fault in faults)]
    if not any(fault.startswith("one of ") for fault in faults):
        return missing
    out, grid = open_output(url), stored_grid(journal.read_plan(url))
    levels = [each for tile in grid for each in tile.levels]
    groups = [objects.places(array, roi) for level, roi in levels for array in out.level(level).values()]
    said = {
        name
        for first, *rest in groups
        if any(fault.startswith(f"one of {first} to {(rest or [None])[-1]} is") for fault in faults)
        for name in (first, *rest)
    }
    return [name for name in missing if name not in said]


def undo(folder, before):
    """Bring the files below a folder back."""
    after = pairs.files(folder)
    for name in after.keys() - before.keys():
        (folder / name).unlink()
    for name, data in before.items():
        if after.get(name) != data:
            (folder / name).write_bytes(data)


def proven(folder):
    """All files but the journal's, of which there may be more."""
    return {name: data for name, data in pairs.files(folder).items() if not name.startswith("out.bigncc/journal/")}


# --- verify and repair ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "kind"),
    [*((layout, kind) for layout in LAYOUTS for kind in OBJECTS), *(("plain", kind) for kind in RECORDS)],
    indirect=["made"],
)
def test_a_fault_is_named_and_repaired(made, kind):
    before = pairs.files(made.folder)
    what = FAULTS[kind](made.folder, np.random.default_rng(list(FAULTS).index(kind)))
    planted = pairs.files(made.folder)
    assert planted != before
    assert unsaid(made.url, what, complaints(made.url)) == []
    assert pairs.files(made.folder) == planted  # to look changes nothing
    assert repaired(made).complete
    assert proven(made.folder) == proven_of(before)
    assert pipeline.verify(made.url).faults == ()


def proven_of(files):
    return {name: data for name, data in files.items() if not name.startswith("out.bigncc/journal/")}


@pytest.mark.parametrize("kind", SURPLUS)
def test_a_file_too_many_is_named_and_stays(made, kind):
    before = pairs.files(made.folder)
    what = FAULTS[kind](made.folder, np.random.default_rng(0))
    planted = pairs.files(made.folder)
    assert len(planted) == len(before) + 1
    for _ in range(2):
        faults = pipeline.verify(made.url).faults
        assert [fault for fault in faults if what[0] in fault] == list(faults) != []
        repaired(made)
        assert pairs.files(made.folder) == planted


@pytest.mark.parametrize("kind", PLANS)
def test_an_edited_plan_is_refused_by_every_verb(made, kind):
    FAULTS[kind](made.folder, np.random.default_rng(0))
    before = pairs.files(made.folder)
    plan_id = "0" * 32
    for verb in (
        lambda: pipeline.verify(made.url),
        lambda: pipeline.finish(made.url),
        lambda: pipeline.status(made.url),
        lambda: pipeline.run(made.config),
        lambda: repaired(made),
        lambda: pipeline.prepare(made.config, overwrite=plan_id),
    ):
        with pytest.raises(InputError, match=r"plan.json is damaged"):
            verb()
    assert pairs.files(made.folder) == before


def test_a_plan_that_is_gone_proves_nothing(made):
    (made.folder / "out.bigncc" / "plan.json").unlink()
    with pytest.raises(InputError, match="plan.json is absent"):
        pipeline.verify(made.url)


@pytest.mark.parametrize(
    ("made", "name", "most"),
    [
        *(("plain", name, 50) for name in PLAIN.metadata),
        *(("sharded", name, 12) for name in ("0/zarr.json", "labels/status/0/zarr.json", "2/zarr.json")),
        *(("0.4", name, 12) for name in replace(PLAIN, version="0.4").metadata if not name.endswith(".zgroup")),
    ],
    indirect=["made"],
)
def test_each_value_of_the_metadata_is_proven(made, name, most):
    path = made.folder / "out" / name
    before = path.read_bytes()
    places = list(leaves(json.loads(before)))
    if len(places) > most:  # of the config, the colours and further layouts, some
        places = places[:: -(-len(places) // min(most, 20))]
    assert len(places) >= 1
    wrong = []
    for place in places:
        edit(path, place)
        assert path.read_bytes() != before
        try:
            faults = pipeline.verify(made.url).faults
        except Exception as error:  # whatever it is, it is no verdict
            faults = (f"{type(error).__name__}: {error}",)
            wrong.append((place, faults[0]))
        if not any(str(path) in fault for fault in faults):
            wrong.append((place, "not named"))
        path.write_bytes(before)
    assert wrong == []
    assert pipeline.verify(made.url).faults == ()


@pytest.mark.parametrize("name", PLAIN.metadata)
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"attributes": null}', '{"attributes": [1]}', "\xff"])
def test_metadata_that_says_nothing_is_named(made, name, text):
    path = made.folder / "out" / name
    path.write_bytes(text.encode("latin1"))
    assert any(str(path) in fault for fault in pipeline.verify(made.url).faults)


REPAIRABLE = {
    "gone": lambda path: path.unlink(),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "an attribute": lambda path: edit_first(path, "attributes"),
    "more than there should be": lambda path: path.write_text(
        json.dumps({**json.loads(path.read_bytes()), "consolidated_metadata": {}})
    ),
}


def edit_first(path, section):
    """Change the first value of a section that does not say whose the output is."""
    places = [p for p in leaves(json.loads(path.read_bytes())) if p[0] == section and p[-1] not in (section, "plan_id")]
    edit(path, places[0] if places else ("zarr_format",))


@pytest.mark.parametrize("name", PLAIN.metadata)
@pytest.mark.parametrize("kind", REPAIRABLE)
def test_metadata_is_written_anew(made, name, kind):
    before = pairs.files(made.folder)
    path = made.folder / "out" / name
    REPAIRABLE[kind](path)
    assert pairs.files(made.folder) != before
    assert str(path) in "".join(pipeline.verify(made.url).faults)
    repaired(made)
    assert pairs.files(made.folder) == before


@pytest.mark.parametrize("place", [("shape", 0), ("chunk_grid", "configuration", "chunk_shape", 0), ("codecs", 0)])
@pytest.mark.parametrize("name", ["0/zarr.json", "labels/status/0/zarr.json"])
def test_a_run_over_edited_metadata_is_right_or_says_why_not(made, name, place):
    before = pairs.files(made.folder)
    path = made.folder / "out" / name
    document = json.loads(path.read_bytes())
    if place == ("codecs", 0):
        document["codecs"] = document["codecs"][:1]
        path.write_text(json.dumps(document))
    else:
        edit(path, place)
    with suppress(BignccError):
        pipeline.run(made.config)
    repaired(made)
    assert proven(made.folder) == proven_of(before)


@pytest.mark.parametrize("key", ["config", "headline", "state", "summary", "digest", "plan_id"])
def test_what_the_output_says_of_itself_is_proven(made, key):
    path = made.folder / "out" / "zarr.json"
    document = json.loads(path.read_bytes())
    document["attributes"]["bigncc"][key] = "mine"
    path.write_text(json.dumps(document))
    assert str(path) in "".join(pipeline.verify(made.url).faults)
    before = pairs.files(made.folder)
    if key != "plan_id":
        repaired(made)
        assert pipeline.verify(made.url).faults == ()
        return
    # whose it is cannot be told any more, and what may be another's is left alone
    with pytest.raises(RefusedError, match="belongs to plan mine"):
        repaired(made)
    assert pairs.files(made.folder) == before


def test_pixel_sizes_in_the_metadata_are_proven(made):
    path = made.folder / "out" / "zarr.json"
    document = json.loads(path.read_bytes())
    steps = document["attributes"]["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    steps[0]["scale"][0] = 0.5
    path.write_text(json.dumps(document))
    assert f"{path} is not what was written there" in pipeline.verify(made.url).faults


@pytest.mark.parametrize("name", PLAIN.metadata)
def test_an_attribute_that_a_user_added_is_no_fault_and_stays(made, name):
    path = made.folder / "out" / name
    document = json.loads(path.read_bytes())
    document.setdefault("attributes", {})["mine"] = {"note": "kept"}
    path.write_text(json.dumps(document))
    assert pipeline.verify(made.url).faults == ()
    for again in (lambda: pipeline.run(made.config), lambda: repaired(made)):
        assert again().complete
        assert json.loads(path.read_bytes())["attributes"]["mine"] == {"note": "kept"}
        assert pipeline.verify(made.url).faults == ()


def test_an_output_without_its_record_is_not_complete(made):
    before = pairs.files(made.folder)
    (made.folder / "out.bigncc" / "COMPLETE.json").unlink()
    with pytest.raises(IncompleteError, match="what is there is right"):
        pipeline.verify(made.url)
    pipeline.finish(made.url)
    assert pairs.files(made.folder) == before


def test_an_output_that_is_gone_has_every_fault(made):
    shutil.rmtree(made.folder / "out")
    faults = pipeline.verify(made.url).faults
    assert all(any(f"out/{name} " in fault for fault in faults) for name in PLAIN.metadata)
    assert any("does not exist" in fault for fault in faults)


def missed(made, rng, count, *, repair):
    """Plant faults one after the other; return those that verify did not name or repair did not undo."""
    before, found = pairs.files(made.folder), []
    for _ in range(count):
        what = plant(made.folder, rng)
        planted = pairs.files(made.folder)
        assert planted != before
        try:
            faults = complaints(made.url)
            if left := unsaid(made.url, what, faults):
                found.append((left, faults))
            if repair and not _undone(made, before, what):
                found.append((what, "not repaired"))
        except Exception as error:  # collected, so that one crash does not hide the next
            found.append((what, f"{type(error).__name__}: {error}"))
        undo(made.folder, before)
    assert pipeline.verify(made.url).faults == ()
    return found


def _undone(made, before, what):
    """Say whether repair brings everything back, or refuses what is not its job to bring back."""
    try:
        repaired(made)
    except (InputError, RefusedError) as error:
        # a plan that is damaged, or a group that may be another's
        return what[0].endswith(("plan.json", "out/zarr.json", "out/.zattrs")) and str(made.url) in str(error)
    wanted, got = proven_of(before), proven(made.folder)
    strangers = {str(made.folder / name) for name in got.keys() - wanted.keys()}
    return {name: got.get(name) for name in wanted} == wanted and strangers <= set(what)


@every_layout
def test_every_planted_fault_is_found(made):
    assert missed(made, np.random.default_rng(1), 20, repair=False) == []


@pytest.mark.soak
@every_layout
@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_planted_faults_are_found_and_repaired(made, seed):
    assert missed(made, np.random.default_rng(seed), 84, repair=True) == []


def clean(folder, seed):
    """Make an output of some shape, dtype and layout; return its path."""
    rng = np.random.default_rng(seed)
    axes = pick(rng, ["yx", "yx", "zyx", "cyx", "tczyx"])
    ndim = 3 if axes == "zyx" and rng.random() < 0.7 else 2
    extents = {"t": (1, 3), "c": (1, 4), "z": (3, 20), "y": (9, 90), "x": (9, 90)}
    shape = tuple(int(rng.integers(*extents[axis])) for axis in axes)
    dtype = pick(rng, strategies.INTEGERS + strategies.FLOATS)
    chunks = tuple(int(rng.integers(4, 40)) for _ in range(ndim))
    words = {
        "window": {"size": [3, 5, 5] if ndim == 3 else int(pick(rng, [3, 5, 7]))},
        "output": {"chunks": chunks, "shards": [2 * n for n in chunks] if rng.random() < 0.5 else None},
    }
    paths = (
        pairs.store(folder / name, strategies.image(seed + i, shape, dtype, "noise"), names=tuple(axes))
        for i, name in enumerate("ab")
    )
    return pipeline.run(pairs.job(*paths, folder / "out", words)).url


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(n, marks=pytest.mark.soak) for n in range(3, 100))])
def test_what_is_right_is_not_called_wrong(tmp_path, seed):
    url = clean(tmp_path, seed)
    tiles = pipeline.status(url)["tiles"]["total"]
    found = pipeline.verify(url, recompute=2)
    assert found.faults == ()
    assert found.tiles == tiles
    assert len(found.recomputed) == min(2, tiles)
    assert found.size == sum(path.stat().st_size for path in files_of(url))


# --- recomputing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "name"), [("plain", "status"), *((layout, "ncc") for layout in LAYOUTS)])
def test_pixels_that_were_wrong_from_the_start_are_found_by_computing_them(tmp_path, monkeypatch, layout, name):
    reference, moving, *_ = pairs.pair(tmp_path, (70, 100))
    config = job(reference, moving, tmp_path / "out", LAYOUTS[layout])
    commit, wrong = engine._commit, []

    def crooked(block, roi, **rest):
        if not wrong:
            wrong.append(roi)
            maps = {name: getattr(block, name).copy()}
            maps[name].flat[5] += 1
            block = replace(block, **maps) if hasattr(block, "__dataclass_fields__") else block._replace(**maps)
        return commit(block, roi, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_commit", crooked)
        pipeline.run(config)
    assert len(wrong) == 1
    total = pipeline.status(str(tmp_path / "out"))["tiles"]["total"]
    # objects, journal and record agree
    assert pipeline.verify(tmp_path / "out").faults == ()
    found = pipeline.verify(tmp_path / "out", recompute=10**6)
    assert found.recomputed == tuple(range(total))
    grid = stored_grid(journal.read_plan(str(tmp_path / "out")))
    (index,) = (
        i
        for i in range(grid.base)
        if all(a.start <= b.start < a.stop for a, b in zip(grid[i].write, *wrong, strict=True))
    )
    # the levels that go with the tile are those of the wrong pixels, too
    first, *rest = found.faults
    shown = map_name(name, config.output.finest_level)
    assert first == f"tile {index}: 1 pixels of {shown} are not what the inputs give"
    assert all(fault.startswith(f"tile {index}: 1 pixels of {name}/") for fault in rest)
    assert found.facts()["faults"] == str(1 + len(rest))


@every_layout
def test_what_is_right_is_computed_so_again(made):
    found = pipeline.verify(made.url, recompute=3)
    assert found.faults == ()
    assert len(set(found.recomputed)) == 3


@pytest.mark.parametrize(
    ("made", "kind"),
    [*(("plain", kind) for kind in ("cut", "deleted", "emptied", "one bit flipped")), ("sharded", "cut")],
    indirect=["made"],
)
def test_a_damaged_object_is_named_also_where_it_is_computed_again(made, kind):
    what = OBJECTS[kind](made.folder, np.random.default_rng(0))
    assert unsaid(made.url, what, complaints(made.url, recompute=10**6)) == []


def changed(path):
    """Change a stored object of an input in one bit, and nothing else that can be seen of the file."""
    before, times = path.read_bytes(), path.stat()
    path.write_bytes(before[:20] + bytes([before[20] ^ 1]) + before[21:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return path


def test_inputs_that_have_changed_prove_nothing(tmp_path):
    images = (strategies.image(seed, (70, 100), "uint16", "noise") for seed in (1, 2))
    paths = [pairs.store(tmp_path / name, image, compressors=None) for name, image in zip("ab", images, strict=True)]
    pipeline.run(job(*paths, tmp_path / "out"))
    assert pipeline.verify(tmp_path / "out", recompute=100).faults == ()
    changed(tmp_path / "b" / "c" / "1" / "0")
    with pytest.raises(RefusedError, match=r"moving .*/b has changed since this output was begun \(c/1/0\)"):
        pipeline.verify(tmp_path / "out", recompute=100)
    assert pipeline.verify(tmp_path / "out").faults == ()


def test_an_output_is_computed_again_from_wherever_one_stands(tmp_path, monkeypatch):
    *_, f, _ = pairs.pair(tmp_path, (70, 100), dtype="uint8")
    pairs.store(tmp_path / "mask.zarr", (f > 9).astype("uint8"))
    (tmp_path / "t.json").write_text(json.dumps({"kind": "translation", "offset": [1, -2]}))
    monkeypatch.chdir(tmp_path)
    words = "reference={url: a.zarr, mask: {url: mask.zarr}}", "registration={model: null, transform: t.json}"
    pipeline.run(pairs.job("a.zarr", "b.zarr", "out", *words))
    monkeypatch.chdir(tmp_path.parent)
    assert pipeline.verify(tmp_path / "out", recompute=2).faults == ()


# --- parts ------------------------------------------------------------------------------------------------------------


@every_layout
@pytest.mark.parametrize("parts", [2, 3, 50])
def test_all_parts_find_what_the_whole_finds(made, parts):
    rng = np.random.default_rng(parts)
    for kind in ("one bit flipped", "deleted", "line removed", "file too many", "metadata removed"):
        FAULTS[kind](made.folder, rng)
    whole = pipeline.verify(made.url)
    assert len(whole.faults) >= 4
    each = [pipeline.verify(made.url, part=(i, parts)) for i in range(parts)]
    assert set().union(*(found.faults for found in each)) == set(whole.faults)
    assert sum(found.tiles for found in each) == whole.tiles
    assert sum(found.size for found in each) == whole.size


# --- on the way -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=LAYOUTS)
def begun(request, tmp_path_factory):
    """Begin a run that dies after three tiles."""
    folder = tmp_path_factory.mktemp("begun")
    reference, moving, *_ = pairs.pair(folder, (70, 100))
    with pytest.MonkeyPatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(Killed):
            pipeline.run(job(reference, moving, folder / "out", LAYOUTS[request.param]))
    return folder, LAYOUTS[request.param]


@pytest.fixture
def halfway(begun, tmp_path):
    """Copy what a run has left that died after three tiles."""
    original, layout = begun
    for name in ("out", "out.bigncc"):
        shutil.copytree(original / name, tmp_path / name)
    return Made(tmp_path, job(str(original / "a.zarr"), str(original / "b.zarr"), tmp_path / "out", layout))


def test_a_run_on_its_way_is_incomplete_and_not_wrong(halfway):
    before = pairs.files(halfway.folder)
    sentence_of_it = r"out has 3 of \d+ tiles: run the same command again to complete it; what is there is right"
    for part in ((0, 1), (0, 2), (1, 2)):
        with pytest.raises(IncompleteError, match=sentence_of_it):
            pipeline.verify(halfway.url, part=part)
    with pytest.raises(IncompleteError, match=sentence_of_it):
        pipeline.verify(halfway.url, recompute=2)
    with pytest.raises(IncompleteError, match=r"out has 3 of \d+ tiles"):
        pipeline.finish(halfway.url)
    assert pairs.files(halfway.folder) == before


def test_what_a_killed_process_left_half_written_is_not_wrong(halfway):
    # as zarr names it, and as it is there at any moment of a run
    left = files_of(halfway.url)[0].with_name("1.0123456789abcdef0123456789abcdef.partial")
    left.write_bytes(b"half")
    with pytest.raises(IncompleteError, match="what is there is right"):
        pipeline.verify(halfway.url)
    pipeline.run(halfway.config)
    assert not left.exists()
    assert pipeline.verify(halfway.url).faults == ()


@pytest.mark.parametrize("kind", ["one bit flipped", "deleted"])
def test_what_is_wrong_on_the_way_is_named(halfway, kind):
    what = OBJECTS[kind](halfway.folder, np.random.default_rng(0))
    assert unsaid(halfway.url, what, pipeline.verify(halfway.url).faults) == []


def test_a_prepared_output_is_incomplete(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path, (70, 100))
    pipeline.prepare(job(reference, moving, tmp_path / "out"))
    for verb in (pipeline.verify, pipeline.finish):
        with pytest.raises(IncompleteError, match="out has 0 of 13 tiles"):
            verb(tmp_path / "out")


def test_finish_is_what_a_run_ends_with_and_once_is_enough(made):
    before = pairs.files(made.folder)
    url = made.folder / "parts"
    config = made.config.model_copy(update={"output": made.config.output.model_copy(update={"url": str(url)})})
    pipeline.prepare(config)
    for part in ((1, 2), (0, 2)):
        with pytest.raises(IncompleteError):
            pipeline.finish(url)
        assert not pipeline.run(config, part=part).complete
    with pytest.raises(IncompleteError, match="has 12 of 13 tiles"):
        pipeline.verify(url)
    first = pipeline.finish(url)
    assert first.complete
    after = pairs.files(made.folder)
    assert pipeline.finish(url) == first
    assert pairs.files(made.folder) == after
    for name, data in before.items():
        if name.startswith("out/") and name != "out/zarr.json":
            assert after[name.replace("out", "parts", 1)] == data, name
    assert after["parts.bigncc/COMPLETE.json"] == before["out.bigncc/COMPLETE.json"]
    assert pipeline.verify(url).faults == ()


def test_what_is_computed_again_is_not_complete_meanwhile(made, monkeypatch):
    files_of(made.url)[0].unlink()
    killed_after(monkeypatch, 1)
    with pytest.raises(Killed):
        pipeline.run(made.config)
    assert journal.read_complete(made.url) is None
    assert open_output(made.url).attributes["state"] == "in-progress"
    assert pipeline.status(made.url)["state"] == "in-progress"


def test_a_run_that_dies_in_its_last_step_is_incomplete_and_not_wrong(tmp_path, monkeypatch):
    reference, moving, *_ = pairs.pair(tmp_path, (70, 100))
    config = job(reference, moving, tmp_path / "out")

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(journal, "write_complete", die)
        with pytest.raises(Killed):
            pipeline.run(config)
    assert open_output(tmp_path / "out").attributes["state"] == "complete"
    with pytest.raises(IncompleteError, match="has 13 of 13 tiles"):
        pipeline.verify(tmp_path / "out")
    pipeline.finish(tmp_path / "out")
    assert pipeline.verify(tmp_path / "out").faults == ()


# --- overwriting ------------------------------------------------------------------------------------------------------


def plan_id(url):
    return journal.read_plan(str(url))["plan_id"]


def another(made):
    """The config of another map at the same place."""
    return made.config.model_copy(update={"window": made.config.window.model_copy(update={"size": 5})})


@every_layout
def test_overwriting_removes_the_output_of_that_plan(made):
    old = plan_id(made.url)
    config = another(made)
    with pytest.raises(RefusedError, match="window.size"):
        pipeline.prepare(config)
    ready = pipeline.prepare(config, overwrite=old)
    assert files_of(made.url) == []
    assert ready.job.plan_id == plan_id(made.url) != old
    pipeline.complete(ready)
    assert pipeline.verify(made.url, recompute=100).faults == ()
    # the same command again goes on with what it made
    before = pairs.files(made.folder)
    pipeline.complete(pipeline.prepare(config, overwrite=old))
    assert pairs.files(made.folder) == before


def test_a_run_that_overwrote_and_was_killed_goes_on(made, monkeypatch):
    old, config = plan_id(made.url), another(made)
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(Killed):
            pipeline.complete(pipeline.prepare(config, overwrite=old))
    before = {path: path.stat().st_mtime_ns for path in files_of(made.url)}
    rows = journal.rows(made.url, plan_id(made.url))
    assert len(rows) == 3
    pipeline.complete(pipeline.prepare(config, overwrite=old))
    after = {path: path.stat().st_mtime_ns for path in before}
    assert sum(after[path] == before[path] for path in before) == 6  # both maps of what had a row, and nothing else
    assert pipeline.verify(made.url).faults == ()


def test_overwriting_an_output_with_itself_computes_it_once(made):
    before = pairs.files(made.folder / "out")
    old = plan_id(made.url)
    pipeline.complete(pipeline.prepare(made.config, overwrite=old))
    after = pairs.files(made.folder / "out")
    assert after.keys() == before.keys()
    assert pipeline.verify(made.url).faults == ()


@pytest.mark.parametrize("gone", ["nothing", "out", "out.bigncc"])
def test_another_plan_is_not_overwritten(made, gone):
    if gone != "nothing":
        shutil.rmtree(made.folder / gone)
    before = pairs.files(made.folder)
    with pytest.raises(RefusedError, match=r"belongs to plan [0-9a-f]{32} and not to"):
        pipeline.prepare(another(made), overwrite="f" * 32)
    assert pairs.files(made.folder) == before


def test_there_may_be_nothing_to_overwrite(made):
    shutil.rmtree(made.folder / "out")
    shutil.rmtree(made.folder / "out.bigncc")
    assert pipeline.complete(pipeline.prepare(made.config, overwrite="f" * 32)).complete


@pytest.mark.parametrize(
    "place",
    ["out/notes.txt", "out/0/notes.txt", "out/0/c/notes.txt", "out/0/c/0/notes.txt", "out/labels/mine/zarr.json",
     "out/9/c/0/0", "out.bigncc/notes.txt"],
)  # fmt: skip
def test_nothing_is_removed_where_a_file_is_not_ours(made, place):
    path = made.folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("precious")
    before = pairs.files(made.folder)
    with pytest.raises(RefusedError, match=f"{place} was not made by bigncc"):
        pipeline.prepare(another(made), overwrite=plan_id(made.url))
    assert pairs.files(made.folder) == before


def test_nothing_is_removed_for_a_run_that_does_not_fit(made):
    small = made.config.engine.model_copy(update={"memory": 10**8})
    before = pairs.files(made.folder)
    with pytest.raises(DoesNotFitError):
        pipeline.prepare(another(made).model_copy(update={"engine": small}), overwrite=plan_id(made.url))
    assert pairs.files(made.folder) == before


def test_a_removal_that_was_killed_is_taken_up_again(made, monkeypatch):
    old, config = plan_id(made.url), another(made)
    before, unlink = pairs.files(made.folder), Path.unlink
    landed = 0
    for kills in (0, 5, 23, 28, 29, 30, 31):
        calls = []

        def die(self, *rest, calls=calls, kills=kills, **named):
            calls.append(self)
            if len(calls) > kills:
                raise Killed
            return unlink(self, *rest, **named)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", die)
            try:
                pipeline.prepare(config, overwrite=old)
            except Killed:
                landed += 1
                assert len(pairs.files(made.folder)) == len(before) - kills
                # as long as there is anything, it says whose it is
                assert plan_id(made.url) == old
        pipeline.prepare(config, overwrite=old)
        assert files_of(made.url) == []
        assert journal.read_plan(made.url)["replaces"] == old
        shutil.rmtree(made.folder / "out")
        shutil.rmtree(made.folder / "out.bigncc")
        for name, data in before.items():
            (made.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (made.folder / name).write_bytes(data)
    assert landed >= 6
