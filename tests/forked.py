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


@contextlib.contextmanager
def started():
    """Start; yield a function that runs the command line in a folder with some words."""
    command = [sys.executable, "-m", __spec__.name]
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, env=environment, text=True, **pipes) as process:

        def run(folder, *words):
            words = [str(word) for word in words]
            process.stdin.write(json.dumps([str(folder), words]) + "\n")
            process.stdin.flush()
            return subprocess.CompletedProcess(words, *json.loads(process.stdout.readline()))

        yield run
        process.stdin.close()


def _child(folder, words, files):
    for number, file in enumerate(files):
        os.dup2(file.fileno(), number)
    os.chdir(folder)
    sys.argv = [str(Path(sys.executable).with_name("bigncc")), *words]
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


def main():
    for name in (*(f"bigncc.{room}" for room in ROOMS), *GUESTS):
        importlib.import_module(name)
    for line in sys.stdin:
        folder, words = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open() as nothing:
            child = os.fork()
            if child == 0:
                _child(folder, words, (nothing, out, err))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            texts = [os.pread(file.fileno(), 10**7, 0).decode() for file in (out, err)]
        sys.stdout.write(json.dumps([code, *texts]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
