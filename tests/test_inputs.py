"""What a config names is opened, or refused in a sentence that says what and where."""

import json

import pytest

from bigncc.errors import InputError
from bigncc.inputs import given_transform, open_inputs
from bigncc.placement import headline
from bigncc.transform import Translation
from tests import pairs

# a turn by 53 degrees, after which the box around the image still meets it
AWAY = {"kind": "affine", "matrix": [[0.6, -0.8], [0.8, 0.6]], "offset": [-60, 150]}
FIELD = {"kind": "displacement", "step": [200, 200], "origin": [0, 0], "field": [[[1000]], [[0]]]}


@pytest.fixture
def asked(tmp_path):
    """Return the config of a small pair that is registered by a file."""
    reference, moving, *_ = pairs.pair(tmp_path)
    where = f"registration.transform={tmp_path / 't.json'}"
    return pairs.job(reference, moving, tmp_path / "out", "registration.model=null", where)


def test_a_transform_comes_from_a_file(asked, tmp_path):
    (tmp_path / "t.json").write_text('{"kind": "translation", "offset": [1.5, -2]}')
    assert given_transform(asked) == open_inputs(asked).given == Translation((1.5, -2))


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ({"kind": "translation", "offset": [130, 0]}, r"\(they lie at y 130 to 259, x 0 to 169\)"),
        (AWAY, r"no reference pixel \(y 0 to 129, x 0 to 169\) into the moving image of \[130, 170\] pixels"),
        (FIELD, r"they lie at y 1000 to 1129"),
    ],
)
def test_a_transform_that_leads_out_of_the_moving_image_is_refused_with_the_numbers(asked, tmp_path, transform, words):
    (tmp_path / "t.json").write_text(json.dumps(transform))
    with pytest.raises(InputError, match=words):
        open_inputs(asked)


def test_what_is_computed_must_be_seen_and_not_what_lies_around_it(asked, tmp_path):
    (tmp_path / "t.json").write_text('{"kind": "affine", "matrix": [[1, 0.01], [0, 1]], "offset": [100, 0]}')
    open_inputs(asked)
    region = asked.model_copy(update={"output": asked.output.model_copy(update={"region": ((90, 130), (0, 9))})})
    with pytest.raises(InputError, match=r"no reference pixel \(y 90 to 129, x 0 to 8\)"):
        open_inputs(region)


def test_the_headline_says_what_an_affine_transform_does(asked, tmp_path):
    (tmp_path / "t.json").write_text('{"kind": "affine", "matrix": [[1.02, 0], [0, 1.02]], "offset": [3, -1]}')
    assert headline(open_inputs(asked)) == (
        "moving image pulled through an affine transform: turned by +0.00 degrees, scaled by 1.020 (y) and 1.020 (x), "
        "shifted by y +4.29, x +0.69 at the centre"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "there is none"), (b"", "Expecting value"), (b"{", "Expecting property"), (b"\xff\xfe{", "codec|decode")],
)
def test_a_transform_that_cannot_be_read(asked, tmp_path, content, sentence):
    file = tmp_path / "t.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=f"transform '{file}' cannot be read .*({sentence}).*: a JSON file is"):
        open_inputs(asked)
