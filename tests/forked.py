"""Many runs of the command line for the price of one start: each a process, forked when all is imported."""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOMS = ("cli", "pipeline", "progress", "report", "xarray", "demo")
GUESTS = ("zarr.storage", "dask.array", "yaozarrs.v04", "yaozarrs.v05", "skimage.registration", "scipy.ndimage")


def run(folder, listed):
    """Run the command line in `folder` with each of some words, one after the other."""
    document = json.dumps([[str(word) for word in words] for words in listed])
    command = [sys.executable, "-m", __spec__.name, str(folder)]
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command,
        input=document,
        cwd=root,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        subprocess.CompletedProcess(words, *said) for words, said in zip(listed, json.loads(done.stdout), strict=True)
    ]


def _child(folder, words, files):
    for number, file in enumerate(files, 1):
        os.dup2(file.fileno(), number)
    os.chdir(folder)
    sys.argv = ["bigncc", *words]
    code = 1
    try:
        importlib.import_module("bigncc.cli").main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def main(folder):
    for name in (*(f"bigncc.{room}" for room in ROOMS), *GUESTS):
        importlib.import_module(name)
    said = []
    for words in json.load(sys.stdin):
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                _child(folder, words, (out, err))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            texts = [os.pread(file.fileno(), 10**7, 0).decode() for file in (out, err)]
        said.append([code, *texts])
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
