"""Many runs of the command line for the price of one start: each a process, forked when all is imported."""

import contextlib
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOMS = ("cli", "pipeline", "progress", "report", "xarray", "demo")
GUESTS = (
    "zarr.storage",
    "dask.array",
    "yaozarrs.v04",
    "yaozarrs.v05",
    "skimage.registration",
    "scipy.ndimage",
    "distributed",
    "jinja2",
)


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


def _warm_up():
    """Load what nearly all commands load when they first need it; nothing of it starts a thread."""
    for name in (*(f"bigncc.{room}" for room in ROOMS), *GUESTS):
        importlib.import_module(name)
    import numpy as np

    from bigncc import kernel, report
    from bigncc.pyramid import Halving, Maps
    from bigncc.resampling import pull
    from bigncc.summary import Summary
    from bigncc.tiles import roi_of
    from bigncc.transform import Translation
    from bigncc.window import Window

    whole = roi_of((0, 0), (20, 20))
    for dtype in (np.uint8, np.uint16):
        image = np.arange(400, dtype=dtype).reshape(20, 20)
        block = kernel.local(image, image, Window((7, 7)))
        pull(Translation((0.5, 0.5)), image, None, whole, whole, image.shape, 1)
    Halving(2, 0.0).reduced(Maps(block.ncc, block.status))
    with tempfile.TemporaryDirectory() as folder:
        report.draw([report.Panel("", image, image, block.ncc, Summary(), 1)], Path(folder, "a.png"))
    gc.freeze()  # or each child copies all pages when it first collects garbage


def main():
    _warm_up()
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
