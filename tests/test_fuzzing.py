"""What reads files and words of ours refuses in a sentence what is no such thing, and takes nothing wrong for right."""

import contextlib
import json
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigncc import journal, pipeline
from bigncc.errors import BignccError
from tests.fuzzing import commands
from tests.fuzzing.mutations import of_document
from tests.fuzzing.parsers import PARSERS, answered, ground, job, sealed

SLOW, LARGE = 5.0, 2**30
"""Seconds that an answer may take, and bytes that it may add to the process."""

MANY = 5000
"""Changed inputs of each kind, by marker."""


def peak():
    """Most bytes that this process has held since the last call."""
    said = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", said)[1])


def held():
    return 1024 * int(re.search(r"VmRSS:\s*(\d+)", Path("/proc/self/status").read_text())[1])


@contextlib.contextmanager
def bounded():
    """What is done takes neither long nor much."""
    begin, before = time.process_time(), held()
    peak()
    yield
    assert time.process_time() - begin < SLOW
    assert peak() - before < LARGE


@pytest.mark.parametrize("name", PARSERS)
def test_what_a_run_has_left_is_read(name):
    parser = PARSERS[name]
    seeds = parser.seeds(ground())
    assert seeds
    refused = [seed for seed in seeds if answered(parser, seed) is not None]
    # web servers and other schemes, collections of images, and words that need others beside them
    assert len(refused) <= {"address": 7, "ome": 3, "words": 6, "notation": 1}.get(name, 0)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_what_is_almost_that_is_refused_in_a_sentence_or_right(name, dice):
    parser = PARSERS[name]
    answered(parser, parser.change(dice.choice(parser.seeds(ground())), dice))


@pytest.mark.soak
@pytest.mark.parametrize("name", PARSERS)
def test_thousands_of_each(name):
    parser = PARSERS[name]
    seeds, taken = parser.seeds(ground()), 0
    for number in range(MANY):
        dice = random.Random(number)
        data = parser.change(dice.choice(seeds), dice)
        with bounded():
            taken += answered(parser, data) is None
    # or it was the mutations that were too coarse
    assert taken > 0


FOUND = {
    "a plan of another version": ("plan", lambda data: resealed(data, b'"halved": 2', b'"halved": 2, "new": 1')),
    "a plan without levels": ("plan", lambda data: resealed(data, b'"levels": [\n   0,\n   1\n  ]', b'"levels": []')),
    "a level of 10^18": ("plan", lambda data: resealed(data, b'"own": 0', b'"own": 1000000000000000000')),
    "a deep plan": ("plan", lambda _: b"[" * 100_000),
    "a row of another version": ("journal", lambda data: rewritten(data, b'"sizes":', b'"lengths":')),
    "a row with a count too many": ("journal", lambda data: rewritten(data, b"0,992", b"0,0,992")),
    "a row of a negative size": ("journal", lambda data: rewritten(data, b'"sizes":{"ncc":', b'"sizes":{"ncc":-')),
    "an edited record": ("complete", lambda data: re.sub(rb'"pixels": \d+', b'"pixels": 7', data)),
    "a reason that is a number": ("quarantine", lambda _: b'{"tile": 0, "reason": 1}'),
    "a reason of a mapping": ("quarantine", lambda _: b'{"tile": {}, "reason": "so"}'),
    "an edited attribute": ("attributes", lambda data: re.sub(rb'"tiles": \d+', b'"tiles": 3', data)),
    "no day of any month": ("yaml", lambda _: b"report: {threshold: 2020-13-45}"),
    "no number": ("yaml", lambda _: b"window: {size: !!float x}"),
    "an empty integer": ("yaml", lambda _: b'window: {size: !!int ""}'),
    "a deep list": ("yaml", lambda _: b"maps: " + b"[" * 5000),
    "a long number": ("words", lambda _: b"window.size=" + b"9" * 5000),
    "much memory": ("notation", lambda _: b"bytes " + b"9" * 400 + b"GB"),
    "a number with a gap": ("notation", lambda _: b"stack 1_0"),
    "a long part": ("notation", lambda _: b"part 0/" + b"9" * 5000),
    "a time beyond the clock": ("notation", lambda _: b"seconds 999999999999999999h"),
    "a deep transform": ("transform", lambda _: b"[" * 5000),
    "a path with NUL": ("address", lambda _: b"a\0b"),
    "a file of another host": ("address", lambda _: b"file://data/image.zarr"),
    "a bucket of a bracket": ("address", lambda _: b"gs://bu]ket/k"),
    "a level outside": ("ome", lambda _: b'{"multiscales": [{"version": "0.1", "datasets": [{"path": "../.."}]}]}'),
    "levels that are a number": ("ome", lambda _: b'{"multiscales": [{"version": "0.1", "datasets": 1}]}'),
}
"""What was found so, and was a traceback or believed."""


