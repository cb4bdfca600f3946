"""What reads something that a person or another program may have changed, as functions of some bytes.

Each may raise a `BignccError`, in one sentence, and nothing else; an AssertionError says that something wrong was
taken for right. The seeds are what a real run has left on disk.
"""

import atexit
import contextlib
import csv
import functools
import io
import itertools
import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml

from bigncc import (
    config,
    decision,
    discoveries,
    inputs,
    journal,
    ledger,
    metadata,
    notation,
    pipeline,
    remote,
    store,
    table,
    transform,
    typed,
)
from bigncc.errors import BignccError, InputError
from tests import pairs, strategies
from tests.fuzzing.mutations import of_bytes, of_document

CODES = {2, 3, 4, 5, 75}
"""What a refusal may exit with."""


@dataclass(frozen=True)
class Ground:
    """A folder with a small pair, what a run of it left, and a spare place for changed copies of that."""

    folder: Path
    plan: dict[str, Any]
    rows: dict[int, ledger.Row]

    @property
    def url(self) -> str:
        return str(self.folder / "out")

    @property
    def spare(self) -> str:
        return str(self.folder / "spare")

    def kept(self, name: str) -> bytes:
        """Return a file beside the output."""
        return Path(journal.directory(self.url), name).read_bytes()

    def put(self, name: str, data: bytes) -> Path:
        """Write a file beside the spare output."""
        path = Path(journal.directory(self.spare), name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path


@dataclass(frozen=True)
class Parser:
    """One way in.

    Parameters
    ----------
    read : callable
        Reads some bytes.
    seeds : callable
        Returns what it reads without complaint.
    change : callable
        Returns one of these changed.
    rooms : tuple of str
        Whose lines it is to reach.
    """

    read: Callable[[Ground, bytes], object]
    seeds: Callable[[Ground], list[bytes]]
    change: Callable[[bytes, Random], bytes]
    rooms: tuple[str, ...]


def job(folder: Path, output: str = "out") -> config.Config:
    """Return the config of a run with batches, nodes and p-values, so that every kind of row is there."""
    given = {"model": None, "transform": str(folder / "t.json"), "trust_field": True}
    further = {"maps": ["ncc", "shift", "pvalue"], "shift": {"step": 8, "search_radius": 2}, "window": {"size": 5}}
    place = folder / output
    return pairs.job(str(folder / "a.zarr"), str(folder / "b.zarr"), place, {"registration": given, **further})


@functools.cache
def ground() -> Ground:
    """Make the folder, once per process."""
    folder = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "t.json").write_text('{"kind": "translation", "offset": [1, -2]}')
    for name, seed in (("a", 1), ("b", 2)):
        pairs.store(folder / f"{name}.zarr", strategies.image(seed, (2, 40, 50), "uint8", "noise"), (1, 40, 50), "zyx")
    made = job(folder)
    pipeline.run(made)
    plan = journal.read_plan(made.output.url)
    assert plan is not None
    return Ground(folder, plan, journal.rows(made.output.url, plan["plan_id"]))


def answered(parser: Parser, data: bytes) -> BignccError | None:
    """Return the refusal of some bytes, checked as one, or None if they were taken."""
    refusal = None
    try:
        parser.read(ground(), data)
    except BignccError as error:
        refusal = error
    if refusal is not None:
        assert refusal.exit_code in CODES, f"{type(refusal).__name__} exits with {refusal.exit_code}"
        assert str(refusal).strip(), f"{type(refusal).__name__} says nothing"
        assert "\n" not in str(refusal), f"{type(refusal).__name__} says several lines: {refusal}"
    return refusal


# --- what lies beside an output ---------------------------------------------------------------------------------------


