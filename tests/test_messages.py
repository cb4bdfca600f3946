"""The table of messages quotes what the program says, with the exit code that it ends with."""

import ast
import re
from pathlib import Path

import pytest

from bigncc import errors
from bigncc.errors import BignccError

ROOT = Path(__file__).parent.parent
CODES = {name: kind.exit_code for name, kind in vars(errors).items() if isinstance(kind, type)}


def rows():
    """Exit code and message of each line of the table that quotes one."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## Messages and what to do\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| (\d+) \| `(.*?)` \| \S.* \| \S.* \|$", section, re.MULTILINE)


def flat(node):
    """The text of a literal, with a mark for what is put in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def said():
    """All texts of functions that make errors, and the exit codes of these."""
    for path in sorted((ROOT / "bigncc").glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                nodes = list(ast.walk(function))
                codes = {CODES[n.id] for n in nodes if isinstance(n, ast.Name) and n.id in CODES}
                yield codes, "\n".join(flat(node) for node in nodes)


SAID = list(said())
INDIRECT = {"tile ... failed twice (...)", "... cannot be read: ..."}
"""Made by one function and raised by another."""


def test_the_table_is_long_enough_and_knows_every_code():
    found = rows()
    assert len(found) >= 25
    assert {int(code) for code, _ in found} == {2, 3, 4, 5, 75}
    assert set(CODES.values()) == {BignccError.exit_code, 2, 3, 4, 5, 75}


@pytest.mark.parametrize(("code", "message"), rows())
def test_a_message_is_in_the_source_beside_an_error_of_its_code(code, message):
    pattern = re.compile("[^\n]*".join(re.escape(part) for part in message.split("...")))
    codes = [codes for codes, text in SAID if pattern.search(text)]
    assert codes, "nobody says so"
    assert message in INDIRECT or any(int(code) in each for each in codes)
