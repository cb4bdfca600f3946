"""Whatever is done to an output, in whatever order, nothing false is said of it, and it can be brought to its end.

A machine does what users, schedulers and disks do: it prepares, runs, stops half way, damages, edits, copies, moves and
runs again. After each step what is on disk is compared with what is said of it.
"""

import atexit
import json
import shutil
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import zarr
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import bigncc
from bigncc import engine, evidence, journal, objects, output, pipeline, proof, transform, watch
from bigncc.decision import stored_grid, stored_layout
from bigncc.errors import BignccError, IncompleteError, InputError, RefusedError
from tests import pairs, survival
from tests.test_pipeline import Killed

CHANGED = (41, 37)
"""The pixel of the moving image that somebody changes: none of those that are looked at beforehand."""

STEPS = {
    "a plan is settled": (journal, "settle_plan"),
    "metadata is put": (pipeline, "create_output"),
    "objects are written": (objects, "write"),
    "a tile is made": (engine, "compute"),
    "a row is written": (journal.Writer, "append"),
    "a coarser tile is made": (engine, "coarsen"),
    "completion is taken back": (proof, "withdraw"),
    "the attributes say complete": (proof, "update_attributes"),
    "COMPLETE.json is put": (journal, "write_complete"),
    "what is unfinished is swept": (output, "sweep"),
}
"""Where a run may end, before or after it."""


def job(folder, name):
    """The config of a run of seven tiles whose moving image is where it is said to be."""
    given = {"registration": {"model": None, "transform": str(folder / "t.json"), "trust_field": True}}
    return pairs.job(str(folder / "a.zarr"), str(folder / "b.zarr"), folder / name, given, "engine.threads=1")


def objects_of(url):
    """The stored objects of an output, by their names."""
    return {name: data for name, data in pairs.files(Path(url)).items() if "/c/" in name}


