"""Command lines of known words in a senseless order, run in this process; nothing outside of a folder is written."""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import numpy as np
from pydantic import BaseModel

from bigncc import cli, stopping
from bigncc.config import Config
from tests import pairs, strategies
from tests.fuzzing.mutations import HOSTILE, TOKENS, of_bytes

JOBS = ("plan", "plan", "plan", "plan", "prepare", "script", "run", "walk")
OUTPUTS = ("status", "verify", "finish", "report")

OPTIONS = (
    "--window", "--radius", "--stack", "--as-is", "--trust-field", "--region", "--missing-chunks", "--part",
    "--steal", "--repair", "--max-time", "--overwrite", "--pairs", "--json", "--recompute", "--threshold", "-o",
    "--help", "--window=", "--nothing", "--", "-",
)  # fmt: skip
FLAGS = {"--as-is", "--trust-field", "--steal", "--repair", "--json", "--quiet", "--help", "--", "-"}

PLACES = (
    "a.zarr", "a.zarr", "b.zarr", "b.zarr", "zyx.zarr", "file", "nothing", "done", "out", "out", "new\nline",
    "ctrl\x1b[2J", "é\u202e", "..", ".", "", "x" * 300, "\udcff", "\0", "a.zarr/0", "file/x", "job.yaml", "two.yaml",
    "bomb.yaml", "t.csv", "t.json", "ftp://h/x", "file://h/x", "s3://", "zip://a", "out.zip", "[", "~", "-1",
    "reference", "=", "reference=",
)  # fmt: skip

ARGUMENTS = (
    "7", "8", "-7", "0", "1e9", "1000000001", "99999999999999999999", "9" * 5000, "5,7", "5,7,9,11", ",", "31um",
    "0um", "1e99um", "nan", "0:10,5:20", "5:2,0:1", "0:9999,0:9999", "9/3", "0/1", "1/2", "-1/2",
    "1/99999999999999999999", "0" * 32, "1,2", "0,0", "fill", "3h", "0s", "999999999999999999h", "9" * 4400 + "h",
    "text", "", "\0", "\ud800", "a\nb", "t.csv", "job.yaml", "0.5", "2", "inf",
)  # fmt: skip


def keys() -> list[str]:
    """Return every key of the config, and sections."""
    found = []

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            found.append(f"{prefix}{name}")
            kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
            for kind in kinds:
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    walk(kind, f"{prefix}{name}.")

    walk(Config, "")
    return found


KEYS = keys()

SAFE = [
    key
    for key in KEYS
    if key.partition(".")[0] in ("window", "output", "stack", "report", "maps", "reference", "moving")
]
"""What a run may be told: no other processes, no prefilters that have to be compiled first."""


