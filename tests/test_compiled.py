"""Loops are compiled once, however many processes start at once, and by prepare for all jobs."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bigncc import compiled
from tests import pairs, strategies
from tests.test_cli import SCRIPT

COMPILING = r"^bigncc: compiling (\w+) for (\w+) samples"


def runs(folder, cache, *listed):
    """Run commands at once, with a folder for machine code; return what each had to compile."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}

    def start(words):
        command = [SCRIPT, *map(str, words)]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)

    with ThreadPoolExecutor(len(listed)) as pool:
        done = list(pool.map(start, listed))
    assert [each.returncode for each in done] == [0] * len(listed), [each.stderr for each in done]
    return [re.findall(COMPILING, each.stderr, re.MULTILINE) for each in done]


def test_every_room_with_loops_tells_machine_code_of_old_source_apart():
    rooms = Path(compiled.__file__).parent.glob("*.py")
    compiling = {room.stem for room in rooms if "bigncc.compiled import" in room.read_text(encoding="utf-8")}
    assert compiling == set(compiled.ROOMS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("compiled")
    pairs.pair(place)
    pairs.store(place / "c.zarr", strategies.image(3, (130, 170), "float32", "noise"))
    pairs.store(place / "mask.zarr", np.ones((130, 170), bool))
    (place / "half.json").write_text('{"kind": "translation", "offset": [0.5, -0.25]}')
    (place / "none.json").write_text('{"kind": "translation", "offset": [0, 0]}')
    return place


LOOP = """
import sys, time
from pathlib import Path
import numpy as np
from numba.core import caching
from bigncc.compiled import compiled
save = caching.IndexDataCacheFile._save_index
def slow(self, overloads):  # as on shared storage
    time.sleep(0.3)
    save(self, overloads)
caching.IndexDataCacheFile._save_index = slow
@compiled
def inner(x):
    return x + x
@compiled
def outer(x):
    return inner(x[1])
kind = np.dtype(sys.argv[1])
here = Path(sys.argv[0]).parent
(here / f"{kind}.up").touch()
while len(list(here.glob("*.up"))) < int(sys.argv[2]):
    time.sleep(0.01)
found = outer(np.arange(3, dtype=kind))
assert found == 2, (kind, found)
print(sum(outer.stats.cache_misses.values()))
"""


def test_processes_that_compile_at_once_do_not_lose_what_the_others_keep(tmp_path):
    # numba alone numbers the files of two that write at once alike
    (tmp_path / "loop.py").write_text(LOOP)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def start(kind):
        command = [sys.executable, tmp_path / "loop.py", kind, "4"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    kinds = ["int8", "uint16", "int64", "float32"]
    with ThreadPoolExecutor(len(kinds)) as pool:
        assert list(pool.map(start, kinds)) == ["1\n"] * len(kinds)
        assert list(pool.map(start, kinds)) == ["0\n"] * len(kinds)


@pytest.mark.parametrize(
    ("words", "jobs"),
    [
        pytest.param(("a.zarr", "b.zarr", "plain", "registration.transform=none.json"), 3, marks=pytest.mark.soak),
        pytest.param(
            ("a.zarr", "c.zarr", "pulled", "registration.transform=half.json", "reference.mask.url=mask.zarr"),
            8,
            marks=pytest.mark.soak,
        ),
    ],
    ids=["plain", "pulled"],
)
def test_of_many_that_start_at_once_one_compiles_what_all_of_a_run_needs(folder, tmp_path, words, jobs):
    words = (*words, "output.chunks=[32, 32]")
    compiled = [each for found in runs(folder, tmp_path, *[("prepare", *words)] * jobs) for each in found]
    assert compiled
    assert len(compiled) == len(set(compiled))
    parts = runs(folder, tmp_path, *(("run", *words, "--part", f"{i}/2") for i in range(2)))
    assert [*parts, *runs(folder, tmp_path, ("finish", words[2]))] == [[], [], []]
