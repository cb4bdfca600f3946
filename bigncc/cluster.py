"""Dask's distributed engine: processes that compute, started or found, and spoken with safely.

A scheduler runs whatever it is sent. So with one beyond this machine nothing is spoken in clear unless that is asked
for.
"""

import glob
import ipaddress
import json
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bigncc.errors import InputError
from bigncc.machine import ClusterConfig, SecurityConfig
from bigncc.metadata import in_one_line
from bigncc.store import absolute

SLOTS = 2
"""Tasks that a process of our own may begin at once; how many of them compute is `Means.flights`."""

PATIENCE = 10
"""Seconds until a scheduler that does not answer is called unreachable."""

LIMIT = 1.25
"""Times its planned memory at which a process of our own is ended before the machine suffers."""

EAGER = "100ms"
"""Time in which what is with the scheduler ought to be done, where it decides how many workers there are: since that is
little, all of them are wanted as long as there are tiles."""

MEMORY = {
    # what a worker holds of distributed's are rows: there is nothing to spill; and a worker that is paused, since the
    # allocator keeps what was freed, would never go on
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
}
"""How the processes of our own watch their memory: it is planned, and who outgrows the plan by far is ended."""

KINDS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}

_log = logging.getLogger("bigncc")


@contextmanager
def connect(chosen: ClusterConfig, workers: int, memory: int) -> Iterator[Any]:
    """Yield a client of the scheduler that a config means; what was started for it ends with the context.

    Parameters
    ----------
    chosen : ClusterConfig
        Its kind is not threads.
    workers : int
        Processes to start on this machine.
    memory : int
        Bytes that each of them is planned to take.

    Raises
    ------
    InputError
        If the scheduler cannot be reached or started, or only in clear from beyond this machine.
    """
    from distributed import Client

    with ExitStack() as opened:
        opened.enter_context(_quiet())
        if chosen.kind == "address":
            client = opened.enter_context(_reached(chosen))
        else:
            started = _processes(chosen, workers, memory) if chosen.kind == "processes" else _jobs(chosen)
            cluster = opened.enter_context(started)
            client = opened.enter_context(Client(cluster, set_as_default=False))
        if chosen.dashboard is not None and client.dashboard_link:
            _log.info("dashboard: %s", client.dashboard_link)
        yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep distributed from telling in many words what is said in one sentence."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio", "dask_jobqueue")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _untold() -> Iterator[None]:
    """Keep the process that clears up after others from telling that it has, when a run is stopped."""
    sys.warnoptions.append(option := "ignore:resource_tracker:UserWarning")
    try:
        yield
    finally:
        sys.warnoptions.remove(option)


@contextmanager
def _processes(chosen: ClusterConfig, workers: int, memory: int) -> Iterator[Any]:
    """Start processes of this machine, which listen on loopback."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set(MEMORY),
        _untold(),
        LocalCluster(
            n_workers=workers if chosen.adapt is None else max(1, chosen.adapt[0]),
            threads_per_worker=SLOTS,
            host="127.0.0.1",
            memory_limit=int(memory * LIMIT),
            scheduler_kwargs=_options(chosen),
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        if chosen.adapt is not None:
            cluster.adapt(minimum=chosen.adapt[0], maximum=chosen.adapt[1], target_duration=EAGER)
        yield cluster


def _options(chosen: ClusterConfig) -> dict[str, Any]:
    """Return how our own scheduler listens for browsers, and that it keeps no note of each task for ever."""
    from distributed.scheduler import DEFAULT_EXTENSIONS
    from distributed.spans import SpansSchedulerExtension

    class Forgetful(SpansSchedulerExtension):
        def observe_tasks(self, *args: Any, **keys: Any) -> Any:
            return super().observe_tasks(*args, **{**keys, "span_metadata": {}})

    return {
        "dashboard": chosen.dashboard is not None,
        # it listens in any case, and else would on a port that others have
        "dashboard_address": chosen.dashboard or "127.0.0.1:0",
        "extensions": {**DEFAULT_EXTENSIONS, "spans": Forgetful},
    }


@contextmanager
def _jobs(chosen: ClusterConfig) -> Iterator[Any]:
    """Start a scheduler in this process, and jobs that come to it."""
    heard: list[Exception | None] = []
    with job_cluster(chosen, heard.append) as cluster:
        # one at least, so that a refusal is heard
        cluster.scale(jobs=(jobs := chosen.workers or max(1, (chosen.adapt or (1, 1))[0])))
        while len(heard) < jobs:
            time.sleep(0.05)
        if None not in heard:
            message = f"{chosen.kind} refuses the jobs ({_said(heard[0])}): other cluster.options are accepted"
            raise InputError(message)
        if chosen.adapt is not None:
            cluster.adapt(minimum_jobs=chosen.adapt[0], maximum_jobs=chosen.adapt[1], target_duration=EAGER)
        yield cluster


def _telling(job: Any, hear: Callable[[Exception | None], None]) -> Any:
    """Return a kind of job that says how its submission ended; dask-jobqueue's keep that to themselves."""
    from distributed import Status

    class Told(job):  # type: ignore[misc]
        async def start(self) -> None:
            try:
                await super().start()
            except Exception as error:
                self.status = Status.failed
                hear(error)
                raise
            hear(None)

    return Told


