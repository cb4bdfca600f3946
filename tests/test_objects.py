"""Stored objects are whole, proven by their checksums, and replaced without a look at what was there."""

import errno
import re
from pathlib import Path

import numpy as np
import pytest

from bigncc import objects as room
from bigncc.errors import DoesNotFitError, StoppedError
from bigncc.layout import Layout
from bigncc.objects import StorageFault, encoded, examined, places
from bigncc.output import create_output, open_output
from tests import pairs
from tests.strategies import cover

GRID = ("c", "y", "x"), (1.0, 0.5, 0.25), (0.0, 3.0, -1.0), (None, "micrometer", None), "a"
LAYOUTS = {
    "plain": Layout((2, 10, 13), (1, 4, 5), *GRID),
    "sharded": Layout((2, 10, 13), (1, 2, 5), *GRID, (1, 4, 10)),
}
WHOLE = np.s_[0:2, 0:10, 0:13]


@pytest.fixture(params=sorted(LAYOUTS))
def output(tmp_path, request):
    create_output(tmp_path / "out.zarr", LAYOUTS[request.param], pairs.SAID)
    return open_output(tmp_path / "out.zarr")


def fill(output, seed=0):
    """Write random maps tile by tile and return them."""
    rng = np.random.default_rng(seed)
    maps = {
        "ncc": rng.uniform(-1, 1, output.layout.shape).astype("f4"),
        "status": rng.integers(0, 9, output.layout.shape).astype("u1"),
    }
    for roi in cover(output.layout.shape, (1, 8, 10)):
        for name, values in maps.items():
            write(output.maps[name], roi, values[roi])
    return maps


def write(array, roi, block, **how):
    """Encode a block and store it."""
    return room.write(array, roi, encoded(array, roi, block), **how)


def faults(array, roi):
    """What is wrong with the objects of a region."""
    return [f"{place} {fault}" for place, _, fault in examined(array, roi) if fault]


def objects(output):
    """Every place of an object in a map, in order."""
    return [Path(place) for place in places(output.maps["ncc"], WHOLE)]


def test_what_is_written_is_read(output):
    maps = fill(output)
    for name, values in maps.items():
        np.testing.assert_array_equal(output.maps[name][...], values)
        write(output.maps[name], WHOLE, values, durable=True)  # nothing of it can be seen
        assert faults(output.maps[name], WHOLE) == []


def test_a_chunk_of_nothing_but_fill_is_on_disk(output):
    write(output.maps["ncc"], WHOLE, np.full(output.layout.shape, np.nan, "f4"))
    write(output.maps["status"], WHOLE, np.zeros(output.layout.shape, "u1"))
    count = len(list(cover(output.layout.shape, output.layout.objects)))
    assert len([path for path in (Path(output.url) / "0" / "c").rglob("*") if path.is_file()]) == count
    for array in output.maps.values():
        assert len(list(examined(array, WHOLE))) == count


@pytest.mark.parametrize(
    "roi",
    [
        np.s_[0:1, 1:4, 0:10],
        np.s_[0:1, 0:3, 0:10],
        np.s_[0:1, 0:4, 0:14],
        np.s_[0:1, 0:4, 0:15],
        np.s_[0:1, 4:4, 0:10],
        np.s_[-1:1, 0:4, 0:10],
        np.s_[0:1, 0:4],
    ],
)
def test_only_whole_objects_are_written(output, roi):
    with pytest.raises(ValueError, match=r"whole objects|argument 2 is longer"):
        write(output.maps["ncc"], roi, np.zeros([max(0, s.stop - s.start) for s in roi], "f4"))
    assert not (Path(output.url) / "0" / "c").exists()


def test_a_chunk_of_a_shard_is_no_object(tmp_path):
    create_output(tmp_path / "out", LAYOUTS["sharded"], pairs.SAID)
    with pytest.raises(ValueError, match="whole objects"):
        write(open_output(tmp_path / "out").maps["ncc"], np.s_[0:1, 0:2, 0:5], np.zeros((1, 2, 5), "f4"))


@pytest.mark.parametrize("roi", [np.s_[0:1, 1:4, 0:10], np.s_[0:1, 0:4, 0:12], np.s_[0:1, 0:4, 5:5]])
def test_only_whole_chunks_are_encoded(output, roi):
    with pytest.raises(ValueError, match="whole objects"):
        encoded(output.maps["ncc"], roi, np.zeros([s.stop - s.start for s in roi], "f4"))


def test_zarr_reads_and_writes_a_shard_alike(tmp_path):
    create_output(tmp_path / "out", LAYOUTS["sharded"], pairs.SAID)
    output = open_output(tmp_path / "out")
    maps = fill(output)
    for name, values in maps.items():
        array = output.maps[name]
        np.testing.assert_array_equal(array[...], values)
        array[0:1, 0:4, 0:10] = values[0:1, 0:4, 0:10]
        # its chunks come in another order, all of them there and proven
        assert faults(array, WHOLE) == []


def test_blocks_are_neither_broadcast_nor_cast(output):
    for block in (np.zeros((1, 1, 1), "f4"), np.zeros((4, 10), "f4"), np.zeros((1, 4, 10), "f8")):
        with pytest.raises(ValueError, match="is not float32"):
            write(output.maps["ncc"], np.s_[0:1, 0:4, 0:10], block)


