"""Words -> pipeline functions -> exit codes; nothing else.

What a verb needs is imported by the verb, so that ``bigncc --help`` answers at once.
"""

import json
import logging
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bigncc import events, shell, stopping
from bigncc.errors import BignccError, IncompleteError, InputError, RefusedError, StoppedError
from bigncc.events import Way, facts_in_lines, tell
from bigncc.shared import exclude, job_options, job_or_table_options, spoken
from bigncc.typed import as_options, config_of, given_of, part_of, typed, wanted

if TYPE_CHECKING:
    from bigncc.config import Config
    from bigncc.script import Site


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, invoke_without_command=True
)
@click.option("--version", is_flag=True, help="Versions of bigncc and of what it stands on.")
@click.pass_context
def cli(context: click.Context, version: bool) -> None:
    """Say where two registered images agree: local correlation maps of images that fit no memory."""
    if version:
        click.echo(shell.versions(), nl=False)
        context.exit()
    if context.invoked_subcommand is None:
        click.echo(shell.WELCOME, nl=False)


@cli.command()
@job_or_table_options
@click.option(
    "--part",
    metavar="I/N",
    help="Only this share, from 0, of the tiles of an output that was prepared, or of the pairs.",
)
@click.option("--steal", is_flag=True, help="After this part, compute what is missing of the others.")
@click.option("--max-time", metavar="3h50m", help="Stop by then, with exit code 75.")
@click.option("--repair", is_flag=True, help="Write anew what verify rejects.")
@click.option("--overwrite", metavar="PLAN_ID", help="Remove OUT first, if it is the output of this plan.")
@spoken
def run(
    way: Way,
    words: tuple[str, ...],
    pairs: str | None,
    part: str | None,
    steal: bool,
    max_time: str | None,
    repair: bool,
    overwrite: str | None,
    **options: Any,
) -> None:
    """Correlate REF and MOV into OUT, or continue a stopped run."""
    from bigncc import allocator

    allocator.keep_freed_memory()
    if max_time is not None:
        stopping.after(max_time, partial(events.failed, way))
    if pairs is not None:
        exclude("--pairs", {"--steal": steal, "--overwrite": overwrite is not None})
        share = (0, 1) if part is None else part_of(part)
        _run_pairs(way, pairs, wanted(words, (), **options), share, repair=repair)
        return
    config = config_of(words, **options)
    share = (0, 1) if part is None else part_of(part)
    if share[1] > 1:
        exclude(f"--part {part}", {"--repair": repair, "--overwrite": overwrite is not None})
    elif part is None and steal:
        message = "--steal is given without --part: both, or neither, is accepted"
        raise InputError(message)
    _run(way, config, share, steal=steal, repair=repair, overwrite=overwrite, exit_code=0)


def _run(
    way: Way,
    config: "Config",
    part: tuple[int, int] = (0, 1),
    *,
    steal: bool = False,
    repair: bool,
    overwrite: str | None = None,
    **end: int,
) -> None:
    from bigncc import allocator, pipeline

    if part[1] > 1:
        ready = pipeline.prepared(config)
    else:
        waiting = events.waiting_of(way)
        ready = pipeline.prepare(config, waiting=waiting, repair=repair, overwrite=overwrite)
    tell(way, "prepared", [ready.headline], **events.of_plan(ready))
    with allocator.what_is_there_stays():
        result = pipeline.complete(ready, part=part, steal=steal, progress=events.progress_of(way))
    events.tell_result(way, result, None if part[1] == 1 else f"{part[0]}/{part[1]}", **end)


def _run_pairs(way: Way, path: str, words: list[Any], part: tuple[int, int], *, repair: bool) -> None:
    from bigncc import table

    listed = table.configs(path, words, part)
    table.run(listed, lambda config: _run(way, config, repair=repair), partial(events.lost, way))
    tell(way, "complete", [f"complete: {len(listed)} pairs"], pairs=len(listed), exit_code=0)


