"""Dask's distributed engine: processes that compute, reached safely, and never more tiles with them than a few.

A scheduler runs whatever it is sent. So with one beyond this machine nothing is spoken in clear unless that is asked
for.
"""

import ipaddress
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from bigncc.errors import BignccError, InputError, StoppedError
from bigncc.machine import ClusterConfig
from bigncc.metadata import in_one_line
from bigncc.store import absolute

Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")

AHEAD = 3
"""Tiles that a process has been given: it computes one, stores the one before, and waits for no third."""

SLOTS = 2
"""Tasks that a process of our own may begin at once; how many of them compute is `Means.flights`."""

PATIENCE = 10
"""Seconds until a scheduler that does not answer is called unreachable."""

LIMIT = 1.25
"""Times its planned memory at which a process of our own is ended before the machine suffers."""

GLANCE = 1.0
"""Seconds for which the number of workers is believed."""

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


@dataclass(frozen=True)
class Place:
    """A process of a cluster: its name, its threads, and the bytes that it may take, if it is watched."""

    name: str
    threads: int
    memory: int | None


def here() -> Place:
    """Return which process of a cluster calls this, within a task."""
    from distributed import get_worker

    worker = get_worker()
    manager = worker.memory_manager
    limit, share = manager.memory_limit, manager.memory_pause_fraction or 1.0
    # beyond that share it would be paused, and for good
    return Place(worker.address, worker.state.nthreads, int(limit * share) if limit else None)


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
def _processes(chosen: ClusterConfig, workers: int, memory: int) -> Iterator[Any]:
    """Start processes of this machine, which listen on loopback."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set(MEMORY),
        LocalCluster(
            n_workers=workers if chosen.adapt is None else max(1, chosen.adapt[0]),
            threads_per_worker=SLOTS,
            host="127.0.0.1",
            memory_limit=int(memory * LIMIT),
            dashboard_address=chosen.dashboard,
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        if chosen.adapt is not None:
            cluster.adapt(minimum=chosen.adapt[0], maximum=chosen.adapt[1], target_duration="1s")
        yield cluster


@contextmanager
def _jobs(chosen: ClusterConfig) -> Iterator[Any]:
    """Start a scheduler in this process, and jobs that come to it."""
    with ExitStack() as opened:
        cluster = job_cluster(chosen)
        try:
            # one at least, so that a refusal is heard
            cluster.scale(jobs=chosen.workers or max(1, (chosen.adapt or (1, 1))[0]))
            opened.enter_context(cluster)
        except Exception as error:
            cluster.close()
            message = f"{chosen.kind} refuses the jobs ({_said(error)}): other cluster.options are accepted"
            raise InputError(message) from None
        if chosen.adapt is not None:
            cluster.adapt(minimum_jobs=chosen.adapt[0], maximum_jobs=chosen.adapt[1], target_duration="1s")
        yield cluster


def job_cluster(chosen: ClusterConfig) -> Any:
    """Return dask-jobqueue's cluster for a config; no job of it is submitted yet."""
    try:
        import dask_jobqueue
    except ImportError:
        message = f"cluster.kind is {chosen.kind} and dask-jobqueue is not installed: pip install 'bigncc[cluster]'"
        raise InputError(message) from None
    options, inner = dict(chosen.options), dict(chosen.options.get("scheduler_options") or {})
    if settled := sorted({"protocol", "security"} & (options.keys() | inner.keys())):
        message = f"cluster.options has {settled[0]}: cluster.security, or cluster.insecure=true, is accepted instead"
        raise InputError(message)
    options["scheduler_options"] = {
        "dashboard": chosen.dashboard is not None,
        "dashboard_address": chosen.dashboard,
        **inner,
    }
    options = {"shared_temp_directory": str(Path.cwd()), "silence_logs": logging.CRITICAL, **options}
    if not chosen.insecure:
        options |= {"security": _security(chosen), "protocol": "tls://"}
    try:
        return getattr(dask_jobqueue, KINDS[chosen.kind])(**options)
    except Exception as error:
        message = f"cluster.options is {chosen.options}, which dask-jobqueue refuses: {_said(error)}"
        raise InputError(message) from None


