"""What a config names is opened, or refused in a sentence that says what and where."""

import pytest

from bigncc.errors import InputError
from bigncc.inputs import given_transform, open_inputs
from bigncc.transform import Translation
from tests import pairs


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
    ("content", "sentence"),
    [(None, "there is none"), (b"", "Expecting value"), (b"{", "Expecting property"), (b"\xff\xfe{", "codec|decode")],
)
def test_a_transform_that_cannot_be_read(asked, tmp_path, content, sentence):
    file = tmp_path / "t.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=f"transform '{file}' cannot be read .*({sentence}).*: a JSON file is"):
        open_inputs(asked)
