"""What is typed on a command line: paths, options and words, as a config's sections and as they can be typed again."""

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bigncc.errors import InputError

if TYPE_CHECKING:
    from bigncc.config import Config


WORDS = "[REF MOV OUT] [CONFIG.yaml...] [key.sub=value...]"
STACKED = "STACK OUT"


def part_of(text: str) -> tuple[int, int]:
    """Return (i, n) for the text i/n."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or int(match[1]) >= int(match[2]):
        message = f"--part is {text!r}: I/N is accepted, I from 0 to N - 1"
        raise InputError(message)
    return int(match[1]), int(match[2])


def config_of(words: tuple[str, ...], **options: Any) -> "Config":
    """Return the checked config that words and options mean."""
    from bigncc.config import load

    return load(wanted(words, ("reference", "moving", "output"), **options))


def wanted(
    words: tuple[str, ...],
    names: tuple[str, ...],
    window: str | None,
    radius: str | None,
    as_is: bool,
    trust_field: bool,
    region: str | None,
    missing_chunks: str | None,
    stack: str | None,
) -> list[Any]:
    """Return what words and options mean, with one path per name or config files, to be loaded."""
    from bigncc.config import is_assignment

    if names and not words:
        message = f"Missing argument {WORDS!r}."
        raise InputError(message)
    stacked = stack is not None or _is_stacked(words)
    images = ("reference",) if stacked else ("reference", "moving")
    named = tuple(name for name in names if name == "output" or name in images)
    given = given_of([word for word in words if not is_assignment(word)], named)
    if stack is not None:
        given.append({"stack": {"lags": _numbers("--stack", stack)}})
    if window is not None and radius is not None:
        message = f"--window {window} and --radius {radius} are given: one of them is accepted"
        raise InputError(message)
    if window is not None:
        parts = [part.strip() for part in window.split(",")]
        # a length, such as 31um, is checked where the config is
        lengths = parts if len(parts) > 1 else window
        measured = any(part[-1:].isalpha() and part[0].isdecimal() for part in parts)
        given.append({"window": {"size": lengths if measured else _numbers("--window", window)}})
    if radius is not None:
        sizes = _numbers("--radius", radius)
        given.append({"window": {"size": 2 * sizes + 1 if isinstance(sizes, int) else [2 * r + 1 for r in sizes]}})
    if trust_field:
        given.append({"registration": {"trust_field": True}})
    if as_is:
        given.append({"registration": {"model": "none"}})
    if region is not None:
        given.append({"output": {"region": region}})
    if missing_chunks is not None:
        given += [{name: {"missing_chunks": missing_chunks}} for name in images]
    return [*given, *(word for word in words if is_assignment(word))]


def _is_stacked(words: tuple[str, ...]) -> bool:
    """Say whether files or words without the option name lags."""
    from bigncc.config import is_assignment, merged

    said = merged(word for word in words if is_assignment(word) or word.endswith((".yaml", ".yml")))
    section = said.get("stack")
    return isinstance(section, dict) and section.get("lags") is not None


def typed(words: Iterable[str]) -> list[str]:
    """Return words as they can be typed in any folder: the names of files in full."""
    from bigncc import store
    from bigncc.config import is_assignment

    return [word if is_assignment(word) else store.absolute(word) for word in words]


def as_options(**options: str | bool | None) -> list[str]:
    """Return options as they were typed."""
    named = ((f"--{name.replace('_', '-')}", value) for name, value in options.items() if value not in (None, False))
    return [word for option, value in named for word in ((option,) if value is True else (option, str(value)))]


def given_of(words: Iterable[str], names: tuple[str, ...]) -> list[Any]:
    """Return what is to be loaded for one path per name, for config files, or for both: what is typed wins."""
    from bigncc.config import is_assignment

    plain = [word for word in words if not is_assignment(word)]
    _check_keys(plain)
    paths = [word for word in plain if not word.endswith((".yaml", ".yml"))]
    if paths and len(paths) != len(names):
        words_of = {"reference": "REF", "moving": "MOV", "output": "OUT"}
        paths_of = STACKED if names == ("reference", "output") else " ".join(words_of[name] for name in names)
        message = f"{' '.join(plain)!r} is neither {paths_of} nor CONFIG.yaml...: one of these, or both, is accepted"
        if not names:
            message = f"{' '.join(plain)!r} is no CONFIG.yaml...: one, beside the table of pairs, is accepted"
        raise InputError(message)
    given: list[Any] = [word for word in plain if word not in paths]
    if paths:
        given.append({name: {"url": url} for name, url in zip(names, paths, strict=True)})
    return [*given, *(word for word in words if is_assignment(word))]


def _check_keys(words: Iterable[str]) -> None:
    """Raise InputError if a word is a key that is misspelt: else it would be taken for a path that is to be made."""
    from bigncc.notation import meant
    from bigncc.options import options

    for word in words:
        name, is_given, _ = word.partition("=")
        if is_given and not os.path.lexists(word) and (like := meant(name, (option.key for option in options()))):
            message = f"config key {name} is unknown{like}: bigncc config prints all of them"
            raise InputError(message)


def _numbers(option: str, text: str) -> int | list[int]:
    # int() takes 1_0 for 10
    if not re.fullmatch(r" *-?[0-9]{1,9} *(, *-?[0-9]{1,9} *)*", text):
        message = f"{option} is {text!r}: a whole number, or two or three with commas, is accepted"
        raise InputError(message)
    numbers = [int(part) for part in text.split(",")]
    return numbers[0] if len(numbers) == 1 else numbers
