"""The keys of a config in a row: as a table for people, and as lines from which a shell completes them."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from bigncc.config import Config


class Option(NamedTuple):
    """A key with its default, None where there is none, its values, where they are few, and its meaning."""

    key: str
    default: str | None
    values: tuple[str, ...]
    meaning: str


def options(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[Option]:
    """Yield each key of a section and of those in it; of a section that may be left out also itself."""
    for name, field in section.model_fields.items():
        key, meaning = f"{prefix}{name}", field.description or ""
        inner = [each for each in _parts(field.annotation) if isinstance(each, type) and issubclass(each, BaseModel)]
        given = not field.is_required() and not isinstance(field.default, BaseModel)
        if not inner or given:
            # what null means there, but for a stack
            default = "translation" if key == "registration.model" else field.default
            yield Option(key, _text(default) if given else None, tuple(_values(field.annotation)), meaning)
        for each in inner:
            yield from options(each, f"{key}.")


def table() -> str:
    """Return all keys as a table in Markdown; those of the moving image are those of the reference."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for option in options():
        if option.key.startswith("moving."):
            continue
        default = "" if option.default is None else f"`{option.default}`"
        meaning = option.meaning.replace("|", "\\|")
        lines.append(f"| `{option.key}` | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def listed(every: Iterable[Option]) -> str:
    """Return a line for each key: the key, its values and its meaning, between tabs."""
    return "".join(f"{option.key}\t{'|'.join(option.values)}\t{option.meaning}\n" for option in every)


def _parts(annotation: Any) -> tuple[Any, ...]:
    """Return the types that an annotation allows."""
    return get_args(annotation) if get_args(annotation) and get_origin(annotation) is not Literal else (annotation,)


def _values(annotation: Any) -> Iterator[str]:
    for part in _parts(annotation):
        if get_origin(part) is Literal:
            yield from map(str, get_args(part))
        elif part is bool:
            yield from ("true", "false")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
