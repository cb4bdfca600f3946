"""What is there against what was decided: how far a run is, that it is complete, and whether its bytes are right."""

import math
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bigncc import engine, evidence, journal, output, store
from bigncc.budget import means_of
from bigncc.capacity import Means
from bigncc.decision import attributes_of, job_of, opened, reopened, stored_grid, stored_layout
from bigncc.discoveries import Discoveries, PValues, discoveries_of
from bigncc.errors import IncompleteError, InputError
from bigncc.inputs import pair_of
from bigncc.ledger import Rows
from bigncc.output import open_output, update_attributes
from bigncc.pair import on_threads
from bigncc.progress import Progress, Step, silent
from bigncc.pyramid import Halving
from bigncc.sections import Table, table_of
from bigncc.shift import Lengths
from bigncc.summary import STATUS, Summary, packed_items
from bigncc.tiles import Plan, share
from bigncc.totals import Sums, sums_of
from bigncc.watch import ABSENT, object_of


@dataclass(frozen=True)
class Result:
    """A finished run: where its maps are, the statistics of all pixels, and what was done with the moving image.

    `table` has those of each section and channel, if there are several; `shift` are the statistics of a shift map, and
    `discoveries` of a map of p-values.
    """

    url: str
    complete: bool
    summary: Summary
    headline: str
    notes: tuple[str, ...] = ()
    table: Table | None = None
    shift: Lengths | None = None
    discoveries: Discoveries | None = None

    def further(self) -> dict[str, str]:
        """Return the statistics of further maps, and of sections and channels, as words."""
        found = {} if self.discoveries is None else self.discoveries.facts()
        found |= {} if self.shift is None else self.shift.facts()
        return found if self.table is None else found | self.table.facts()


@dataclass(frozen=True)
class Verdict:
    """What `verify` found: how many tiles and bytes it looked at, which it recomputed, and what is wrong."""

    url: str
    tiles: int
    size: int
    recomputed: tuple[int, ...]
    faults: tuple[str, ...]

    def facts(self) -> dict[str, str]:
        """Return the numbers as words."""
        found = {"verified": f"{self.tiles} tiles, {self.size / 1e9:.3g} GB"}
        if self.recomputed:
            found["recomputed"] = f"tiles {', '.join(map(str, self.recomputed))}"
        return found | {"faults": str(len(self.faults))}


def finish(
    url: str,
    notes: tuple[str, ...] = (),
    *,
    part: tuple[int, int] = (0, 1),
    threads: int | None = None,
    durable: bool = False,
    threshold: float | None = None,
    progress: Progress = silent,
) -> Result:
    """Make the coarser levels that no tile could make, and record that every tile is done; once is enough.

    Parameters
    ----------
    url : path
        An output whose tiles from the images are all done.
    notes : tuple of str
        What the result is to say.
    part : tuple of int
        Which share of those levels, ``(i, n)`` from 0, is made; then nothing is recorded, and a call without it makes
        what is left.
    threads : int, optional
        As many as there are processors by default.
    durable : bool
        Whether the pixels, and not only the journal, outlive a power cut.
    threshold : float, optional
        Of the table of sections; by default that of the plan's config.
    progress : callable, optional
        As for `bigncc.run`.

    Raises
    ------
    IncompleteError
        If a tile has no row in the journal, or is not what its row says where a coarser one is made of it.
    """
    url = store.absolute(url)
    standing = plan_of(url)
    rows, grid = journal.rows(url, standing["plan_id"]), stored_grid(standing)
    if not all(index in rows for index in range(grid.base)):
        raise IncompleteError(incomplete(url))
    if grid.rounds:
        means = Means((), threads or len(os.sched_getaffinity(0)), durable)
        rows = _rounds(url, standing, rows, part, means, progress)
    if part[1] == 1 and len(rows) < len(grid):
        raise IncompleteError(incomplete(url))
    sums = sums_of(rows.values())
    if part[1] > 1:
        return Result(
            url, complete=False, summary=sums.summary, headline=standing["headline"], notes=notes, shift=sums.shift
        )
    proof = _proof(url, standing, sums)
    if _recorded(url) != proof or open_output(url, proven=False).attributes != attributes_of(standing, proof):
        update_attributes(url, attributes_of(standing, proof))
        journal.write_complete(url, proof)
    output.sweep(url)
    output.sweep(journal.directory(url))
    table = table_of({**standing, **proof}, stored_layout(standing), threshold)
    notes += absent_notes(proof)
    found = discoveries_of(proof["discoveries"]) if "discoveries" in proof else None
    done = url, True, sums.summary, standing["headline"], notes, table, sums.shift, found
    return Result(*done)


