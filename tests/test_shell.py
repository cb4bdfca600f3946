"""What a shell is told: completed words in a real bash on a real terminal, versions, and the first words."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from bigncc import shell
from bigncc.options import options
from tests.test_cli import BAD_INPUT, SCRIPT, bigncc_cli, sentence

ENVIRONMENT = {**os.environ, "PATH": f"{SCRIPT.parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files whose names begin as keys do, and others."""
    place = tmp_path_factory.mktemp("shell")
    for name in ("window.zarr", "a.ome.zarr", "with space"):
        (place / name).mkdir()
    for name in ("job.yaml", "range.csv"):
        (place / name).touch()
    return place


def completed(line, folder=None):
    """The answers to a line, each with its meaning."""
    environment = {**ENVIRONMENT, "COMP_LINE": line, "_BIGNCC_COMPLETE": "bash_complete"}
    done = subprocess.run([SCRIPT], env=environment, cwd=folder, capture_output=True, text=True, check=True)
    return dict(answer.split("\t") for answer in done.stdout.splitlines() if answer)


def test_a_key_is_completed_part_by_part_as_far_as_the_schema_goes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    every = {option.key for option in options()}
    heads = {f"{key.partition('.')[0]}." for key in every if "." in key} | {"maps="}

    def answers(word):
        return [item.value for item in shell.words(None, None, word)]

    assert {each for letter in "abcdefghijklmnopqrstuvwxyz" for each in answers(letter)} == heads
    found, open_ones = set(), sorted(heads)
    while open_ones:
        word = open_ones.pop()
        if word.endswith("="):
            found.add(word[:-1])
        else:
            assert answers(word), word
            open_ones += answers(word)
    assert found == every
    assert answers("window.border=m") == ["window.border=mirror"]
    assert answers("window.border=x") == answers("nothing") == answers("") == []


def test_words_are_completed_without_what_computes(folder):
    assert list(completed("bigncc run window.siz", folder)) == ["window.size="]
    assert completed("bigncc run a b window.si", folder)["window.size="].startswith("odd number of pixels")
    assert list(completed("bigncc run w", folder)) == ["window.", "window.zarr/", "with space/"]
    assert list(completed("bigncc run reference.mask.url=w", folder)) == [
        "reference.mask.url=window.zarr/",
        "reference.mask.url=with space/",
    ]
    assert set(completed("bigncc re")) == {"register", "report"}
    assert set(completed("bigncc run --re")) == {"--region", "--repair"}
    assert list(completed("bigncc run --missing-chunks no")) == ["nodata"]
    assert list(completed("bigncc completion ")) == ["bash", "zsh", "fish"]
    # files are the shell's business
    assert completed("bigncc report a", folder) == completed("bigncc run ", folder) == {}


