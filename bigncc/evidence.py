"""What is stored of a tile, read back, and whether it still is what the tile's row in the journal says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from bigncc import objects, store
from bigncc.discoveries import NO_PIXELS, PValues
from bigncc.layout import map_name
from bigncc.ledger import Row
from bigncc.pyramid import Maps
from bigncc.storage import readable
from bigncc.tiles import Plan, Roi, Shape, Tile, parts, roi_cells, roi_within

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

    from bigncc.output import Output
    from bigncc.summary import Items, Summary

Chunks = dict[str, dict[Shape, "Buffer"]]
"""Chunks as they are to be stored, by the name of a map and their place in its grid of chunks."""


class Evidence(NamedTuple):
    """One stored object: where it is in its array's grid, its size and its digest."""

    place: Shape
    size: int
    digest: str


Found = dict[str, list[Evidence]]
"""What was read back, by the name of a map."""


def encoded(out: Output, level: int, roi: Roi, maps: Maps) -> Chunks:
    """Return the chunks of a region of a level, if it is stored; the region is whole chunks."""
    named = {map_name(name, level): values for name, values in maps.named.items()}
    return {name: objects.encoded(out.maps[name], roi, values) for name, values in named.items() if name in out.maps}


def encoded_nodes(out: Output, roi: Roi, vectors: Any) -> Chunks:
    """Return the chunks of the components of a shift map in a region of whole chunks."""
    named = zip(out.components, vectors, strict=True)
    return {name: objects.encoded(out.maps[name], roi, values) for name, values in named}


def written(out: Output, roi: Roi, chunks: Chunks, *, durable: bool) -> Found:
    """Store a region of whole objects from its chunks, which are taken out; return what was read back."""
    return {name: _written(out, name, roi, those, durable=durable) for name, those in chunks.items()}


def stored(
    out: Output,
    tile: Tile,
    chunks: Chunks,
    levels: Iterable[tuple[int, Roi, Maps]],
    threads: int,
    *,
    durable: bool,
) -> Found:
    """Store a tile, object by object; return what was read back.

    Parameters
    ----------
    out : Output
        Where.
    tile : Tile
        Which.
    chunks : dict
        Those of the finest level, where they have waited for the rest of an object; they are taken out.
    levels : iterable
        Number, region and maps of levels, whether stored or not.
    threads : int
        Objects to encode and write at once.
    durable : bool
        As for `objects.write`.
    """
    found: dict[str, Any] = {}
    own = dict(tile.levels)

    def put(name: str, values: Any, whole: Roi, roi: Roi) -> list[Evidence]:
        those = objects.encoded(out.maps[name], roi, values[roi_within(roi, whole)])
        return _written(out, name, roi, those, durable=durable)

    with ThreadPoolExecutor(threads) as pool:
        for name, those in chunks.items():
            each = partial(_written, out, name, chunks=those, durable=durable)
            found[name] = pool.map(each, parts(tile.write, _extent(out, name)))
        for level, roi, maps in levels:  # the next one is made meanwhile
            for name, values in maps.named.items() if level in own else ():
                name = map_name(name, level)
                found[name] = pool.map(partial(put, name, values, roi), parts(roi, _extent(out, name)))
        return {name: list(chain.from_iterable(each_object)) for name, each_object in found.items()}


def row(
    tile: Tile,
    summary: Summary,
    found: Found,
    items: Items | None = None,
    shift: dict[str, Any] | None = None,
    pvalues: PValues = NO_PIXELS,
) -> Row:
    """Return the journal's row of a tile that is stored; `shift` has the statistics of one of nodes."""
    sizes = {name: sum(e.size for e in evidence) for name, evidence in found.items()}
    digests = {name: _digest(evidence) for name, evidence in found.items()}
    return Row(tile.index, summary, sizes, digests, items=items or {}, shift=shift, pvalues=pvalues)


def matching(out: Output, plan: Plan, rows: Mapping[int, Row], tiles: Iterable[int], threads: int) -> set[int]:
    """Return those of some tiles whose rows say what is stored; without a row it is none."""
    with ThreadPoolExecutor(threads) as pool:
        right = pool.map(lambda index: matches(out, plan[index], rows[index]), there := [i for i in tiles if i in rows])
        return {index for index, fine in zip(there, right, strict=True) if fine}


def matches(out: Output, tile: Tile, row: Row) -> bool:
    """Say whether the stored objects of a tile are those that its row was written for."""
    return not faults(out, tile, row)


def faults(out: Output, tile: Tile, row: Row | None, level: int | None = None) -> list[str]:
    """Return a sentence for everything of a tile that is not what its row says; each object is read once.

    `level` is the one level to look at; by default all of the tile's.
    """
    if row is None:
        return [f"tile {tile.index} has no row in the journal"]
    found = []
    pixels = [(map_name(m, k), roi) for k, roi in tile.levels if level in (None, k) for m in out.names]
    for name, roi in [(m, tile.write) for m in out.components] if tile.nodes else pixels:
        array = out.maps[name]
        wrong, evidence = [], []
        for index, (place, data, fault) in zip(_cells(out, name, roi), objects.examined(array, roi), strict=True):
            wrong += [f"{place} {fault}"] if fault else []
            evidence.append(Evidence(index, len(data), store.digest([data])))
        if not wrong and _digest(evidence) != row.digests.get(name):
            first, *rest = objects.places(array, roi)
            which = f"one of {first} to {rest[-1]}" if rest else first
            wrong.append(f"{which} is not what was written there")
        found += wrong
    return found


def unlike(out: Output, level: int, roi: Roi, maps: Maps) -> dict[str, int]:
    """Return how many pixels of each map of a level are not stored so, to the bit."""
    return {
        (name := map_name(each, level)): _differing(out, name, roi, computed) for each, computed in maps.named.items()
    }


def unlike_nodes(out: Output, vectors: Any, roi: Roi) -> dict[str, int]:
    """Return how many nodes of each component of a shift map are not stored so, to the bit."""
    return {name: _differing(out, name, roi, each) for name, each in zip(out.components, vectors, strict=True)}


def _differing(out: Output, name: str, roi: Roi, computed: Any) -> int:
    bits = f"u{computed.itemsize}"
    return int((computed.view(bits) != readable(out.maps[name])[roi].view(bits)).sum())


def _written(out: Output, name: str, roi: Roi, chunks: dict[Shape, Buffer], *, durable: bool) -> list[Evidence]:
    found = objects.write(out.maps[name], roi, chunks, durable=durable)
    return [Evidence(index, *each) for index, each in zip(_cells(out, name, roi), found, strict=True)]


def _extent(out: Output, name: str) -> Shape:
    array = out.maps[name]
    extent: Shape = array.shards or array.chunks
    return extent


def _cells(out: Output, name: str, roi: Roi) -> Iterator[Shape]:
    return roi_cells(roi, _extent(out, name))


def _digest(evidence: Iterable[Evidence]) -> str:
    """Return the digest of objects in their order, in whatever order they were computed."""
    return store.digest(e.digest.encode() for e in sorted(evidence))