def prepare(folder: Path) -> None:
    """Write what the words name."""
    f = strategies.image(1, (40, 50), "uint8", "noise")
    for name, image in (("a", f), ("b", f // 2), ("zyx", np.stack([f, f]))):
        pairs.store(folder / f"{name}.zarr", image, names=tuple("zyx"[-image.ndim :]))
    (folder / "file").write_text("precious")
    (folder / "job.yaml").write_text("reference: {url: a.zarr}\nmoving: {url: b.zarr}\noutput: {url: out}\n")
    (folder / "two.yaml").write_text("registration: {model: none, transform: t.json}\n")
    (folder / "bomb.yaml").write_text("a: &a [x, x]\nwindow: {size: [*a, *a, *a]}\nx: " + "[" * 5000)
    (folder / "t.csv").write_text("reference,moving,output,window.size\na.zarr,b.zarr,one,7\na.zarr,b.zarr,two,8\n")
    (folder / "t.json").write_text(json.dumps({"kind": "translation", "offset": [0, 1]}))
    answered(folder, ["run", "a.zarr", "b.zarr", "done", "--as-is"])


def drawn(dice: Random) -> list[str]:
    """Return a command line."""
    if dice.random() < 0.25:
        words = [dice.choice(OUTPUTS), *(dice.choice(PLACES) for _ in range(dice.choice((0, 1, 1, 1, 1, 2))))]
        words = ["verify", "done"] if dice.random() < 0.1 else words
    else:
        verb = dice.choice((*JOBS, "register"))
        images = [dice.choice(("a.zarr", "b.zarr")), dice.choice(("b.zarr", "zyx.zarr")), f"made{dice.randrange(5)}"]
        if verb == "register":
            images = images[:2]
        words = [verb, *(images if dice.random() < 0.85 else [dice.choice(PLACES) for _ in range(dice.randrange(5))])]
        known = SAFE if verb == "run" else KEYS
        words += [f"{dice.choice(known)}={_value(dice)}" for _ in range(dice.choice((0, 1, 1, 1, 2)))]
        words += ["--as-is"] if dice.random() < 0.6 else []
    for _ in range(dice.choice((0, 0, 0, 1, 2))):
        option = dice.choice(OPTIONS)
        words.insert(dice.randint(1, len(words)), option)
        if option not in FLAGS and dice.random() < 0.95:
            words.insert(words.index(option) + 1, dice.choice(ARGUMENTS))
    # a folder that is not ours, and a store that has to be waited for, are for other tests
    return [word for word in words if not word.startswith(("/", "http", "s3://b", "gs://", "az://"))]


def _value(dice: Random) -> str:
    how = dice.random()
    if how < 0.2:
        return dice.choice(
            (
                "7",
                "5",
                "3",
                "0.5",
                "true",
                "null",
                "none",
                "[5, 7]",
                "2um",
                "1",
                "0:30,0:40",
                "4GB",
                "gaussian",
                "nearest",
            )
        )
    if how < 0.4:
        return json.dumps(dice.choice(HOSTILE))
    if how < 0.6:
        return dice.choice(TOKENS).decode("utf-8", "surrogateescape")
    if how < 0.9:
        return dice.choice((*ARGUMENTS, *PLACES))
    return of_bytes(dice.choice(ARGUMENTS).encode("utf-8", "surrogatepass"), dice).decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Answer:
    """What came of a command line."""

    code: int
    out: str
    err: str
    seconds: float


def _left(error: Any, failed: Any) -> NoReturn:
    failed(error.exit_code, str(error))
    raise SystemExit(error.exit_code)


def answered(folder: Path, words: list[str]) -> Answer:
    """Run a command line in a folder, as the program does but for the end of the process."""
    begin, code = time.monotonic(), 1
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with _here(folder, words), _caught(1, "stdout", out), _caught(2, "stderr", err):
            try:
                cli.main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
        said = [os.pread(file.fileno(), 10**7, 0).decode("utf-8", "replace") for file in (out, err)]
    return Answer(code, *said, time.monotonic() - begin)


@contextlib.contextmanager
def _caught(number: int, name: str, file: Any) -> Iterator[None]:
    """Let a stream and what it is to the operating system be a file."""
    before, kept = getattr(sys, name), os.dup(number)
    before.flush()
    os.dup2(file.fileno(), number)
    errors = "strict" if number == 1 else "backslashreplace"
    setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", errors=errors, closefd=False))
    try:
        yield
    finally:
        getattr(sys, name).flush()
        setattr(sys, name, before)
        os.dup2(kept, number)
        os.close(kept)


@contextlib.contextmanager
def _here(folder: Path, words: list[str]) -> Iterator[None]:
    import logging

    before, leave, there = sys.argv, stopping.leave, Path.cwd()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)
    handlers, said = [signal.getsignal(number) for number in numbers], list(logging.getLogger("bigncc").handlers)
    sys.argv, stopping.leave = ["bigncc", *words], _left
    os.chdir(folder)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.chdir(there)
        sys.argv, stopping.leave = before, leave
        logging.getLogger("bigncc").handlers[:] = said
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


def faults(answer: Answer) -> list[str]:
    """Return what is wrong with an answer."""
    wrong = []
    if answer.code not in (0, 2, 3, 4, 5, 75):
        wrong.append(f"exit code {answer.code}")
    if "Traceback" in answer.err:
        wrong.append("a traceback")
    lines = answer.err.splitlines()
    if answer.code and not (lines and lines[-1].startswith("bigncc: ")):
        wrong.append(f"no sentence but {answer.err[-200:]!r}")
    if answer.seconds > 5 and "compiling" not in answer.err:
        wrong.append(f"{answer.seconds:.1f} s")
    return wrong
