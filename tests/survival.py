"""Whether a run that is killed at any moment, again and again, still ends with the right bytes.

``python -m tests.survival --kills 1000 --jobs 3 --shards`` forks runs of one small output, kills them, checks what is
on disk after each kill, and goes on with the same output. ``--mutants`` breaks the protocol in the children, one rule
at a time, and wants to see each breach found. ``--failpoints`` lets a child end at each step of the protocol.

All runs are children of a process that has imported everything but started no thread, so that a run costs no start of
an interpreter, and no lock can be held by a thread that a fork leaves behind.
"""

import argparse
import gc
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # or importing numpy starts threads

import numpy as np
from zarr.storage import _local as local

from bigncc import budget, capacity, decision, engine, journal, kernel, objects, output, pipeline, proof, shift, store
from bigncc.attempts import Outcome
from bigncc.config import Config
from bigncc.errors import BignccError, IncompleteError
from bigncc.layout import Layout
from bigncc.ledger import Row
from bigncc.pyramid import Halving, Maps
from bigncc.tiles import Plan, Tile, share
from bigncc.window import Window
from tests import pairs

LARGE = (250, 300)
"""Pixels of the pair that is killed: 20 tiles of four objects per map, or of one shard, and 9 of coarser levels."""

SMALL = (60, 120)
"""Pixels of the pair for failpoints: 2 tiles, and one of coarser levels."""

FINEST = ("0", "labels/status/0")
ARRAYS = (*FINEST, "1", "labels/status/1", "2", "labels/status/2")
"""The levels of that: the second goes with the tiles."""

METADATA = tuple(f"{place}zarr.json" for place in ("", "labels/", "labels/status/", *(f"{a}/" for a in ARRAYS)))

PATIENCE = 120
"""Seconds after which a run that nobody kills counts as one that hangs."""

DIED = 9
"""Exit status of a child that reached its failpoint."""

FAULTY = 77
"""Exit status of a run whose output `verify` finds fault with."""

MOST = 300
"""Kills after which a mutant counts as one that is not found out."""

LANDED = 1 / 3
"""As many of the kills asked for must leave a tile half done: kills that hit nothing prove nothing."""

FUTILE = 6
"""Times as many kills as were asked for, after which it is given up to hit a tile: machines are more or less busy."""

AIMED = 3 / 4
"""Share of the kills that wait for a tile; the others come at any moment, in the first and last steps too."""

LARGER = 0.8
"""Share of these that wait for one that is made from the images, as long as there is one."""

MASKS = (0o077, 0o073, 0o075)
"""A umask for each of the runs that share an output: the mode of a file tells whose it is."""

MAPS = {"maps": ["ncc", "gain", "shift"], "shift": {"step": 8, "search_radius": 2}}
"""Further maps, of which the shift map has as many tiles as the others."""

ABSENT, TORN = "is absent", "has other bytes"
"""What may be wrong with an object."""

Task = Callable[[], object]
Marks = dict[str, tuple[int, int, int]]


# --- children ---------------------------------------------------------------------------------------------------------


def fork(task: Task, log: Path, umask: int = MASKS[0]) -> int:
    """Start a child that does one thing and ends without cleaning up; return its process id.

    It ends with 0, with the exit code of bigncc's exception, or with 1; what it says goes to `log`.
    """
    assert _threads() == 1, "a process with threads cannot be forked safely"
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        with log.open("ab", buffering=0) as file:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
        os.umask(umask)
        task()
        code = 0
    except BignccError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        code = error.exit_code
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _threads() -> int:
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else 1


