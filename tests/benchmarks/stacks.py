"""One stack against itself: which sections are found, and how often a chunk is decoded.

``python -m tests.benchmarks.stacks`` prints what README says of stacks.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import pairs, stacks

SHAPE = (40, 600, 700)
CASES = [
    (kind, how, chunk, lags)
    for kind, how, chunk, lags in (
        ("uint8", "blank", 1, "1"),
        ("uint8", "blank", 16, "1"),
        ("uint16", "blur", 1, "1"),
        ("uint16", "blur", 16, "1"),
        ("uint16", "blank", 16, "1,2"),
    )
]


def alone(folder, lags):
    """Correlate the stack in a folder in this process and print what was found."""
    import bigncc.stack
    from bigncc import allocator, config, pipeline, reading

    allocator.keep_freed_memory()
    made = []

    class Noted(reading.Decoded):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    bigncc.stack.Decoded = Noted
    sections = {"reference": {"url": str(folder / "stack")}, "output": {"url": str(folder / "out")}}
    job = config.load([sections, f"stack.lags={lags}", "window.size=21", "engine.threads=2", "engine.memory=1GB"])
    ready = pipeline.prepare(job)
    result = pipeline.complete(ready)
    (image,) = made
    cells = math.prod(-(-n // c) for n, c in zip(image.shape, image.chunks, strict=True))
    found = {"suspects": result.table.suspects, "steps": result.table.steps, "decodes": image.decoded / cells}
    print(json.dumps(found))  # noqa: T201


def main():
    say = sys.stdout.write
    heads = ("stack", "damage", "z-chunk", "lags", "planted", "found", "decodes per chunk")
    say(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n")
    for kind, how, chunk, lags in CASES:
        with tempfile.TemporaryDirectory() as place:
            image = stacks.sections(SHAPE[0], SHAPE[1:], kind=kind, how=how)
            pairs.store(Path(place) / "stack", image, (chunk, 256, 256), names=("z", "y", "x"))
            command = [sys.executable, "-m", __spec__.name, place, lags]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(run.stdout.splitlines()[-1])
        planted = ", ".join(map(str, sorted([*stacks.SHIFTS, stacks.DAMAGED])))
        named = ", ".join(map(str, found["suspects"])) + (f"; steps {found['steps']}" if found["steps"] else "")
        cells = (f"40 x 600 x 700 {kind}", how, chunk, lags, planted, named, f"{found['decodes']:.2f}")
        say(f"| {' | '.join(map(str, cells))} |\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        alone(Path(sys.argv[1]), sys.argv[2])
    else:
        main()
