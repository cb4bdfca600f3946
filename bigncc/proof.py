"""What is there against what was decided: how far a run is, that it is complete, and whether its bytes are right."""

import math
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bigncc import engine, journal, output, store
from bigncc.budget import block_of, threads_of
from bigncc.config import Config
from bigncc.decision import attributes_of, job_of, opened, recalled, stored_grid, stored_layout
from bigncc.errors import IncompleteError, InputError
from bigncc.inputs import open_inputs, pair_of
from bigncc.output import open_output, update_attributes
from bigncc.summary import STATUS, Summary, merge
from bigncc.tiles import share
from bigncc.watch import ABSENT


@dataclass(frozen=True)
class Result:
    """A finished run: where its map is, the statistics of all pixels, and what was done with the moving image."""

    url: str
    complete: bool
    summary: Summary
    headline: str
    notes: tuple[str, ...] = ()


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


def finish(url: str, notes: tuple[str, ...] = ()) -> Result:
    """Record that every tile is done: in the output's attributes, then in COMPLETE.json; once is enough.

    Raises
    ------
    IncompleteError
        If a tile has no row in the journal.
    """
    url = store.absolute(url)
    standing = plan_of(url)
    rows = journal.rows(url, standing["plan_id"])
    total = len(stored_grid(standing))
    if len(rows) < total:
        raise IncompleteError(incomplete(url))
    proof = _proof(url, standing, rows)
    if _recorded(url) != proof or open_output(url).attributes != attributes_of(standing, proof):
        update_attributes(url, attributes_of(standing, proof))
        journal.write_complete(url, proof)
    output.sweep(url)
    output.sweep(journal.directory(url))
    summary = merge(rows[index].summary for index in sorted(rows))
    return Result(url, complete=True, summary=summary, headline=standing["headline"], notes=notes + absent_notes(proof))


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


def _proof(url: str, standing: dict[str, Any], rows: dict[int, journal.Row]) -> dict[str, Any]:
    """Return what COMPLETE.json says: a digest over all tiles in their order, and the statistics."""
    every = [rows[index] for index in sorted(rows)]
    absent: dict[str, set[str]] = {}
    for name, key, found in journal.fingerprints(url, standing["plan_id"]):
        absent.setdefault(name, set()).update([key] if found == ABSENT else [])
    return {
        "plan_id": standing["plan_id"],
        "summary": merge(row.summary for row in every).to_dict(),
        "digest": store.digest(journal.canonical([row.tile, row.digests]) for row in every),
        "tiles": len(every),
        "absent": {name: len(keys) for name, keys in sorted(absent.items())},
    }


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
        ``quarantined``: why tiles could not be computed.
    """
    url = store.absolute(url)
    standing = journal.read_plan(url)
    if standing is None:
        attributes = open_output(url).attributes
        counts = attributes.get("summary", {}).get("counts", [0] * len(STATUS))
        total = attributes.get("tiles", 0)
        return _status(url, attributes["state"], attributes["plan_id"], (total, total), tuple(counts), sum(counts))
    grid = stored_grid(standing)
    done, counts = journal.progress(url, standing["plan_id"])
    complete = journal.read_complete(url)
    # a journal whose output is gone proves nothing
    whole = complete is not None and complete["plan_id"] == standing["plan_id"] and store.exists(url)
    state = "complete" if whole else "in-progress"
    found = _status(url, state, standing["plan_id"], (done, len(grid)), counts, math.prod(grid.shape))
    return found | {"quarantined": {str(tile): reason for tile, reason in journal.quarantined(url).items()}}


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


def verify(url: str, *, recompute: int = 0, part: tuple[int, int] = (0, 1)) -> Verdict:
    """Prove the bytes of an output against its plan and its journal; nothing is changed.

    Parameters
    ----------
    url : path
        The output.
    recompute : int
        How many tiles, chosen at random, are computed from the inputs once more and compared bit for bit.
    part : tuple of int
        Which share of the tiles, ``(i, n)`` from 0; what belongs to no tile is looked at with the first.

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
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda index: engine.faults(out, grid[index], rows.get(index)), looked_at))
    faults += [fault for each in found for fault in each]
    there = [index for index in looked_at if index in rows]
    sound = [index for index, each in zip(looked_at, found, strict=True) if not each]
    chosen = sorted(random.SystemRandom().sample(sound, min(recompute, len(sound))))
    faults += _recomputed(url, standing, out, chosen)
    if proof is None and not faults:
        message = f"{incomplete(url)}; what is there is right"
        raise IncompleteError(message)
    size = sum(sum(rows[index].sizes.values()) for index in there)
    return Verdict(url, len(looked_at), size, tuple(chosen), tuple(faults))


def _faults_beside_tiles(
    url: str, standing: dict[str, Any], rows: dict[int, journal.Row], proof: dict[str, Any] | None
) -> list[str]:
    """Return a sentence for what is wrong with metadata and COMPLETE.json, and for each file too many."""
    layout = stored_layout(standing)
    wanted = _proof(url, standing, rows)
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
    config = Config.model_validate({**standing["config"], "engine": {}})
    inputs = recalled(open_inputs(config), standing["registration"])
    job, threads = job_of(url, standing, inputs), threads_of(config)
    means = engine.Means(block_of(inputs, job.plan, threads), threads)
    pair, seen = pair_of(inputs), engine.trail(job, inputs.sources)
    found = []
    for index in chosen:
        found += engine.differences(job, pair, out, job.plan[index], means)
        seen.news()  # an input that has changed proves nothing
    return found
