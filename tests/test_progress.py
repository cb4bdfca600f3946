"""A bar on a terminal, lines elsewhere; the numbers in them are true."""

import io
import os
import pty
import re
import subprocess
import sys
from datetime import datetime
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc import progress
from bigncc.progress import Step

LINE = r"(\S+) tile (\d+)/(\d+), (\d+) %, ([0-9.]+) Mpixel/s(.*), (.+) left"


class Terminal(io.StringIO):
    def isatty(self):
        return True


FOUR = (Step(1000),) * 4


def show(stream, steps=FOUR, pixels=4000, done=0):
    with progress.shown(len(steps), pixels, done, stream=stream) as advance:
        for step in steps:
            advance(step)
    return stream.getvalue()


@pytest.fixture
def at_once(monkeypatch):
    """A line for each tile."""
    monkeypatch.setattr(progress, "PAUSE", 0.0)


def test_plain_lines_without_a_terminal(at_once):
    before = datetime.now().astimezone().replace(microsecond=0)
    lines = show(io.StringIO()).splitlines()
    assert len(lines) == 4
    for number, line in enumerate(lines, 1):
        stamp, *words = re.fullmatch(LINE, line).groups()
        assert words[:3] == [str(number), "4", str(25 * number)]
        said = datetime.fromisoformat(stamp)
        assert said.utcoffset() is not None
        assert before <= said <= datetime.now().astimezone()


def test_few_lines_where_tiles_are_quick_but_one_at_once_for_what_is_lost():
    assert show(io.StringIO()).count("\n") == 1
    lost = show(io.StringIO(), [Step(1000), Step(1000, 2, quarantined=True), Step(1000), Step(1000)])
    assert [re.search(r"tile (\d)", line)[1] for line in lost.splitlines()] == ["2", "4"]


STEPS = st.lists(
    st.builds(Step, st.integers(0, 10**7), st.integers(0, 2), st.booleans(), st.none() | st.integers(1, 9)).map(
        # what others have made is not lost here
        lambda step: step if step.tries else Step(step.pixels, 0, workers=step.workers)
    ),
    min_size=1,
    max_size=40,
)


@given(steps=STEPS, there=st.integers(0, 10**6), seconds=st.lists(st.floats(0.01, 1e4), min_size=61, max_size=61))
def test_an_account_is_what_became_of_the_tiles(steps, there, seconds):
    pixels = there + sum(step.pixels for step in steps)
    times = accumulate(seconds)
    count = progress.counting(len(steps), pixels, there, lambda: next(times))
    for number, step in enumerate(steps, 1):
        found, past = count(step), steps[:number]
        assert found.tiles_done == number
        assert found.pixels_done == there + sum(s.pixels for s in past if not s.quarantined)
        assert found.retried == sum(s.tries > 1 for s in past)
        assert found.quarantined == sum(s.quarantined for s in past)
        assert found.percent == 100 or found.pixels_done < pixels
        made = sum(s.pixels for s in past if s.tries and not s.quarantined)
        elapsed = sum(seconds[1 : number + 1])
        if number <= progress.TILES or elapsed < progress.SECONDS:
            assert found.speed == pytest.approx(made / elapsed)
        # of what nobody will make here there is nothing left
        missing = sum(s.pixels for s in steps[number:])
        assert found.left is None if not found.speed else found.left == pytest.approx(missing / found.speed)


@pytest.mark.parametrize(("workers", "wave"), [(None, 1), (2, 2), (50, 50)])
def test_a_steady_run_has_its_speed_and_one_that_slows_down_the_new_one(workers, wave):
    """Tiles of workers that began together come together: no wave may look like the end of all waiting."""
    clock = [0.0]
    waves = 60
    count = progress.counting(waves * wave * 2, 10**12, 0, lambda: clock[0])
    for seconds in (100.0, 300.0):
        for _ in range(waves):
            clock[0] += seconds
            for _ in range(wave):
                found = count(Step(1000, workers=workers))
            if clock[0] <= 6000:
                assert found.speed == pytest.approx(10 * wave)
        # what was long ago counts no more
        assert found.speed == pytest.approx(1000 * wave / seconds, rel=0.02)


def test_what_was_there_and_what_others_made_is_pixels_and_not_speed():
    clock = iter([0.0, 10.0, 20.0])
    count = progress.counting(2, 4000, 2000, lambda: next(clock))
    found = count(Step(1000, 0))
    assert (found.percent, found.speed, found.left) == (75, 0, None)
    found = count(Step(1000))
    assert (found.percent, found.speed, found.left) == (100, 50, 0)


def test_what_is_said_of_tiles_that_went_wrong_and_of_workers(at_once):
    text = show(io.StringIO(), [Step(1000, 2), Step(1000, 2, quarantined=True), Step(1000), Step(1000)])
    assert ", 1 tried again, 0" in text.splitlines()[0]
    assert text.count(", 2 tried again, 1 quarantined, ") == 3
    assert "tile 4/4, 75 %" in text
    for workers, said in ((None, "Mpixel/s, 0 s"), (1, "Mpixel/s, 1 worker, "), (3, "Mpixel/s, 3 workers, ")):
        assert said in show(io.StringIO(), [Step(4000, workers=workers)])
    assert "2 workers" in show(Terminal(), [Step(4000, workers=2)])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (6000, "1 h 40 min"), (190_000, "2 d 4 h")],
)
def test_times_as_people_say_them(seconds, words):
    assert progress.time_in_words(seconds) == words


def test_a_bar_on_a_real_terminal_of_80_columns():
    code = """
import time
from bigncc.progress import Step, shown
with shown(4, 4000, 1000) as advance:
    for tries, lost in ((1, False), (2, False), (2, True)):
        advance(Step(1000, tries, lost, 12))
        time.sleep(0.2)
"""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=environment) as process:
        os.close(theirs)
        text = b""
        while part := _read(ours):
            text += part
    os.close(ours)
    assert process.returncode == 0
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"\n", text).decode()
    assert "tile 0/4" in plain
    assert "tile 3/4" in plain
    assert "75 % " in plain
    assert "12 workers, 2 tried" in plain
    assert "1 quarantined" in plain
    assert max(map(len, re.split(r"[\r\n]+", plain))) <= 80
    assert text.count(b"\x1b[?25l") == text.count(b"\x1b[?25h")  # the cursor is there again


def _read(number):
    try:
        return os.read(number, 10**5)
    except OSError:  # as Linux says of a terminal that nobody has open
        return b""


def test_what_takes_time_is_said_on_a_terminal_only():
    for stream, said in ((Terminal(), True), (io.StringIO(), False)):
        with progress.waiting("measuring", stream=stream):
            pass
        assert ("measuring" in stream.getvalue()) == said
