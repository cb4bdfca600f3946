"""What has been done, by content: plan.json, the journal of tiles, and COMPLETE.json, beside the output.

A line of the journal is ``CHECKSUM PLAN TILE STATE COUNTS BODY``: the head has fixed fields, so that progress can be
read without parsing bodies, and the checksum makes a torn line one that is not there. Each process writes a file of
its own, and where two lines say something of the same tile, that of the file begun later holds. In an object store,
where nothing can be appended to, each line is an object of its own.
"""

import json
import math
import os
import re
import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any

from bigncc import account, discoveries, documents, remote, store, summary
from bigncc.discoveries import NO_PIXELS, PValues
from bigncc.documents import UNREADABLE
from bigncc.errors import InputError, RefusedError
from bigncc.summary import STATUS, Items, Summary, packed_items

_OURS = re.compile(
    r"plan\.json|COMPLETE\.json|journal/[0-9]+-[0-9a-f]{32}(-[0-9]+)?\.jsonl|quarantine/[0-9]+\.json|probe-[0-9a-f]{32}"
)

PLAN = {"plan_id", "kernel", "pivots", "tiles", "request", "layout", "config", "headline", "registration", "versions"}
"""What a plan says."""


@dataclass(frozen=True)
class Row:
    """One finished tile: its summary and, per output array, bytes and digest of its objects in order.

    `saw` has the fingerprint of each stored object of the inputs that the process had read since its row before, for
    the first time. `items` has the summary of each of its batch items, by place in the output, if there are several;
    `shift` has the statistics of a tile of nodes, `pvalues` counts those of a map of them. `seconds` are those that it
    took, which may be others the next time: they are no part of what a tile is.
    """

    tile: int
    summary: Summary
    sizes: dict[str, int]
    digests: dict[str, str]
    saw: dict[str, dict[str, str]] = field(default_factory=dict)
    items: Items = field(default_factory=dict)
    shift: dict[str, Any] | None = None
    pvalues: PValues = NO_PIXELS
    seconds: float | None = field(default=None, compare=False)


def directory(url: str) -> str:
    """Return where the plan and the journal of the output at `url` are: beside it, not inside."""
    return f"{store.absolute(url)}.bigncc"


