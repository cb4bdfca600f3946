"""What was freed is used again, and what is there need not be looked through for garbage."""

import gc
import subprocess
import sys
import weakref

from bigncc.allocator import what_is_there_stays

CODE = """
import resource, sys
import numpy as np
from bigncc.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    blocks = [np.ones(2**23, np.uint8) for _ in range(8)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_pages_are_not_given_back_and_asked_for_again():
    faults = {}
    for how in ("keep", "leave"):
        run = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True)
        faults[how] = int(run.stdout)
    pages = 2**26 // 4096
    assert faults["keep"] < 2 * pages
    assert faults["leave"] > 4 * pages


class Ring:
    """An object that only the collector finds to be garbage."""

    def __init__(self):
        self.ring = self


def test_garbage_is_found_in_what_is_new_and_afterwards_in_all():
    gc.collect()
    old = weakref.ref(Ring())
    with what_is_there_stays():
        new = weakref.ref(Ring())
        gc.collect()
        assert old() is not None
        assert new() is None
    gc.collect()
    assert old() is None
