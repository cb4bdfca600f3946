"""What several verbs share on the command line: the words that say a job, and how a verb speaks."""

from typing import Any

import click

from bigncc import shell
from bigncc.errors import InputError
from bigncc.typed import WORDS


def spoken(verb: Any) -> Any:
    """Let a verb be asked to speak otherwise; `main` has found out how, and hands it on."""
    as_json = click.option("--json", is_flag=True, expose_value=False, help="Speak in JSON, one event a line.")
    quiet = click.option("--quiet", is_flag=True, expose_value=False, help="Say nothing but errors.")
    return as_json(quiet(click.pass_obj(verb)))


def job_options(verb: Any) -> Any:
    """Give a verb the words and options that say a job."""
    return _options(verb, required=True)


def job_or_table_options(verb: Any) -> Any:
    """Give a verb the words and options that say a job, or a table of jobs."""
    table = click.option(
        "--pairs",
        metavar="TABLE.csv",
        help="A run for each line, with columns reference, moving, output and keys such as window.size.",
    )
    return _options(table(verb), required=False)


def _options(verb: Any, *, required: bool) -> Any:
    options = (
        click.argument("words", nargs=-1, required=required, metavar=WORDS, shell_complete=shell.words),
        click.option(
            "--window",
            metavar="N[,N[,N]]",
            help="Odd window size, or a length such as 31um: one for (y, x), or y,x or z,y,x.",
        ),
        click.option("--radius", metavar="R[,R[,R]]", help="Half window size: 2 R + 1 pixels."),
        click.option("--stack", metavar="K[,K]", help="STACK OUT: each section z of one stack with its section z + K."),
        click.option("--as-is", is_flag=True, help="Correlate the images as they are stored, unshifted."),
        click.option("--trust-field", is_flag=True, help="Apply a given transform though it fits better turned round."),
        click.option("--region", metavar="Y0:Y1,X0:X1", help="Only this part of the reference, for a trial."),
        click.option(
            "--missing-chunks",
            type=click.Choice(["fill", "nodata", "error"]),
            help="What a chunk of an image that is not stored means.",
        ),
    )
    for option in reversed(options):
        verb = option(verb)
    return verb


def exclude(option: str, others: dict[str, bool]) -> None:
    """Raise InputError if any of `others` is given beside an option."""
    for other, given in others.items():
        if given:
            message = f"{option} and {other} are given: one of them is accepted"
            raise InputError(message)
