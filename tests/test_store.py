"""A file is the old one or the new one, and of several writers one wins."""

import errno
from concurrent.futures import ThreadPoolExecutor

import pytest

from bigncc import store
from bigncc.errors import DoesNotFitError, InputError


def test_put_replaces_and_get_reads(tmp_path):
    path = tmp_path / "a" / "b.json"
    assert store.get(path) is None
    for data in (b"one", b"two"):
        store.put(path, data)
        assert store.get(path) == data
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]


def test_one_of_many_writers_wins(tmp_path):
    path = tmp_path / "plan.json"
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda i: store.put_if_absent(path, b"%d" % i), range(64)))
    assert sum(made) == 1
    assert store.get(path) == b"%d" % made.index(True)
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    store.put(path, b"old")

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(DoesNotFitError, match="plan.json cannot be written .No space left on device.: run again when"):
        store.put(path, b"new")
    assert store.get(path) == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("number", "midway", "kind"),
    [
        (errno.ENOSPC, False, DoesNotFitError),
        (errno.EDQUOT, True, DoesNotFitError),
        (errno.EROFS, True, DoesNotFitError),
        (errno.EROFS, False, InputError),
        (errno.EACCES, True, InputError),
        (errno.EIO, True, OSError),
    ],
)
def test_what_the_disk_refuses_is_a_sentence_and_what_it_breaks_is_not(number, midway, kind):
    with pytest.raises(kind) as caught, store.explained("there", midway=midway):
        raise OSError(number, "as planned")
    assert type(caught.value) is kind or kind is OSError
    assert ("there cannot be written (as planned)" in str(caught.value)) == (kind is not OSError)


def test_below_a_file_there_is_nothing_to_read_and_no_place_to_write(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert store.get(tmp_path / "file" / "plan.json") is None
    with pytest.raises(InputError, match="a path in a writable directory is accepted"):
        store.put(tmp_path / "file" / "plan.json", b"")
