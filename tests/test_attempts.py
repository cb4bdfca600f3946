"""A tile is tried twice; what became of it is told, and what concerns all tiles stops at once."""

import pytest

from bigncc import attempts, journal
from bigncc.errors import InputError
from bigncc.ledger import Row
from bigncc.progress import Step
from bigncc.summary import Summary


def made(tmp_path, faults):
    """Try to make a tile that fails with some faults, one after the other."""
    left = list(faults)

    def make():
        if left:
            raise left.pop(0)
        return Row(7, Summary(), {}, {})

    return attempts.twice(make, str(tmp_path / "out"), 7), left


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(attempts, "AGAIN", 0.0)


@pytest.mark.parametrize(("faults", "tries", "lost"), [(0, 1, False), (1, 2, False), (2, 2, True), (3, 2, True)])
def test_a_tile_is_tried_twice(tmp_path, faults, tries, lost):
    outcome, left = made(tmp_path, [RuntimeError("no\nluck")] * faults)
    assert len(left) == max(0, faults - 2)
    assert (outcome.row is None) == lost
    assert outcome.step(100, 3) == Step(100, tries, lost, 3)
    quarantined = journal.quarantined(str(tmp_path / "out"))
    assert quarantined == ({7: "RuntimeError: no luck"} if lost else {})


def test_what_another_job_has_made_is_neither_tried_nor_lost():
    assert attempts.Outcome(None, 0).step(100) == Step(100, 0, quarantined=False)


def test_what_concerns_all_tiles_is_raised_at_once(tmp_path):
    with pytest.raises(InputError, match="broken"):
        made(tmp_path, [InputError("broken")])
    assert journal.quarantined(str(tmp_path / "out")) == {}
