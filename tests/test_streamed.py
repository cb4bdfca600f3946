"""What is sent is a Zarr pyramid: what reads the files of one reads what was put in, and nothing else can be had."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.core.buffer import cpu
from zarr.storage import MemoryStore

from bigncc import streamed
from bigncc.storage import open_image
from bigncc.streamed import Nothing
from bigncc.tiles import roi_cells
from tests import zarrs


class Stored:
    """An array that knows how much of it was read."""

    def __init__(self, values, chunks):
        self.values, self.chunks, self.read = values, chunks, 0
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, roi):
        assert all(0 <= s.start <= s.stop <= n for s, n in zip(roi, self.shape, strict=True))
        self.read += self.values[roi].size
        return self.values[roi]


def written(stream):
    """Everything that there is of a pyramid, by its paths, as a store."""
    paths = ["zarr.json"]
    for number, level in enumerate(stream.levels):
        cells = roi_cells(tuple(slice(0, n) for n in level.array.shape), stream.chunks)
        paths += [f"{number}/zarr.json", *(f"{number}/c/{'/'.join(map(str, cell))}" for cell in cells)]
    return MemoryStore({path: cpu.Buffer.from_bytes(stream.answer(path)) for path in paths})


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([("y", "x"), ("z", "y", "x"), ("c", "z", "y", "x"), ("t", "y", "x")]),
    st.sampled_from(["uint8", "int16", "uint16", ">u2", "uint32", "int64", "float32", "float64", "float16"]),
    st.integers(1, 20),
    st.integers(0, 2**32),
)
def test_whatever_reads_zarr_reads_the_levels(axes, dtype, thick, seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(rng.integers(1, 300 if name in "yx" else 18)) for name in axes)
    finest = rng.integers(0, 99, shape).astype(dtype)
    coarser = finest[tuple(slice(None, None, 2 if name in "yx" else 1) for name in axes)]
    chunks = tuple({"z": thick, "y": 70, "x": 40}.get(name, 1) for name in axes)
    stream = streamed.streamed(axes, [Stored(finest, chunks), Stored(coarser, chunks)])
    store = written(stream)
    for number, wanted in enumerate((finest, coarser)):
        image = open_image(store, level=number)
        assert image.axes == axes
        np.testing.assert_array_equal(zarrs.everything(image.array), wanted)
    # the pixels of a level cover those of the finest: x of 1 begins at half a pixel
    twice = tuple(2.0 if name in "yx" and n > 1 else 1.0 for name, n in zip(axes, shape, strict=True))
    assert image.scale == twice
    assert image.translation == tuple((f - 1) / 2 for f in twice)


@pytest.mark.parametrize(
    "path",
    ["", "/", "0", "c/0/0", "2/zarr.json", "0/c/1/0", "0/c/0", "0/c/0/0/0", "0/c/-1/0", "0/c/0/0/", "../zarr.json",
     "0/../zarr.json", "/etc/passwd", "0//etc/passwd", "0/c/00/0", "0/c/0/0\n", "zarr.json/", "0/c/99999999999/0",
     "%2e%2e/zarr.json", "0/zarr.json\0", "٣/zarr.json"],
)  # fmt: skip
def test_there_is_nothing_else(path):
    stream = streamed.streamed(("y", "x"), [Stored(np.zeros((9, 9), np.uint8), (3, 3))] * 2)
    assert stream.answer(path) is None


def test_a_chunk_is_decoded_once_for_all_that_are_sent_of_it():
    source = Stored(np.arange(600 * 900, dtype=np.uint32).reshape(600, 900), (600, 900))
    written(streamed.streamed(("y", "x"), [source]))
    assert source.read == source.values.size


def test_of_a_huge_image_without_small_levels_an_overview_reads_nothing():
    class Huge(Stored):
        def __init__(self):
            self.shape, self.chunks, self.dtype, self.ndim = (2, 2**20, 2**20), (1, 1024, 1024), np.dtype("uint16"), 3

        def __getitem__(self, roi):
            raise AssertionError

    stream = streamed.streamed(("z", "y", "x"), [Huge()])
    assert stream.blank
    assert [level.factor for level in stream.levels] == [(1, 1, 1), (1, 8, 8)]
    assert stream.answer("1/zarr.json") is not None
    assert set(stream.answer("1/c/1/0/511")) == {0}
    assert stream.answer("1/c/1/0/512") is None
    with pytest.raises(AssertionError):
        stream.answer("0/c/0/0/0")
    small = streamed.streamed(("y", "x"), [Stored(np.zeros((99, 99)), (99, 99))])
    assert not small.blank


def test_nothing_is_no_value():
    assert np.isnan(Nothing((4, 4), (2, 2), np.dtype("float32"))[0:1, 1:3]).all()


@pytest.mark.parametrize(
    ("finest", "shape", "factor"),
    [
        ((741, 500), (371, 250), (2, 2)),
        ((741, 500), (370, 250), (2, 2)),
        ((741, 4), (24, 4), (32, 1)),
        ((900, 7), (300, 1), (3, 8)),
        ((1000, 1), (600, 1), (1000 / 600, 1)),
    ],
)
def test_factors_of_levels(finest, shape, factor):
    assert streamed.factors(finest, shape) == factor
