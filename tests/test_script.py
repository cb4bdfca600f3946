"""Scripts of job arrays: golden text for each scheduler, and what the shell makes of it.

No PBS, LSF or Grid Engine is here: a stand-in takes a job as they do and runs it at once, which proves the shell and
not the options. Those of Slurm are proven in test_slurm.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bigncc import script
from bigncc.config import load
from bigncc.errors import InputError
from tests import test_cli
from tests.test_cli import BAD_INPUT, CONFIGS, REFUSED, bigncc_cli, good, remount, sentence

disk = test_cli.disk
GOLDEN = Path(__file__).parent / "scripts"
KINDS = ("slurm", "pbs", "lsf", "sge")
JOB = [{"reference": {"url": "a b.zarr"}, "moving": {"url": "b.zarr"}, "output": {"url": "it's.ome.zarr"}}]
WORDS = ("a b.zarr", "b.zarr", "it's.ome.zarr", "--window", "9")
SITE = script.Site("/opt/my env/bin/bigncc", "/data/my scans", {"NUMBA_CACHE_DIR": "/data/kept"})


def printed(kind, *words, site=SITE, **table):
    """What is printed for some words, as seen from a job of three."""
    array = (f"cluster.array.scheduler={kind}", "cluster.array.jobs=3", "engine.memory=4GB", "engine.threads=2")
    return script.text(load([*JOB, *array, *words]), WORDS, site, **table)


@pytest.mark.parametrize("kind", KINDS)
def test_golden_text(kind):
    words = ("cluster.array.at_once=2", "cluster.array.time=1h30m", "cluster.array.logs=/data/logs")
    lines = (
        "cluster.array.directives=['-q short', '#SBATCH --account=me']",
        "cluster.array.setup=['module load python']",
    )
    if kind != "slurm":
        lines = (lines[0].replace(", '#SBATCH --account=me'", ""), lines[1])
    assert printed(kind, *words, *lines) == (GOLDEN / f"{kind}.sh").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_golden_text_of_pairs(kind):
    assert printed(kind, table="/data/my pairs.csv", rows=2) == (GOLDEN / f"{kind}_pairs.sh").read_text()


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sh")), ids=lambda path: path.stem)
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_shells_understand_it(path, shell):
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=True)
    assert done.stderr == ""


COMMAND = """#!/bin/sh
printf '%s|' "$PWD" "$NUMBA_CACHE_DIR" "$SETUP" "$@" >>{log}
echo >>{log}
{rest}
"""

# each takes what its scheduler takes, runs the job here as often as its array has jobs, and prints what it prints
STAND_INS = {
    "sbatch": """#!/bin/sh
for word; do case $word in --array=*) array=${word#--array=0-};; esac; last=$word; done
for i in ${array:+$(seq 0 "$array")} ${array:-single}; do
  [ "$array" ] || i=
  [ "$i" = "$array" ] && [ "$seen" ] && continue; [ "$i" = "$array" ] && seen=1
  file= ; for word; do case $word in -*) ;; *) [ "$file" ] || file=$word;; esac; done
  SLURM_ARRAY_TASK_ID=$i bash "$file" "$last"
done >&2
echo "77;cluster"
""",
    "qsub": """#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in
  -J) array=$(seq ${2%-*} ${2#*-}); name=PBS_ARRAY_INDEX; shift;;
  -t) array=$(seq ${2%-*} ${2#*-}); name=SGE_TASK_ID; shift;;
  -v) export "$2"; shift;;
  -terse) id=77.1-3:1;;
  -*) shift;;
  *) [ "$file" ] && step=$1 || file=$1;;
  esac
  shift
done
for i in ${array:-none}; do
  [ "$i" = none ] || export "$name=$i"
  bash "$file" $step
done >&2
echo "${id:-77[].server}"
""",
    "bsub": r"""#!/bin/sh
file=$(mktemp); cat >"$file"
range=$(printf '%s ' "$@" | sed -n 's/.*\[\([0-9]*\)-\([0-9]*\)\].*/\1 \2/p')
for i in $(seq ${range:-1 1}); do
  LSB_JOBINDEX=$i bash "$file"
