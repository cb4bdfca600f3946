"""A file is the old one or the new one, and of several writers one wins."""

import errno
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc import store
from bigncc.errors import DoesNotFitError, InputError, StoppedError


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


# --- what may be taken back -------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch):
    """Ask as often as ever, without the pauses."""
    monkeypatch.setattr(store, "PAUSES", (0.0,) * len(store.PAUSES))


def failing(times, number):
    """Return a function that fails that many times, and a list of its calls."""
    calls = []

    def function():
        calls.append(1)
        if len(calls) <= times:
            raise OSError(number, os.strerror(number))
        return "done"

    return function, calls


@pytest.mark.parametrize("number", sorted(store.TRANSIENT))
@pytest.mark.parametrize("times", range(7))
def test_what_may_be_taken_back_is_asked_for_again(impatient, number, times):
    function, calls = failing(times, number)
    attempts = len(store.PAUSES) + 1
    if times < attempts:
        assert store.patiently(function, "there cannot be read") == "done"
        assert len(calls) == times + 1
        return
    sentence = f"there cannot be read: {os.strerror(number)}, {attempts} times; the same command continues"
    with pytest.raises(StoppedError) as caught:
        store.patiently(function, "there cannot be read")
    assert (str(caught.value), caught.value.exit_code) == (sentence, 75)
    assert isinstance(caught.value.__cause__, OSError)
    assert len(calls) == attempts


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EISDIR])
def test_what_is_so_is_not_asked_for_again(impatient, number):
    function, calls = failing(1, number)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        store.patiently(function, "there")
    assert caught.value.errno == number
    assert len(calls) == 1


def test_a_fault_of_the_program_is_not_asked_for_again(impatient):
    calls = []

    def function():
        calls.append(1)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        store.patiently(function, "there")
    assert len(calls) == 1


def test_pauses_grow_and_no_two_wait_for_the_same_time(monkeypatch):
    monkeypatch.setattr(store, "PAUSES", (0.02, 0.08))
    waited = []
    for _ in range(5):
        start = time.monotonic()
        store.patiently(failing(2, errno.EIO)[0], "there")
        waited.append(time.monotonic() - start)
    assert min(waited) >= 0.5 * (0.02 + 0.08)
    assert len(set(waited)) == 5


def broken_sync(monkeypatch, hits):
    """Let those calls of fsync fail; return the list of calls."""
    sync, calls = os.fsync, []

    def fsync(descriptor):
        calls.append(1)
        if len(calls) - 1 in hits:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return calls


@pytest.mark.parametrize("hits", [{0}, {1}, {0, 1, 2}])
def test_small_files_are_written_all_the_same(tmp_path, monkeypatch, impatient, hits):
    calls = broken_sync(monkeypatch, hits)
    store.put(tmp_path / "a.json", b"one")
    assert len(calls) > max(hits)
    assert store.get(tmp_path / "a.json") == b"one"
    calls.clear()
    # whoever made the file is told so, although the storage let him try twice
    assert store.put_if_absent(tmp_path / "b.json", b"two")
    assert len(calls) > max(hits)
    assert store.get(tmp_path / "b.json") == b"two"
    assert not store.put_if_absent(tmp_path / "b.json", b"three")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


@pytest.mark.parametrize("verb", [store.put, store.put_if_absent])
def test_small_files_that_cannot_be_written_stop_the_run(tmp_path, monkeypatch, impatient, verb):
    calls = broken_sync(monkeypatch, range(100))
    with pytest.raises(StoppedError, match="a.json cannot be written: Input/output error, 5 times; the same command"):
        verb(tmp_path / "a.json", b"one")
    assert len(calls) == 5
    assert list(tmp_path.iterdir()) == []


# --- what is left over ------------------------------------------------------------------------------------------------

LEFT = """
import os, sys
if sys.argv[1] == "zarr":
    from zarr.storage import _local
    with _local._atomic_write(__import__("pathlib").Path("0"), "wb") as file:
        os.write(1, b".")
        os.read(0, 1)
else:
    from pathlib import Path
    from bigncc import store
    store.sync = lambda path: (os.write(1, b"."), os.read(0, 1))
    store.put(Path("plan.json"), b"{}")
"""


@pytest.mark.parametrize("who", ["zarr", "bigncc"])
def test_what_a_killed_process_leaves_is_known_by_its_name(tmp_path, who):
    words = [sys.executable, "-c", LEFT, who]
    with subprocess.Popen(words, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.read(1) == b"."
        process.send_signal(signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    assert left.name not in ("0", "plan.json")
    assert store.PARTIAL.fullmatch(left.name)


@given(st.text("ab.-_0", max_size=5), st.text("0123456789abcdefgA", min_size=31, max_size=33))
def test_no_other_name_is_taken_for_a_left_over(head, code):
    is_code = len(code) == 32 and not set("gA") & set(code)
    assert bool(store.PARTIAL.fullmatch(f"{head}.{code}.partial")) == (bool(head) and is_code)
    assert not store.PARTIAL.fullmatch(f"{head}.{code}")


def test_names_of_left_overs():
    code = uuid.uuid4().hex
    assert store.PARTIAL.fullmatch(f"0.{code}.partial")
    for name in (f"{code}.partial", f".{code}.partial", f"0.{code[1:]}.partial", f"0.{code}.partial~", "0.partial"):
        assert not store.PARTIAL.fullmatch(name)


@pytest.mark.parametrize(
    "place",
    ["a\0b", "a\ud800b", "file://host/a", "file:///a?b", "file:///a#b", "file://a", "zip::file:///a", "x::s3://b/c"],
)
def test_places_that_are_none(place):
    with pytest.raises(InputError, match="accepted"):
        store.absolute(place)


def test_addresses_of_files_are_paths(tmp_path):
    assert store.absolute("file:///a%20b/c") == store.absolute("file://localhost/a%20b/c") == "/a b/c"
    (tmp_path / "a").write_bytes(b"123")
    assert store.get(tmp_path / "a", 3) == b"123"
    with pytest.raises(InputError, match="has more than 2 bytes: at most as many are accepted"):
        store.get(tmp_path / "a", 2)
