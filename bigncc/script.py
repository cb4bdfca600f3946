"""The text of a job array: one file that submits itself to a scheduler, step by step, and that the jobs then run.

What the schedulers call things is a table. That of Slurm is proven on a real one; those of PBS, LSF and SGE follow
their manuals.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bigncc.config import Config
from bigncc.errors import InputError
from bigncc.machine import ArrayConfig
from bigncc.notation import seconds_of

JOBS = 16
"""Jobs of an array, unless something else is said."""

MOST = 1000
"""The most of them for a table of pairs: an array of Slurm, as that is installed, has no more than 1001."""

HEAD_ROOM = 1.25
"""Memory to ask for, of what a process may take: the shell counts, and on some machines what is cached of files."""

RESTARTS = 100
"""How often a job puts itself in line again: its time was over, or its storage did not answer."""


@dataclass(frozen=True)
class Dialect:
    """What one scheduler calls things; names in braces are filled in.

    Parameters
    ----------
    prefix : str
        What a line for the scheduler begins with.
    header : tuple of str
        These lines.
    first, index : int, str
        Number of the first job of an array, and shell for that of this one.
    submit : str
        Shell that submits the file ``$self`` as ``$step`` with options ``$@``, and prints the id of the job.
    prepare, array, finish : str
        Options of the three steps.
    limit : str
        How many jobs may run at once, as a part of the options of the array.
    prepared : str
        Option of the array that lets it wait for prepare, whose id is ``$id``. Where it waits for the end of prepare,
        however that ends, its jobs are refused at once if nothing is prepared, and nothing waits for ever.
    withdraw : str
        Command that takes jobs back.
    again : str
        Shell after a job that stopped in time.
    within : str
        Not empty within a job, where the step comes in the environment: should it get lost, jobs would beget jobs.
    """

    prefix: str
    header: tuple[str, ...]
    first: int
    index: str
    submit: str
    prepare: str
    array: str
    finish: str
    limit: str
    prepared: str
    withdraw: str
    again: str = ""
    within: str = ""


DIALECTS = {
    "slurm": Dialect(
        prefix="#SBATCH",
        header=(
            "--nodes=1 --ntasks=1 --cpus-per-task={processors}",
            "--mem={megabytes}M",
            "--time={clock}",
            "--signal=B:USR1@{warning}",
            "--requeue",
            "--open-mode=append",
        ),
        first=0,
        index="$SLURM_ARRAY_TASK_ID",
        submit='sbatch --parsable --job-name={name}-"$step" "$@" "$self" "$step" | cut -d ";" -f 1',
        prepare="--output={logs}{name}-prepare-%j.log",
        array="--array={first}-{last}{limit} --output={logs}{name}-array-%A_%a.log",
        finish='--dependency=afterany:"$id" --output={logs}{name}-finish-%j.log',
        limit="%{at_once}",
        prepared='--dependency=afterok:"$id" --kill-on-invalid-dep=yes',
        withdraw="scancel",
        # the last job of an array has the id of the array, which would be put in line again as a whole
        again='[ "${{SLURM_RESTART_COUNT:-0}}" -ge {restarts} ] || '
        'scontrol requeue "${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}"',
    ),
    "pbs": Dialect(
        prefix="#PBS",
        header=(
            "-l select=1:ncpus={processors}:mem={megabytes}mb",
            "-l walltime={clock}",
            "-r y",
            "-j oe",
            "-V",
        ),
        first=0,
        index="${PBS_ARRAY_INDEX:-0}",
        submit='qsub -N {name}-"$step" -v BIGNCC_STEP="$step" "$@" "$self"',
        prepare="-o {logs}",
        array="-J {first}-{last}{limit} -o {logs}",
        finish='-W depend=afterany:"$id" -o {logs}',
        limit="%{at_once}",
        prepared='-W depend=afterany:"$id"',
        withdraw="qdel",
        within="$PBS_JOBID",
    ),
    "lsf": Dialect(
        prefix="#BSUB",
        header=(
            '-n {processors} -R "span[hosts=1]"',
            '-M {megabytes}MB -R "rusage[mem={megabytes}MB]"',
            "-W {minutes}",
            "-r",
            "-Q 75",
        ),
        first=1,
        index="$((LSB_JOBINDEX - 1))",
        submit='BIGNCC_STEP=$step bsub "$@" <"$self" | sed -n "s/^Job <\\([0-9]*\\)>.*/\\1/p"',
        prepare="-J {name}-prepare -o {logs}{name}-prepare-%J.log",
        array="-J {name}-array'[{first}-{last}]{limit}' -o {logs}{name}-array-%J_%I.log",
        finish='-J {name}-finish -w "ended($id)" -o {logs}{name}-finish-%J.log',
        limit="%{at_once}",
        prepared='-w "ended($id)"',
        withdraw="bkill",
        within="$LSB_JOBID",
    ),
    "sge": Dialect(
        prefix="#$",
        header=(
            "-S /bin/bash",
            "{parallel}",
            "-l mem_free={megabytes}M",
            "-l h_rt={clock} -l s_rt={early}",
            "-r y",
            "-j y",
            "-V",
        ),
        first=1,
        index="$((SGE_TASK_ID - 1))",
        submit='qsub -terse -N {name}-"$step" "$@" "$self" "$step" | cut -d . -f 1',
        prepare="-o {logs}",
        array="-t {first}-{last}{limit} -o {logs}",
        finish='-hold_jid "$id" -o {logs}',
        limit=" -tc {at_once}",
        prepared='-hold_jid "$id"',
        withdraw="qdel",
        again="code=99",
    ),
}


@dataclass(frozen=True)
class Site:
    """Where jobs run, and what.

    Parameters
    ----------
    command : str
        The program.
    place : str
        Folder in which everything happens, as it is typed.
    exports : dict of str
        Environment of the jobs, beside what they have.
    """

    command: str
    place: str
    exports: dict[str, str]


def text(config: Config, words: Sequence[str], site: Site, *, table: str | None = None, rows: int = 0) -> str:
    """Return a script that prepares a run, shares it among the jobs of an array and finishes it.

    Parameters
    ----------
    config : Config
        What the words mean; its ``cluster.array`` says for whom the script is.
    words : sequence of str
        Of ``bigncc run``.
    site : Site
        Where they are typed.
    table : path, optional
        A table of pairs, which are shared instead: each is a run of its own, that one job does.
    rows : int
        How many it has.

    Raises
    ------
    InputError
        If the config does not say what the scheduler is to be asked for, or contradicts itself.
    """
    array = config.cluster.array
    jobs = array.jobs or JOBS if table is None else min(rows, array.jobs or MOST)
    dialect, folder = DIALECTS[array.scheduler], array.logs or site.place
    part = f'--part "{dialect.index}/{jobs}" --max-time {_running(array)}s'
    what = config.output.url if table is None else f"{rows} pairs of {table}"
    named = _name(config.output.url if table is None else table.removesuffix(".csv"))
    values = {**_values(config, jobs), "name": named, "logs": shlex.quote(f"{folder.rstrip('/')}/")}
    steps = {
        "prepare": 'prepare "$@"',
        "array": f'run "$@" {part}{" --steal" if array.steal else ""}',
        "finish": shlex.join(["finish", config.output.url]),
    }
    if table is not None:
        steps = {"array": f'run --pairs {shlex.quote(table)} "$@" {part}'}
    lines = [
        "#!/bin/bash",
        f"# bigncc: {' '.join(what.split())} by {jobs} jobs",
        "#   bash THIS_FILE    submits the jobs; once more, after some were lost, and what is missing is computed",
        *(f"{dialect.prefix} {line}" for each in dialect.header if (line := each.format(**values))),
        *_directives(array, dialect.prefix),
        "",
        "step=${1:-$BIGNCC_STEP}",
        'if [ -z "$step" ]; then',
        *(f"  {line}" for line in _submission(dialect, list(steps), values, site.place, folder)),
        "fi",
        "",
        f"cd {shlex.quote(site.place)} || exit 4",
        *(f"export {name}={shlex.quote(value)}" for name, value in site.exports.items()),
        *array.setup,
        f"set -- {shlex.join([*words, *_bounds(config), *_jobs(config, table)])}",
        'case "$step" in',
        *(f"  {step}) set -- {words} ;;" for step, words in steps.items()),
        "esac",
        "",
        *_job(dialect, site.command, values),
    ]
    return "\n".join(lines) + "\n"


def _bounds(config: Config) -> Iterator[str]:
    """Yield words for what a process may take of its machine, where the config does not say: it is not alone there."""
    if config.engine.memory is None:
        yield f"engine.memory={int(_memory(config) / HEAD_ROOM) // 10**6}MB"
    if config.engine.threads is None:
        yield f"engine.threads={_processors(config)}"


def _jobs(config: Config, table: str | None) -> Iterator[str]:
    """Yield a word for how many jobs there are, where the config does not say: the tiles are to be enough for them."""
    if table is None and config.cluster.array.jobs is None:
        yield f"cluster.array.jobs={JOBS}"


def _memory(config: Config) -> int:
    """Return the bytes to ask for."""
    asked, taken = config.cluster.array.memory, config.engine.memory
    if asked is None and taken is None:
        message = "cluster.array.memory and engine.memory are null: one of them, such as engine.memory=4GB, is accepted"
        raise InputError(message)
    if asked is not None and taken is not None and asked < taken:
        message = (
            f"cluster.array.memory is {asked / 1e6:.0f} MB and engine.memory {taken / 1e6:.0f} MB: at least that much, "
            f"better {HEAD_ROOM} times, is accepted"
        )
        raise InputError(message)
    return asked or int((taken or 0) * HEAD_ROOM)


def _processors(config: Config) -> int:
    return config.cluster.array.processors or config.engine.threads or 1


def _running(array: ArrayConfig) -> int:
    """Return the seconds that a job may take before it stops by itself."""
    return seconds_of(array.time) - array.warning


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _values(config: Config, jobs: int) -> dict[str, object]:
    """Return what is filled in into a dialect."""
    array = config.cluster.array
    dialect = DIALECTS[array.scheduler]
    return {
        "first": dialect.first,
        "last": dialect.first + jobs - 1,
        "limit": "" if array.at_once is None else dialect.limit.format(at_once=array.at_once),
        "processors": (processors := _processors(config)),
        "parallel": f"-pe smp {processors}" if processors > 1 else "",
        "megabytes": -(-_memory(config) // 2**20),
        "clock": _clock(seconds_of(array.time)),
        "early": _clock(_running(array)),
        "minutes": -(-seconds_of(array.time) // 60),
        "warning": array.warning,
        "restarts": RESTARTS,
    }


def _name(url: str) -> str:
    """Return a name for the jobs: some schedulers take few characters, and no digit in front."""
    last = url.rstrip("/").rpartition("/")[2].removesuffix(".zarr").removesuffix(".ome")
    return f"bigncc-{re.sub('[^A-Za-z0-9_-]', '_', last)}"[:40]


def _directives(array: ArrayConfig, prefix: str) -> Iterator[str]:
    """Yield further lines for the scheduler, last so that they hold."""
    for line in array.directives:
        bare = line.removeprefix(prefix).strip()
        if bare.startswith("#"):
            message = (
                f"cluster.array.directives has {line!r}: lines that begin with {prefix}, or an option, are accepted"
            )
            raise InputError(message)
        yield f"{prefix} {bare}"


def _submission(
    dialect: Dialect, steps: list[str], values: dict[str, object], place: str, folder: str
) -> Iterator[str]:
    """Yield the lines that submit each step, or none of them."""
    if dialect.within:
        yield f'[ -z "{dialect.within}" ] || {{ echo "bigncc: this job does not know its step" >&2; exit 4; }}'
    yield 'case "$0" in /*) self=$0 ;; *) self=$PWD/$0 ;; esac'
    yield f"cd {shlex.quote(place)} && mkdir -p {shlex.quote(folder)} && said=$(mktemp) || exit 4"
    yield "trap 'rm -f \"$said\"' EXIT"
    yield "submit() {"
    yield "  step=$1"
    yield "  shift"
    yield f'  id=$({{ {dialect.submit.format(**values)}; }} 2>"$said")'
    yield '  if [ -z "$id" ]; then'
    yield "    echo \"bigncc: $step was refused, so nothing is submitted: $(tr '\\n' ' ' <\"$said\")\" >&2"
    yield f'    [ -z "$ids" ] || {dialect.withdraw} $ids'
    yield "    exit 4"
    yield "  fi"
    yield '  cat "$said" >&2'
    yield '  ids="$ids $id"'
    yield "}"
    array = dialect.array.format(**values)
    if steps == ["array"]:
        yield f"submit array {array}"
    else:
        yield f"submit prepare {dialect.prepare.format(**values)}"
        yield f"submit array {dialect.prepared} {array}"
        yield f"submit finish {dialect.finish.format(**values)}"
    yield f'echo "submitted {", ".join(steps)}:$ids"'
    yield "exit 0"


def _job(dialect: Dialect, command: str, values: dict[str, object]) -> Iterator[str]:
    """Yield the lines that run ``$@``, hand on signals and say how it ended."""
    yield "code=127 again=1 killed="
    yield "# time is nearly over: bigncc stops by itself, with exit code 75"
    yield 'trap \'again=1; [ -z "$!" ] || kill -USR1 "$!"\' USR1'
    yield "# whoever stops this job decides what becomes of it"
    yield 'trap \'again=1 killed=1; [ -z "$!" ] || kill -TERM "$!"\' TERM INT'
    yield f'{shlex.quote(command)} "$@" &'
    yield 'while [ "$again" ]; do'
    yield "  again="
    yield '  wait "$!"'
    yield "  last=$?"
    yield '  [ "$last" = 127 ] || code=$last'
    yield "done"
    yield 'if [ "$code" = 75 ] && [ "$killed" ]; then'
    yield "  code=143"
    if dialect.again:
        yield 'elif [ "$code" = 75 ]; then'
        yield "  # in line again"
        yield f"  {dialect.again.format(**values)}"
    yield "fi"
    yield 'exit "$code"'
