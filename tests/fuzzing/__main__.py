"""Feed a parser with what is found to lead to new lines: ``python -m tests.fuzzing journal 600``, by Atheris.

Without a name it says which parsers there are; ``all`` takes one after the other. In the end it says how many inputs
were tried, and which share of the lines of the rooms behind the parser the inputs that were kept do reach.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import Any

ROOMS = Path(__file__).parents[2] / "bigncc"

SLOW, LARGE = 5, 2048
"""Seconds that one input may take, and megabytes that the process may."""


def fuzz(name: str, corpus: str, seconds: int) -> None:
    """Run Atheris in this process, which it ends."""
    import atheris

    # what is compiled must stay as it is
    compiled = [path.stem for path in ROOMS.glob("*.py") if "compiled" in path.read_text()]
    with atheris.instrument_imports(include=["bigncc"], exclude=[f"bigncc.{room}" for room in compiled]):
        from tests.fuzzing.parsers import PARSERS, answered, ground

    parser, here = PARSERS[name], ground()
    for number, seed in enumerate(parser.seeds(here)):
        Path(corpus, f"seed{number}").write_bytes(seed)

    def change(data: bytes, most: int, seed: int) -> bytes:
        dice = Random(seed)
        changed = parser.change(data, dice) if dice.random() < 0.7 else atheris.Mutate(data, most)
        return changed[:most]

    def once(data: bytes) -> None:
        answered(parser, data)

    limits = [f"-max_total_time={seconds}", f"-timeout={SLOW}", f"-rss_limit_mb={LARGE}", "-max_len=65536"]
    options = [*limits, "-len_control=0", "-print_final_stats=1", f"-artifact_prefix={corpus}/../", corpus]
    atheris.Setup([sys.argv[0], *options], once, custom_mutator=change)
    atheris.Fuzz()


def reached(name: str, corpus: Path) -> str:
    """Return which share of the lines within functions of a parser's rooms its corpus reaches."""
    from tests.fuzzing.parsers import PARSERS, answered, ground

    parser = PARSERS[name]
    ground()
    seen: dict[str, set[int]] = {str(ROOMS / f"{room}.py"): set() for room in parser.rooms}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        lines = seen.get(frame.f_code.co_filename)
        if lines is None:
            return None
        if event == "line":
            lines.add(frame.f_lineno)
        return trace

    sys.settrace(trace)
    try:
        for path in sorted(corpus.iterdir()):
            answered(parser, path.read_bytes())
    finally:
        sys.settrace(None)
    told = []
    for file, lines in seen.items():
        every = set(_lines(compile(Path(file).read_text(), file, "exec"), inside=False))
        told.append(f"{Path(file).stem} {len(lines & every)} of {len(every)}")
    return ", ".join(told)


def _lines(code: CodeType, *, inside: bool) -> set[int]:
    own = (
        {line for _, _, line in code.co_lines() if line is not None and line != code.co_firstlineno}
        if inside
        else set()
    )
    return own.union(*(_lines(each, inside=True) for each in code.co_consts if isinstance(each, CodeType)))


def main(words: list[str]) -> int:
    """Do what the words say; return 0 if no parser failed."""
    if len(words) == 3:  # before anything is imported
        fuzz(words[0], words[1], int(words[2]))
        return 1  # it does not return
    from tests.fuzzing.parsers import PARSERS

    if not words or not {words[0]} <= {*PARSERS, "all"}:
        sys.stdout.write(f"{__doc__}\n{' '.join(PARSERS)}\n")
        return 0
    seconds, failed = int(words[1]) if len(words) > 1 else 60, 0
    for name in PARSERS if words[0] == "all" else (words[0],):
        with tempfile.TemporaryDirectory() as place:
            corpus = Path(place, "corpus")
            corpus.mkdir()
            command = [sys.executable, "-m", "tests.fuzzing", name, str(corpus), str(seconds)]
            here = {**os.environ, "TMPDIR": place}  # what it leaves goes with the corpus
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=here, check=False)
            inputs = re.search(r"number_of_executed_units: *(\d+)", done.stderr)
            edges = re.findall(r"cov: (\d+)", done.stderr)
            if done.returncode:
                failed += 1
                sys.stdout.write(f"{done.stdout[-3000:]}\n{done.stderr[-600:]}\n")
                for path in sorted(Path(place).iterdir()):
                    sys.stdout.write(f"{path.name}: {path.read_bytes()[:2000]!r}\n" if path.is_file() else "")
            told = reached(name, corpus) if done.returncode == 0 else "failed"
            tried = inputs[1] if inputs else "?"
            kept = len(list(corpus.iterdir()))
            sys.stdout.write(
                f"{name}: {tried} inputs in {seconds} s, {kept} kept, {(edges or ['?'])[-1]} edges; {told}\n"
            )
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
