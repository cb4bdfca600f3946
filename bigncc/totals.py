"""What tiles are together, however many there are: rows are added up as they are read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from bigncc import store
from bigncc.discoveries import NO_PIXELS, PValues
from bigncc.discoveries import merged as merged_pvalues
from bigncc.journal import canonical
from bigncc.ledger import Row
from bigncc.shift import Lengths, lengths_of, merged
from bigncc.summary import Items, Summary, merge, merge_items


@dataclass(frozen=True)
class Sums:
    """What some tiles are together: their number, the statistics of all pixels, and a digest of what is stored."""

    tiles: int = 0
    summary: Summary = field(default_factory=Summary)
    items: Items = field(default_factory=dict)
    pvalues: PValues = NO_PIXELS
    shift: Lengths | None = None
    digest: str = ""


def sums_of(rows: Iterable[Row]) -> Sums:
    """Return what tiles are together, in their order; there may be more of them than memory holds."""
    rest, sums = iter(rows), Sums()

    def told() -> Iterator[bytes]:
        nonlocal sums
        while every := list(islice(rest, 1000)):
            shifts = [lengths_of(row.shift) for row in every if row.shift is not None]
            sums = Sums(
                sums.tiles + len(every),
                merge((sums.summary, *(row.summary for row in every))),
                merge_items((sums.items, *(row.items for row in every))),
                merged_pvalues((sums.pvalues, *(row.pvalues for row in every))),
                merged((sums.shift or Lengths(), *shifts)) if shifts else sums.shift,
            )
            yield from (canonical([row.tile, row.digests]) for row in every)

    digest = store.digest(told())
    return replace(sums, digest=digest)