@cli.command()
@job_options
@spoken
def prepare(way: Way, words: tuple[str, ...], **options: Any) -> None:
    """Decide everything about a run and make OUT, for ``run --part`` by several jobs."""
    from bigncc import pipeline

    ready = pipeline.prepare(config_of(words, **options), waiting=events.waiting_of(way))
    pipeline.rehearse(ready)
    said = f"prepared: {ready.job.url}, {len(ready.job.plan)} tiles, plan {ready.job.plan_id}"
    tell(way, "prepared", [ready.headline, said], **events.of_plan(ready), exit_code=0)


@cli.command()
@click.argument("out")
@click.option("--part", metavar="I/N", help="Make only this share of the coarser levels, from 0; record nothing.")
@spoken
def finish(way: Way, out: str, part: str | None) -> None:
    """Make what is left of the pyramid and record that OUT is complete, after all parts of it are done."""
    from bigncc import pipeline

    share = (0, 1) if part is None else part_of(part)
    events.tell_result(way, pipeline.finish(out, part=share, progress=events.progress_of(way)), part, exit_code=0)


@cli.command()
@click.argument("out")
@click.option("--recompute", metavar="K", type=click.IntRange(min=0), default=0, help="Compute K random tiles again.")
@click.option("--part", metavar="I/N", default="0/1", help="Only this share of the tiles, from 0.")
@spoken
def verify(way: Way, out: str, recompute: int, part: str) -> None:
    """Prove the bytes of OUT against its journal; change nothing."""
    from bigncc import pipeline

    found = pipeline.verify(out, recompute=recompute, part=part_of(part), progress=events.progress_of(way))
    tell(way, "verified", [*found.faults, facts_in_lines(found.facts())], **events.of_verdict(found))
    if found.faults:
        message = (
            f"{found.url} is not what was computed: bigncc run --repair with the words of its run computes it again"
        )
        raise IncompleteError(message)
    tell(way, "right", [f"right: {found.url}"], url=found.url, exit_code=0)


@cli.command()
@job_options
def plan(words: tuple[str, ...], **options: Any) -> None:
    """Say what a run would take; compute nothing.

    Tiles, memory, disk space, objects, decoding overhead and time.
    """
    from bigncc import pipeline

    found = pipeline.plan(config_of(words, **options))
    click.echo(found.headline)
    click.echo(facts_in_lines(found.facts()))


@cli.command()
@click.argument("words", nargs=-1, required=True, metavar="[REF MOV] [CONFIG.yaml...] [key.sub=value...]")
@click.option("-o", "--output", metavar="FILE", help="Write the transform, for registration.transform=FILE.")
def register(words: tuple[str, ...], output: str | None) -> None:
    """Estimate by how much MOV is shifted against REF.

    Transform, residuals at the sites and quality; nothing is correlated.
    """
    from bigncc import pipeline, progress
    from bigncc.config import load

    # no map is made here, and a job that names one may be given all the same
    config = load([{"output": {"url": ""}}, *given_of(words, ("reference", "moving"))])
    found = pipeline.register(config, output, waiting=progress.waiting)
    click.echo(f"moving image {found}")
    click.echo(facts_in_lines(found.facts()))


@cli.command()
@click.argument("out")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.option("--watch", is_flag=True, help="Look on until it is complete, or all that it lacks is quarantined.")
@click.option("--every", metavar="SECONDS", type=click.FloatRange(0, min_open=True), help="How often --watch looks.")
def status(out: str, as_json: bool, watch: bool, every: float | None) -> None:
    """Say how far OUT is, also while a run goes on."""
    from bigncc import pipeline
    from bigncc.discoveries import discoveries_of

    if every is not None and not watch:
        message = f"--every {every:g} is given without --watch: both, or neither, is accepted"
        raise InputError(message)
    if watch:
        events.watch(out, every, as_json=as_json)
    found = pipeline.status(out)
    if as_json:
        click.echo(json.dumps(found))
        return
    tiles, pixels = found["tiles"], found["pixels"]
    share = 100 * pixels["done"] / max(1, pixels["total"])
    click.echo(
        f"{found['url']}: {found['state']}, tile {tiles['done']} of {tiles['total']}, {share:.1f} % of the pixels"
    )
    said = {name: f"{n} pixels" for name, n in found["status"].items()}
    if found["quarantined"]:
        said["quarantined"] = f"tiles {', '.join(found['quarantined'])}"
    if "discoveries" in found:
        said |= discoveries_of(found["discoveries"]).facts()
    click.echo(facts_in_lines(said), nl=bool(said))


