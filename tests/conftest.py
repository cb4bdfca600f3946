"""Profiles of hypothesis, and what a skipped test means."""

import os
import signal

import pytest
from hypothesis import settings

# in the background of a script ^C is ignored, and so it would be by what the tests start
signal.signal(signal.SIGINT, signal.default_int_handler)

# the same cases at every run, so that a red build can be repeated
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("search", deadline=None, max_examples=2000)
# each mutant is a run, so that a few examples must find it
settings.register_profile("mutants", settings.get_profile("ci"), max_examples=30)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


LONGEST = (
    "test_slurm",
    "test_survival",
    "test_readme",
    "test_cli",
    "test_worker",
    "test_lazy",
    "test_remote",
    "test_pyramid",
)
"""Files that take more than half a minute: they come first, so that no worker has one of them left in the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which counts as a failure where CI=true"
    return report
