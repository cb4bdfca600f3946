"""``python -m tests.benchmarks.encodings``: what the demo's map takes on disk by ``output.encoding``, and its errors.

The registered map of the stereo pair, 500 x 741 pixels, window 9 x 9; a chunk each, without pyramid.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

WAYS = {
    "float32": (),
    "float32, keepbits 10": ("output.keepbits=10",),
    "float32, keepbits 7": ("output.keepbits=7",),
    "float16": ("output.encoding=float16",),
    "int16": ("output.encoding=int16",),
    "uint8": ("output.encoding=uint8",),
}


def say(line):
    sys.stdout.write(line + "\n")


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measured(folder, name, words):
    """Run the demo's job with an encoding; return its values and the bytes that they take."""
    from bigncc import pipeline
    from bigncc.config import load
    from bigncc.result import open_result

    out = folder / name
    pipeline.run(load([str(folder / "registered.yaml"), f"output.url={out}", "output.pyramid=false", *words]))
    return open_result(out)["ncc"].values, size(out / "0")


def main():
    from bigncc import demo

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for _ in demo.run(place):
            pass
        exact, whole = measured(folder, "exact", ())
        say("| `output.encoding` | bytes per value | of float32 | largest error | RMS error |\n|---|---|---|---|---|")
        for name, words in WAYS.items():
            values, taken = measured(folder, name, words)
            assert (np.isnan(values) == np.isnan(exact)).all()
            off = np.abs(values.astype(float) - exact)[~np.isnan(exact)]
            errors = (f"{each:.1e}" if each else "0" for each in (off.max(), np.sqrt((off**2).mean())))
            say(f"| {name} | {taken / exact.size:.2f} | {taken / whole:.0%} | {' | '.join(errors)} |")


if __name__ == "__main__":
    main()
