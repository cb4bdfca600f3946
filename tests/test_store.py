"""A file is the old one or the new one, and of several writers one wins."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from bigncc import store


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
    with pytest.raises(OSError, match="No space left"):
        store.put(path, b"new")
    assert store.get(path) == b"old"
