"""Decoders give what the codecs of the libraries give, and no more than they may."""

import math

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from bigncc import bounds
from tests.zarrs import samples

CODECS = {
    "zlib": numcodecs.Zlib(),
    "gzip": numcodecs.GZip(),
    "bz2": numcodecs.BZ2(),
    "lz4": numcodecs.LZ4(),
    "zstd": numcodecs.Zstd(),
    "zstd with a checksum": numcodecs.Zstd(checksum=True),
    "blosc": numcodecs.Blosc("lz4", 5, 2),
    "blosc of zstd": numcodecs.Blosc("zstd"),
}
DATA = st.binary(min_size=1, max_size=300) | st.integers(1, 10**5).map(bytes)


def packed(name, data):
    return np.frombuffer(bytes(CODECS[name].encode(np.frombuffer(data, "u1"))), "u1")


@pytest.mark.parametrize("name", list(CODECS))
@given(data=DATA, more=st.integers(0, 100))
@settings(max_examples=30)
def test_as_many_bytes_as_may_be_are_decoded_and_one_more_is_refused(name, data, more):
    chunk = packed(name, data)
    assert bytes(bounds.Kept(CODECS[name], len(data) + more).decode(chunk)) == data
    with pytest.raises(ValueError, match="where at most [0-9]+ bytes can be, as the array says"):
        bounds.Kept(CODECS[name], len(data) - 1).decode(chunk)


@pytest.mark.parametrize("name", list(CODECS))
@given(data=DATA)
@settings(max_examples=20)
def test_what_a_codec_makes_of_data_is_within_what_may_be_stored(name, data):
    assert packed(name, data).size <= bounds.encoded(len(data))


@pytest.mark.parametrize("name", ["zlib", "gzip", "bz2"])
@pytest.mark.parametrize("lost", [1, 4, 9])
def test_a_stream_that_ends_too_early_is_refused(name, lost):
    chunk = packed(name, samples((50, 50), "u1").tobytes())
    with pytest.raises((ValueError, EOFError)):
        bounds.Kept(CODECS[name], 2500).decode(chunk[:-lost])


def test_a_chunk_of_blosc_that_lost_its_end_is_refused():
    data = np.arange(10000, dtype="u2").tobytes()
    codec = numcodecs.Blosc("lz4")
    chunk = np.frombuffer(bytes(codec.encode(np.frombuffer(data, "u1"))), "u1")
    # of which the library would read beyond the end
    for cut in (1, chunk.size - 16, chunk.size - 3):
        with pytest.raises(ValueError, match="are left of|a header of blosc has 16"):
            bounds.Kept(codec, len(data)).decode(chunk[:-cut])


@pytest.mark.parametrize(
    ("filters", "size"),
    [
        (None, 128),
        ([numcodecs.Delta("<u2", "<i4")], 256),
        ([numcodecs.Shuffle(2), numcodecs.Zlib()], bounds.encoded(128 + 2**12)),
    ],
)
def test_filters_change_what_a_compressor_stands_for(filters, size):
    options = {"chunks": (8, 8), "dtype": "<u2", "zarr_format": 2, "filters": filters, "compressors": numcodecs.Zstd()}
    array = zarr.create_array(zarr.storage.MemoryStore(), shape=(8, 8), **options)
    metadata, most = bounds.bounded(array.metadata)
    assert metadata.compressor.most == size
    assert most == bounds.encoded(size) + 2**16


@pytest.mark.parametrize("extent", [(8, 8), (16, 16)])
def test_shards_are_bounded_by_their_chunks(extent):
    store = zarr.storage.MemoryStore()
    array = zarr.create_array(store, shape=(16, 16), chunks=(4, 4), shards=extent, dtype="u2")
    metadata, most = bounds.bounded(array.metadata)
    (codec,) = metadata.codecs
    assert codec.most == bounds.encoded(32)
    assert most == 2 * (math.prod(extent) // 16) * (codec.most + 16) + 2**16
    assert (metadata.chunks, metadata.shards) == (array.chunks, array.shards)
    assert metadata.to_dict() == array.metadata.to_dict()
    assert bounds.bounded(metadata)[0] == metadata
