"""Looking on: what is seen is what the journal has, and it ends when the run has ended."""

import json
import os
import pty
import re
import signal
import subprocess
import time

import pytest
from click.testing import CliRunner

from bigncc import journal, lookout, pipeline
from bigncc.cli import cli
from bigncc.errors import IncompleteError, InputError
from bigncc.proof import status
from tests import pairs
from tests.test_cli import SCRIPT, STOPPED
from tests.test_progress import _read


@pytest.fixture
def job(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    return pairs.job(reference, moving, tmp_path / "out")


def test_each_look_is_what_status_says_until_the_run_is_complete(job):
    ready = pipeline.prepare(job)
    url = ready.job.url
    looks = lookout.looks(url, 0.01)
    assert next(looks).pixels_done == 0
    for part in ((0, 3), (1, 3)):
        pipeline.complete(ready, part=part)
        seen, said = next(looks), status(url)
        assert (seen.tiles_done, seen.tiles) == (said["tiles"]["done"], said["tiles"]["total"])
        assert (seen.pixels_done, seen.pixels) == (said["pixels"]["done"], said["pixels"]["total"])
        assert seen.speed > 0
        assert seen.left == pytest.approx((seen.pixels - seen.pixels_done) / seen.speed)
    pipeline.complete(ready)
    last = list(looks)
    assert len(last) == 1
    assert (last[0].percent, last[0].left) == (100, 0)
    assert list(lookout.looks(url, 0.01)) == []


def test_what_was_there_before_is_not_counted_as_speed(job):
    ready = pipeline.prepare(job)
    pipeline.complete(ready, part=(0, 2))
    looks = lookout.looks(ready.job.url, 0.01)
    first, second = next(looks), next(looks)
    assert first.pixels_done == second.pixels_done > 0
    assert (first.speed, first.left, second.speed, second.left) == (None, None, 0, None)


def test_it_ends_when_all_that_is_missing_is_quarantined(job):
    ready = pipeline.prepare(job)
    url, plan = ready.job.url, ready.job.plan
    pipeline.complete(ready, part=(0, 2))
    looks = lookout.looks(url, 0.01)
    assert next(looks).quarantined == 0
    for tile in range(plan.base // 2, plan.base):
        assert next(looks).quarantined == tile - plan.base // 2
        journal.quarantine(url, tile, "so")
    assert next(looks).quarantined == plan.base - plan.base // 2
    with pytest.raises(IncompleteError, match=r"tile \d+ failed twice \(so\)"):
        next(looks)


def test_there_is_nothing_to_look_at(tmp_path):
    with pytest.raises(InputError):
        next(lookout.looks(str(tmp_path / "nothing"), 1))


@pytest.fixture
def half(job):
    """A run of which a half is done, and nobody goes on."""
    pipeline.complete(pipeline.prepare(job), part=(0, 2))
    return job


def watching(folder, *words, **streams):
    """Look on ten times a second, in a process."""
    command = [SCRIPT, "status", "out", "--watch", "--every", "0.1", *words]
    return subprocess.Popen(command, cwd=folder, **streams)


def test_who_watches_sees_the_run_go_on_and_end(half, tmp_path):
    with watching(tmp_path, "--json", stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        pipeline.run(half)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    *looks, last = map(json.loads, [first, *rest.splitlines()])
    assert {look["event"] for look in looks} == {"progress"}
    assert looks[0]["tiles"]["done"] < looks[-1]["tiles"]["done"] == looks[-1]["tiles"]["total"]
    assert last == status(half.output.url)


def test_status_names_what_is_quarantined_and_lines_are_written_where_there_is_no_terminal(half):
    url = half.output.url
    for tile in range(status(url)["tiles"]["total"]):
        journal.quarantine(url, tile, "so")  # of those that are done it is not believed
    done = CliRunner().invoke(cli, ["status", url, "--watch"])
    assert isinstance(done.exception, IncompleteError)
    assert re.fullmatch(r"\S+ tile \d+/\d+, \d+ %, \d+ quarantined\n", done.output)
    done = CliRunner().invoke(cli, ["status", url])
    assert done.exit_code == 0
    assert re.search(r"^  quarantined +tiles 0, 1, ", done.output, re.MULTILINE)
    done = CliRunner().invoke(cli, ["status", url, "--every", "1"])
    assert "--every 1 is given without --watch" in str(done.exception)


def test_it_redraws_on_a_terminal_and_leaves_that_as_it_was(half, tmp_path):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with watching(tmp_path, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        text, deadline = b"", time.monotonic() + 60
        while text.count(b"tile ") < 3 and time.monotonic() < deadline:
            text += _read(ours)
        process.send_signal(signal.SIGINT)
        while part := _read(ours):
            text += part
    os.close(ours)
    assert process.returncode == STOPPED
    assert text.count(b"\x1b[?25l") == text.count(b"\x1b[?25h") == 1  # the cursor
    assert text.count(b"\x1b[2K") > 2
    assert b"bigncc: stopped by SIGINT; the same command continues" in text
    assert b"Traceback" not in text