def _security(chosen: ClusterConfig) -> Any:
    """Return who is believed: as the files say, or who gets what is made for this run."""
    from distributed.security import Security

    if chosen.security is None:
        try:
            return Security.temporary()
        except ImportError:
            message = "cluster.security is null and cryptography is not installed: pip install 'bigncc[cluster]', "
            message += "files of TLS, or cluster.insecure=true, is accepted"
            raise InputError(message) from None
    files = {name: absolute(path) for name, path in chosen.security.model_dump().items()}
    for name, path in files.items():
        if not os.access(path, os.R_OK):
            message = f"cluster.security.{name} is {path}, which cannot be read: a file of TLS in PEM is accepted"
            raise InputError(message)
    roles = {
        f"tls_{role}_{name}": files[name] for role in ("client", "scheduler", "worker") for name in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=files["ca_file"], **roles)


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
        security = _security(chosen)
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


def _said(error: Exception) -> str:
    """Return the one line of an error that says why: of a command that failed, its own."""
    text = str(error)
    return in_one_line(RuntimeError(text.rpartition("stderr:")[2].strip())) if "stderr:" in text else in_one_line(error)


def counting(client: Any) -> Callable[[], int]:
    """Return a function that says how many workers there are."""
    found, until = 0, 0.0

    def count() -> int:
        nonlocal found, until
        if (now := time.monotonic()) >= until:
            try:
                found, until = len(client.nthreads()), now + GLANCE
            except Exception:
                _gone()
        return found

    return count


def results(
    client: Any,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    most: Callable[[], int],
    killed: Callable[[Item, str], None],
) -> Iterator[tuple[Item, Result]]:
    """Yield items with ``function(item)`` as they are done by workers.

    A task that is with a worker when that is lost is begun again by the scheduler, several times. Then it is put aside,
    and tried alone in the end: whoever was beside the one that ends workers is not to blame.

    Parameters
    ----------
    client : Client
        Of `connect`.
    function : callable
        What a worker does, for its effect: it may be called twice.
    items : iterable
        As many as one likes: an item is taken when its task is to be sent.
    most : callable
        Says how many tasks the scheduler may have at a time.
    killed : callable
        Called with an item whose worker is lost each time, and why.

    Raises
    ------
    BignccError
        As the function does.
    StoppedError
        If the scheduler is gone.
    """
    aside: list[Item] = []
    yield from _results(client, function, items, most, lambda item, _: aside.append(item))
    yield from _results(client, function, aside, lambda: 1, killed)


def _results(
    client: Any,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    most: Callable[[], int],
    killed: Callable[[Item, str], None],
) -> Iterator[tuple[Item, Result]]:
    from distributed import KilledWorker, as_completed

    name, waiting = f"bigncc-{uuid.uuid4().hex}", iter(items)
    done = as_completed(with_results=True, raise_errors=False, loop=client.loop)
    sent: dict[Any, Item] = {}
    number, left = 0, True
    while True:
        while left and len(sent) < most():
            for item in waiting:
                # a key of two parts: the scheduler keeps statistics for each first one
                future = client.submit(function, item, key=(name, number), pure=False)
                sent[future.key] = item
                done.add(future)
                number += 1
                break
            else:
                left = False
        if not sent:
            return
        future, result = next(done)
        item, state = sent.pop(future.key), future.status
        del future
        if state == "finished":
            yield item, result
        elif state == "error" and isinstance(result[1], KilledWorker):
            killed(item, "it ended its worker, or was with one that was lost, each time")
        elif state == "error":
            _fail(result[1])
        else:
            _gone()


def _fail(error: BaseException) -> NoReturn:
    if isinstance(error, ImportError) and not isinstance(error, BignccError):
        message = f"the workers cannot run tiles ({in_one_line(error)}): workers with this bigncc are accepted"
        raise InputError(message) from None
    raise error


def _gone() -> NoReturn:
    message = "the scheduler is gone; the same command continues"
    raise StoppedError(message) from None