def resealed(data, old, new):
    assert old in data
    return sealed(data.replace(old, new))


def rewritten(data, old, new):
    """The journal with a first line that says something else, and its right checksum."""
    from bigncc import store

    first, *rest = data.splitlines(keepends=True)
    text = first.partition(b" ")[2].removesuffix(b"\n")
    assert old in text
    text = text.replace(old, new, 1)
    return b"".join([store.digest([text])[:16].encode() + b" " + text + b"\n", *rest])


@pytest.mark.parametrize("case", FOUND)
def test_what_was_found_stays_refused(case):
    name, change = FOUND[case]
    parser = PARSERS[name]
    refusal = answered(parser, change(parser.seeds(ground())[0]))
    # a line that is none is passed over, and its tile computed again
    assert (refusal is None) == (name == "journal")


def test_a_line_of_another_form_is_no_row():
    here = ground()
    for case, (name, change) in FOUND.items():
        if name == "journal":
            here.put(f"journal/000001-{'0' * 32}.jsonl", change(PARSERS[name].seeds(here)[0]))
            assert journal.rows(here.spare, here.plan["plan_id"]).keys() == here.rows.keys() - {0}, case


VERBS = {
    "status": lambda job: pipeline.status(job.output.url),
    "verify": lambda job: pipeline.verify(job.output.url, recompute=1),
    "finish": lambda job: pipeline.finish(job.output.url),
    "panel": lambda job: pipeline.panel(job.output.url),
    "plan": pipeline.plan,
    "run": pipeline.run,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.soak)])
def test_no_verb_stumbles_over_a_plan_that_was_forged_with_its_digest(tmp_path, count):
    made = job(ground().folder, "forged")
    pipeline.run(made)
    places = [Path(made.output.url), Path(journal.directory(made.output.url))]
    for place in places:
        place.rename(tmp_path / place.name)
    good, seen = (tmp_path / places[1].name / "plan.json").read_bytes(), set()
    for number in range(count):
        dice = random.Random(number)
        for place in places:
            shutil.copytree(tmp_path / place.name, place)
        (places[1] / "plan.json").write_bytes(sealed(json.dumps(of_document(json.loads(good), dice)).encode()))
        if number % 2:  # as if it had been killed early
            (places[1] / "COMPLETE.json").unlink()
            shutil.rmtree(places[1] / "journal")
        for name in dice.sample(sorted(VERBS), len(VERBS)):
            refusal = ""
            with bounded():
                try:
                    VERBS[name](made)
                except BignccError as error:
                    refusal = str(error)
            assert "\n" not in refusal
            seen.add((name, refusal == ""))
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
    assert len(seen) > len(VERBS)


# --- command lines ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("commands") / "deep"
    place.mkdir()
    commands.prepare(place)
    return place


def precious(folder):
    """What no command may change."""
    kept = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    kept = [path for path in kept if path.relative_to(folder).parts[0] in ("a.zarr", "b.zarr", "zyx.zarr", "file")]
    return {path: path.read_bytes() for path in kept}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [60, pytest.param(MANY, marks=pytest.mark.soak)])
def test_senseless_words_are_answered_in_a_sentence(folder, count):
    before, codes, wrong = precious(folder), set(), []
    outside = set(folder.parent.iterdir())
    peak()
    held_before = held()
    for number in range(count):
        words = commands.drawn(random.Random(number))
        answer = commands.answered(folder, words)
        codes.add(answer.code)
        wrong += [(number, words, fault) for fault in commands.faults(answer)]
    assert wrong == []
    assert {0, 4} <= codes
    assert precious(folder) == before
    assert set(folder.parent.iterdir()) == outside
    assert peak() - held_before < LARGE


# --- atheris ----------------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.parametrize("name", PARSERS)
def test_an_hour_of_atheris_finds_nothing(name):
    command = [sys.executable, "-m", "tests.fuzzing", name, "3600"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"\d+ inputs in 3600 s", done.stdout)
