"""Masks and fields are known again by their samples, whatever is read at once."""

import numpy as np
import pytest
import zarr

from bigncc import fingerprint
from bigncc.store import digest


@pytest.mark.parametrize("most", [1, 60, 700, 2**26])
@pytest.mark.parametrize("shape", [(7,), (41, 30), (2, 13, 9), (3, 1, 11, 5)])
def test_a_digest_is_of_the_samples_in_their_order(tmp_path, monkeypatch, shape, most):
    data = np.arange(np.prod(shape), dtype="u2").reshape(shape)
    array = zarr.create_array(str(tmp_path / "m"), shape=shape, chunks=tuple(min(n, 4) for n in shape), dtype="u2")
    array[...] = data
    monkeypatch.setattr(fingerprint, "DIGESTED", most)
    wanted = digest([f"{shape} {data.dtype.str}".encode(), data.tobytes()])
    assert fingerprint.digest_of(array) == fingerprint.digest_of(data) == wanted


def test_each_chunk_of_a_mask_is_read_once_for_it(tmp_path, monkeypatch):
    array = zarr.create_array(str(tmp_path / "m"), shape=(1000, 900), chunks=(256, 256), dtype="u1")
    monkeypatch.setattr(fingerprint, "DIGESTED", 900 * 600)
    assert list(fingerprint.slabs(array)) == [
        (slice(0, 512), slice(0, 900)),
        (slice(512, 1000), slice(0, 900)),
    ]