def loaded(*words, **environment):
    """The modules that a command line has loaded, and what it printed."""
    code = """
import sys
sys.argv[0] = "bigncc"
from bigncc import cli
try:
    cli.main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env={**ENVIRONMENT, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split()), done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [((), None), (["--help"], None), (["--version"], None), (["completion", "zsh"], None), ((), "bigncc run window.")],
)
def test_what_answers_at_once_loads_no_guest(words, line):
    environment = {} if line is None else {"COMP_LINE": line, "_BIGNCC_COMPLETE": "fish_complete"}
    modules, text = loaded(*words, **environment)
    assert text
    guests = {"numpy", "pydantic", "yaml", "zarr", "dask", "numba", "scipy", "matplotlib", "rich", "xarray"}
    assert not guests & modules


def test_versions_are_those_that_are_installed(tmp_path):
    found = dict(line.split() for line in bigncc_cli(tmp_path, "--version").stdout.splitlines())
    assert list(found)[:2] == ["bigncc", "Python"]
    assert set(shell.GUESTS) <= found.keys()
    for name in found.keys() - {"Python"}:
        assert found[name] == metadata.version(name)


def test_without_words_it_says_three_commands_and_where_the_rest_is(tmp_path):
    done = bigncc_cli(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^  bigncc (\w+) ", done.stdout, re.MULTILINE) == ["demo", "run", "report"]
    assert len(done.stdout.splitlines()) < 10
    named = re.findall(r"bigncc ([a-z-]+)", done.stdout)
    for verb in {"plan", "config", "--help"} & set(named):
        assert bigncc_cli(tmp_path, verb, "--help").returncode == 0


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("rum", "a", "b", "c"), "No such command 'rum'. Did you mean 'run'?"),
        (("run", "a", "b", "c", "--windw", "3"), "No such option '--windw'. Did you mean '--window'?"),
        (("run", "a", "b", "windw.size=3"), "config key windw.size is unknown (is window.size meant?): bigncc config"),
        (("plan", "a", "b", "c", "size=3"), "config key size is unknown (is window.size meant?): bigncc config"),
        (("run", "a", "b", "c", "window.siz=3"), "config key window.siz is unknown"),
    ],
)
def test_what_is_misspelt_is_asked_back_and_nothing_is_made(tmp_path, words, meant):
    assert meant in sentence(bigncc_cli(tmp_path, *words), BAD_INPUT)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def bash(folder):
    """A bash at a terminal, in which a line is typed: its answer is what the line has become."""
    script = folder / "completion.bash"
    script.write_text(bigncc_cli(folder, "completion", "bash").stdout)
    number, terminal = pty.openpty()
    environment = {**ENVIRONMENT, "PS1": "> ", "TERM": "dumb", "INPUTRC": "/dev/null", "HISTFILE": ""}
    words = ["bash", "--noprofile", "--norc", "-i"]
    with subprocess.Popen(
        words, stdin=terminal, stdout=terminal, stderr=terminal, cwd=folder, env=environment, start_new_session=True
    ) as process:
        os.close(terminal)

        def answer(keys, pattern):
            os.write(number, keys.encode())
            text, deadline = "", time.monotonic() + 60
            while not (found := re.search(pattern, text)):
                assert select.select([number], [], [], max(0, deadline - time.monotonic()))[0], repr(text)
                text += os.read(number, 10**5).decode()
            return found[1]

        # ^T prints the line as it is, ^U empties it
        show = """bind -x '"\\C-t": printf "<%s%s>\\n" "<$READLINE_LINE" ">"'"""
        answer(f"stty -echo; {show}; . {script}; echo rea''dy\r", "(ready)\\s+> ")
        yield lambda line: answer(f"{line}\t\x14\x15", "<<(.*)>>")
        process.kill()
    os.close(number)


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("bigncc repo", "bigncc report "),
        ("bigncc run --miss", "bigncc run --missing-chunks "),
        ("bigncc run --missing-chunks no", "bigncc run --missing-chunks nodata "),
        ("bigncc run a b window.siz", "bigncc run a b window.size="),
        ("bigncc run a b window.border=sh", "bigncc run a b window.border=shrink "),
        ("bigncc run reference.mask.url=wind", "bigncc run reference.mask.url=window.zarr/"),
        ("bigncc run cluster.arr", "bigncc run cluster.array."),
        ("bigncc run window.z", "bigncc run window.zarr/"),
        ("bigncc run a.o", "bigncc run a.ome.zarr/"),
        ("bigncc run j", "bigncc run job.yaml "),
        ("bigncc report wit", "bigncc report with\\ space/"),
    ],
)
def test_a_real_bash_completes_a_line(bash, line, whole):
    assert bash(line) == whole


@pytest.mark.parametrize("name", shell.SCRIPTS)
def test_each_shell_has_a_script_that_names_itself(tmp_path, name):
    text = bigncc_cli(tmp_path, "completion", name).stdout
    assert f"_BIGNCC_COMPLETE={name}_complete" in text
    assert len(json.dumps(text)) > 100
    assert "tcsh" in sentence(bigncc_cli(tmp_path, "completion", "tcsh"), BAD_INPUT)
    assert (Path(shell.__file__).parent / "keys.tsv").is_file()