def _rounds(
    url: str,
    standing: dict[str, Any],
    rows: Rows,
    part: tuple[int, int],
    means: Means,
    progress: Progress,
) -> Rows:
    """Make the tiles of a share of each round that are missing, or not what their rows say; return all rows.

    What is made of tiles that another share has not made yet is left.
    """
    out, grid = opened(url, standing), stored_grid(standing)
    encodings = stored_layout(standing).encodings
    halving = Halving(grid.halved, float(standing["config"]["window"]["flat"]), encodings)
    quarantined, right = journal.quarantined(url).keys(), set(rows)
    for number in range(len(grid.rounds)):
        every, _ = grid.round(number)
        own = [every[index] for index in share(len(every), *part)]
        there = evidence.matching(out, grid, rows, own, means.threads)
        for index in quarantined & there:  # a kill came between
            journal.release(url, index)
        needed = {i: grid.sources(grid[i]) for i in own if i not in there}
        right -= needed.keys()
        missing = [index for index, sources in needed.items() if right.issuperset(sources)]
        if not missing:
            continue
        for pause in store.PAUSES[:3]:
            if not (wrong := _source_faults(out, grid, rows, missing)):
                break
            time.sleep(pause)  # another run may be writing the same object
        else:
            message = f"{wrong[0]}: bigncc run with the words of this run, which computes it again, is accepted"
            raise IncompleteError(message)
        withdraw(url)
        pixels, done = (sum(map(grid.weight, those)) for those in (own, there))
        with progress(len(missing), pixels, done, "coarser tile") as advance:
            made = engine.coarsen_tiles(url, standing["plan_id"], out, grid, missing, halving, means, advance)
            right.update(row.tile for row in made)
        rows = journal.rows(url, standing["plan_id"])
    return rows.of(right)


def _source_faults(out: output.Output, grid: Plan, rows: Rows, tiles: list[int]) -> list[str]:
    """Return a sentence for everything that tiles are made of that is not what was written: they would be believed."""
    sources = sorted({(source, grid[index].source) for index in tiles for source in grid.sources(grid[index])})
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda each: evidence.faults(out, grid[each[0]], rows.get(each[0]), each[1]), sources)
        return [fault for each in found for fault in each]


def plan_of(url: str) -> dict[str, Any]:
    """Return the plan of an output; InputError if there is none."""
    standing = journal.read_plan(url)
    if standing is None:
        message = f"{journal.directory(url)}/plan.json is absent: an output with its journal beside it is accepted"
        raise InputError(message)
    return standing


def _recorded(url: str) -> dict[str, Any] | None:
    """Return what COMPLETE.json says: nothing if it is damaged, None if it is not there."""
    try:
        return journal.read_complete(url)
    except InputError:
        return {}


def withdraw(url: str) -> None:
    """Take back that an output is complete, before its tiles are computed again."""
    if _recorded(url) is not None:
        update_attributes(url, attributes_of(plan_of(url), None))
        journal.withdraw_complete(url)


def incomplete(url: str) -> str:
    """Return a sentence on what an output lacks, and why if that is known."""
    found = status(url)["tiles"]
    return f"{url} has {found['done']} of {found['total']} tiles: {_why(url)}run the same command again to complete it"