def plain(document: Any) -> Any:
    """Return a document of what JSON has: lists for tuples, words for NaN and the infinities."""
    if isinstance(document, dict):
        return {str(key): plain(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [plain(value) for value in document]
    return str(document) if isinstance(document, float) and not math.isfinite(document) else document


def canonical(document: Any) -> bytes:
    """Return the one JSON text of a document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def read_plan(url: str) -> dict[str, Any] | None:
    """Return the plan of the output at `url`, or None where none was made; InputError if it is damaged."""
    path = f"{directory(url)}/plan.json"
    document = _read_document(path, PLAN)
    if document is not None:
        document.pop("write", None)
    if document is not None and document.pop("digest", None) != store.digest([canonical(document)]):
        raise _damaged(path)
    if document is not None and not account.is_of_plan(document):
        raise _damaged(path)
    return document


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with a checksum of what else it says."""
    rest = {key: value for key, value in document.items() if key != "checksum"}
    return {**rest, "checksum": store.digest([canonical(json.loads(json.dumps(rest)))])}


def settle_plan(url: str, document: dict[str, Any]) -> dict[str, Any]:
    """Write the plan unless there is one, and return the one that holds."""
    path = f"{directory(url)}/plan.json"
    document = json.loads(json.dumps(document))  # as the next one will read it
    proven = {**document, "digest": store.digest([canonical(document)])}
    if not store.is_local(path):
        proven["write"] = uuid.uuid4().hex  # what a request that is repeated may find there, it knows to be its own
    if store.put_if_absent(path, json.dumps(proven, indent=1).encode()):
        return document
    standing = read_plan(url)
    assert standing is not None  # a plan is linked into place whole and never removed by us
    return standing


def read_complete(url: str) -> dict[str, Any] | None:
    """Return what was recorded when the output at `url` was completed, or None; InputError if it is damaged."""
    path = f"{directory(url)}/COMPLETE.json"
    document = _read_document(path, {"plan_id"})
    if document is not None and document != sealed(document):
        raise _damaged(path)
    return document and {key: value for key, value in document.items() if key != "checksum"}


def write_complete(url: str, document: dict[str, Any]) -> None:
    """Record that every tile is done."""
    store.put(f"{directory(url)}/COMPLETE.json", json.dumps(sealed(document), indent=1).encode())


def withdraw_complete(url: str) -> None:
    """Forget that every tile is done."""
    store.remove(f"{directory(url)}/COMPLETE.json")


def check_vacant(url: str) -> None:
    """Raise InputError if beside an output of which there is no plan none can be settled."""
    if not store.is_local(directory(url)):
        remote.check_conditions(directory(url))


def remove(url: str) -> None:
    """Remove plan and journal; `check_removable` was called."""
    # the plan last: as long as it is there, it says what is being removed
    store.clear(directory(url), "plan.json")


def check_removable(url: str) -> None:
    """Raise RefusedError if anything but plan and journal lies beside an output."""
    folder = directory(url)
    for name in store.names(folder):
        if not (_OURS.fullmatch(name) or store.PARTIAL.fullmatch(name)):
            message = f"{folder}/{name} was not made by bigncc: a journal with nothing else beside it is accepted"
            raise RefusedError(message)


@contextmanager
def writer(url: str, plan_id: str) -> Iterator["Writer"]:
    """Open a journal file of one's own for the time of the context."""
    folder = f"{directory(url)}/journal"
    if not store.is_local(folder):
        yield Writer(_Segments(f"{folder}/{_next(store.names(folder))}", count()), plan_id)
        return
    with store.explained(folder, midway=True):
        Path(folder).mkdir(parents=True, exist_ok=True)
        path = Path(folder, f"{_next(entry.name for entry in Path(folder).iterdir())}.jsonl")
        file = path.open("xb", buffering=0)
    try:
        with file:
            store.sync(path.parent)
            yield Writer(file, plan_id)
    finally:
        if not path.stat().st_size:
            path.unlink()


def _next(names: Iterable[str]) -> str:
    """Return the name of a writer that is begun after those of the files of these names."""
    numbers = (int(name.partition("-")[0]) for name in names if "-" in name and name.endswith(".jsonl"))
    return f"{1 + max(numbers, default=0):06d}-{uuid.uuid4().hex}"


@dataclass(frozen=True)
class _Segments:
    """Objects of a writer, in their order by their names."""

    stem: str
    numbers: Iterator[int]

    def put(self, line: bytes) -> None:
        store.put(f"{self.stem}-{next(self.numbers):09d}.jsonl", line)


@dataclass(frozen=True)
class Writer:
    """An open journal file."""

    file: FileIO | _Segments
    plan_id: str

    def append(self, row: Row) -> None:
        """Record a tile; it is on disk when this returns."""
        body: dict[str, Any] = {
            "summary": row.summary.to_dict(),
            "sizes": row.sizes,
            "digests": row.digests,
            "saw": row.saw,
        }
        body |= {"items": packed_items(row.items)} if row.items else {}
        body |= {"pvalues": row.pvalues.packed()} if row.pvalues.counts else {}
        body |= {} if row.shift is None else {"shift": row.shift}
        body |= {} if row.seconds is None else {"seconds": round(row.seconds, 3)}
        counts = ",".join(map(str, row.summary.counts))
        text = f"{self.plan_id[:16]} {row.tile} done {counts} {json.dumps(body, separators=(',', ':'))}"
        line, file = f"{_checksum(text.encode())} {text}\n".encode(), self.file
        if isinstance(file, _Segments):
            return file.put(line)
        start = file.tell()

        def once() -> None:
            file.seek(start)  # over what an attempt before may have left
            rest = memoryview(line)
            while rest:  # a disk that fills up takes a part of it
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())

        place = f"the journal of tile {row.tile}"
        with store.explained(place, midway=True):
            return store.patiently(once, f"{place} cannot be written")


def progress(url: str, plan_id: str) -> tuple[int, tuple[int, ...]]:
    """Return how many tiles are finished and their counts per status, without parsing bodies."""
    seen: set[int] = set()
    total = [0] * len(STATUS)
    for fields in _lines(url, plan_id):
        tile = int(fields[2])
        if tile not in seen:  # a tile that was computed again has the counts that it had
            seen.add(tile)
            for code, n in enumerate(fields[4].split(b",")):
                if n != b"0":
                    total[code] += int(n)
    return len(seen), tuple(total)


def following(url: str, plan_id: str) -> Callable[[], set[int]]:
    """Return a function that says which tiles are finished; it reads only what is new since it was last called."""
    folder, found = f"{directory(url)}/journal", set[int]()
    read: dict[str, int] = {}

    def look() -> set[int]:
        for text in _news(folder, read):
            if (fields := _fields(text, plan_id)) is not None:
                found.add(int(fields[2]))
        return found

    return look


def _news(folder: str, read: dict[str, int]) -> Iterator[bytes]:
    """Yield lines that are not read yet; `read` has how far each file is."""
    if not store.is_local(folder):
        new = [name for name in store.names(folder) if name.endswith(".jsonl") and name not in read]
        read.update(dict.fromkeys(new, 0))
        yield from filter(None, store.get_all(f"{folder}/{name}" for name in new))
        return
    for path in Path(folder).glob("*.jsonl"):
        # what is removed meanwhile was empty
        with suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(read.get(path.name, 0))
            for line in file:
                if line.endswith(b"\n"):  # or it is being written
                    read[path.name] = read.get(path.name, 0) + len(line)
                    yield line


def rows(url: str, plan_id: str, tiles: Container[int] | None = None) -> dict[int, Row]:
    """Return the row of each finished tile, or of those of `tiles`."""
    found: dict[int, Row] = {}
    for fields in _lines(url, plan_id):
        tile = int(fields[2])
        if (tiles is None or tile in tiles) and (row := _row(tile, fields)) is not None:
            found[tile] = row
    return found


def _row(tile: int, fields: list[bytes]) -> Row | None:
    """Return what a line says, or None if it is none that this version writes: then the tile is computed again."""
    try:
        body = json.loads(fields[5])
        body["summary"] = summary.from_dict(body["summary"])
        body["items"] = summary.unpacked_items(body.get("items", []))
        body["pvalues"] = discoveries.unpacked(body.get("pvalues", []))
        row = Row(tile, **body)
        words = [*row.digests.values(), *(word for seen in row.saw.values() for word in seen.values())]
        told = row.shift or {"bins": []}
        numbers = [*row.sizes.values(), *(n for key, n in told.items() if key != "bins")]
        numbers += [n for a_bin in told["bins"] for n in a_bin]
        timed = row.seconds is None or (type(row.seconds) in (int, float) and 0 <= row.seconds < math.inf)
    except UNREADABLE:
        return None
    right = (
        timed and set(map(type, words)) <= {str} and set(map(type, numbers)) <= {int} and min(numbers, default=0) >= 0
    )
    return row if right and row.summary.counts == tuple(map(int, fields[4].split(b","))) else None


def costs(url: str, plan_id: str) -> dict[int, tuple[int, float | None]]:
    """Return the stored bytes of each finished tile, and the seconds that it took, if its row says so."""
    every = (_row(int(fields[2]), fields) for fields in _lines(url, plan_id))
    return {row.tile: (sum(row.sizes.values()), row.seconds) for row in every if row is not None}


def fingerprints(url: str, plan_id: str) -> Iterator[tuple[str, str, str]]:
    """Yield input, key and fingerprint of what was read for the rows, as often as they say so."""
    for fields in _lines(url, plan_id):
        row = _row(int(fields[2]), fields)
        for name, seen in row.saw.items() if row is not None else ():
            for key, found in seen.items():
                yield name, key, found


def _lines(url: str, plan_id: str) -> Iterator[list[bytes]]:
    """Yield the fields of each whole line that belongs to the plan."""
    for line in _texts(f"{directory(url)}/journal"):
        if (fields := _fields(line, plan_id)) is not None:
            yield fields


def _fields(line: bytes, plan_id: str) -> list[bytes] | None:
    """Return the fields of a line, or None if it is not whole or belongs to another plan."""
    check, _, text = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or check != _checksum(text).encode():
        return None
    fields = [check, *text.split(b" ", 4)]
    if len(fields) < 6 or fields[1] != plan_id[:16].encode():
        return None
    counts = fields[4].split(b",")
    # another version may write other lines
    numbers = len(counts) == len(STATUS) and all(n.isdigit() and len(n) < 20 for n in (fields[2], *counts))
    return fields if numbers else None


def _texts(folder: str) -> Iterator[bytes]:
    if store.is_local(folder):
        for path in sorted(Path(folder).glob("*.jsonl")):
            with path.open("rb") as file:
                # a line of a stranger may have no end
                yield from iter(partial(file.readline, documents.LARGEST), b"")
    else:
        segments = (f"{folder}/{name}" for name in store.names(folder) if name.endswith(".jsonl"))
        yield from filter(None, store.get_all(segments))


def _checksum(text: bytes) -> str:
    return store.digest([text])[:16]


def quarantine(url: str, tile: int, reason: str) -> None:
    """Record that a tile could not be computed, and why."""
    store.put(_quarantine_file(url, tile), json.dumps({"tile": tile, "reason": reason}).encode())


def release(url: str, tile: int) -> None:
    """Forget that a tile could not be computed, if that was recorded."""
    store.remove(_quarantine_file(url, tile))


def quarantined(url: str) -> dict[int, str]:
    """Return why tiles could not be computed."""
    folder = f"{directory(url)}/quarantine"
    reasons: dict[int, str] = {}
    for path in (f"{folder}/{name}" for name in store.names(folder) if name.endswith(".json")):
        if (document := _read_document(path, {"tile", "reason"})) is not None:
            tile, reason = document["tile"], document["reason"]
            if (path, str) != (_quarantine_file(url, tile), type(reason)):
                raise _damaged(path)
            reasons[tile] = reason
    return reasons


def _quarantine_file(url: str, tile: int) -> str:
    return f"{directory(url)}/quarantine/{tile}.json"


def _read_document(path: str, keys: set[str]) -> dict[str, Any] | None:
    data = store.get(path, documents.LARGEST)
    if data is None:
        return None
    try:
        document = documents.document(data, path)
    except InputError:
        document = None
    if not isinstance(document, dict) or not keys <= document.keys():
        raise _damaged(path)
    return document


def _damaged(path: str) -> InputError:
    return InputError(f"{path} is damaged: a file as bigncc wrote it is accepted")