@cli.command()
@click.argument("outs", nargs=-1, metavar="OUT...")
@click.option("--pairs", metavar="TABLE.csv", help="The results of a table of pairs, those that failed as well.")
@click.option(
    "--threshold",
    type=click.FloatRange(-1, 1),
    help="Below which pixels are counted; as in the run's config by default.",
)
@click.option("--regions", type=click.IntRange(0, 100), help="How many of the worst regions; as in the config.")
@click.option("--csv", "as_csv", is_flag=True, help="Write the regions as OUT.regions.csv, too.")
@click.option("--geojson", is_flag=True, help="Write the regions as OUT.geojson, too, as QuPath reads it.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable; write nothing.")
@click.option("--index", metavar="FILE.html", help="Where the index of several results goes.")
@click.option("--link", metavar="BASE_URL", help="Each region has a link to OUT, whose folder is hosted there.")
def report(
    outs: tuple[str, ...],
    pairs: str | None,
    as_csv: bool,
    geojson: bool,
    as_json: bool,
    index: str | None,
    link: str | None,
    threshold: float | None,
    regions: int | None,
) -> None:
    """Write a page (HTML) and a picture (PNG) beside OUT, and a table of its sections and channels (CSV).

    The page shows both images, the confidence map, how much agrees, the regions that agree least, how the images were
    registered and what was asked for. It needs no network and can be sent by itself. Of several results there is an
    index, too.
    """
    from bigncc import pipeline, table

    if as_json:
        exclude("--json", {"--csv": as_csv, "--geojson": geojson, "--index": index is not None})
    if pairs is None and not outs:
        message = "neither OUT nor --pairs is given: at least one result is accepted"
        raise InputError(message)
    urls = [*outs, *(table.outputs(pairs) if pairs is not None else ())]
    wish = pipeline.Wish(threshold, regions, as_csv, geojson, link)
    if as_json:
        for url in urls:
            click.echo(json.dumps(pipeline.facts(url, wish)))
    elif len(urls) > 1 or pairs is not None or index is not None:
        for path in pipeline.publish_all(urls, wish, None if index is None else Path(index)):
            click.echo(path)
    else:
        for path in pipeline.publish(urls[0], wish).paths:
            click.echo(path)


@cli.command()
@click.argument("out")
@click.option("--bind", metavar="HOST[:PORT]", default="127.0.0.1", help="Where to listen; a free port by default.")
@click.option("--token", envvar="BIGNCC_TOKEN", help="Part of the address; needed where other machines reach it.")
@click.option("--no-browser", is_flag=True, help="Only print the address, also on a terminal.")
@click.option("--link", metavar="BASE_URL", help="Serve nothing: print a link to OUT, whose folder is hosted there.")
def view(out: str, bind: str, token: str | None, no_browser: bool, link: str | None) -> None:
    """Look at OUT in the browser until ^C.

    Reference, moving image, confidence and status side by side, read as they are looked at. An OUT that is not finished
    is shown as far as it is.
    """
    if link is not None:
        from bigncc import display, scene

        found, notes = display.hosted(out)
        for note in notes:
            click.echo(f"note: {note}", err=True)
        click.echo(scene.link(found, link))
        return
    from bigncc import viewer

    with viewer.serving(out, bind, token) as served:
        for note in served.notes:
            click.echo(f"note: {note}")
        click.echo(served.address)
        if sys.stdout.isatty() and not no_browser:
            click.launch(served.address)
        stopping.wait()


