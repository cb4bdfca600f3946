"""Transforms: what maps where, in numbers, JSON and words."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc.errors import InputError
from bigncc.transform import (
    Displacement,
    Translation,
    from_dict,
    to_dict,
)
from tests.transforms import anything, quick, same_bits


@quick
@given(st.sampled_from([2, 3]).flatmap(lambda n: anything(n)))
def test_json_round_trip(transform):
    text = json.dumps(to_dict(transform), allow_nan=False)
    again = from_dict(json.loads(text))
    if not isinstance(transform, Displacement):
        assert again == transform
    else:
        assert again.grid == transform.grid
        assert same_bits(again.field, np.where(np.isfinite(transform.field), transform.field, np.nan))
    assert json.dumps(to_dict(again), allow_nan=False) == text


FIELD = np.zeros((2, 2, 2))
WORDS = {"kind": "displacement", "step": [1, 1], "origin": [0, 0], "field": FIELD.tolist()}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Translation((1.0,)), r"translation offset is \(1.0,\): 2 or 3 finite numbers"),
        (lambda: Translation((1.0, math.nan)), "nan.*2 or 3 finite numbers"),
        (lambda: Translation((1.0, 10**400)), "2 or 3 finite numbers"),
        (lambda: Translation("12"), "'12'.*2 or 3 finite numbers"),
        (lambda: Translation(3), "offset is 3: 2 or 3 finite numbers"),
        (lambda: Displacement([[1]]), r"shape \[\]: \[2, y, x\] or \[3, z, y, x\]"),
        (lambda: Displacement(np.zeros((2, 5))), r"shape \[2, 5\]"),
        (lambda: Displacement(np.zeros((3, 5, 5))), r"shape \[3, 5, 5\]"),
        (lambda: Displacement(np.zeros((2, 0, 5))), r"shape \[2, 0, 5\].*not empty"),
        (lambda: Displacement(FIELD.astype(complex)), "type complex128: integers or floats are accepted"),
        (lambda: Displacement(FIELD, step=0), "step is 0: a whole number of at least 1, or 2 such, is accepted"),
        (lambda: Displacement(FIELD, step=(1, 1, 1)), r"step is \(1, 1, 1\).*or 2 such"),
        (lambda: Displacement(FIELD, step=1.5), "step is 1.5: a whole number"),
        (lambda: Displacement(FIELD, origin="ab"), "origin is 'ab': a whole number"),
        (lambda: Displacement(FIELD, origin=2**31), "origin is 2147483648"),
        (
            lambda: from_dict({"kind": "spline"}),
            "kind is 'spline': one of translation, affine, displacement is accepted",
        ),
        (lambda: from_dict([1]), "kind is None"),
        (lambda: from_dict({"kind": "translation"}), r"keys \['kind'\]: exactly \['kind', 'offset'\]"),
        (lambda: from_dict({"kind": "translation", "offset": [1, 2], "x": 1}), "keys .*'x'.*exactly"),
        (lambda: from_dict({"kind": "translation", "offset": [True, 2]}), "2 or 3 finite numbers"),
        (lambda: from_dict({**WORDS, "field": [[1], [1, 2]]}), "not a regular nested list"),
        (lambda: from_dict({**WORDS, "field": [[["1"]], [[2]]]}), "not a regular nested list"),
        (lambda: from_dict({**WORDS, "field": [[[10**400]], [[2]]]}), "not a regular nested list"),
        (lambda: from_dict({**WORDS, "step": "x"}), "step is 'x'"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
