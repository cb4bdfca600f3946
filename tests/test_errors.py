"""A sentence can be printed anywhere, whatever it quotes."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from bigncc.errors import LONGEST, BignccError, InputError


@given(st.text(st.characters(exclude_categories=()), max_size=100))
def test_a_sentence_is_one_printable_line(text):
    said = str(InputError(text))
    assert said.isprintable()
    said.encode()
    if text.isprintable():
        assert said == text
    assert str(pickle.loads(pickle.dumps(InputError(text)))) == said


def test_what_moves_a_cursor_is_shown_by_its_number():
    assert str(BignccError("a\x1b[2Jb\nc\u202ed")) == r"a\x1b[2Jb\nc\u202ed"


def test_a_sentence_has_an_end():
    said = str(BignccError("a" * 10**7))
    assert len(said) < LONGEST + 10