def test_stored_objects_come_in_row_major_order(output):
    fill(output)
    found = [data for _, data, _ in examined(output.maps["ncc"], WHOLE)]
    assert objects(output) == sorted(objects(output))
    assert found == [path.read_bytes() for path in objects(output)]
    assert len(set(found)) == len(found)
    with pytest.raises(ValueError, match="whole objects"):
        list(examined(output.maps["ncc"], np.s_[0:2, 5:10, 0:13]))


def flipped(at):
    """Return what flips a bit `at` a share of the way through."""

    def change(data):
        place = min(int(at * len(data)), len(data) - 1)
        return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        *((flipped(at), r"\(\d+ bytes\) differs from its checksum") for at in (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (lambda data: data[:-1], r"\(\d+ bytes\) differs from its checksum"),
        (lambda data: data[1:], r"\(\d+ bytes\) differs from its checksum"),
        (lambda data: data + b"\0", r"\(\d+ bytes\) differs from its checksum"),
        (lambda data: b"\0" * len(data), r"\(\d+ bytes\) differs from its checksum"),
        (lambda data: data[:0], r"\(0 bytes\) differs from its checksum"),
        (lambda data: data[:4], r"\(4 bytes\) differs from its checksum"),
        (None, "is absent"),
    ],
)
@pytest.mark.parametrize("name", ["ncc", "status"])
@pytest.mark.parametrize("which", [3, -1])
def test_planted_faults_are_found(output, name, change, sentence, which):
    fill(output)
    array = output.maps[name]
    file = Path(places(array, WHOLE)[which])
    data = file.read_bytes()
    file.unlink()
    if change:
        assert change(data) != data
        file.write_bytes(change(data))
    (fault,) = faults(array, WHOLE)
    assert re.fullmatch(rf"{file} {sentence}", fault)
    file.write_bytes(data)
    assert faults(array, WHOLE) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data[:10],
        lambda data: data[1:],
        lambda data: data + b"\0",
        lambda data: b"\0" * len(data),
        lambda data: data[:0],
        None,
    ],
)
@pytest.mark.parametrize("name", ["ncc", "status"])
def test_an_object_without_a_checksum_is_known_to_be_whole_by_its_head(tmp_path, name, change):
    create_output(tmp_path / "out", Layout((2, 10, 13), (1, 4, 5), *GRID, version="0.4"), pairs.SAID)
    output = open_output(tmp_path / "out")
    maps = fill(output)
    array = output.maps[name]
    np.testing.assert_array_equal(array[...], maps[name])
    assert faults(array, WHOLE) == []
    file = Path(places(array, WHOLE)[4])
    data = file.read_bytes()
    file.unlink()
    if change:
        file.write_bytes(change(data))
    (fault,) = faults(array, WHOLE)
    assert re.fullmatch(rf"{file} (is absent|\(\d+ bytes\) is not whole)", fault)


def test_a_chunk_that_a_shard_has_lost_is_found(tmp_path):
    create_output(tmp_path / "out", LAYOUTS["sharded"], pairs.SAID)
    array = open_output(tmp_path / "out").maps["ncc"]
    lossy = array.with_config({"write_empty_chunks": False})
    block = np.ones((1, 4, 10), "f4")
    block[:, 2:] = np.nan  # two chunks that zarr leaves out
    lossy[0:1, 0:4, 0:10] = block
    assert len(faults(array, np.s_[0:1, 0:4, 0:10])) == 1
    write(array, np.s_[0:1, 0:4, 0:10], block)
    assert faults(array, np.s_[0:1, 0:4, 0:10]) == []


@pytest.mark.parametrize("content", [b"", b"torn", None])
def test_what_is_torn_is_replaced_unread(output, content):
    # zarr reads a shard at the array's edge before it writes to it
    maps = fill(output)
    for path in objects(output):
        before = path.read_bytes()
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        for roi in cover(output.layout.shape, (1, 8, 10)):
            write(output.maps["ncc"], roi, maps["ncc"][roi])
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, DoesNotFitError),
        (errno.EDQUOT, DoesNotFitError),
        (errno.EROFS, DoesNotFitError),
        (errno.EIO, StoppedError),
        (errno.ESTALE, StoppedError),
    ],
)
def test_faults_of_the_disk_while_writing(output, monkeypatch, number, error):
    def put(*_, **__):
        raise OSError(number, "as planned")

    monkeypatch.setattr("zarr.storage._local._put", put)
    monkeypatch.setattr("bigncc.store.PAUSES", (0.0, 0.0))
    with pytest.raises(error, match="as planned"):
        write(output.maps["ncc"], WHOLE, np.zeros(output.layout.shape, "f4"))


def test_storage_that_keeps_what_was_there_before_is_found_out(output, monkeypatch):
    # the old object is whole and has the right checksum: only the bytes that were sent tell
    fill(output)
    monkeypatch.setattr("zarr.storage._local._put", lambda *_, **__: 0)
    with pytest.raises(StorageFault, match=r"out.zarr/0/c/0/0/0 is not what was written there"):
        fill(output, seed=1)


def test_a_fault_that_passes_is_waited_for(output, monkeypatch):
    import zarr.storage._local as local

    put, left = local._put, [3]

    def stumbling(*args, **options):
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, "as planned")
        return put(*args, **options)

    monkeypatch.setattr(local, "_put", stumbling)
    monkeypatch.setattr("bigncc.store.PAUSES", (0.0,) * 4)
    maps = fill(output)
    assert left == [0]
    np.testing.assert_array_equal(output.maps["ncc"][...], maps["ncc"])
