"""Files and words that almost are what they should be: changed byte by byte, or value by value of what they mean.

What is changed is decided by a `random.Random`, which may be hypothesis', so that what fails is made small.
"""

import json
from random import Random
from typing import Any

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 64, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308,
    float("nan"), float("inf"), float("-inf"), "", "0", "x", "nan", "null", "\0", "é", "\ud800", "../..", "/",
    "a\nb", "file:///etc/passwd", "s3://b/x", "x" * 5000, [], {}, [[]], [{}], {"": None}, {"x": {}}, [None], [0],
    [1, 2, 3], ["x"],
)  # fmt: skip
"""Values that a program might stumble over wherever it does not expect them."""

TOKENS = (
    b"", b"\0", b"\n", b"\r", b"\xff", b"\xef\xbb\xbf", b"\xc3", b'"', b"'", b",", b":", b"{", b"}", b"[", b"]",
    b"=", b".", b"-", b"+", b"/", b"//", b"\\", b"#", b"&a", b"*a", b"<<: *a", b"!!int ", b"!!float ", b"!!binary ",
    b"!!timestamp ", b"!!set ", b"!!python/name:os.system ", b"? ", b"| ", b"> ", b"%YAML 9.9\n", b"---\n", b"...\n",
    b"~", b"null", b"nan", b".nan", b".inf", b"NaN", b"Infinity", b"-1", b"0", b"1e9", b"1e999", b"0x", b"0b",
    b"0o7", b"1_0", b"1:2", b"99999999999999999999", b"9" * 5000, b"2020-13-45", b"2020-02-30 25:61:61", b"true",
    b"um", b"GB", b"h", b"3h50m", b"9/3", b"0:10,5:20", b"s3://", b"http://a@b/c?d#e", b"file://", b"\xe2\x80\xae",
    b"\xed\xa0\x80", b"\xd9\xa3", b"[" * 3000, b"{" * 3000, b"a: " * 500, b"- " * 3000,
)  # fmt: skip
"""Bytes that mean something to one of the parsers, or to none."""


def of_bytes(data: bytes, dice: Random) -> bytes:
    """Return some bytes with one to four changes: flipped, cut, doubled, taken out, put in."""
    for _ in range(dice.randint(1, 4)):
        at, other = sorted((dice.randint(0, len(data)), dice.randint(0, len(data))))
        how = dice.randrange(7)
        if how == 0 and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]
        elif how == 1:
            data = data[:at]
        elif how == 2:
            data = data[:at] + data[min(other, at + 64) :]
        elif how == 3:
            data = data[:other] + data[at:other] + data[other:]
        elif how == 4:
            data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
        else:
            data = data[: at if how == 5 else other] + dice.choice(TOKENS) + data[at if how == 5 else other :]
    return data


def of_document(document: Any, dice: Random) -> Any:
    """Return a document of JSON with one to three changes: a value replaced, taken out or moved, a key renamed."""
    document = json.loads(json.dumps(document))
    for _ in range(dice.randint(1, 3)):
        places = list(_places(document))
        if not places:
            return dice.choice(HOSTILE)
        holder, key = dice.choice(places)
        how = dice.randrange(6)
        if how == 0:
            del holder[key]
        elif how == 1:
            source, other = dice.choice(places)
            holder[key] = json.loads(json.dumps(source[other])) if _has(source, other) else None
        elif how == 2 and isinstance(holder, dict):
            holder[dice.choice(("", "x", "plan_id", f"{key}s"))] = holder.pop(key)
        elif how == 3 and isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
            holder[key] = dice.choice(
                (-holder[key], holder[key] + 1, holder[key] * 1000, str(holder[key]), [holder[key]])
            )
        else:
            holder[key] = json.loads(json.dumps(dice.choice(HOSTILE)))
    return document


def _places(document: Any) -> Any:
    """Yield each value below a document, as what holds it and its key there."""
    for key in (
        list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    ):
        yield document, key
        yield from _places(document[key])


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else isinstance(key, int) and key < len(holder)