@cli.command()
@click.argument("folder", default="bigncc-demo", metavar="[DIR]")
@click.option("--images", nargs=2, metavar="A B", help="Two pictures (PNG, JPEG, TIFF) instead of the stereo pair.")
def demo(folder: str, images: tuple[str, str] | None) -> None:
    """Correlate a real stereo pair in DIR.

    Once as it is and once with the right view pulled through the measured disparity; draws both.
    """
    from bigncc import demo as room

    for line in room.run(folder) if images is None else room.run_photos(folder, *images):
        click.echo(line)


@cli.command()
@job_or_table_options
@click.option("-o", "--output", metavar="FILE", help="Write the script instead of printing it.")
def script(words: tuple[str, ...], pairs: str | None, output: str | None, **options: Any) -> None:
    """Print a script that does a run by the jobs of an array.

    For Slurm, PBS, LSF or Grid Engine, as cluster.array says. Each job computes a share; no process hands out work.
    """
    from bigncc import script as room
    from bigncc import store

    again = [*typed(words), *as_options(**options)]
    if pairs is None:
        printed = room.text(config_of(words, **options), again, _site())
    else:
        from bigncc import table

        listed = table.configs(pairs, wanted(words, (), **options))
        printed = room.text(listed[0], again, _site(), table=store.absolute(pairs), rows=len(listed))
    if output is None:
        click.echo(printed, nl=False)
        return
    path = store.absolute(output)
    if not store.put_if_absent(path, printed.encode()):
        message = f"{output} exists: a path that does not is accepted"
        raise RefusedError(message)
    click.echo(f"bash {shlex.quote(output)} submits the jobs")


@cli.command()
@click.option("--table", is_flag=True, help="Every key with its default and meaning, in Markdown.")
def config(table: bool) -> None:
    """Print the commented default configuration."""
    from bigncc import options
    from bigncc.config import default_yaml

    click.echo(options.table() if table else default_yaml(), nl=False)


@cli.command()
@click.argument("shell_name", metavar="bash|zsh|fish", type=click.Choice(list(shell.SCRIPTS)))
def completion(shell_name: str) -> None:
    """Print what lets a shell complete verbs, options, keys and files.

    In ~/.bashrc or ~/.zshrc: eval "$(bigncc completion bash)", or zsh; in config.fish: bigncc completion fish | source.
    """
    click.echo(shell.SCRIPTS[shell_name], nl=False)


def main() -> NoReturn:
    """Run the command line and exit with the code of `bigncc.errors`."""
    way = events.way_of(sys.argv[1:])
    failed = partial(events.failed, way)
    stopping.obey(failed)
    # where one write fails, those beside it fail too, and the event loop would print each of them
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logging.getLogger("bigncc").setLevel(logging.INFO)
    logging.getLogger("bigncc").propagate = False  # or a guest that sets up logging says it all once more
    logging.getLogger("bigncc").addHandler(events.Listener(way))
    try:
        events.check(sys.argv[1:])
        cli.main(standalone_mode=False, obj=way)
        stopping.over()
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        # click's own code for usage errors would read as "incomplete" here
        failed(InputError.exit_code, str(InputError(error.format_message())))
        sys.exit(InputError.exit_code)
    except StoppedError as error:
        stopping.leave(error, failed)
    except BignccError as error:
        failed(error.exit_code, str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        events.broken(way, error)
        raise
    sys.exit(0)


def _site() -> "Site":
    """Return where jobs are to run what runs here."""
    from bigncc.script import Site

    kept = os.environ.get("NUMBA_CACHE_DIR")
    if not kept and not os.access(Path(__file__).parent, os.W_OK):
        kept = str(Path.home() / ".cache" / "bigncc")  # what all machines of a cluster see
    return Site(str(Path(sys.argv[0]).absolute()), str(Path.cwd()), {"NUMBA_CACHE_DIR": kept} if kept else {})
