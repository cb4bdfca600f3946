"""A bar on a terminal, lines elsewhere."""

import io
import re

from bigncc import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show(stream):
    with progress.tiles(4, 4000, 0, stream=stream) as advance:
        for _ in range(4):
            advance(1000)
    return stream.getvalue()


def test_plain_lines_without_a_terminal(monkeypatch):
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    lines = show(io.StringIO()).splitlines()
    assert len(lines) == 4
    for number, line in enumerate(lines, 1):
        assert re.fullmatch(rf"tile {number}/4, {25 * number} %, [0-9.]+ Mpixel/s, [0-9]+ s left", line)


def test_workers_are_counted_where_there_are_any():
    for workers, said in ((None, "Mpixel/s, "), (1, "Mpixel/s, 1 worker, "), (3, "Mpixel/s, 3 workers, ")):
        stream = io.StringIO()
        with progress.tiles(1, 1000, 0, stream=stream) as advance:
            advance(1000, workers)
        assert said in stream.getvalue()
    terminal = Terminal()
    with progress.tiles(1, 1000, 0, stream=terminal) as advance:
        advance(1000, 2)
    assert "2 workers" in terminal.getvalue()


def test_few_lines_where_tiles_are_quick():
    assert show(io.StringIO()).count("\n") == 1


def test_a_bar_on_a_terminal():
    text = show(Terminal())
    assert "4/4 tiles" in text
    assert "100 %" in text
    assert "Mpixel/s" in text


def test_what_was_done_before_counts_as_pixels_not_as_speed(monkeypatch):
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    stream = io.StringIO()
    with progress.tiles(1, 4000, 3000, stream=stream) as advance:
        advance(1000)
    assert stream.getvalue().startswith("tile 1/1, 100 %")


def test_what_takes_time_is_said_on_a_terminal_only():
    for stream, said in ((Terminal(), True), (io.StringIO(), False)):
        with progress.waiting("measuring", stream=stream):
            pass
        assert ("measuring" in stream.getvalue()) == said
