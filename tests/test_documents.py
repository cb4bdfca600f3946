"""JSON is what it says once, or a sentence."""

import json
import posixpath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigncc import documents
from bigncc.errors import InputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
@settings(max_examples=40)
def test_a_document_says_what_was_written(value):
    assert documents.document(json.dumps(value).encode(), "a") == value


@given(st.binary(max_size=40))
def test_bytes_are_a_document_or_a_sentence(data):
    try:
        found = documents.document(data, "a")
    except InputError as error:
        found = error
    assert str(found).isprintable() if isinstance(found, InputError) else repr(found) == repr(json.loads(data))


@pytest.mark.parametrize("deep", [documents.DEEPEST, documents.DEEPEST + 1, 10**5])
@pytest.mark.parametrize(("opened", "inner", "closed"), [("[", "", "]"), ('{"a":', "1", "}")])
def test_as_many_levels_as_are_accepted(deep, opened, inner, closed):
    data = (opened * deep + inner + closed * deep).encode()
    if deep == documents.DEEPEST:
        documents.document(data, "a")
    else:
        with pytest.raises(InputError, match="a is nested more than 64 levels deep: at most as many are accepted"):
            documents.document(data, "a")


@given(st.text())
def test_paths_that_lead_down_stay_inside(path):
    if documents.is_inside(path):
        assert not posixpath.isabs(path)
        assert posixpath.normpath(path) == path


@pytest.mark.parametrize("path", ["", ".", "..", "a/..", "/a", "a/", "a//b", "a\\b", "a\0"])
def test_paths_that_do_not(path):
    assert not documents.is_inside(path)