def wait(pid: int) -> int:
    """Return the exit status of a child; one that hangs is killed and has -14, that of an alarm."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGALRM


def kill(pids: list[int], aims: list["Aim"], before: "Marks") -> list[int]:
    """Kill each child when it is its time; return their exit statuses, -9 for one that was alive."""
    alive, found = dict(zip(pids, aims, strict=True)), {}
    while alive:
        now = time.monotonic()
        for pid, (moment, files, delay) in list(alive.items()):
            if any(_new(path, before) for path in files):
                alive[pid] = Aim(now + delay, [], 0)
            elif now >= moment:
                os.kill(pid, signal.SIGKILL)  # one that has ended waits for us, so the id is still its own
                found[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                del alive[pid]
        time.sleep(0.0005)
    return [found[pid] for pid in pids]


# --- what is right ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ground:
    """Where trials are held: a config, what an uninterrupted run of it leaves on disk, and how long that takes.

    All trials have the same path, as the path is part of the metadata.
    """

    folder: Path
    config: Config
    grid: Plan
    files: dict[str, bytes]
    plan: bytes
    complete: bytes
    rows: dict[int, Row]
    paces: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return str(self.folder / "out")

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def plan_id(self) -> str:
        found: str = json.loads(self.plan)["plan_id"]
        return found

    @property
    def layout(self) -> Layout:
        return decision.stored_layout(json.loads(self.plan))

    @property
    def shards(self) -> bool:
        return self.config.output.shards is not None


def ground(
    folder: Path, shape: tuple[int, int], *, shards: bool = False, tiles: int = 16, maps: bool = False
) -> Ground:
    """Write a pair and let a child correlate it, uninterrupted."""
    _warm_up()
    capacity.LARGEST, budget.TILES = 64 * 64, tiles
    # a residual shift is no step of the protocol, and measuring it takes as long as all tiles
    decision.registered = lambda inputs, _threads: replace(inputs, unknown="not measured")
    log = folder / "log"
    assert wait(fork(lambda: pairs.pair(folder, shape, chunks=(100, 100)), log)) == 0, log.read_text()
    words: list[dict[str, Any]] = [{"output": {"shards": [64, 64]}}] if shards else []
    if maps:
        (folder / "t.json").write_text('{"kind": "translation", "offset": [1, -2]}')
        words.append({"registration": {"model": None, "transform": str(folder / "t.json")}, **MAPS})
    config = pairs.job(str(folder / "a.zarr"), str(folder / "b.zarr"), folder / "out", *words)
    assert wait(fork(lambda: pipeline.run(config), log)) == 0, log.read_text()
    url, beside = config.output.url, Path(journal.directory(config.output.url))
    standing = journal.read_plan(url)
    assert standing is not None
    return Ground(
        folder,
        config,
        decision.stored_grid(standing),
        pairs.files(Path(url)),
        (beside / "plan.json").read_bytes(),
        (beside / "COMPLETE.json").read_bytes(),
        _blind(journal.rows(url, standing["plan_id"])),
    )


def _warm_up() -> None:
    """Load everything that a run loads when it first needs it, without a thread."""
    for name in ("google_crc32c", "yaozarrs", "yaozarrs.v05", "zarr.codecs"):
        import_module(name)
    image = np.arange(400, dtype=np.uint16).reshape(20, 20)
    block = kernel.local(image, image, Window((7, 7)))
    Halving(2, 0.0).reduced(Maps(block.ncc, block.status))
    shift.local(image, image, Window((7, 7)), (2, 2), (range(3, 20, 8),) * 2)
    gc.freeze()  # or each child copies all pages when it first collects garbage


def _blind(rows: Mapping[int, Row]) -> dict[int, Row]:
    """Return rows without what was read for them, which depends on what was read before."""
    return {index: replace(row, saw={}) for index, row in rows.items()}


def clear(where: Ground) -> None:
    """Remove the output and its journal."""
    for path in (Path(where.url), Path(journal.directory(where.url))):
        shutil.rmtree(path, ignore_errors=True)


def names(where: Ground, tile: Tile) -> list[str]:
    """Return the files of a tile."""
    found = []
    for name, (array, level) in where.layout.arrays.items():
        if (name in where.layout.components) != tile.nodes:
            continue
        roi = tile.write if tile.nodes else dict(tile.levels).get(level, ())
        extent = where.layout.of(name).objects
        ranges = (range(s.start // n, -(-s.stop // n)) for s, n in zip(roi, extent, strict=False))
        keys = ["/".join(map(str, index)) for index in itertools.product(*ranges) if index]
        found += [(name.partition("/")[0], f"{array}/c/{key}") for key in keys]
    return [file for _, file in sorted(found, key=lambda each: each[0])]


def marks(where: Ground) -> Marks:
    """Return inode, time and mode of each file of the maps and of the journal, unfinished ones included."""
    found = {}
    places = [Path(where.url, array, "c") for array, _ in where.layout.arrays.values()]
    for place in (*places, Path(journal.directory(where.url)) / "journal"):
        for folder, _, entries in os.walk(place):
            for entry in entries:
                path = Path(folder, entry)
                found[str(path)] = _mark(path)
    return found


def _mark(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_mode & 0o777


def _new(path: Path, before: Marks) -> bool:
    """Say whether a file was written since `before`."""
    try:
        return _mark(path) != before.get(str(path))
    except FileNotFoundError:
        return False


def half_done(where: Ground, before: Marks) -> set[int]:
    """Return the umasks of the runs that have written something of a tile since `before`, but not the tile's row."""
    tile_of = {str(Path(where.url, name)): i for i in where.rows for name in names(where, where.grid[i])}
    written: dict[int, set[int]] = {mask: set() for mask in MASKS}
    recorded: dict[int, set[int]] = {mask: set() for mask in MASKS}
    for path, mark in marks(where).items():
        if mark == before.get(path):
            continue
        mask = 0o666 ^ mark[2] | 0o011
        if path.endswith(".jsonl"):
            # a torn line is none: it has no end
            recorded[mask] |= {int(line.split(b" ", 3)[2]) for line in Path(path).read_bytes().split(b"\n")[:-1]}
        else:
            # an unfinished file is named after the object that it would have been
            written[mask].add(tile_of[str(Path(path).with_name(Path(path).name.partition(".")[0]))])
    return {mask for mask in MASKS if written[mask] - recorded[mask]}


