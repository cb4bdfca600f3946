"""YAML is plain values, each key once; what grows or runs is a sentence, and quickly one."""

import time

import pytest

from bigncc import yamls
from bigncc.errors import InputError

LAUGHS = "\n".join(["a0: &a0 [ha]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))])
"""Nine times nine times nine: a few hundred bytes that stand for more than there is."""

REFUSED = {
    "a bomb of lists": (LAUGHS, "stands for has more than 1048576 characters or 16 levels"),
    "a bomb of text": (f"a: &a {'x' * 5000}\nb: [{', '.join(['*a'] * 1000)}]", "stands for has more than 1048576"),
    "a chain of names": ("a0: &a0 [1]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 40)), "16 levels"),
    "a name for itself": ("&a [*a]", "a name stands for what it is in"),
    "a name of nothing": ("a: *b", "found undefined alias"),
    "deep lists": ("[" * 50_000, "there are more than 16 levels in line 1, column 17"),
    "deep mappings": ("? " * 50_000, "more than 16 levels"),
    "a key twice": ("a: 1\na: 2", "the key a is there twice in line 2, column 1"),
    "a key twice below": ("b: {a: 1, a: 2}", "the key a is there twice"),
    "a large one": ("#" * (yamls.LARGEST + 1), "has more than 131072 bytes: at most as many are accepted"),
    "a date that is none": ("a: 2001-99-99", "ValueError"),
    "a number that is none": ("a: 0b_", "ValueError"),
    "a number without end": ("a: " + "9" * 5000, "ValueError"),
    "a call": ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
    "a tag that does not fit": ("!!map [1]", "TypeError"),
    "two documents": ("--- a\n--- b", "another document"),
    "a mark": ("a: \0", "ReaderError"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_no_config_is_refused_in_a_sentence_and_at_once(name):
    text, sentence = REFUSED[name]
    begun = time.perf_counter()
    with pytest.raises(InputError, match=sentence) as caught:
        yamls.parsed(text.encode(), "c.yaml")
    assert time.perf_counter() - begun < 1
    assert str(caught.value).startswith("c.yaml ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["[S3CR3T", "!S3CR3T", "*S3CR3T", "S3CR3T: x", "'@S3CR3T", "@S3CR3T", "!!int S3CR3T"])
def test_nothing_is_quoted(text):
    with pytest.raises(InputError) as caught:
        yamls.parsed(f"k: {text}".encode(), "c.yaml")
    assert "S3CR3T" not in str(caught.value)


def test_names_that_stand_for_little_are_written_out():
    found = yamls.parsed(b"a: &s {region: x}\nb: *s\nc: {<<: *s, y: 3:10}", "c.yaml")
    assert found == {"a": {"region": "x"}, "b": {"region": "x"}, "c": {"region": "x", "y": "3:10"}}


def test_as_many_levels_as_are_accepted():
    def lists(deep):
        return ("[" * deep + "x" + "]" * deep).encode()

    yamls.parsed(lists(yamls.DEEPEST - 1), "c.yaml")
    with pytest.raises(InputError, match="16 levels"):
        yamls.parsed(lists(yamls.DEEPEST), "c.yaml")
