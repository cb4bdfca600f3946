"""Job arrays on a real Slurm of two nodes: the script as it is printed, and what may happen to its jobs.

All chains run at once, since most of their time is Slurm's.
"""

import json
import re
import subprocess
import sys

import pytest

from bigncc import pipeline
from tests import pairs
from tests.slurm import Slurm, until
from tests.test_cli import SCRIPT, computed, good, sentence

WORDS = (
    "registration.transform=none.json",
    "registration.trust_field=true",
    "--window",
    "31",
    "output.chunks=[64, 64]",
    "engine.memory=364MB",
    "engine.threads=1",
)
BAD_INPUT = 4
JOBS = 2

# in the first job of the array: more memory than was asked for, as long as there is no file that stops it
GLUTTON = "import time; x = b'x' * 10**9; time.sleep(60)"
HOG = f'[ "$step$SLURM_ARRAY_TASK_ID" != array0 ] || [ -e fed ] || python3 -c "{GLUTTON}" &'


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with Slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pair whose run takes some seconds and many tiles, and the map of one process."""
    place = tmp_path_factory.mktemp("chains")
    pairs.pair(place, (1600, 1600), chunks=(128, 128))
    (place / "many.csv").write_text(
        "moving,reference,output,output.region\n"
        "b.zarr,a.zarr,one,'0:300,0:300'\n"
        "nowhere.zarr,a.zarr,two,\n"
        "b.zarr,a.zarr,three,'300:600,0:300'\n".replace("'", '"')
    )
    (place / "none.json").write_text('{"kind": "translation", "offset": [0, 0]}')
    sections = {"reference": {"url": f"{place}/a.zarr"}, "moving": {"url": f"{place}/b.zarr"}, "window": {"size": 31}}
    given = {"transform": f"{place}/none.json", "trust_field": True}
    pipeline.run({**sections, "output": {"url": f"{place}/whole"}, "registration": given})
    return place


def _place(job):
    return job.get("ArrayTaskId", "")


class Chain:
    """A script that was printed for an output, and its jobs."""

    def __init__(self, slurm, folder, out, *words, table=False):
        self.slurm, self.folder, self.out, self.file = slurm, folder, out, folder / f"{out}.sh"
        # more than it takes, as some of it depends on the machine
        limits = ("cluster.array.time=10m", "cluster.array.memory=700MB")
        array = (f"cluster.array.jobs={JOBS}", *limits, *words, "-o", self.file.name)
        what = ("--pairs", f"{out}.csv") if table else ("a.zarr", "b.zarr", out)
        good(folder, "script", *what, *WORDS, *array)

    def submit(self):
        said = self.slurm.do("bash", self.file, folder=self.folder)
        self.ids = re.fullmatch(r"submitted (?:prepare, array, finish|array):((?: \d+)+)\n", said)[1].split()
        return self

    def tasks(self, state="RUNNING"):
        return [job for job in self.slurm.jobs(self.ids[1]) if job["JobState"] == state]

    def working(self, least=2):
        """Wait until jobs of the array run and have some tiles; return them."""
        until(lambda: len(computed(self.folder / self.out)) >= least and self.tasks(), self.explain)
        return self.tasks()

    def begun(self, *tasks):
        """Say whether tasks of the array have said something: then their scripts have long set their traps."""
        paths = [self.folder / f"bigncc-{self.out}-array-{self.ids[1]}_{task}.log" for task in tasks]
        return all(path.exists() and path.stat().st_size for path in paths)

    def ended(self):
        """Wait for the end and return the states of prepare, array and finish, each in their order."""
        jobs = self.slurm.ended(*self.ids, seconds=240)
        of = [[job for job in jobs if job.get("ArrayJobId", job["JobId"]) == i] for i in self.ids]
        return [[job["JobState"] for job in sorted(each, key=_place)] for each in of]

    def restarts(self):
        return [job["Restarts"] for job in sorted(self.slurm.jobs(self.ids[1]), key=_place)]

    def logs(self, step=""):
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"bigncc-{self.out}-{step}*.log")))

    def log(self, step, task):
        return (self.folder / f"bigncc-{self.out}-{step}-{self.ids[1]}_{task}.log").read_text()

    def explain(self):
        of = ("JobName", "ArrayTaskId", "JobState", "ExitCode", "Reason", "Restarts")
        jobs = (" ".join(job.get(name, "-") for name in of) for job in self.slurm.jobs(*self.ids))
        return "\n".join((*jobs, self.logs()))

    def complete(self, capsys):
        """Assert that the map is that of one process, and say how many tiles were computed twice."""
        pairs.same(pairs.maps(self.folder / self.out), pairs.maps(self.folder / "whole"))
        assert not pipeline.verify(self.folder / self.out).faults
        tiles = computed(self.folder / self.out)
        with capsys.disabled():
            sys.stdout.write(f"\n{self.out}: {len(tiles) - len(set(tiles))} of {len(set(tiles))} tiles twice\n")
        return len(tiles) - len(set(tiles))


@pytest.fixture(scope="module")
def chains(slurm, folder):
    """All chains, each with what happened to it."""
    here, there = ("cluster.array.directives=[--nodelist=n1]", "cluster.array.directives=['#SBATCH --nodelist=n2']")
    hog = f"cluster.array.setup={json.dumps([HOG])}"
    crashed = Chain(slurm, folder, "crashed", there).submit()
    plain = Chain(slurm, folder, "plain", here).submit()
    unfed = Chain(slurm, folder, "unfed", here)
    unfed.file.write_text(unfed.file.read_text().replace("b.zarr", "nowhere.zarr"))
    unfed.submit()
    hungry = Chain(slurm, folder, "hungry", here, hog, "cluster.array.jobs=1").submit()
    many = Chain(slurm, folder, "many", here, table=True).submit()

    # first, as all of it runs at once and is over soon
    until(lambda: len(crashed.working(12)) == JOBS, crashed.explain)
    running = crashed.tasks()
    assert slurm.crash("n2", *(job["JobId"] for job in running))
    until(lambda: not crashed.tasks(), crashed.explain)
    slurm.start("n2")
    # only now, as it must be caught at work
    troubled = Chain(slurm, folder, "troubled", here, hog, "cluster.array.jobs=4").submit()
    until(
        lambda: {task["ArrayTaskId"] for task in troubled.working()} >= {"2", "3"} and troubled.begun(2, 3),
        troubled.explain,
    )
    slurm.do("scontrol", "requeue", f"{troubled.ids[1]}_2")
    slurm.do("scancel", "--batch", "--signal=USR1", f"{troubled.ids[1]}_3")
    hungry.first = hungry.ended(), slurm.jobs(hungry.ids[2])[0]["ExitCode"], computed(folder / "hungry")
    (folder / "fed").touch()
    hungry.submit()
    return {chain.out: chain for chain in (plain, troubled, crashed, unfed, hungry, many)}


def test_the_script_as_it_is_printed_makes_the_map(chains, capsys):
    chain = chains["plain"]
    assert chain.ended() == [["COMPLETED"], ["COMPLETED"] * JOBS, ["COMPLETED"]], chain.explain()
    assert chain.complete(capsys) < 40
    assert "complete: " in chain.logs("finish")


def test_jobs_that_are_stopped_go_on_and_what_one_that_is_killed_had_to_do_is_done_by_others(chains, capsys):
    chain = chains["troubled"]
    prepare, array, finish = chain.ended()
    assert (prepare, finish) == (["COMPLETED"], ["COMPLETED"]), chain.explain()
    assert array == ["FAILED"] + ["COMPLETED"] * 3, chain.explain()
    # the first took more memory than it had asked for, and it was a real kill
    assert "exceeded memory limit" in chain.log("array", 0)
    # Slurm put the third in line again, and the fourth itself, when it was warned; the others nobody
    assert "stopped by SIGTERM" in chain.log("array", 2)
    assert "stopped by SIGUSR1" in chain.log("array", 3)
    assert chain.restarts() == ["0", "0", "1", "1"]
    assert chain.complete(capsys) < 40


def test_what_nobody_could_finish_is_said_and_the_same_script_continues(chains, capsys):
    chain = chains["hungry"]
    states, code, before = chain.first
    assert (states, code) == ([["COMPLETED"], ["FAILED"], ["FAILED"]], "2:0"), chain.explain()
    assert "exceeded memory limit" in chain.logs("array")
    assert re.search(r"hungry has \d+ of \d+ tiles: run the same command again to complete it", chain.logs("finish"))
    assert chain.ended() == [["COMPLETED"]] * 3, chain.explain()
    assert chain.complete(capsys) == 0
    assert computed(chain.folder / chain.out)[: len(before)] == before


def test_a_node_that_is_lost_takes_no_tile_with_it(chains, capsys):
    chain = chains["crashed"]
    assert chain.ended() == [["COMPLETED"], ["COMPLETED"] * JOBS, ["COMPLETED"]], chain.explain()
    assert "1" in chain.restarts()
    assert chain.complete(capsys) < 40


def test_what_cannot_be_prepared_leaves_nothing_in_line(chains):
    chain = chains["unfed"]
    assert chain.ended() == [["FAILED"], ["CANCELLED"], ["FAILED"]], chain.explain()
    assert "nowhere.zarr" in chain.logs("prepare")
    assert "plan.json is absent" in chain.logs("finish")


def test_a_table_of_pairs_is_shared_and_a_bad_pair_stops_no_other(chains, folder):
    chain = chains["many"]
    # the second of two jobs has the second pair and the third
    assert chain.ended() == [["COMPLETED", "FAILED"]], chain.explain()
    assert [job["ExitCode"] for job in chain.slurm.jobs(*chain.ids) if job["JobState"] == "FAILED"] == ["2:0"]
    assert "1 of 2 pairs failed (two)" in chain.logs("array")
    whole = pairs.maps(folder / "whole")
    pairs.same(pairs.maps(folder / "one"), {name: array[:300, :300] for name, array in whole.items()})
    pairs.same(pairs.maps(folder / "three"), {name: array[300:600, :300] for name, array in whole.items()})


def options(**more):
    """Words of a run by two jobs that come to a scheduler in its process."""
    there = {"cores": 1, "memory": "800MB", "walltime": "0:10:00", "interface": "lo", "log_directory": "logs", **more}
    return ("cluster.kind=slurm", "cluster.workers=2", f"cluster.options={json.dumps(there)}")


def test_jobs_of_dask_jobqueue_make_the_map_and_one_that_is_lost_costs_no_finished_tile(slurm, folder):
    command = [SCRIPT, "run", "a.zarr", "b.zarr", "distributed", *WORDS, *options(), "output.region=0:700,0:1600"]
    out, pipe = folder / "distributed", subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=slurm.environment, stdout=pipe, stderr=pipe, text=True) as run:
        until(lambda: len(computed(out)) >= 10, lambda: slurm.do("squeue"))
        jobs = slurm.do("squeue", "-h", "-o", "%i", "--name=dask-worker").split()
        assert len(jobs) == 2
        assert list(folder.glob(".bigncc-tls-*/key"))
        slurm.do("scancel", "--full", "--signal=KILL", jobs[0])
        until(lambda: slurm.jobs(jobs[0])[0]["JobState"] != "RUNNING", lambda: slurm.jobs(jobs[0]))
        there = computed(out)
        stdout, stderr = run.communicate(timeout=200)
    assert run.returncode == 0, stderr
    assert "Traceback" not in stdout + stderr
    assert len(there) < len(computed(out)) - 10  # it was half way
    pairs.same(pairs.maps(out), {name: array[:700] for name, array in pairs.maps(folder / "whole").items()})
    assert "right: " in good(folder, "verify", "distributed")
    assert len(computed(out)) == len(set(computed(out)))
    until(lambda: not slurm.do("squeue", "-h", "--name=dask-worker"), "jobs that stay")
    assert not list(folder.glob(".bigncc-tls-*"))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            {"queue": "nowhere"},
            r"slurm refuses the jobs \(sbatch: error: .*Invalid partition.*\): other cluster.options",
        ),
        ({"job_mem": "900GB"}, r"slurm refuses the jobs \(sbatch: error: .*\): other cluster.options"),
    ],
)
def test_what_slurm_refuses_of_dask_jobqueue_is_one_sentence(slurm, folder, more, reason):
    command = [SCRIPT, "run", "a.zarr", "b.zarr", "nothing", *WORDS, *options(**more)]
    done = subprocess.run(command, cwd=folder, env=slurm.environment, capture_output=True, text=True, timeout=100)
    assert re.search(reason, sentence(done, BAD_INPUT)), done.stderr


@pytest.mark.parametrize(
    ("word", "step", "reason"),
    [
        ("cluster.array.directives=[--partition=nowhere]", "prepare", "Invalid partition name specified"),
        # more than Slurm has in one array, which it says when prepare is in line
        ("cluster.array.jobs=5000", "array", "Invalid job array specification"),
    ],
)
def test_what_slurm_refuses_is_one_sentence_and_nothing_is_left_in_line(slurm, folder, word, step, reason):
    name = f"refused-{step}"
    good(folder, "script", "a.zarr", "b.zarr", name, *WORDS, "cluster.array.setup=[sleep 60]", word, "-o", f"{name}.sh")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        slurm.do("bash", folder / f"{name}.sh")
    assert caught.value.returncode == BAD_INPUT
    assert caught.value.stdout == ""
    said = caught.value.stderr
    assert said.startswith(f"bigncc: {step} was refused, so nothing is submitted: sbatch: error: ")
    assert reason in said
    assert said.count("\n") == 1
    until(lambda: f"bigncc-{name}" not in slurm.do("squeue", "-h", "-o", "%j"), "left in line", 20)
