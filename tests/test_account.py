"""What is read of a plan and an output as it is was looked at before, whoever made its checksum."""

import random

import pytest

from bigncc import account, journal
from bigncc.errors import InputError
from tests import pairs
from tests.fuzzing.mutations import of_document

PLAN = {**dict.fromkeys(journal.PLAN, 1), **pairs.SAID}
OUTPUT = pairs.DONE


def test_what_we_write_is_what_we_read():
    assert account.is_of_plan(PLAN)
    assert account.is_of_output(OUTPUT)
    assert account.is_of_output({**OUTPUT, "state": "in-progress", "summary": None})
    # other versions may say more
    assert account.is_of_plan({**PLAN, "more": {"than": "this"}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("plan_id", 7), ("config", "x"), ("config", {}), ("headline", None), ("versions", {"numpy": 2}),
        ("registration", {"estimate": None}),
    ],
)  # fmt: skip
def test_a_word_of_another_kind_is_noticed_whoever_made_the_digest(tmp_path, key, value):
    assert not account.is_of_plan({**PLAN, key: value})
    assert not account.is_of_output({**OUTPUT, key: value})
    url = str(tmp_path / "out")
    journal.settle_plan(url, {**PLAN, key: value})
    with pytest.raises(InputError, match="plan.json is damaged"):
        journal.read_plan(url)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("state", "done"), ("tiles", -1), ("absent", {"reference": "no"}), ("summary", {}), ("summary", None),
        ("summary", {**OUTPUT["summary"], "total": 10**400}), ("summary", {**OUTPUT["summary"], "low": -7}),
        ("sections", [[["0"], []]]), ("sections", [[[0], [[1], [0, 0], [], [0]]], [[-1], [[1], [0, 0], [], [0]]]]),
        ("shift", {"nodes": 1}), ("discoveries", {"share": 2, "p_below": 0.0, "pixels": 0, "histogram": []}),
    ],
)  # fmt: skip
def test_what_an_output_says_of_its_pixels_is_counted(key, value):
    assert not account.is_of_output({**OUTPUT, key: value})


def test_nothing_that_json_can_say_is_more_than_a_no():
    seen = set()
    for dice in map(random.Random, range(1000)):
        for document, reader in ((PLAN, account.is_of_plan), (OUTPUT, account.is_of_output)):
            changed = of_document(document, dice)
            if isinstance(changed, dict):
                seen.add((reader, reader(changed)))
    assert len(seen) == 4