@cache
def ground():
    """Make the pair, and what an uninterrupted run makes of it, as it is and with a pixel changed; once per process."""
    folder = Path(tempfile.mkdtemp(prefix="protocol-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "t.json").write_text('{"kind": "translation", "offset": [1, -2]}')
    _, _, f, g = pairs.pair(folder, (60, 70), chunks=(32, 32))
    truths = []
    for version in range(2):
        if version:
            g = g.copy()
            g[CHANGED] ^= 1
            shutil.copytree(folder / "b.zarr", folder / "b0.zarr")
            zarr.open_array(folder / "b.zarr")[CHANGED] = g[CHANGED]
        pipeline.run(job(folder, f"out{version}"))
        # tile by tile is what the whole arrays give
        whole = bigncc.local_maps(f, g, transform=transform.Translation((1, -2)))
        pairs.same(whole, pairs.maps(folder / f"out{version}"))
        truths.append(objects_of(folder / f"out{version}"))
        if version:
            shutil.move(folder / "b.zarr", folder / "b1.zarr")
    assert truths[0].keys() == truths[1].keys()
    assert truths[0] != truths[1]
    plan = journal.read_plan(str(folder / "out0"))
    assert plan["request"] == journal.read_plan(str(folder / "out1"))["request"], "the changed pixel must go unnoticed"
    return folder, truths, plan


@contextmanager
def dying(step, side, nth):
    """Let a run end before or after a step of the protocol is taken for the nth time."""
    owner, name = STEPS[step]
    function, count = getattr(owner, name), []

    def armed(*arguments, **options):
        count.append(None)
        if side == "before" and len(count) == nth:
            raise Killed
        result = function(*arguments, **options)
        if len(count) == nth:
            raise Killed
        return result

    setattr(owner, name, armed)
    try:
        yield
    finally:
        setattr(owner, name, function)


class Protocol(RuleBasedStateMachine):
    """An output and all that happens to it.

    `hurt` has what was damaged and not mended by us since: "plan", "metadata"; `marred` whether anything ever was;
    `changed` is the version of the moving image; `forgotten` says that lines of the journal, and so what was read for
    them, may have been lost.
    """

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp(prefix="protocol-"))
        template, self.truths, self.plan = ground()
        shutil.copy(template / "t.json", self.folder)
        shutil.copytree(template / "a.zarr", self.folder / "a.zarr")
        self.template, self.changed = template, 0
        shutil.copytree(template / "b0.zarr", self.folder / "b.zarr")
        self.name, self.number = "out", 0
        self.hurt, self.marred, self.forgotten, self.versions = set(), False, False, set()
        self.strangers, self.kept = {}, None

    def teardown(self):
        if hasattr(self, "folder"):
            self.bring_to_its_end()
            shutil.rmtree(self.folder)

    # --- what is there ------------------------------------------------------------------------------------------------

    @property
    def url(self):
        return str(self.folder / self.name)

    @property
    def beside(self):
        return Path(journal.directory(self.url))

    def config(self):
        return job(self.folder, self.name)

    @property
    def prepared(self):
        return (self.beside / "plan.json").exists()

    def there(self):
        """The stored objects that are there."""
        return objects_of(self.url) if Path(self.url).is_dir() else {}

    def right(self, name, data):
        """Whether an object is what one of the images gives."""
        return any(truth[name] == data for truth in self.truths)

    # --- what is done -------------------------------------------------------------------------------------------------

    def attempt(self, what, *refusals):
        """Do something that may be refused in these ways; return what it returns, or the refusal."""
        excused = set(refusals)
        excused |= {InputError} if self.hurt else set()
        excused |= {RefusedError} if "metadata" in self.hurt or self.versions else set()
        try:
            return what()
        except tuple(excused) as error:
            refusal = error
        assert isinstance(refusal, BignccError)
        assert "\n" not in str(refusal)
        return refusal

    def ran(self, found):
        """What holds after a run that was not stopped."""
        if isinstance(found, BignccError):
            assert self.hurt or self.versions, found
            return
        assert "plan" not in self.hurt
        if found.complete:
            self.is_right(allowed=self.hurt)

    def is_right(self, allowed=()):
        """Assert that a result is complete, and the map of one pair of images."""
        assert pipeline.status(self.url)["state"] == "complete"
        if allowed:
            return
        faults = pipeline.verify(self.url).faults
        assert all("is a file too many" in fault for fault in faults), faults
        assert len(faults) == sum("bigncc" not in path.parts[-2] for path in self.strangers)
        there = {name: data for name, data in self.there().items() if Path(self.url, name) not in self.strangers}
        if self.forgotten and self.versions:
            assert all(self.right(name, data) for name, data in there.items())
        else:
            assert there in self.truths, "complete, and not the map of these images"

    @rule()
    def prepare(self):
        self.attempt(lambda: pipeline.prepare(self.config()))

    @rule()
    def run_all(self):
        self.ran(self.attempt(lambda: pipeline.run(self.config())))

    @rule()
    def repair(self):
        found = self.attempt(lambda: pipeline.complete(pipeline.prepare(self.config(), repair=True)))
        if not isinstance(found, BignccError):
            self.hurt.discard("metadata")
        self.ran(found)

    @rule(part=st.integers(0, 2), steal=st.booleans())
    def run_part(self, part, steal):
        unprepared = () if self.prepared else (RefusedError,)

        def some():
            return pipeline.complete(pipeline.prepared(self.config()), part=(part, 3), steal=steal)

        found = self.attempt(some, *unprepared)
        assert isinstance(found, BignccError) or not found.complete

    @rule(part=st.sampled_from([(0, 1), (0, 2), (1, 2)]))
    def finish(self, part):
        found = self.attempt(lambda: pipeline.finish(self.url, part=part), IncompleteError, InputError)
        if not isinstance(found, BignccError) and found.complete and not self.marred:
            self.is_right()

    @rule(step=st.sampled_from(sorted(STEPS)), side=st.sampled_from(["before", "after"]), nth=st.integers(1, 8))
    def die_within_a_run(self, step, side, nth):
        with dying(step, side, nth), suppress(Killed):
            self.ran(self.attempt(lambda: pipeline.run(self.config())))

    # --- what happens to it -------------------------------------------------------------------------------------------

    def victim(self, draw, paths):
        return paths[draw(st.integers(0, len(paths) - 1))] if paths else None

    @rule(data=st.data(), how=st.sampled_from(["flipped", "cut", "gone", "zeroed", "swapped"]))
    def an_object_is_damaged(self, data, how):
        names = [name for name in sorted(self.there()) if Path(self.url, name) not in self.strangers]
        if (name := self.victim(data.draw, names)) is None:
            return
        path, self.marred = Path(self.url, name), True
        before = path.read_bytes()
        if how == "gone":
            path.unlink()
        elif how == "swapped":
            path.write_bytes(Path(self.url, names[0]).read_bytes())
        else:
            at = data.draw(st.integers(0, len(before) - 1)) if before else 0
            path.write_bytes(
                {
                    "flipped": before[:at] + bytes([b ^ 1 for b in before[at : at + 1]]) + before[at + 1 :],
                    "cut": before[:at],
                    "zeroed": bytes(len(before)),
                }[how]
            )

    @rule(data=st.data(), how=st.sampled_from(["cut", "garbage", "flipped", "gone", "a torn line"]))
    def the_journal_is_damaged(self, data, how):
        files = sorted((self.beside / "journal").glob("*.jsonl"))
        if (path := self.victim(data.draw, files)) is None:
            return
        before = path.read_bytes()
        at = data.draw(st.integers(0, len(before) - 1)) if before else 0
        if how not in ("garbage", "a torn line"):
            self.marred = self.forgotten = True
        if how == "gone":
            path.unlink()
        elif how in ("garbage", "a torn line"):
            path.write_bytes(before + (b"\xff\x00 garbage\n" if how == "garbage" else before[: at // 2]))
        else:
            path.write_bytes(
                before[:at] + (bytes([before[at] ^ 2]) + before[at + 1 :] if how == "flipped" and before else b"")
            )

    @precondition(lambda self: self.prepared and "plan" not in self.hurt)
    @rule(data=st.data())
    def the_plan_is_edited(self, data):
        path = self.beside / "plan.json"
        self.kept = path.read_bytes()
        document = json.loads(self.kept)
        key = data.draw(st.sampled_from(sorted(journal.PLAN)))
        document[key] = data.draw(st.sampled_from([None, 1, "x", [], {}]))
        path.write_text(json.dumps(document) if data.draw(st.booleans()) else json.dumps(document)[:-9])
        self.hurt.add("plan")

    @precondition(lambda self: "plan" in self.hurt)
    @rule()
    def the_plan_is_brought_back(self):
        (self.beside / "plan.json").write_bytes(self.kept)
        self.hurt.discard("plan")

    @rule(data=st.data(), how=st.sampled_from(["gone", "cut", "an attribute"]))
    def metadata_is_damaged(self, data, how):
        place = Path(self.url)
        files = sorted(place.rglob("zarr.json")) if place.is_dir() else []
        if (path := self.victim(data.draw, files)) is None:
            return
        self.marred = True
        self.hurt.add("metadata")
        if how == "gone":
            path.unlink()
        elif how == "cut":
            path.write_bytes(path.read_bytes()[:40])
        else:
            try:
                document = json.loads(path.read_bytes())
            except ValueError:
                return
            document.setdefault("attributes", {}).setdefault("bigncc", {"plan_id": self.plan["plan_id"]})[
                "headline"
            ] = "so"
            path.write_text(json.dumps(document))

    @rule(how=st.sampled_from(["gone", "edited", "cut"]))
    def the_record_is_damaged(self, how):
        path = self.beside / "COMPLETE.json"
        if not path.exists():
            return
        self.marred = True
        if how == "gone":
            path.unlink()
        elif how == "edited":
            path.write_text(path.read_text().replace('"tiles": 7', '"tiles": 8'))
        else:
            path.write_bytes(path.read_bytes()[:50])

    @rule(inside=st.booleans())
    def somebody_leaves_a_file(self, inside):
        place = Path(self.url) if inside else self.beside
        if place.is_dir():
            self.strangers[place / "notes.txt"] = b"mine"
            (place / "notes.txt").write_bytes(b"mine")

    @rule()
    def the_moving_image_is_changed(self):
        self.changed = 1 - self.changed
        self.versions = {0, 1}
        shutil.rmtree(self.folder / "b.zarr")
        shutil.copytree(self.template / f"b{self.changed}.zarr", self.folder / "b.zarr")

    @rule()
    def the_images_are_touched(self):
        for path in sorted(self.folder.glob("[ab].zarr/c/*/*")):
            path.touch()

    @rule()
    def it_is_moved(self):
        self.number += 1
        before, beside, name = Path(self.url), self.beside, f"moved{self.number}"
        self.name = name
        for old, new in ((before, Path(self.url)), (beside, self.beside)):
            if old.exists():
                old.rename(new)
                self.strangers = {
                    (new / path.name if path.parent == old else path): data for path, data in self.strangers.items()
                }

    @rule()
    def it_is_copied(self):
        """A copy says what the original says."""
        copy = self.folder / "copy"
        for old, new in ((Path(self.url), copy), (self.beside, Path(journal.directory(str(copy))))):
            if old.exists():
                shutil.copytree(old, new)
        for verb in (pipeline.verify, pipeline.status):
            said = []
            for url in (str(copy), self.url):
                try:
                    found = verb(url)
                    told = found if isinstance(found, dict) else vars(found)
                except BignccError as error:
                    told = {"error": f"{error.exit_code} {error}"}
                said.append(json.dumps(told).replace(url, "URL"))
            assert said[0] == said[1]
        shutil.rmtree(copy, ignore_errors=True)
        shutil.rmtree(journal.directory(str(copy)), ignore_errors=True)

    # --- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def no_file_of_anybody_else_is_touched(self):
        if not hasattr(self, "folder"):
            return
        for path, data in self.strangers.items():
            assert path.read_bytes() == data
        for name, version in (("a", "a"), ("b", f"b{self.changed}")):
            assert pairs.files(self.folder / f"{name}.zarr") == pairs.files(self.template / f"{version}.zarr")

    @invariant()
    def nothing_false_is_said(self):
        if not hasattr(self, "folder") or not self.prepared:
            return
        if "plan" in self.hurt:
            for verb in (pipeline.status, pipeline.verify, pipeline.finish):
                with pytest.raises(InputError, match=r"plan\.json is damaged"):
                    verb(self.url)
            return
        plan = journal.read_plan(self.url)
        rows, grid, layout = journal.rows(self.url, plan["plan_id"]), stored_grid(plan), stored_layout(plan)
        try:
            status = pipeline.status(self.url)
            assert status["tiles"] == {"done": len(rows), "total": 7}
        except InputError as error:
            assert "COMPLETE.json is damaged" in str(error)  # noqa: PT017
            assert self.marred
            status = {"state": "damaged"}
        try:
            verdict = pipeline.verify(self.url)
            faults, whole = verdict.faults, True
        except IncompleteError:
            faults, whole = (), False
        if faults and verdict.tiles == 0 and "metadata" in self.hurt:
            return  # none of its arrays can be looked at
        said = "\n".join(faults)
        where, there = SimpleNamespace(layout=layout), self.there()
        for index in rows if status["state"] != "complete" else range(len(grid)):
            for name in survival.names(where, grid[index]):
                if not (name in there and self.right(name, there[name])):
                    assert name in said, f"{name} of tile {index} is wrong, and nobody says so"
        if said and not self.marred:
            assert all("is a file too many" in fault for fault in faults), faults
        if not faults and whole:
            self.is_right()

    # --- the end ------------------------------------------------------------------------------------------------------

    def bring_to_its_end(self):
        """Do what is said, as long as something is; then all is right."""
        if "plan" in self.hurt:
            self.the_plan_is_brought_back()
        said = None
        for version in (self.changed, 1 - self.changed):
            if version != self.changed:
                self.the_moving_image_is_changed()
            for repair in (False, True):
                try:
                    found = pipeline.complete(pipeline.prepare(self.config(), repair=repair))
                except (RefusedError, InputError) as error:
                    said = error
                    continue
                assert found.complete
                if repair or "metadata" not in self.hurt:
                    self.is_right()
                    return
            if not self.versions:
                break
        # what was read of both versions fits neither, and that is said
        assert self.forgotten or self.versions, said
        assert "has changed since this output was begun" in str(said), said


def stories(examples, steps, **how):
    """Some stories of at most that many steps."""
    checks = list(HealthCheck)
    how = settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, **how)
    run_state_machine_as_test(Protocol, settings=how)


def test_nothing_false_is_said_and_everything_can_be_brought_to_its_end():
    stories(8, 12)


@pytest.mark.soak
def test_nor_in_hundreds_of_long_stories():
    stories(400, 40)


def trusting(job, _out, tiles, _threads):
    return set(journal.rows(job.url, job.plan_id, tiles))


def sweeping(url):
    for path in Path(url).glob("*.txt"):
        path.unlink()


BREACHES = {
    "rows are believed": (engine, "done", trusting),
    "sources are believed": (proof, "_source_faults", lambda *_: []),
    "no object is looked at": (evidence, "faults", lambda *_: []),
    "completion is not taken back": (proof, "withdraw", lambda _: None),
    "an input may change": (watch.Trail, "news", lambda _: {}),
    "everything is swept": (output, "sweep", sweeping),
    "metadata stays as it is": (output, "_says", lambda *_: True),
}
"""What is left out of the protocol, each of which a story must find."""


@pytest.mark.soak
@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_found(breach, monkeypatch):
    ground()
    owner, name, instead = BREACHES[breach]
    monkeypatch.setattr(owner, name, instead)
    with pytest.raises(Exception) as found:  # noqa: PT011 - an assertion, or what comes of the breach
        stories(200, 30, phases=[Phase.generate], database=None)
    assert not isinstance(found.value, Killed)