done >&2
rm "$file"
echo "Job <77> is submitted to queue <normal>."
""",
}
IDS = {"slurm": "77", "pbs": "77[].server", "lsf": "77", "sge": "77"}


def site(folder, rest=""):
    """A place with a program that writes down what it is given, and a stand-in for each scheduler."""
    place = folder / "it's a place"
    place.mkdir()
    for name, text in (*STAND_INS.items(), ("program", COMMAND.format(log=folder / "log", rest=rest))):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return script.Site(str(folder / "program"), str(place), {"NUMBA_CACHE_DIR": "kept here"})


def run(folder, text, *words, shell="bash", **environment):
    (folder / "job.sh").write_text(text)
    path = {"PATH": f"{folder}:{os.environ['PATH']}", **environment}
    return subprocess.run(
        [shell, "job.sh", *words], cwd=folder, env={**os.environ, **path}, capture_output=True, text=True
    )


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_job_runs_what_was_said(tmp_path, kind, shell):
    here = site(tmp_path)
    text = printed(kind, """cluster.array.setup=["export SETUP='done it'"]""", "engine.threads=null", site=here)
    done = run(tmp_path, text, shell=shell)
    ids = " ".join([IDS[kind]] * 3)
    assert (done.returncode, done.stdout) == (0, f"submitted prepare, array, finish: {ids}\n"), done.stderr
    said = [line.split("|")[:-1] for line in (tmp_path / "log").read_text().splitlines()]
    assert {tuple(line[:3]) for line in said} == {(here.place, "kept here", "done it")}
    words = [*WORDS, "engine.threads=1"]
    parts = [["run", *words, "--part", f"{i}/3", "--max-time", "14280s", "--steal"] for i in range(3)]
    assert [line[3:] for line in said] == [["prepare", *words], *parts, ["finish", "it's.ome.zarr"]]


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_one_array(tmp_path, kind):
    done = run(tmp_path, printed(kind, site=site(tmp_path), table="/data/my pairs.csv", rows=2))
    assert (done.returncode, done.stdout) == (0, f"submitted array: {IDS[kind]}\n"), done.stderr
    said = [line.split("|")[3:-1] for line in (tmp_path / "log").read_text().splitlines()]
    given = ["run", "--pairs", "/data/my pairs.csv", *WORDS, "--part"]
    assert said == [[*given, f"{i}/2", "--max-time", "14280s"] for i in range(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_refused_leaves_nothing_in_line(tmp_path, kind):
    here = site(tmp_path)
    # the second of three
    refusing = '#!/bin/sh\n[ -e once ] && {{ echo "no\nsuch queue" >&2; exit 1; }}\ntouch once\necho "{}"\n'
    for name in ("sbatch", "qsub", "bsub"):
        (tmp_path / name).write_text(refusing.format("Job <77> is" if name == "bsub" else "77"))
    for name in ("scancel", "qdel", "bkill"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    done = run(tmp_path, printed(kind, site=here))
    assert done.returncode == BAD_INPUT
    assert done.stderr == "bigncc: array was refused, so nothing is submitted: no such queue \n"
    assert done.stdout == f"{script.DIALECTS[kind].withdraw} 77\n"


@pytest.mark.parametrize(("kind", "code"), [("slurm", 75), ("pbs", 75), ("lsf", 75), ("sge", 99)])
def test_a_job_that_is_warned_hands_it_on_and_ends_as_its_scheduler_wants(tmp_path, kind, code):
    # how Slurm is told, is told by test_slurm
    assert stopped(tmp_path, kind, signal.SIGUSR1) == code


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_is_ended_by_somebody_is_not_put_in_line_again(tmp_path, kind):
    assert stopped(tmp_path, kind, signal.SIGTERM) == 143
    assert not (tmp_path / "again").exists()


def stopped(folder, kind, number):
    """Send a signal to a job whose program takes a while to stop, and return how it ends."""
    rest = 'trap "sleep 0.3; exit 75" USR1 TERM; touch up; i=0; while [ $i -lt 600 ]; do sleep 0.05; i=$((i + 1)); done'
    here = site(folder, rest)
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >{folder}/again\n')
    (folder / "scontrol").chmod(0o755)
    (folder / "job.sh").write_text(printed(kind, site=here))
    path = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    job = subprocess.Popen(["bash", folder / "job.sh", "array"], env={**os.environ, **path})
    while not (Path(here.place) / "up").exists():
        time.sleep(0.01)
    job.send_signal(number)
    code = job.wait(120)
    if kind == "slurm" and number == signal.SIGUSR1:
        assert (folder / "again").read_text() == "requeue 7_1\n"
    return code


def test_a_job_of_pbs_that_does_not_know_its_step_begets_none(tmp_path):
    for kind, name in (("pbs", "PBS_JOBID"), ("lsf", "LSB_JOBID")):
        folder = tmp_path / kind
        folder.mkdir()
        done = run(folder, printed(kind, site=site(folder)), **{name: "7"})
        assert (done.returncode, done.stdout) == (BAD_INPUT, "")
        assert not (folder / "log").exists()


@pytest.mark.parametrize(
    ("words", "asked", "taken"),
    [
        (("engine.memory=4GB",), 5000, None),
        (("engine.memory=null", "cluster.array.memory=5GB"), 5000, 4000),
        (("engine.memory=4GB", "cluster.array.memory=4GB"), 4000, None),
        (("engine.memory=1", "cluster.array.memory=2"), 1, None),
    ],
)
def test_memory_is_asked_for_with_room_to_spare(words, asked, taken):
    text = printed("slurm", *words)
    assert f"#SBATCH --mem={-(-asked * 10**6 // 2**20)}M\n" in text
    assert (f"engine.memory={taken}MB" in text) == (taken is not None)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("engine.memory=null",), "cluster.array.memory and engine.memory are null: one of them"),
        (("cluster.array.memory=3GB",), "cluster.array.memory is 3000 MB and engine.memory 4000 MB: at least that"),
        (
            ("cluster.array.directives=['#PBS -q x']",),
            "cluster.array.directives has '#PBS -q x': lines that begin with",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(words, sentence):
    with pytest.raises(InputError, match=sentence):
        printed("slurm", *words)


def test_prepare_knows_how_many_jobs_there_will_be():
    assert "cluster.array.jobs=16\n" in printed("slurm", "cluster.array.jobs=null")
    assert "cluster.array.jobs" not in printed("slurm", "cluster.array.jobs=null", table="/data/pairs.csv", rows=3)


@pytest.mark.parametrize(
    ("rows", "words", "jobs"),
    [(2, (), 2), (5000, ("cluster.array.jobs=null",), 1000), (5000, (), 3), (1, ("cluster.array.jobs=9",), 1)],
)
def test_a_table_has_a_job_for_each_pair_as_far_as_an_array_goes(rows, words, jobs):
    text = printed("slurm", *words, table="/data/pairs.csv", rows=rows)
    assert f"--array=0-{jobs - 1} " in text
    assert f'--part "$SLURM_ARRAY_TASK_ID/{jobs}"' in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_cannot_become_a_command(tmp_path, kind):
    evil = "$(touch owned)`touch owned`'\"\ntouch owned\n"
    words = (f"cluster.array.scheduler={kind}", "engine.memory=4GB", "cluster.array.jobs=2")
    here = site(tmp_path)
    config = load(
        [*JOB, {"output": {"url": evil}, "cluster": {"array": {"logs": here.place + "/$(touch owned)"}}}, *words]
    )
    done = run(tmp_path, script.text(config, [evil], here))
    assert done.returncode == 0, done.stderr
    assert evil in (tmp_path / "log").read_text()
    assert not list(tmp_path.rglob("owned"))


def test_where_files_and_words_go_into_what_is_printed(tmp_path):
    (tmp_path / "job.yaml").write_text("reference: {url: a}\nmoving: {url: b}\noutput: {url: out.ome.zarr}\n")
    where = CONFIGS / "where" / "slurm_array.yaml"
    words = ("script", "job.yaml", where, "window.size=9", "cluster.array.jobs=5", "--as-is", "--region", "0:9,0:9")
    text = good(tmp_path, *words)
    assert f"\nset -- {tmp_path}/job.yaml {where} window.size=9 cluster.array.jobs=5 --as-is --region 0:9,0:9\n" in text
    assert "--array=0-4 " in text
    assert good(tmp_path, *words, "-o", "my job.sh") == "bash 'my job.sh' submits the jobs\n"
    assert (tmp_path / "my job.sh").read_text() == text
    said = sentence(bigncc_cli(tmp_path, *words, "-o", "my job.sh"), REFUSED)
    assert said == "bigncc: my job.sh exists: a path that does not is accepted"


def test_an_installation_that_cannot_be_written_to_keeps_its_compiled_loops_elsewhere(tmp_path, disk):
    place = disk(tmp_path / "installed", "10m")
    shutil.copytree(Path(script.__file__).parent, place / "bigncc", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "cluster").write_text("import sys\nfrom bigncc.cli import main\nmain()\n")
    words = [sys.executable, place / "cluster", "script", "a", "b", "c", "engine.memory=4GB"]
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(place)}
    environment.pop("NUMBA_CACHE_DIR", None)

    def kept():
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if "NUMBA_CACHE_DIR" in line]

    assert kept() == []
    remount(place, "ro")
    assert kept() == [f"export NUMBA_CACHE_DIR={tmp_path}/home/.cache/bigncc"]
    environment["NUMBA_CACHE_DIR"] = "/data/kept"
    assert kept() == ["export NUMBA_CACHE_DIR=/data/kept"]
