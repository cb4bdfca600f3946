"""Ten thousand inputs as a stranger might write them: how many of each class are refused, and at what cost.

``python -m tests.benchmarks.hostile [COUNT]`` prints a table. Each class is read by a process of its own with 4 GiB of
address space, which is ended, and counted as one that hangs, if a case takes more than ten seconds.
"""

import json
import select
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.hostile import KINDS

PATIENCE = 10
"""Seconds until a case is said to hang."""


def batch(kind, first, count, folder):
    """Yield how cases went, until one ends the process that reads them."""
    command = [sys.executable, "-m", "tests.hostile", kind, str(first), str(count), folder]
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, bufsize=0) as process:
        at, rest = first, b""
        while True:
            # the first one imports all there is
            ready, _, _ = select.select([process.stdout], [], [], PATIENCE + 60 * (at == first))
            data = process.stdout.read(2**20) if ready else None
            if not data:
                process.kill()
                if data is None:
                    yield {"seed": at, "outcome": "hang", "seconds": PATIENCE, "said": "", "peak": 0}
                elif process.wait() != 0:
                    yield {
                        "seed": at,
                        "outcome": "crash",
                        "seconds": 0,
                        "said": f"exit code {process.returncode}",
                        "peak": 0,
                    }
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                row = json.loads(line)
                if "begun" in row:
                    at = row["begun"]
                else:
                    yield row


def rows(kind, count, folder):
    """Yield how each of `count` cases of a class went."""
    first = 0
    while first < count:
        for row in batch(kind, first, count - first, folder):
            yield row
            first = row["seed"] + 1


def table(total):
    """Return a line for each class, and every case that is neither refused nor read right."""
    lines, bad = [], []
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            found = list(rows(kind, total // len(KINDS), folder))
            counts = Counter(row["outcome"] for row in found)
            bad += [{**row, "kind": kind} for row in found if row["outcome"] not in ("refused", "right")]
            # of the first one, what it imports is no fault of its own
            worst, peak = max(row["seconds"] for row in found[1:]), max(row["peak"] for row in found)
            lines.append({"kind": kind, "count": len(found), **counts, "seconds": worst, "peak": peak})
    return lines, bad


def main():
    lines, bad = table(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    said = [
        "| class | inputs | refused | read right | otherwise | longest | most memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in lines:
        refused, right = each.get("refused", 0), each.get("right", 0)
        said.append(
            f"| {each['kind']} | {each['count']} | {refused} | {right} | {each['count'] - refused - right} | "
            f"{each['seconds']:.2f} s | {each['peak'] / 1e6:.0f} MB |"
        )
    said += [f"{each['kind']} {each['seed']} {each['outcome']} {each['said']}" for each in bad]
    sys.stdout.write("".join(f"{line}\n" for line in said))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
