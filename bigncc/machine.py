"""The words about machines: one process, many of them, a job array. Nothing here changes a result."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bigncc.notation import bytes_of, dashboard_of, line_of, seconds_of, time_of


class Section(BaseModel):
    """A section of a config: its keys and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineConfig(Section):
    """The machine."""

    memory: Annotated[int, BeforeValidator(bytes_of)] | None = Field(
        None,
        description="peak memory of one process, such as 4GB; null: half of what machine and cgroup allow, by the "
        "number of processes for cluster.kind=processes",
    )
    threads: int | None = Field(
        None, gt=0, description="threads of one process; null: as many as there are processors for it"
    )
    halo: Literal["overlap", "read"] | None = Field(
        None,
        description="whether the blocks of a tile give each other their margins (overlap) or each reads its own "
        "(read); null: read where the moving image is pulled through a transform, else overlap",
    )
    durable: Literal["journal", "all"] = Field(
        "journal",
        description="what outlives a power cut as soon as a tile is done: its line in the journal, or all of it",
    )


class ArrayConfig(Section):
    """A job array, which needs no process that hands out work."""

    scheduler: Literal["slurm", "pbs", "lsf", "sge"] = Field(
        "slurm", description="whose array it is: slurm, pbs (OpenPBS, PBS Pro), lsf or sge (Grid Engine)"
    )
    jobs: int | None = Field(
        None, gt=0, description="jobs of the array; null: 16, and for a table of pairs one each, at most 1000"
    )
    at_once: int | None = Field(None, gt=0, description="how many of them may run at once; null: as many as can")
    time: Annotated[str, BeforeValidator(time_of)] = Field(
        "4h", description="wall time of each job, such as 3h50m; what is not done by then goes on in another"
    )
    warning: int = Field(
        120,
        gt=0,
        description="seconds before the end of that time at which a job stops by itself, so that nothing is lost",
    )
    memory: Annotated[int, BeforeValidator(bytes_of)] | None = Field(
        None, description="memory to ask for, for each job; null: engine.memory and a quarter more"
    )
    processors: int | None = Field(
        None, gt=0, description="processors to ask for, for each job; null: engine.threads, or one"
    )
    directives: tuple[Annotated[str, AfterValidator(line_of)], ...] = Field(
        (), description="further lines for the scheduler, such as --partition=short or --account=me"
    )
    setup: tuple[Annotated[str, AfterValidator(line_of)], ...] = Field(
        (), description="lines of shell that a job begins with, such as module load hdf5"
    )
    logs: str | None = Field(None, description="folder for what the jobs say; null: the current one")
    steal: bool = Field(True, description="whether a job that is done with its share takes from the shares of others")

    @model_validator(mode="after")
    def _time_to_stop(self) -> "ArrayConfig":
        if self.warning >= seconds_of(self.time):
            message = f"warning is {self.warning} s and time is {self.time}: a shorter warning is accepted"
            raise ValueError(message)
        return self


class SecurityConfig(Section):
    """Who may speak with whom, as files of TLS in PEM."""

    ca_file: str = Field(description="certificates of those who are believed")
    cert: str = Field(description="certificate of this side")
    key: str = Field(description="its private key")


_MEANT = {
    "threads": set[str](),
    "processes": {"workers", "adapt", "dashboard"},
    "address": {"address", "security", "insecure"},
}
"""Keys that mean something for a kind; for the others those of `_JOBS` do."""

_JOBS = {"workers", "adapt", "options", "security", "insecure", "dashboard"}


class ClusterConfig(Section):
    """Many processes: Dask's distributed engine, or batch jobs without it."""

    kind: Literal["threads", "processes", "address", "slurm", "pbs", "lsf", "sge"] = Field(
        "threads",
        description="who computes: threads of this process, processes of this machine, a scheduler that is there "
        "(address), or jobs of slurm, pbs, lsf or sge",
    )
    address: str | None = Field(
        None, description="of the scheduler, for kind=address: tcp://host:port, tls://host:port or its scheduler file"
    )
    workers: int | None = Field(
        None,
        gt=0,
        description="processes or jobs to start; null: for processes, as many as memory and processors allow",
    )
    adapt: tuple[int, int] | None = Field(
        None, description="[least, most] processes or jobs, as there is work, instead of workers"
    )
    options: dict[str, Any] = Field(
        {},
        description="for slurm, pbs, lsf and sge, what dask-jobqueue takes: {cores: 2, memory: 5GB, walltime: 4:00:00, "
        "queue: short, ...}",
    )
    security: SecurityConfig | None = Field(
        None, description="files of TLS, {ca_file: ..., cert: ..., key: ...}; null: made for the time of the run"
    )
    insecure: bool = Field(
        False, description="whether whoever reaches a scheduler beyond this machine may let it run what they like"
    )
    dashboard: Annotated[str, AfterValidator(dashboard_of)] | None = Field(
        "127.0.0.1:0", description="host:port that the dashboard listens on, port 0: a free one; null: none"
    )
    array: ArrayConfig = Field(ArrayConfig(), description="a job array, as bigncc script prints it")

    @property
    def most(self) -> int:
        """Workers that there will be, as far as that is known."""
        return self.workers or (self.adapt or (1, 1))[1]

    @model_validator(mode="after")
    def _meant(self) -> "ClusterConfig":
        fields, meant = type(self).model_fields, _MEANT.get(self.kind, _JOBS)
        idle = [n for n in fields if n not in {"kind", "array", *meant} and getattr(self, n) != fields[n].default]
        message = ""
        if idle:
            message = f"kind is {self.kind}, for which {', '.join(idle)} means nothing: {_such(meant)} accepted"
        elif self.kind == "address" and self.address is None:
            message = "kind is address and address is null: tcp://host:port, tls://host:port or a scheduler file"
            message += " is accepted"
        elif self.workers and self.adapt:
            message = f"workers is {self.workers} and adapt {list(self.adapt)}: one of them is accepted"
        elif self.adapt and not 0 <= self.adapt[0] <= self.adapt[1] > 0:
            message = f"adapt is {list(self.adapt)}: [least, most] is accepted"
        elif self.kind not in _MEANT and not (self.workers or self.adapt):
            message = f"kind is {self.kind} and workers is null: a number of jobs, or adapt, is accepted"
        elif self.security and self.insecure:
            message = "security and insecure are given: one of them is accepted"
        if message:
            raise ValueError(message)
        return self


def _such(names: set[str]) -> str:
    return f"{', '.join(sorted(names))} are" if names else "another kind is"
