"""What has been done, by content: plan.json, the journal of tiles, and COMPLETE.json, beside the output.

A line of the journal says what became of a tile. Each process writes a file of its own, and where two lines say
something of the same tile, that of the file begun later holds. In an object store, where nothing can be appended to,
each line is an object of its own.
"""

import json
import math
import os
import re
import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any

from bigncc import account, documents, ledger, remote, store
from bigncc.errors import InputError, RefusedError
from bigncc.ledger import Place, Row, Rows
from bigncc.summary import STATUS

_OURS = re.compile(
    r"plan\.json|COMPLETE\.json|journal/[0-9]+-[0-9a-f]{32}(-[0-9]+)?\.jsonl|quarantine/[0-9]+\.json|probe-[0-9a-f]{32}"
)

PLAN = {"plan_id", "kernel", "pivots", "tiles", "request", "layout", "config", "headline", "registration", "versions"}
"""What a plan says."""


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
        line, file = ledger.line_of(row, self.plan_id), self.file
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
    for _, fields in _lines(url, plan_id):
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
            if (fields := ledger.fields_of(text, plan_id)) is not None:
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


def rows(url: str, plan_id: str, tiles: Container[int] | None = None) -> Rows:
    """Return the row of each finished tile, or of those of `tiles`."""
    found: dict[int, Place] = {}
    for place, fields in _lines(url, plan_id):
        tile = int(fields[2])
        if (tiles is None or tile in tiles) and ledger.row_of(tile, fields) is not None:
            found[tile] = place
    return Rows(plan_id, found)


def costs(url: str, plan_id: str) -> dict[int, tuple[int, float | None]]:
    """Return the stored bytes of each finished tile, and the seconds that it took, if its row says so."""
    every = (ledger.row_of(int(fields[2]), fields) for _, fields in _lines(url, plan_id))
    return {row.tile: (sum(row.sizes.values()), row.seconds) for row in every if row is not None}


def fingerprints(url: str, plan_id: str) -> Iterator[tuple[str, str, str]]:
    """Yield input, key and fingerprint of what was read for the rows, as often as they say so."""
    for _, fields in _lines(url, plan_id):
        row = ledger.row_of(int(fields[2]), fields)
        for name, seen in row.saw.items() if row is not None else ():
            for key, found in seen.items():
                yield name, key, found


def _lines(url: str, plan_id: str) -> Iterator[tuple[Place, list[bytes]]]:
    """Yield place and fields of each whole line that belongs to the plan."""
    for place, line in _texts(f"{directory(url)}/journal"):
        if (fields := ledger.fields_of(line, plan_id)) is not None:
            yield place, fields


def _texts(folder: str) -> Iterator[tuple[Place, bytes]]:
    if not store.is_local(folder):
        segments = (f"{folder}/{name}" for name in store.names(folder) if name.endswith(".jsonl"))
        for line in filter(None, store.get_all(segments)):
            yield line, line
        return
    for path in sorted(Path(folder).glob("*.jsonl")):
        offset = 0
        with path.open("rb") as file:
            # a line of a stranger may have no end
            while line := file.readline(documents.LARGEST):
                yield (str(path), offset), line
                offset += len(line)


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
