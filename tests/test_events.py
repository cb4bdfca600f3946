"""How verbs speak: lines of JSON and nothing else, or only of errors; the last line says how it ended."""

import json
import os
import re
import signal
import subprocess
import sys
from datetime import datetime

import pytest

from bigncc import events
from bigncc.proof import Result
from bigncc.summary import Summary
from tests import forked, pairs
from tests.test_cli import AS_IS, BAD_INPUT, STOPPED, computed

SMALL = ("output.chunks=[32, 32]", "engine.threads=1")
COMMON = {"event", "time"}
FACTS = {
    "note": {"text"},
    "prepared": {"url", "plan_id", "tiles", "headline"},
    "progress": {
        "what", "tiles", "pixels", "pixels_per_second", "seconds_left", "retried", "quarantined", "workers",
    },
    "part": {"url", "headline", "notes", "pixels", "status", "ncc", "part"},
    "complete": {"url", "headline", "notes", "pixels", "status", "ncc"},
    "verified": {"url", "tiles", "bytes", "recomputed", "faults"},
    "right": {"url"},
    "lost": {"text"},
    "error": {"text"},
}  # fmt: skip


@pytest.fixture(scope="module")
def typed():
    with forked.started() as run:
        yield run


@pytest.fixture
def pair(tmp_path):
    pairs.pair(tmp_path)
    return tmp_path


def told(done):
    """The events of a verb: all that is on standard output, checked against what they may say."""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for number, event in enumerate(found, 1):
        assert datetime.fromisoformat(event["time"]).tzinfo is not None
        ending = {"exit_code"} if number == len(found) else set()
        assert event.keys() - {"suspect_sections"} == COMMON | FACTS[event["event"]] | ending
    assert found[-1]["exit_code"] == done.returncode
    return found


def names(found):
    """Which events there were, each once where it is several times in a row."""
    every = [event["event"] for event in found if event["event"] != "note"]
    return [name for name, before in zip(every, [None, *every], strict=False) if name != before]


def test_a_run_tells_what_it_decides_how_far_it_is_and_what_came_of_it(typed, pair):
    found = told(typed(pair, *AS_IS, *SMALL, "--json"))
    assert names(found) == ["prepared", "progress", "complete"]
    first, last = (next(e for e in order if e["event"] == "progress") for order in (found, found[::-1]))
    assert (first["tiles"]["done"], first["pixels"]["done"], first["seconds_left"]) == (0, 0, None)
    assert first["tiles"]["total"] == len(computed(pair / "out")) - 1  # one is of a coarser level
    assert (last["what"], last["tiles"]) == ("coarser tile", {"done": 1, "total": 1})
    done = found[-1]
    assert done["pixels"] == sum(done["status"].values()) == 130 * 170
    assert -1 <= done["ncc"]["low"] < done["ncc"]["mean"] < done["ncc"]["high"] <= 1
    # once more: there is nothing to do
    assert names(told(typed(pair, *AS_IS, *SMALL, "--json"))) == ["prepared", "complete"]
    found = told(typed(pair, "verify", "out", "--recompute", "1", "--json"))
    assert names(found) == ["progress", "verified", "right"]
    assert len(found[-2]["recomputed"]) == 1


def test_parts_tell_of_themselves(typed, pair):
    words = ("a.zarr", "b.zarr", "parts", "--as-is", *SMALL, "--json")
    (prepared,) = (e for e in told(typed(pair, "prepare", *words)) if e["event"] == "prepared")
    for part in ("0/2", "1/2"):
        found = told(typed(pair, "run", *words, "--part", part))
        assert names(found) == ["prepared", "progress", "part"]
        assert found[-1]["part"] == part
        assert found[0]["plan_id"] == prepared["plan_id"]
    assert names(told(typed(pair, "finish", "parts", "--json"))) == ["progress", "complete"]
    (pair / "pairs.csv").write_text("reference,moving,output\na.zarr,b.zarr,one\na.zarr,nothing,two\n")
    done = typed(pair, "run", "--pairs", "pairs.csv", "--as-is", "--json")
    found = told(done)
    assert done.returncode == 2
    assert names(found) == ["prepared", "progress", "complete", "lost", "error"]
    assert "two: " in found[-2]["text"]


def test_who_asks_for_silence_hears_of_errors_only(typed, pair):
    for words in (
        (*AS_IS, *SMALL),
        ("verify", "out"),
        ("finish", "out"),
        ("prepare", "a.zarr", "b.zarr", "p", "--as-is"),
    ):
        done = typed(pair, *words, "--quiet")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = typed(pair, "run", "a.zarr", "nothing", "out", "--quiet")
    assert (done.returncode, done.stdout) == (BAD_INPUT, "")
    assert done.stderr.startswith("bigncc: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "a.zarr", "nothing", "out"), "nothing does not exist"),
        (("run", "a.zarr", "--windw", "3"), "Did you mean"),
        (("verify", "nothing"), "plan.json is absent"),
        (("run", "a.zarr", "b.zarr", "out", "--quiet"), "--json and --quiet are given: one of them is accepted"),
    ],
)
def test_what_is_wrong_is_the_last_event_and_a_sentence_for_people(typed, pair, words, sentence):
    done = typed(pair, *words, "--json")
    found = told(done)
    assert names(found) == ["error"]
    assert found[-1]["exit_code"] == BAD_INPUT
    assert sentence in found[-1]["text"]
    assert done.stderr == f"bigncc: {found[-1]['text']}\n"


BROKEN = """
import sys, time
from bigncc import cli
def slow(*_, **__):
    if "bug" in sys.argv:
        raise KeyError("a bug")
    print("here", file=sys.stderr, flush=True)
    time.sleep(60)
cli.config_of = slow
cli.main()
"""


def test_a_bug_and_a_signal_are_the_last_event_as_well(tmp_path):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    words = ["run", "a", "b", "out", "--json"]
    command = [sys.executable, "-c", BROKEN, *words]
    with subprocess.Popen(command, **streams) as process:
        assert process.stderr.readline() == "here\n"
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
    (event,) = told(subprocess.CompletedProcess(command, process.returncode, stdout, stderr))
    assert event["exit_code"] == STOPPED
    assert event["text"] == "stopped by SIGTERM; the same command continues"
    done = subprocess.run([*command, "bug"], **streams)
    (event,) = told(done)
    assert (event["exit_code"], event["text"]) == (1, "KeyError: 'a bug'")
    assert "Traceback" in done.stderr


def test_a_reader_that_goes_away_does_not_end_a_run():
    reading, writing = os.pipe()
    os.close(reading)
    code = (
        "import sys; from bigncc import events; events.tell('json', 'note', (), text='nobody'); sys.stderr.write('on')"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "on")


def test_what_the_words_ask_for():
    assert [events.way_of(words) for words in ([], ["run", "--json"], ["--quiet"], ["run", "--", "--json"])] == [
        "words",
        "json",
        "quiet",
        "words",
    ]


def test_a_result_without_a_value_has_null_and_no_nan(capfd):
    events.tell_result("json", Result("/out", True, Summary(), "as it is"), None, exit_code=0)
    text = capfd.readouterr().out
    assert not re.search("NaN|Infinity", text)
    assert json.loads(text)["ncc"] == {"mean": None, "std": None, "low": None, "high": None}