def _proof(url: str, standing: dict[str, Any], sums: Sums) -> dict[str, Any]:
    """Return what COMPLETE.json says: a digest over all tiles in their order, and the statistics."""
    absent: dict[str, set[str]] = {}
    for name, key, found in journal.fingerprints(url, standing["plan_id"]):
        absent.setdefault(name, set()).update([object_of(key)] if found == ABSENT else [])
    return {
        "plan_id": standing["plan_id"],
        "summary": sums.summary.to_dict(),
        **({"sections": packed_items(sums.items)} if sums.items else {}),
        "digest": sums.digest,
        "tiles": sums.tiles,
        "absent": {name: len(keys) for name, keys in sorted(absent.items())},
        **({} if sums.shift is None else {"shift": sums.shift.to_dict()}),
        **_discoveries(standing, sums.pvalues),
    }


def _discoveries(standing: dict[str, Any], pvalues: PValues) -> dict[str, Any]:
    """Return what is recorded of the p-values of all tiles, if they were asked for."""
    asked = standing["config"].get("significance")
    if asked is None:
        return {}
    return {"discoveries": Discoveries(pvalues, asked["level"]).to_dict()}


def absent_notes(proof: dict[str, Any]) -> tuple[str, ...]:
    """Say how many chunks of the inputs were read as fill because they are not stored."""
    return tuple(f"{n} chunks of {name} are not stored" for name, n in proof["absent"].items() if n)


def _why(url: str) -> str:
    """Name the first of the tiles that could not be computed."""
    quarantined = journal.quarantined(url)
    named = "; ".join(f"tile {tile} failed twice ({reason})" for tile, reason in list(quarantined.items())[:3])
    more = f" and {len(quarantined) - 3} more" if len(quarantined) > 3 else ""
    return f"{named}{more}; " if quarantined else ""


def status(url: str) -> dict[str, Any]:
    """Say how far a run is; works while it goes on.

    Returns
    -------
    dict
        ``url``, ``state``, ``plan_id``, ``tiles`` and ``pixels`` with ``done`` and ``total``, ``status`` counts, and
        ``quarantined``: why tiles could not be computed. ``discoveries`` of a complete map of p-values: the threshold
        ``p_below``, the ``pixels`` below it, and the ``share`` of false ones among them that it keeps to.
    """
    url = store.absolute(url)
    standing = journal.read_plan(url)
    if standing is None:
        attributes = open_output(url).attributes
        counts = attributes.get("summary", {}).get("counts", [0] * len(STATUS))
        total = attributes.get("tiles", 0)
        known = url, attributes["state"], attributes["plan_id"], (total, total), tuple(counts), sum(counts)
        return _status(*known) | _said(attributes)
    grid = stored_grid(standing)
    done, counts = journal.progress(url, standing["plan_id"])
    complete = journal.read_complete(url)
    # a journal whose output is gone proves nothing
    whole = complete is not None and complete["plan_id"] == standing["plan_id"] and store.exists(url)
    state = "complete" if whole else "in-progress"
    found = _status(url, state, standing["plan_id"], (done, len(grid)), counts, math.prod(grid.shape))
    found |= {"quarantined": {str(tile): reason for tile, reason in journal.quarantined(url).items()}}
    return found | _said(complete if whole and complete is not None else {})


def _said(proof: dict[str, Any]) -> dict[str, Any]:
    """Return the threshold of a map of p-values, which only all tiles together have."""
    return {"discoveries": proof["discoveries"]} if "discoveries" in proof else {}


def _status(
    url: str, state: str, plan_id: str, done: tuple[int, int], counts: tuple[int, ...], pixels: int
) -> dict[str, Any]:
    return {
        "url": url,
        "state": state,
        "plan_id": plan_id,
        "tiles": {"done": done[0], "total": done[1]},
        "pixels": {"done": sum(counts), "total": pixels},
        "status": {name: n for name, n in zip(STATUS, counts, strict=True) if n},
        "quarantined": {},
    }


