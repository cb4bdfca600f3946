"""What was freed is used again."""

import subprocess
import sys

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