@contextmanager
def job_cluster(chosen: ClusterConfig, hear: Callable[[Exception | None], None]) -> Iterator[Any]:
    """Yield dask-jobqueue's cluster for a config; it will `hear` how each submission of a job ends, None if well."""
    try:
        import dask_jobqueue
    except ImportError:
        message = f"cluster.kind is {chosen.kind} and dask-jobqueue is not installed: pip install 'bigncc[cluster]'"
        raise InputError(message) from None
    options, inner = dict(chosen.options), dict(chosen.options.get("scheduler_options") or {})
    if settled := sorted({"protocol", "security"} & (options.keys() | inner.keys())):
        message = f"cluster.options has {settled[0]}: cluster.security, or cluster.insecure=true, is accepted instead"
        raise InputError(message)
    options = {"silence_logs": logging.CRITICAL, **options, "scheduler_options": {**_options(chosen), **inner}}
    with ExitStack() as opened:
        if not chosen.insecure:
            files = chosen.security
            if files is None:
                shared = options.get("shared_temp_directory") or Path.cwd()
                files = SecurityConfig(**opened.enter_context(_made(str(shared))))
            options |= {"security": _security(files), "protocol": "tls://"}
        kind = getattr(dask_jobqueue, KINDS[chosen.kind])
        try:
            cluster = kind(job_cls=_telling(kind.job_cls, hear), **options)
        except Exception as error:
            # without values: one may be a password, exported to the jobs
            message = f"cluster.options has {', '.join(chosen.options)}, which dask-jobqueue refuses: {_said(error)}"
            raise InputError(message) from None
        opened.callback(cluster.close)
        yield cluster


@contextmanager
def _made(folder: str) -> Iterator[dict[str, str]]:
    """Yield files of TLS for the time of a run, where jobs see them and nobody else does."""
    from distributed.security import Security

    try:
        made = Security.temporary()
    except ImportError:
        message = "cluster.security is null and cryptography is not installed: pip install 'bigncc[cluster]', files of "
        message += "TLS, or cluster.insecure=true, is accepted"
        raise InputError(message) from None
    here, host = os.path.expandvars(folder), f".bigncc-tls-{socket.gethostname()}-"
    for left in Path(here).glob(f"{glob.escape(host)}*"):
        if _is_gone(left.name.removeprefix(host).partition("-")[0]):  # nobody needs to be believed any more
            shutil.rmtree(left, ignore_errors=True)
    try:
        place = TemporaryDirectory(prefix=f"{host}{os.getpid()}-", dir=here)
    except OSError as error:
        message = f"{folder} cannot hold what jobs need to be believed ({in_one_line(error)}): "
        message += "cluster.options.shared_temp_directory, or files as cluster.security, is accepted"
        raise InputError(message) from None
    with place as name:
        texts = {"ca_file": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
        for each, text in texts.items():
            Path(name, each).write_text(text)
        yield {each: str(Path(name, each)) for each in texts}


def _is_gone(pid: str) -> bool:
    """Say whether there is no such process on this machine, as after a kill."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OverflowError, PermissionError):
        return False
    return False


def _security(files: SecurityConfig) -> Any:
    """Return who is believed, as files of TLS say."""
    from distributed.security import Security

    paths = {name: absolute(path) for name, path in files.model_dump().items()}
    for name, path in paths.items():
        if not os.access(path, os.R_OK):
            message = f"cluster.security.{name} is {path}, which cannot be read: a file of TLS in PEM is accepted"
            raise InputError(message)
    roles = {
        f"tls_{role}_{name}": paths[name] for role in ("client", "scheduler", "worker") for name in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=paths["ca_file"], **roles)


@contextmanager
def _reached(chosen: ClusterConfig) -> Iterator[Any]:
    """Speak to a scheduler that is there."""
    from distributed import Client

    address = _address(chosen.address or "")
    protocol, _, place = address.partition("://")
    security = None
    if protocol == "tls":
        if chosen.security is None:
            message = (
                f"cluster.address is {address} and cluster.security null: files of TLS that it believes are accepted"
            )
            raise InputError(message)
        security = _security(chosen.security)
    elif protocol != "tcp":
        message = f"cluster.address is {address}: tcp://host:port, tls://host:port or a scheduler file is accepted"
        raise InputError(message)
    elif chosen.security is not None:
        message = f"cluster.address is {address}, to which cluster.security means nothing: tls://{place} is accepted"
        raise InputError(message)
    else:
        _check_clear(address, chosen)
    try:
        client = Client(address, security=security, timeout=PATIENCE, set_as_default=False)
    except Exception as error:
        message = (
            f"cluster.address is {address} and no scheduler speaks with us there ({_said(error)}): the address of "
        )
        message += "one that runs, with the files of TLS that it believes, is accepted"
        raise InputError(message) from None
    with client:
        # what was reached on loopback may listen elsewhere as well
        _check_clear(client.scheduler_info()["address"], chosen)
        yield client


def _address(text: str) -> str:
    """Return the address that is meant, or that stands in a scheduler file."""
    if "://" in text:
        return text
    try:
        return str(json.loads(Path(text).read_text())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"cluster.address is {text}, which is no scheduler file ({in_one_line(error)}): tcp://host:port, "
        message += "tls://host:port or the file of dask scheduler --scheduler-file is accepted"
        raise InputError(message) from None


def _check_clear(address: str, chosen: ClusterConfig) -> None:
    """Refuse to speak in clear with a scheduler that others than this machine can reach."""
    protocol, _, place = address.partition("://")
    if protocol != "tls" and not chosen.insecure and not _on_loopback(place.rpartition(":")[0]):
        message = (
            f"the scheduler at {address} can be reached from elsewhere and runs what anybody sends: tls:// with "
            "cluster.security, an address of loopback, or cluster.insecure=true is accepted"
        )
        raise InputError(message)


def _on_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _said(error: Exception | None) -> str:
    """Return the one line of an error that says why: of a command that failed, its own."""
    text = " ".join(str(error).rpartition("stderr:")[2].split())
    return text[:300] or type(error).__name__