def verify(url: str, *, recompute: int = 0, part: tuple[int, int] = (0, 1), progress: Progress = silent) -> Verdict:
    """Prove the bytes of an output against its plan and its journal; nothing is changed.

    Parameters
    ----------
    url : path
        The output.
    recompute : int
        How many tiles, chosen at random, are computed from the inputs once more and compared bit for bit.
    part : tuple of int
        Which share of the tiles, ``(i, n)`` from 0; what belongs to no tile is looked at with the first.
    progress : callable, optional
        As for `bigncc.run`.

    Returns
    -------
    Verdict

    Raises
    ------
    InputError
        If there is no plan to prove it against.
    IncompleteError
        If nothing is wrong and tiles are missing.
    """
    url = store.absolute(url)
    standing = plan_of(url)
    rows = journal.rows(url, standing["plan_id"])
    grid, proof = stored_grid(standing), _recorded(url)
    own = share(len(grid), *part)
    faults = _faults_beside_tiles(url, standing, rows, proof) if part[0] == 0 else []
    try:
        out = opened(url, standing)
    except InputError as error:
        return Verdict(url, 0, 0, (), (*faults, str(error)))
    # while a run goes on, a tile without a row is no fault
    looked_at = [index for index in own if proof is not None or index in rows]
    found = _proven(out, grid, rows, looked_at, progress)
    faults += [fault for each in found for fault in each]
    there = [index for index in looked_at if index in rows]
    sound = [index for index, each in zip(looked_at, found, strict=True) if not each]
    drawn = sorted(random.SystemRandom().sample(sound, min(recompute, len(sound))))
    # what is made of something wrong proves nothing
    chosen = [index for index in drawn if not _source_faults(out, grid, rows, [index])]
    faults += _recomputed(url, standing, out, chosen)
    if proof is None and not faults:
        message = f"{incomplete(url)}; what is there is right"
        raise IncompleteError(message)
    size = sum(sum(rows[index].sizes.values()) for index in there)
    return Verdict(url, len(looked_at), size, tuple(chosen), tuple(faults))


def _proven(out: output.Output, grid: Plan, rows: Rows, tiles: list[int], progress: Progress) -> list[list[str]]:
    """Return what is wrong with each of some tiles."""
    found = []
    with progress(len(tiles), sum(map(grid.weight, tiles)), 0, "proven tile") as advance, ThreadPoolExecutor() as pool:
        each = pool.map(lambda index: evidence.faults(out, grid[index], rows.get(index)), tiles)
        for index, faults in zip(tiles, each, strict=True):
            found.append(faults)
            if advance is not None:
                advance(Step(grid.weight(index)))
    return found


def _faults_beside_tiles(url: str, standing: dict[str, Any], rows: Rows, proof: dict[str, Any] | None) -> list[str]:
    """Return a sentence for what is wrong with metadata and COMPLETE.json, and for each file too many."""
    layout = stored_layout(standing)
    wanted = _proof(url, standing, sums_of(rows.values()))
    # a run that was killed within its last step says that it is complete, but not yet in COMPLETE.json
    states = (None, wanted) if proof is None else (proof,)
    altered = min((output.altered(url, layout, attributes_of(standing, state)) for state in states), key=len)
    found = [f"{path} is not what was written there" for path in altered]
    found += [f"{path} is a file too many" for path in output.surplus(url, layout)]
    if proof is not None and proof != wanted:
        found.append(f"{journal.directory(url)}/COMPLETE.json is not what the journal says")
    return found


def _recomputed(url: str, standing: dict[str, Any], out: output.Output, chosen: list[int]) -> list[str]:
    if not chosen:
        return []
    inputs = reopened(standing)
    job = job_of(url, standing, inputs)
    means = means_of(inputs, job.plan)
    pair, seen = pair_of(inputs, means.cache, means.at_once), engine.trail(job, inputs.sources)
    found = []
    with on_threads(means.threads):
        for index in chosen:
            found += engine.differences(job, pair, out, job.plan[index], means)
            seen.news()  # an input that has changed proves nothing
    return found