def broken(where: Ground, excused: tuple[str, ...] = ()) -> list[str]:
    """Return what must not be on disk now that every run was killed.

    Parameters
    ----------
    excused : tuple of str
        What may be said of objects: another run may have been about to write a recorded tile once more; then they may
        be gone or torn, which does no harm as the next run looks at them.
    """
    plan = store.get(Path(journal.directory(where.url)) / "plan.json")
    if plan is None:
        return ["there is an output without a plan"] if (Path(where.url) / "zarr.json").exists() else []
    if plan != where.plan:
        return ["plan.json is another one"]
    found = []
    rows = _blind(journal.rows(where.url, where.plan_id))
    for index, row in rows.items():
        if row != where.rows[index]:
            found.append(f"the row of tile {index} says something else")
        found += _wrong(where, names(where, where.grid[index]), f"tile {index} is recorded, and")
    if _said_complete(where):
        found += [f"complete, and tile {index} has no row" for index in where.rows.keys() - rows.keys()]
        found += _wrong(where, [name for name in where.files if "/c/" in name], "complete, and")
    return [sentence for sentence in found if not sentence.endswith(excused)]


def _said_complete(where: Ground) -> bool:
    attributes = store.get(Path(where.url) / "zarr.json") or b""
    return (Path(journal.directory(where.url)) / "COMPLETE.json").exists() or b'"complete"' in attributes


def _wrong(where: Ground, files: list[str], what: str) -> list[str]:
    said = []
    for name in files:
        data = store.get(Path(where.url) / name)
        if data != where.files[name]:
            said.append(f"{what} {name} {ABSENT if data is None else TORN}")
    return said


def differences(where: Ground) -> tuple[list[str], int]:
    """Compare a finished output with the uninterrupted one; return what is wrong, and the number of wrong bytes."""
    beside = Path(journal.directory(where.url))
    there = pairs.files(Path(where.url)) | {f"beside/{name}": data for name, data in pairs.files(beside).items()}
    there = {name: data for name, data in there.items() if not name.startswith("beside/journal/")}
    wanted = where.files | {"beside/plan.json": where.plan, "beside/COMPLETE.json": where.complete}
    found, count = [], 0
    for name in sorted(there.keys() | wanted.keys()):
        one, two = there.get(name), wanted.get(name)
        if one == two:
            continue
        count += sum(a != b for a, b in itertools.zip_longest(one or b"", two or b""))
        found.append(f"{name} {'is absent' if one is None else 'is too many' if two is None else 'differs'}")
    if not all(path.suffix == ".jsonl" for path in (beside / "journal").glob("*")):
        found.append("there is something else among the journal")
    if _blind(journal.rows(where.url, where.plan_id)) != where.rows:
        found.append("the journal says something else")
    return found, count


