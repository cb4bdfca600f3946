"""Who computes is started or found, and spoken with safely; who is not is said in a sentence."""

import gc
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from distributed import LocalCluster
from distributed.security import Security

from bigncc import cluster, tasks
from bigncc.errors import InputError
from bigncc.machine import ClusterConfig, SecurityConfig
from tests.slurm import free_ports

MEMORY = 400 * 10**6


def chosen(**keys):
    return ClusterConfig(**keys)


def never(item, reason):
    raise AssertionError(item, reason)


def certificates(folder):
    """Files of TLS as an administrator makes them."""
    made = Security.temporary()
    texts = {"ca_file": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.pem").write_text(text)
    return SecurityConfig(**{name: str(folder / f"{name}.pem") for name in texts})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("tls") / "right")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"address": "tcp://192.0.2.1:8786"},
            "scheduler at tcp://192.0.2.1:8786 can be reached from elsewhere and runs",
        ),
        ({"address": "tcp://somewhere:8786"}, "scheduler at tcp://somewhere:8786 can be reached from elsewhere"),
        ({"address": "tls://127.0.0.1:8786"}, "cluster.address is tls://.* and cluster.security null: files of TLS"),
        ({"address": "ucx://127.0.0.1:8786"}, "cluster.address is ucx://.*: tcp://host:port, tls://host:port or a sch"),
        ({"address": "nowhere.json"}, r"cluster.address is nowhere.json, which is no scheduler file \(FileNotFoundErr"),
        (
            {"address": "tcp://127.0.0.1:{port}"},
            r"no scheduler speaks with us there \(.*\): the address of one that runs",
        ),
        ({"address": "tcp://[::1]:{port}", "insecure": True}, "no scheduler speaks with us there"),
        ({"address": "tcp://127.0.0.1:{port}", "security": True}, "cluster.security means nothing: tls://127"),
        (
            {"address": "tls://127.0.0.1:1", "security": {"ca_file": "a", "cert": "b", "key": "c"}},
            "cluster.security.ca_file is .*/a, which cannot be read: a file of TLS",
        ),
    ],
)
def test_who_is_not_spoken_with(monkeypatch, files, keys, sentence):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    keys["address"] = keys["address"].format(port=free_ports(1)[0])
    if keys.get("security") is True:
        keys["security"] = files
    start = time.monotonic()
    with (
        pytest.raises(InputError, match=sentence) as caught,
        cluster.connect(chosen(kind="address", **keys), 1, MEMORY),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 10


def test_a_file_that_is_no_scheduler_file(tmp_path):
    for text in ("", "[]", "{}", "nothing"):
        (tmp_path / "s.json").write_text(text)
        with (
            pytest.raises(InputError, match="which is no scheduler file"),
            cluster.connect(chosen(kind="address", address=str(tmp_path / "s.json")), 1, MEMORY),
        ):
            pass


def test_a_scheduler_that_listens_everywhere_is_refused_on_loopback_too():
    options = {"host": "0.0.0.0", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0", "processes": False}
    with LocalCluster(n_workers=1, threads_per_worker=1, memory_limit=0, **options) as running:
        address = f"tcp://127.0.0.1:{running.scheduler.port}"
        if running.scheduler_address.startswith("tcp://127."):
            pytest.fail("this machine has no address but loopback")
        with (
            pytest.raises(InputError, match=f"scheduler at {running.scheduler_address} can be reached from elsewhere"),
            cluster.connect(chosen(kind="address", address=address), 1, MEMORY),
        ):
            pass
        with cluster.connect(chosen(kind="address", address=address, insecure=True), 1, MEMORY) as client:
            assert [r for _, r, _ in tasks.results(client, abs, [-1], lambda: 1, never)] == [1]


def test_tls_is_spoken_with_those_who_show_the_right_files(tmp_path, files, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 2)
    security = cluster._security(files)
    options = {"host": "127.0.0.1", "protocol": "tls://", "dashboard_address": "127.0.0.1:0", "processes": False}
    with LocalCluster(n_workers=1, threads_per_worker=1, memory_limit=0, security=security, **options) as running:
        address = running.scheduler_address
        assert address.startswith("tls://")
        with cluster.connect(chosen(kind="address", address=address, security=files), 1, MEMORY) as client:
            assert [r for _, r, _ in tasks.results(client, abs, [-1], lambda: 1, never)] == [1]
        others = chosen(kind="address", address=address, security=certificates(tmp_path / "wrong"))
        clear = chosen(kind="address", address=address.replace("tls", "tcp"))
        for keys in (others, clear):
            start = time.monotonic()
            with (
                pytest.raises(InputError, match="no scheduler speaks with us there") as caught,
                cluster.connect(keys, 1, 1),
            ):
                pass
            assert "\n" not in str(caught.value)
            assert time.monotonic() - start < 10


def test_what_a_client_that_was_killed_has_left_is_removed_by_the_next(tmp_path):
    script = (
        "import os, signal, sys\nfrom bigncc import cluster\n"
        "with cluster._made(sys.argv[1]) as files:\n    print(files['key'], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL
    left = Path(died.stdout.strip())
    assert left.read_text().startswith("-----BEGIN")
    elsewhere = tmp_path / left.parent.name.replace(socket.gethostname(), "another-host")
    elsewhere.mkdir()
    with cluster._made(str(tmp_path)) as mine:
        assert not left.parent.exists()
        with cluster._made(str(tmp_path)) as others:  # of one that is at work nothing is removed
            assert Path(mine["key"]).exists()
            assert Path(others["key"]).parent.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == [elsewhere.name]


OPTIONS = {"cores": 2, "processes": 1, "memory": "5GB", "walltime": "01:30:00", "queue": "short", "interface": "lo"}


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("slurm", ["#SBATCH -p short", "#SBATCH --cpus-per-task=2", "#SBATCH --mem=5G", "#SBATCH -t 01:30:00"]),
        ("pbs", ["#PBS -q short", "#PBS -l select=1:ncpus=2:mem=4769MB", "#PBS -l walltime=01:30:00"]),
        ("lsf", ["#BSUB -q short", "#BSUB -n 2", "#BSUB -M 5000000", "#BSUB -W 01:30:00"]),
        ("sge", ["#$ -q short", "#$ -l h_rt=01:30:00"]),
    ],
)
def test_jobs_are_asked_for_as_the_options_say_and_speak_tls(tmp_path, monkeypatch, kind, lines):
    monkeypatch.chdir(tmp_path)
    options = {**OPTIONS, **({"lsf_units": "kb"} if kind == "lsf" else {})}
    with cluster.job_cluster(chosen(kind=kind, workers=2, options=options, dashboard=None), [].append) as running:
        script = running.job_script()
        assert running.scheduler_address.startswith("tls://127.0.0.1:")
        folder = next(tmp_path.iterdir())
        assert folder.stat().st_mode & 0o77 == 0
    for line in lines:
        assert line in script.splitlines(), script
    worker = script.splitlines()[-1]
    assert "--nthreads 2" in worker
    assert "--memory-limit 4.66GiB" in worker
    assert "--protocol tls://" in worker
    assert f"--tls-key {folder}/key" in worker
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"options": {"memory": "1GB"}}, "cluster.options has memory, which dask-jobqueue refuses: .*cores"),
        ({"options": {**OPTIONS, "size": 3}}, "which dask-jobqueue refuses: .*size"),
        ({"options": {**OPTIONS, "protocol": "tcp://"}}, "cluster.options has protocol: cluster.security, or"),
        ({"options": {**OPTIONS, "scheduler_options": {"security": False}}}, "cluster.options has security"),
        ({"options": OPTIONS, "insecure": True}, r"sge refuses the jobs \(.*qsub.*\): other cluster.options"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_options_that_are_refused(tmp_path, monkeypatch, keys, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(InputError, match=sentence) as caught,
        cluster.connect(chosen(kind="sge", workers=1, **keys), 1, MEMORY),
    ):
        pass
    assert "\n" not in str(caught.value)
    del caught
    gc.collect()  # what dask-jobqueue has made half, and never closes


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(InputError, match=r"dask-jobqueue is not installed: pip install 'bigncc\[cluster\]'"):
        cluster.job_cluster(chosen(kind="slurm", workers=1), [].append).__enter__()
