"""A run that is killed at any moment ends with the right bytes, and what would not is found out.

All of it happens in processes of its own: a process that forks must have no threads, and pytest's has.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import survival

SURVIVED = re.compile(r"(\d+) kills, (\d+) mid-tile, \d+ trials, 0 failed, 0 wrong bytes")


def told(*words):
    """Run tests.survival, which must find nothing wrong; return what it tells of each configuration."""
    command = [sys.executable, "-m", "tests.survival", *words]
    root = Path(__file__).parents[1]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return dict(line.split(": ", 1) for line in ended.stdout.splitlines())


def kills(jobs, shards, count, *words):
    (said,) = told("--kills", str(count), "--jobs", str(jobs), *(["--shards"] if shards else []), *words).values()
    killed, landed = map(int, SURVIVED.match(said).groups())
    assert killed >= count
    assert landed >= count / 3


@pytest.mark.parametrize(("jobs", "shards", "count"), [(1, False, 5), (3, True, 5)])
@pytest.mark.soak
def test_a_run_that_is_killed_at_any_moment_ends_with_the_right_bytes(jobs, shards, count):
    kills(jobs, shards, count)


@pytest.mark.soak
def test_further_maps_survive_too():
    kills(1, False, 100, "--maps")


@pytest.mark.soak
@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_thousand_kills(jobs, shards):
    kills(jobs, shards, 250)


@pytest.mark.soak
def test_a_breach_of_the_protocol_is_found_out_and_a_fault_of_the_storage_is_survived():
    found = told("--mutants", "--kills", "2")
    assert len(found) == len(survival.VARIANTS)
    for name, variant in survival.VARIANTS.items():
        if variant.survives:
            assert SURVIVED.match(found[f"variant, {name}"])
        else:
            assert found[f"mutant, {name}"].startswith("caught after ")


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.soak)])
def test_a_run_that_ends_at_any_step_of_the_protocol_is_continued_to_the_right_bytes(every):
    found = told("--failpoints", str(every))
    those = list(survival.FAILPOINTS)[::every]
    assert found == {f"failpoint, {name}": "died there, right afterwards" for name in those}
