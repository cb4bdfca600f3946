"""YAML as people write it: plain values, each key once, and nothing that runs or grows."""

from __future__ import annotations

import re
from typing import Any

import yaml

from bigncc.errors import InputError

LARGEST = 2**17
"""Bytes of a document: the default config has a tenth of it."""

EXPANDED = 2**20
"""Characters, with all that names (*name) stand for written out."""

DEEPEST = 16
"""Levels of lists and mappings: a config has five."""


class _Loader(yaml.SafeLoader):
    """YAML in which 3:10 is a range, 4:00:00 a time and neither, as in its version 1.1, a number to the base of 60."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [("tag:yaml.org,2002:str", re.compile(r"[0-9][0-9_]*(:[0-9_]+)+$")), *rules]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.depth = 0
        self.known: dict[int, tuple[int, int]] = {}  # characters and levels of what was read, written out

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self.depth += 1
        if self.depth > DEEPEST:
            raise _fault(event, f"there are more than {DEEPEST} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self.known:
                raise _fault(event, "a name stands for what it is in")
        else:
            self.known[id(node)] = self._extent(node)
        if self.known[id(node)] > (EXPANDED, 0) or self.known[id(node)][1] > DEEPEST:
            raise _fault(event, f"what it stands for has more than {EXPANDED} characters or {DEEPEST} levels")
        return node

    def _extent(self, node: Any) -> tuple[int, int]:
        inner = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            inner = [each for pair in inner for each in pair]
        each = [self.known[id(one)] for one in inner]
        own = len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        return 1 + own + sum(size for size, _ in each), 1 + max((height for _, height in each), default=0)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value.__hash__ is not None and key.value in seen:
                raise _fault(key, f"the key {str(key.value)[:80]} is there twice")
            seen.update([key.value] if isinstance(key.value, str) else [])
        return super().construct_mapping(node, deep)


def _fault(where: Any, what: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=where.start_mark)


def parsed(data: bytes, name: str) -> Any:
    """Return what a YAML document says.

    Parameters
    ----------
    data : bytes
        In UTF-8 or UTF-16, as YAML has it.
    name : str
        For the sentence, in which nothing of the document is quoted but a key: it may hold a secret.

    Raises
    ------
    InputError
        If it is none, too large, or says what only a program could mean.
    """
    if len(data) > LARGEST:
        message = f"{name} has more than {LARGEST} bytes: at most as many are accepted"
        raise InputError(message)
    try:
        return yaml.load(data, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        # what it quotes may be a password that begins with a mark of YAML
        said = re.sub(r" '(?!<)[^']{2,}'", "", str(error.problem or error.context))
        reason = f"{said}{where}"
    except Exception as error:  # of numbers and dates that are none, and what is no text
        reason = type(error).__name__
    message = f"{name} is no YAML ({' '.join(reason.split())[:200]}): plain values, each key once, are accepted"
    raise InputError(message) from None
