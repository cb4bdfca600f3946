"""What a line of the journal says of a tile, and where it is.

A line is ``CHECKSUM PLAN TILE STATE COUNTS BODY``: the head has fixed fields, so that progress can be read without
parsing bodies, and the checksum makes a torn line one that is not there.
"""

import json
import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bigncc import discoveries, store, summary
from bigncc.discoveries import NO_PIXELS, PValues
from bigncc.documents import UNREADABLE
from bigncc.errors import InputError
from bigncc.summary import STATUS, Items, Summary, packed_items


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


Place = tuple[str, int] | bytes
"""Where a line is, its file and the offset there; in an object store, where each costs a request, the line itself."""


@dataclass(frozen=True, eq=False)
class Rows(Mapping[int, Row]):
    """The row of each finished tile, by the order of the tiles, each read when it is asked for.

    A million rows would take gigabytes; where they are takes some hundred bytes each.

    Parameters
    ----------
    plan_id : str
        Of the plan that they belong to.
    places : dict
        Of the line that holds, by tile.
    """

    plan_id: str
    places: dict[int, Place]

    def __getitem__(self, tile: int) -> Row:
        place = self.places[tile]
        if not isinstance(place, bytes):
            path, offset = place
            with Path(path).open("rb") as file:
                file.seek(offset)
                place = file.readline()
        fields = fields_of(place, self.plan_id)
        row = None if fields is None else row_of(tile, fields)
        if row is None:
            message = f"the row of tile {tile} has changed meanwhile: a journal that only bigncc writes to is accepted"
            raise InputError(message)
        return row

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.places))

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, tile: object) -> bool:
        return tile in self.places

    def of(self, tiles: Container[int]) -> "Rows":
        """Return the rows of those of `tiles` that have one."""
        return Rows(self.plan_id, {tile: place for tile, place in self.places.items() if tile in tiles})


def line_of(row: Row, plan_id: str) -> bytes:
    """Return the line that says what became of a tile of a plan."""
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
    text = f"{plan_id[:16]} {row.tile} done {counts} {json.dumps(body, separators=(',', ':'))}"
    return f"{_checksum(text.encode())} {text}\n".encode()


def fields_of(line: bytes, plan_id: str) -> list[bytes] | None:
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


def row_of(tile: int, fields: list[bytes]) -> Row | None:
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


def _checksum(text: bytes) -> str:
    return store.digest([text])[:16]