# --- trials -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """A change of the protocol or of the storage, made in each child, and whether a run must survive it.

    `ways` are how runs share the output; `torn` says that objects of a recorded tile may be torn by another run.
    `early` has runs killed when they begin an output, and `within` says how long after the first object of a tile, in
    times of a tile; `rounds` is how often one output is killed, at least and at most.
    """

    change: Callable[[Ground], None]
    survives: bool
    ways: tuple[str, ...] = ("alone",)
    torn: bool = False
    early: bool = False
    within: float = 1 / 8
    rounds: tuple[int, int] = (1, 9)


@dataclass
class Tally:
    """What was counted."""

    kills: int = 0
    landed: int = 0
    trials: int = 0
    wrong: int = 0


def tasks(where: Ground, way: str, change: Callable[[Ground], None]) -> list[Task]:
    """Return what the victims of one round do."""

    def whole() -> None:
        change(where)
        pipeline.run(where.config)

    def third(part: int) -> None:
        change(where)
        pipeline.prepare(where.config)
        pipeline.run(where.config, part=(part, 3))
        with suppress(IncompleteError):
            pipeline.finish(where.url, part=(part, 3))

    if way == "parts":
        return [lambda part=part: third(part) for part in range(3)]
    return [whole] * (3 if way == "at once" else 1)


def last(where: Ground, way: str, change: Callable[[Ground], None]) -> None:
    """Finish an output, uninterrupted; `verify` must find it right."""
    change(where)
    if way == "parts":
        pipeline.prepare(where.config)
        for part in range(3):
            pipeline.run(where.config, part=(part, 3))
        pipeline.finish(where.url)
    else:
        pipeline.run(where.config)
    if faults := pipeline.verify(where.url).faults:
        sys.stderr.write("\n".join(faults))
        raise SystemExit(FAULTY)


def pace(where: Ground, way: str) -> tuple[float, float]:
    """Return the seconds that an uninterrupted round takes that has nothing to compute, and each tile adds to that."""
    if way not in where.paces:
        clear(where)
        taken = []
        for _ in range(2):
            begin = time.monotonic()
            for pid in [fork(task, where.log) for task in tasks(where, way, unchanged)]:
                wait(pid)
            taken.append(time.monotonic() - begin)
        where.paces[way] = taken[1], max(0, taken[0] - taken[1]) / where.grid.base
    return where.paces[way]


class Aim(NamedTuple):
    """When a run is killed: at a moment of the monotonic clock, or `delay` after one of `files` was written."""

    moment: float
    files: list[Path]
    delay: float


def aim(where: Ground, way: str, variant: Variant, dice: random.Random, part: int) -> Aim:
    """Choose any moment of what is left to do, or a moment within any tile."""
    idle, tile = pace(where, way)
    own = share(where.grid.base, part, 3) if way == "parts" else range(len(where.grid))
    missing = sorted(set(own) - journal.rows(where.url, where.plan_id).keys())
    longest = idle + tile * len(missing)
    if variant.early:
        return Aim(time.monotonic() + longest, [Path(where.url, "zarr.json")], dice.uniform(0, 0.01))
    if not missing or dice.random() >= AIMED:
        return Aim(time.monotonic() + dice.uniform(0, longest), [], 0)
    # those of coarser levels are small, and over before the kill
    large = [index for index in missing if index < where.grid.base]
    tile_of = where.grid[dice.choice(large if large and dice.random() < LARGER else missing)]
    files = [Path(where.url, name) for name in names(where, tile_of)]
    return Aim(time.monotonic() + 2 * longest, files, dice.uniform(0, variant.within * tile))


def trial(where: Ground, way: str, variant: Variant, dice: random.Random, tally: Tally, rounds: int) -> list[str]:
    """Kill one output some times, let it be finished, and return what is wrong."""
    pace(where, way)
    clear(where)
    tally.trials += 1
    # where several runs write the same tiles in place, one may be killed while it replaces what another has recorded
    excused = (ABSENT, TORN) if way == "at once" and variant.torn else ()
    for _ in range(rounds):
        before = marks(where)
        pids = [
            fork(task, where.log, mask) for task, mask in zip(tasks(where, way, variant.change), MASKS, strict=False)
        ]
        ends = kill(pids, [aim(where, way, variant, dice, part) for part in range(len(pids))], before)
        dead = {mask for end, mask in zip(ends, MASKS, strict=False) if end == -signal.SIGKILL}
        tally.kills += len(dead)
        tally.landed += len(dead & half_done(where, before))
        if faults := broken(where, excused):
            return faults
        # one that was killed may leave torn what another has read of a level: that one says so, and to run again
        if odd := set(ends) - {0, -signal.SIGKILL} - ({IncompleteError.exit_code} if excused else set()):
            return [f"a run that was not killed ends with {odd}"]
        if len(dead) < len(pids) and _said_complete(where):
            break
    if code := wait(fork(lambda: last(where, way, variant.change), where.log)):
        said = "verify finds faults" if code == FAULTY else f"an uninterrupted run ends with {code}"
        return [said, *differences(where)[0][:3]]
    faults, wrong = differences(where)
    tally.wrong += wrong
    return faults


def trials(
    where: Ground, variant: Variant, dice: random.Random, kills: int, tally: Tally, landed: float = 0
) -> Iterator[list[str]]:
    """Yield what is wrong after each trial, until there were that many kills, and enough of them within a tile."""
    for _, way in zip(range(FUTILE * kills), itertools.cycle(variant.ways), strict=False):
        if tally.kills >= kills and (tally.landed >= landed or tally.kills >= FUTILE * kills):
            return
        yield trial(where, way, variant, dice, tally, dice.randint(*variant.rounds))


# --- changes of the protocol and of the storage -----------------------------------------------------------------------


def unchanged(where: Ground) -> None:
    """The protocol as it is."""


def in_place(where: Ground, pause: float = 0.002) -> None:
    """Objects are written where they belong, without a temporary file and a rename.

    A run survives this: a tile counts because of its row, and not because its files exist.
    """
    put = local._put

    def torn(path: Path, value: Any, exclusive: bool = False) -> int:
        if not _is_object(path):
            return put(path, value, exclusive)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = bytes(value.as_buffer_like())
        with path.open("wb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            time.sleep(pause)  # no disk is as quick as memory, and the kill is to find it halfway
            file.write(data[len(data) // 2 :])
        return len(data)

    local._put = torn


def forgetful(where: Ground) -> None:
    """Of what the storage takes, every 61st object is cut or not kept, and nobody is told.

    A run survives this: what is not read back as it was written is computed again.
    """
    put, counter = local._put, itertools.count(1)

    def lossy(path: Path, value: Any, exclusive: bool = False) -> int:
        # two tiles in work have fewer objects, so that a second attempt is not hit again
        n = next(counter) if _is_object(path) else 1
        if n % 122 == 0:
            return len(value)
        return put(path, value[: len(value) // 2] if n % 61 == 0 else value, exclusive)

    local._put = lossy


def _is_object(path: Path) -> bool:
    return path.name.isdigit()


def existence(where: Ground) -> None:
    """What exists is done: an object that is there is neither written nor proven.

    Visible where a file can exist without being whole, which a kill within a write in place leaves behind.
    """
    in_place(where)
    write = objects.write

    def unless_there(array: Any, roi: Any, chunks: Any, **options: Any) -> list[tuple[int, str]]:
        if not all(Path(place).exists() for place in objects.places(array, roi)):
            write(array, roi, chunks, **options)
        return [(len(data), store.digest([data])) for _, data, _ in unproven(array, roi)]

    def unproven(array: Any, roi: Any) -> Iterator[tuple[str, bytes, str]]:
        yield from ((place, Path(place).read_bytes(), "") for place in objects.places(array, roi))

    objects.write, objects.examined = unless_there, unproven


def row_before_pixels(where: Ground) -> None:
    """A tile's row, with the right digests, is in the journal before its objects are on disk.

    Visible to whoever looks at the disk after a kill; the next run would look at the bytes and forgive it, but a run
    of another part, or `finish`, takes the journal's word.
    """
    attempted = engine.attempted

    def early(job: Any, pair: Any, out: Any, index: int, **rest: Any) -> Outcome:
        with journal.writer(job.url, job.plan_id) as writer:
            writer.append(where.rows[index])
        return attempted(job, pair, out, index, **rest)

    engine.attempted = early


def no_read_back(where: Ground) -> None:
    """A row is made of what was to be written and not of what was read back.

    Visible without any kill where the storage does not keep what it was given.
    """
    forgetful(where)

    def believing(array: Any, roi: Any, chunks: Any, **options: Any) -> list[tuple[int, str]]:
        return [objects._put(array, index, chunks) for index in objects._object_indices(array, roi)]

    objects.write = believing


def output_before_plan(where: Ground) -> None:
    """The output's metadata is put before the plan that it belongs to.

    Visible after a kill between the two, which are early in a run: there is an output that nobody can say is his, so
    the next run must refuse it.
    """
    settle = journal.settle_plan

    def late(url: str, document: dict[str, Any]) -> dict[str, Any]:
        output.create_output(url, decision.stored_layout(document), decision.attributes_of(document, None))
        return settle(url, document)

    journal.settle_plan = late


def trusted_rows(where: Ground) -> None:
    """A run that goes on takes the journal's word and looks at no byte.

    Visible where a recorded tile is damaged afterwards: by another run that was killed while it wrote it once more, in
    place.
    """
    in_place(where, 0.01)

    def trusting(job: Any, out: Any, tiles: range, threads: int) -> set[int]:
        return set(journal.rows(job.url, job.plan_id, tiles))

    engine.done = trusting


def complete_first(where: Ground) -> None:
    """COMPLETE.json is there before the last tiles are.

    Visible after a kill within those tiles: an output that says that it is complete and is not.
    """
    run_tiles = engine.run_tiles

    def early(job: Any, pair: Any, out: Any, missing: list[int], **rest: Any) -> Iterator[Row]:
        middle = len(missing) // 2
        yield from run_tiles(job, pair, out, missing[:middle], **rest)
        journal.write_complete(job.url, json.loads(where.complete))
        yield from run_tiles(job, pair, out, missing[middle:], **rest)

    engine.run_tiles = early


VARIANTS = {
    "in place": Variant(in_place, survives=True),
    "in place, three at once": Variant(in_place, survives=True, ways=("at once",), torn=True, rounds=(1, 3)),
    "forgetful storage": Variant(forgetful, survives=True),
    "file exists = done": Variant(existence, survives=False),
    "row before pixels": Variant(row_before_pixels, survives=False),
    "no read-back": Variant(no_read_back, survives=False, rounds=(0, 0)),
    "output before plan": Variant(output_before_plan, survives=False, early=True, rounds=(1, 1)),
    "resume trusts the rows": Variant(
        trusted_rows, survives=False, ways=("at once",), torn=True, within=2, rounds=(2, 3)
    ),
    "COMPLETE first": Variant(complete_first, survives=False),
}
"""What is changed, and whether a run survives it; where not, it must be found out."""


# --- the end at each step ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failpoint:
    """Where a child ends, by a patch that it makes in itself.

    `damaged`: the run is one that finds an object of a complete output missing.
    """

    arm: Task
    shards: bool = False
    damaged: bool = False


def dies(owner: Any, name: str, side: str, when: Callable[..., bool] = lambda *_: True, nth: int = 1) -> Task:
    """Return what makes a process end before or after a function is called for the nth time with such arguments."""

    def arm() -> None:
        function, counter = getattr(owner, name), itertools.count(1)

        def armed(*arguments: Any, **options: Any) -> Any:
            here = when(*arguments) and next(counter) == nth
            if here and side == "before":
                os._exit(DIED)
            result = function(*arguments, **options)
            if here:
                os._exit(DIED)
            return result

        setattr(owner, name, armed)

    return arm


def torn_row(nth: int) -> Task:
    """Return what makes a process end with half a line of the journal written."""

    def arm() -> None:
        append, counter = journal.Writer.append, itertools.count(1)

        def torn(self: journal.Writer, row: Row) -> None:
            def write(data: Any) -> None:
                self.file.write(data[: len(data) // 2])
                os._exit(DIED)

            half: Any = SimpleNamespace(write=write, tell=self.file.tell, seek=self.file.seek, fileno=self.file.fileno)
            append(replace(self, file=half) if next(counter) == nth else self, row)

        journal.Writer.append = torn

    return arm


def half_swept() -> None:
    """Make this process end when it has swept one of two unfinished files."""
    sweep = output.sweep

    def armed(url: str) -> None:
        for digit in "ab":
            (Path(url) / f"zarr.{digit * 32}.partial").touch()
        dies(Path, "unlink", "after")()
        sweep(url)

    output.sweep = armed


def _into(array: str) -> Callable[..., bool]:
    return lambda path, *_: _is_object(path) and f"/out/{array}/c/" in path.as_posix()


def _onto(ending: str) -> Callable[..., bool]:
    return lambda _path, target: Path(target).as_posix().endswith(ending)


def _failpoints() -> dict[str, Failpoint]:
    found = {}
    for side in ("before", "after"):
        found[f"{side} plan.json is linked"] = Failpoint(dies(Path, "hardlink_to", side))
        for key in METADATA:
            at = dies(local, "_put", side, lambda path, *_, key=key: path.as_posix().endswith(f"/out/{key}"))
            found[f"{side} {key} is put"] = Failpoint(at)
        for array in ARRAYS:
            found[f"{side} the first object of {array}"] = Failpoint(dies(local, "_put", side, _into(array)))
        for array in FINEST:
            found[f"{side} the seventh object of {array}"] = Failpoint(dies(local, "_put", side, _into(array), 7))
        for nth in (1, 2, 3):
            found[f"{side} row {nth} of 3"] = Failpoint(dies(journal.Writer, "append", side, nth=nth))
        found[f"{side} a tile of the pyramid"] = Failpoint(dies(engine, "coarsen", side))
        found[f"{side} shards are put"] = Failpoint(dies(objects, "_put", side, nth=3), shards=True)
        found[f"{side} the attributes say complete"] = Failpoint(dies(proof, "update_attributes", side))
        found[f"{side} COMPLETE.json is put"] = Failpoint(dies(journal, "write_complete", side))
        found[f"{side} the output is swept"] = Failpoint(dies(output, "sweep", side))
        found[f"{side} the journal is swept"] = Failpoint(dies(output, "sweep", side, nth=2))
        found[f"{side} COMPLETE.json is withdrawn"] = Failpoint(dies(journal, "withdraw_complete", side), damaged=True)
        found[f"{side} the first tile of a repair"] = Failpoint(dies(engine, "compute", side), damaged=True)
    for what, when in (
        ("an object", lambda _path, target: _is_object(Path(target))),
        ("the attributes", _onto("/out/zarr.json")),
        ("COMPLETE.json", _onto("/COMPLETE.json")),
    ):
        found[f"between write and rename of {what}"] = Failpoint(dies(Path, "replace", "before", when))
    found["between write and link of zarr.json"] = Failpoint(dies(local, "_safe_move", "before"))
    found["after a block is read back"] = Failpoint(dies(engine, "_commit", "after", nth=2))
    found["after a tile is read back"] = Failpoint(dies(engine, "compute", "after", nth=2))
    for nth in (1, 2, 3):
        found[f"within row {nth} of 3"] = Failpoint(torn_row(nth))
    found["within the sweep"] = Failpoint(half_swept)
    return found


FAILPOINTS = _failpoints()
"""Each step of the protocol."""


def ended(where: Ground, name: str) -> bool:
    """Let a run end at a failpoint and the next one finish; print a line, and return whether all is right."""
    point = FAILPOINTS[name]
    clear(where)
    if point.damaged:
        wait(fork(lambda: pipeline.run(where.config), where.log))
        Path(where.url, names(where, where.grid[1])[0]).unlink()

    def task() -> None:
        point.arm()
        pipeline.run(where.config)

    if (code := wait(fork(task, where.log))) != DIED:
        faults = [f"it ended with {code}"]
    else:
        faults = broken(where, (ABSENT,) if point.damaged else ())
        if code := wait(fork(lambda: pipeline.run(where.config), where.log)):
            faults.append(f"an uninterrupted run ends with {code}")
        faults += differences(where)[0]
    tell(f"failpoint, {name}: {'; '.join(faults[:5]) or 'died there, right afterwards'}")
    return not faults


# --- the program ------------------------------------------------------------------------------------------------------


def killed(where: Ground, jobs: int, kills: int, dice: random.Random) -> bool:
    """Kill the protocol as it is; print a line, and return whether all went well."""
    # the few objects of a sharded tile are written one after another, when all of it is computed
    within = 1 / 300 if where.shards else Variant.within
    ways = ("alone",) if jobs == 1 else ("at once", "parts")
    variant = Variant(unchanged, survives=True, ways=ways, within=within)
    name = f"{'sharded' if where.shards else 'plain'}, {jobs} {'job' if jobs == 1 else 'jobs'}"
    return _survived(name, where, variant, kills, dice, least=LANDED)


def _survived(name: str, where: Ground, variant: Variant, kills: int, dice: random.Random, least: float = 0) -> bool:
    begin, tally, found = time.monotonic(), Tally(), []
    for faults in trials(where, variant, dice, kills, tally, least * kills):
        if faults:
            found.append(faults)
            tell(f"trial {tally.trials} of {name}: {'; '.join(faults[:5])}")
    tell(
        f"{name}: {tally.kills} kills, {tally.landed} mid-tile, {tally.trials} trials, {len(found)} failed, "
        f"{tally.wrong} wrong bytes, {time.monotonic() - begin:.1f} s"
    )
    if tally.landed < least * kills:
        tell(f"{name}: too few kills landed within a tile")
        return False
    return not found


def changed(where: Ground, name: str, kills: int, dice: random.Random) -> bool:
    """Kill a variant: print a line, and return whether it survived, or was found out, as it must."""
    variant = VARIANTS[name]
    if variant.survives:
        return _survived(f"variant, {name}", where, variant, kills, dice)
    begin, tally = time.monotonic(), Tally()
    for faults in trials(where, variant, dice, MOST, tally):
        if faults:
            took = f"{tally.kills} kills, {tally.trials} trials, {time.monotonic() - begin:.1f} s"
            tell(f"mutant, {name}: caught after {took}: {faults[0]}")
            return True
    tell(f"mutant, {name}: not caught by {tally.kills} kills")
    return False


def tell(line: str) -> None:
    """Print a line now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(words: list[str] | None = None) -> int:
    """Do what the words say; return 0 if nothing is wrong."""
    asked = _asked(words)
    dice, fine = random.Random(asked.seed), True
    with tempfile.TemporaryDirectory() as folder:

        def place(shape: tuple[int, int], shards: bool, tiles: int = 16, maps: bool = False) -> Ground:
            here = Path(folder, "sharded" if shards else "plain")
            here.mkdir()
            return ground(here, shape, shards=shards, tiles=tiles, maps=maps)

        if asked.failpoints:
            for shards in (False, True):
                where = place(SMALL, shards, tiles=2)
                for name, point in list(FAILPOINTS.items())[:: asked.failpoints]:
                    if point.shards == shards:
                        fine &= ended(where, name)
        elif asked.mutants or asked.mutant:
            where = place(LARGE, asked.shards)
            for name in asked.mutant or VARIANTS:
                fine &= changed(where, name, asked.kills, dice)
        else:
            where = place(LARGE, asked.shards, maps=asked.maps)
            fine = killed(where, asked.jobs, asked.kills, dice)
        if not fine:
            sys.stderr.write(where.log.read_text()[-10_000:])
    return 0 if fine else 1


def _asked(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.survival", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="how many")
    parser.add_argument("--jobs", type=int, choices=(1, 3), default=1, help="runs that share the output")
    parser.add_argument("--shards", action="store_true", help="several chunks in a stored object")
    parser.add_argument("--maps", action="store_true", help="gain and shift map too")
    parser.add_argument("--mutant", action="append", choices=VARIANTS, help="change the protocol so")
    parser.add_argument("--mutants", action="store_true", help="change it in each way, one after the other")
    every = "end at each step instead, or at every so many-th"
    parser.add_argument("--failpoints", nargs="?", const=1, type=int, metavar="N", help=every)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