def _read_plan(here: Ground, data: bytes) -> None:
    here.put("plan.json", data)
    standing = journal.read_plan(here.spare)
    assert standing is not None
    if standing == here.plan:
        return
    # somebody who can write the digest can write the rest: it must be readable, and not the plan that it was
    grid, layout = decision.stored_grid(standing), decision.stored_layout(standing)
    for index in {0, len(grid) // 2, len(grid) - 1}:
        assert grid[index].index == index
    assert layout.metadata
    decision.attributes_of(standing, None)
    pipeline.status(here.spare)


def sealed(data: bytes) -> bytes:
    """Return a changed plan with the digest that it ought to have."""
    document = json.loads(data)
    if not isinstance(document, dict):
        return data
    rest = {name: value for name, value in document.items() if name not in ("digest", "write")}
    return json.dumps({**rest, "digest": store.digest([journal.canonical(rest)])}).encode()


def _change_plan(data: bytes, dice: Random) -> bytes:
    if dice.random() < 0.4:
        return of_bytes(data, dice)
    try:
        changed = json.dumps(of_document(json.loads(data), dice)).encode()
        return sealed(changed) if dice.random() < 0.8 else changed
    except (ValueError, RecursionError):
        return of_bytes(data, dice)


def _change_attributes(data: bytes, dice: Random) -> bytes:
    changed = _change_json(data, dice)
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(changed)
        if isinstance(document, dict) and dice.random() < 0.8:
            return json.dumps(journal.sealed(document)).encode()
    return changed


def _change_json(data: bytes, dice: Random) -> bytes:
    if dice.random() < 0.3:
        return of_bytes(data, dice)
    try:
        return json.dumps(of_document(json.loads(data), dice)).encode()
    except (ValueError, RecursionError):
        return of_bytes(data, dice)


def _read_journal(here: Ground, data: bytes) -> None:
    here.put(f"journal/000001-{'0' * 32}.jsonl", data)
    plan_id = here.plan["plan_id"]
    rows = journal.rows(here.spare, plan_id)
    done, counts = journal.progress(here.spare, plan_id)
    assert done >= len(rows)
    assert min(counts) >= 0
    assert journal.following(here.spare, plan_id)() >= rows.keys()
    assert all(isinstance(word, str) for seen in journal.fingerprints(here.spare, plan_id) for word in seen)
    genuine = set(_lines(here).splitlines(keepends=True))
    forged = set(data.splitlines(keepends=True)) - genuine
    for index, row in rows.items():
        if not any(_sealed_line(line) for line in forged):
            assert row == here.rows[index], f"tile {index} has another row"
        assert len(row.summary.counts) == 9
        assert sum(row.summary.histogram) >= 0
        assert all(isinstance(text, str) for text in row.digests.values())
        assert sum(row.sizes.values()) >= 0
        discoveries.merged([row.pvalues, row.pvalues])


def _lines(here: Ground) -> bytes:
    """Return what all writers have written, in their order."""
    return b"".join(path.read_bytes() for path in sorted(Path(journal.directory(here.url), "journal").iterdir()))


def _sealed_line(line: bytes) -> bool:
    check, _, text = line.removesuffix(b"\n").partition(b" ")
    return check == store.digest([text])[:16].encode()


def _change_journal(data: bytes, dice: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if not lines or dice.random() < 0.3:
        return of_bytes(data, dice)
    place = dice.randrange(len(lines))
    fields = lines[place].removesuffix(b"\n").split(b" ", 5)
    if len(fields) < 6:
        return of_bytes(data, dice)
    if dice.random() < 0.7:
        try:
            fields[5] = json.dumps(of_document(json.loads(fields[5]), dice), separators=(",", ":")).encode()
        except (ValueError, RecursionError):
            fields[5] = of_bytes(fields[5], dice)
    else:
        which = dice.randrange(1, 5)
        fields[which] = of_bytes(fields[which], dice)
    text = b" ".join(fields[1:]).replace(b"\n", b"")
    lines[place] = store.digest([text])[:16].encode() + b" " + text + b"\n"
    return b"".join(lines)


def _read_complete(here: Ground, data: bytes) -> None:
    here.put("plan.json", here.kept("plan.json"))
    here.put("COMPLETE.json", data)
    try:
        found = pipeline.status(here.spare)
        # there is no output here
        assert found["state"] == "in-progress"
        json.dumps(found)
        assert journal.read_complete(here.spare) == journal.read_complete(here.url), "another record was believed"
    finally:
        Path(journal.directory(here.spare), "COMPLETE.json").unlink()


def _read_quarantine(here: Ground, data: bytes) -> None:
    here.put("plan.json", here.kept("plan.json"))
    path = here.put("quarantine/0.json", data)
    try:
        found = pipeline.status(here.spare)
        json.dumps(found)
        assert set(found["quarantined"]) == {"0"}
        assert "tile 0 failed twice" in _incomplete(here.spare)
    finally:
        path.unlink()


def _incomplete(url: str) -> str:
    from bigncc import proof

    return proof.incomplete(url)


def _read_attributes(here: Ground, data: bytes) -> None:
    """Read what an output says of itself, without its journal."""
    from bigncc.output import open_output
    from bigncc.picture import panel, tabulate
    from bigncc.result import open_result

    place = here.folder / "alone"
    if not place.exists():
        shutil.copytree(here.url, place)
    document = json.loads(Path(here.url, "zarr.json").read_bytes())
    try:
        own = json.loads(data)
        if not isinstance(own, dict) or "checksum" not in own:
            return  # an older output, which is believed
        text = json.dumps({**document, "attributes": {**document["attributes"], "bigncc": own}})
    except (ValueError, RecursionError):
        return
    (place / "zarr.json").write_text(text)
    problems = []
    for verb in (pipeline.status, open_output, open_result, tabulate, panel):
        try:
            verb(str(place))
        except BignccError as error:
            problems.append(error)
    if problems:
        raise problems[0]


# --- what people write ------------------------------------------------------------------------------------------------

URLS: dict[str, Any] = {"reference": {"url": "a"}, "moving": {"url": "b"}, "output": {"url": "c"}}


def _checked(found: config.Config) -> None:
    """Assert that a config means the same when it is read back."""
    said = found.model_dump(mode="json")
    again = config.load([json.loads(json.dumps(said))])
    assert json.dumps(again.model_dump(mode="json")) == json.dumps(said)
    for check in (found.window.window, found.prefilter.prefilter, found.ssim.ssim):
        with contextlib.suppress(InputError):
            check()


def _read_yaml(here: Ground, data: bytes) -> None:
    path = here.put("job.yaml", data)
    _checked(config.load([URLS, str(path)]))


def _yaml_seeds(here: Ground) -> list[bytes]:
    folder = Path(__file__).parents[2] / "configs"
    files = [path.read_bytes() for path in sorted(folder.rglob("*.yaml"))]
    plain = yaml.safe_dump(json.loads(job(here.folder).model_dump_json())).encode()
    return [*files, plain, b"window: {size: 31um}\nreference: {url: a, z: 3:10}\n"]


def _change_yaml(data: bytes, dice: Random) -> bytes:
    if dice.random() < 0.5:
        return of_bytes(data, dice)
    try:
        document = yaml.safe_load(data)
        return yaml.safe_dump(of_document(document, dice), default_flow_style=dice.random() < 0.5).encode()
    except Exception:  # of a document that is odd already
        return of_bytes(data, dice)


def _read_words(_here: Ground, data: bytes) -> None:
    words = data.decode("utf-8", "surrogateescape").split("\n")
    said = [word for word in words if config.is_assignment(word)]
    _checked(config.load([URLS, *said]))


def _word_seeds(_here: Ground) -> list[bytes]:
    words = (
        "window.size=31um", "window.size=[7, 9]", "window.size=[[7,7],[15,15]]", "window.sigma=[1.5, 2um]",
        "output.region=0:9,5:20", "reference.z=3:10", "moving.time=4", "reference.channel=DAPI", "engine.memory=4GB",
        "stack.lags=1,2", "window.flat=.nan", "registration={model: none}", "registration.transform=t.json",
        "cluster={kind: pbs, workers: 1, options: {a: 4:00:00}}", "cluster.array.time=3h50m",
        "cluster.dashboard=127.0.0.1:8787", "maps=[ncc, shift]", "shift.step=[4,8]", "reference.nodata=[0, .nan]",
        "moving.mask={url: m, valid: [1, 2]}", "output.encoding=uint8", "output.keepbits=10",
        "prefilter={kind: laplacian_of_gaussian, sigma: 2}", "report.threshold=-1", "significance.level=0.01",
        "window=5", "window.min_std=[1,2]", "output.url=s3://bucket/x",
    )  # fmt: skip
    return [word.encode() for word in words] + ["\n".join(words[:2]).encode()]


NOTATIONS: dict[str, Callable[[str], Any]] = {
    "bytes": notation.bytes_of,
    "metres": notation.metres_of,
    "extents": notation.extents_of,
    "seconds": notation.seconds_of,
    "time": notation.time_of,
    "dashboard": notation.dashboard_of,
    "line": notation.line_of,
    "lags": notation.lags_of,
    "region": notation.region_of,
    "range": notation.range_of,
    "source": notation.source_of,
    "target": notation.target_of,
    "part": typed.part_of,
    "window": lambda text: typed.wanted(("a", "b", "c"), ("reference", "moving", "output"), window=text, **UNSAID),
    "radius": lambda text: typed.wanted(
        ("a", "b", "c"), ("reference", "moving", "output"), **{**UNSAID, "window": None, "radius": text}
    ),
    "stack": lambda text: typed.wanted(
        ("a", "c"), ("reference", "output"), **{**UNSAID, "window": None, "stack": text}
    ),
}
"""Whatever is written in a way of its own."""

UNSAID: dict[str, Any] = dict.fromkeys(("radius", "region", "missing_chunks", "stack")) | {
    "as_is": False,
    "trust_field": False,
}


def _read_notation(_here: Ground, data: bytes) -> None:
    name, _, text = data.decode("utf-8", "surrogateescape").partition(" ")
    reader = NOTATIONS.get(name)
    if reader is None:
        return
    try:
        found = reader(text)
    except BignccError:
        raise
    except ValueError as error:
        if reader.__module__ != notation.__name__:
            raise
        # what pydantic turns into a sentence of ours
        raise InputError(" ".join(str(error).split())) from None
    _meant(name, text, found)


def _meant(name: str, text: str, found: Any) -> None:
    """Assert that what was read is what was written, where there is another way to tell."""
    if len(text) > 4000:  # numbers of so many digits are none to Python
        return
    digits = [int(part) for part in re.findall("-?[0-9]+" if name == "stack" else "[0-9]+", text)]
    if name == "bytes":
        number, unit = re.findall(r"[0-9.]+|[A-Za-z]+", f"{text} B")[:2]
        assert abs(found - Decimal(number) * notation._UNITS[unit.upper()]) <= 1 + found / 2**52
    elif name == "metres":
        assert math.isfinite(found)
        assert found > 0
    elif name in ("region", "part", "range", "lags", "stack") and not isinstance(found, str):
        there = found[-1]["stack"]["lags"] if name == "stack" else found
        assert [int(number) for number in re.findall("-?[0-9]+", repr(there))] == digits
    elif name == "seconds":
        assert found == sum(
            n * {"h": 3600, "m": 60, "s": 1}[unit] for n, unit in zip(digits, re.sub("[0-9]", "", text), strict=True)
        )


def _change_notation(data: bytes, dice: Random) -> bytes:
    name, _, text = data.partition(b" ")
    return name + b" " + of_bytes(text, dice)


def _notation_seeds(_here: Ground) -> list[bytes]:
    said = {
        "bytes": ("4GB", "512MiB", "1.5 kB", "7"), "metres": ("31um", "0.5 mm", "1e3 nm", "2µm"),
        "extents": ("7", "31um"), "seconds": ("3h50m", "90m", "45s"), "time": ("4h",),
        "dashboard": ("127.0.0.1:8787",), "line": ("--partition=short",), "lags": ("1,2", "3"),
        "region": ("0:10,5:20", "0:1,2:3,4:5"), "range": ("3:10", "4"), "source": ("a/b",),
        "target": ("s3://b/x", "out.zip", "out"), "part": ("0/2", "199/200"),
        "window": ("7", "5,7", "31um,2um", "3,5,7"), "radius": ("3", "1,2"), "stack": ("1,2",),
    }  # fmt: skip
    return [f"{name} {text}".encode() for name, texts in said.items() for text in texts]


def _read_transform(here: Ground, data: bytes) -> None:
    place = here.put("t.json", data)
    found = inputs.given_transform(config.load([URLS, {"registration": {"transform": str(place)}}]))
    assert found is not None
    assert found.ndim in (2, 3)
    document = json.loads(data)
    said = transform.to_dict(found)
    assert said["kind"] == document["kind"]
    for key in ("offset", "matrix"):
        if key in said:
            np.testing.assert_array_equal(np.array(said[key], float), np.array(document[key], float))
    json.dumps(said, allow_nan=False)


def _transform_seeds(_here: Ground) -> list[bytes]:
    field = np.random.default_rng(1).normal(size=(2, 3, 4))
    field[0, 1, 2] = np.nan
    those = (
        transform.Translation((1.25, -3)),
        transform.Translation((0, 1, 2)),
        transform.Affine(((1.01, -0.02), (0.03, 0.98)), (3, -4.5)),
        transform.Affine(((1, 0, 0), (0, 1, 0), (0, 0, 1)), (0, 0, 1)),
        transform.Displacement(field, step=8, origin=(1, 2)),
    )
    return [json.dumps(transform.to_dict(each)).encode() for each in those]


def _read_pairs(here: Ground, data: bytes) -> None:
    path = here.put("pairs.csv", data)
    found = table.configs(str(path), [])
    lines = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")) if any(row)]
    assert len(found) == len(lines) - 1
    assert len({each.output.url for each in found}) == len(found)
    for each, row in zip(found, lines[1:], strict=True):
        cells = dict(zip((name.strip() for name in lines[0]), row, strict=True))
        assert (each.reference.url, each.moving.url) == (cells["reference"].strip(), cells["moving"].strip())


def _pairs_seeds(_here: Ground) -> list[bytes]:
    return [
        b"reference,moving,output\na,b,c\na,d,e\n",
        b"\xef\xbb\xbfreference,moving,output,window.size,registration.model\r\na,b,c,7,none\r\nx,y,z,,\r\n",
        b'reference,moving,output,output.region\n"a,1",b,"s3://b/c","0:9,0:9"\n',
    ]


def _read_address(_here: Ground, data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    place = store.absolute(text)
    assert store.absolute(place) == place, "an absolute place means another one"
    for parent in itertools.islice(store.parents(place), 20):
        assert place.startswith(parent.removesuffix("/"))
    if store.is_local(place):
        store.exists(place)
        if text.startswith("nothing"):  # not the machine's own files
            assert store.get(place) is None
        return
    assert "@" not in place.split("/")[2]
    remote.check_output(place)
    remote.opened(place)


def _address_seeds(_here: Ground) -> list[bytes]:
    return [
        b"a/b.ome.zarr", b"/tmp/nothing", b"nothing/x", b"file:///tmp/a%20b", b"s3://bucket/key/x", b"gs://bucket/k",
        b"az://c/k", b"https://host:80/x/y", b"http://[::1]:9000/x", b"../x", b"S3://bucket//x/", b"s3://bucket",
        b"memory://x", b"zip://a::b",
    ]  # fmt: skip


def _read_ome(_here: Ground, data: bytes) -> None:
    """Read what a group says of its image, with arrays of two shapes below it."""
    group = _group()
    try:
        attributes = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(attributes, dict):
        return
    _said()["attributes"] = attributes
    metadata.described(group(), 0, None)


@functools.cache
def _said() -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": {}}


@functools.cache
def _group() -> Callable[[], Any]:
    """Return a function that opens a group with the attributes that are there now."""
    import zarr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    documents: dict[str, Any] = {}
    root = zarr.create_group(MemoryStore(documents))
    for path, shape in (("0", (8, 6)), ("1", (4, 3)), ("deep/0", (2, 8, 6))):
        root.create_array(path, shape=shape, chunks=shape, dtype="uint8")
    buffer = default_buffer_prototype().buffer

    def opened() -> Any:
        documents["zarr.json"] = buffer.from_bytes(json.dumps(_said()).encode())
        return zarr.open_group(MemoryStore(documents), mode="r", use_consolidated=False)

    return opened


def _ome_seeds(_here: Ground) -> list[bytes]:
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    steps = [[{"type": "scale", "scale": [s, s]}, {"type": "translation", "translation": [0.5, s]}] for s in (1.0, 2.0)]
    datasets = [{"path": str(i), "coordinateTransformations": step} for i, step in enumerate(steps)]
    multiscale = {"name": "x", "axes": axes, "datasets": datasets}
    omero = {"channels": [{"label": "DAPI", "color": "FFFFFF", "window": {"start": 0, "end": 1, "min": 0, "max": 1}}]}
    spaces = [{"name": "physical", "axes": axes}]
    scales = [{"type": "scale", "scale": [s, s], "output": {"name": "physical"}} for s in (1.0, 2.0)]
    sixth = [
        {"path": str(i), "coordinateTransformations": [{**step, "input": {"path": str(i)}}]}
        for i, step in enumerate(scales)
    ]
    plate = {
        "wells": [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}],
        "rows": [{"name": "A"}],
        "columns": [{"name": "1"}],
    }
    documents = (
        {"ome": {"version": "0.5", "multiscales": [multiscale], "omero": omero}},
        {"multiscales": [{**multiscale, "version": "0.4"}], "omero": omero},
        {"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}, {"path": "1"}]}]},
        {"ome": {"version": "0.6", "multiscales": [{"name": "x", "coordinateSystems": spaces, "datasets": sixth}]}},
        {"ome": {"version": "0.5", "plate": plate}},
        {"ome": {"version": "0.5", "labels": ["0", "1"]}},
        {"ome": {"version": "0.5", "bioformats2raw.layout": 3}},
    )
    return [json.dumps(document).encode() for document in documents]


BESIDE = ("journal", "store", "decision", "tiles", "layout")

PARSERS = {
    "plan": Parser(_read_plan, lambda here: [here.kept("plan.json")], _change_plan, BESIDE),
    "journal": Parser(
        _read_journal, lambda here: [_lines(here)], _change_journal, ("journal", "ledger", "summary", "discoveries")
    ),
    "complete": Parser(_read_complete, lambda here: [here.kept("COMPLETE.json")], _change_json, ("journal", "proof")),
    "quarantine": Parser(
        _read_quarantine, lambda _: [b'{"tile": 0, "reason": "ValueError: so"}'], _change_json, ("journal",)
    ),
    "attributes": Parser(
        _read_attributes,
        lambda here: [
            json.dumps(json.loads(Path(here.url, "zarr.json").read_bytes())["attributes"]["bigncc"]).encode()
        ],
        _change_attributes,
        ("output", "result", "sections", "picture"),
    ),
    "yaml": Parser(_read_yaml, _yaml_seeds, _change_yaml, ("config", "machine", "science", "notation")),
    "words": Parser(_read_words, _word_seeds, of_bytes, ("config", "machine", "science", "notation")),
    "notation": Parser(_read_notation, _notation_seeds, _change_notation, ("notation", "typed")),
    "transform": Parser(_read_transform, _transform_seeds, _change_json, ("transform",)),
    "pairs": Parser(_read_pairs, _pairs_seeds, of_bytes, ("table", "config")),
    "address": Parser(_read_address, _address_seeds, of_bytes, ("store", "remote")),
    "ome": Parser(_read_ome, _ome_seeds, _change_json, ("metadata", "coordinates", "conventions")),
}
"""Every parser of ours, by what it reads."""
