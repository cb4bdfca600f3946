"""Small files that stand for large ones, and images that lead out of themselves."""

import bz2
import gzip
import json
import os
import struct
import zlib
from pathlib import Path

import google_crc32c

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
ABSENT = 2**64 - 1
SIZE = 64 * 64 * 2
"""Bytes of a chunk of these arrays."""


def zstd(blocks, said=None):
    """Return a frame of blocks of one repeated byte, which says its size or does not."""
    head = bytes([0, 0x58]) if said is None else bytes([0b11100000]) + struct.pack("<Q", said)
    each = [struct.pack("<I", size << 3 | 1 << 1 | (i == len(blocks) - 1))[:3] + b"\7" for i, size in enumerate(blocks)]
    return struct.pack("<I", 0xFD2FB528) + head + b"".join(each)


def blosc(stands, packed=40):
    return struct.pack("<BBBBIII", 2, 1, 33, 2, stands, 8192, packed) + bytes(24)


ZEROS = bytes(2**26)

PACKED = {
    "gzip": lambda: gzip.compress(ZEROS),
    "zlib": lambda: zlib.compress(ZEROS),
    "bz2": lambda: bz2.compress(ZEROS),
    "lz4": lambda: struct.pack("<I", 2**31 - 1) + bytes(100),
    "blosc": lambda: blosc(2**31 - 1),
    "zstd": lambda: zstd([2**17] * 512, 2**26),
    "zstd that lies": lambda: zstd([2**17] * 512, SIZE),
    "zstd that does not say": lambda: zstd([2**17] * 2000),
    "zstd of many frames": lambda: zstd([2**12], 2**12) * 1000,
    "zstd of many that do not say": lambda: zstd([2**17]) * 1000,
}
"""Chunks of a few kilobytes that stand for megabytes, or say so."""


def v3(folder, codecs, chunk, *, shape=(64, 64), chunks=(64, 64)):
    """Write an array of Zarr's version 3 with one stored object."""
    document = {
        "zarr_format": 3, "node_type": "array", "shape": list(shape), "data_type": "uint16", "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default"}, "codecs": codecs, "attributes": {},
    }  # fmt: skip
    path = Path(folder) / "c" / "0" / "0"
    path.parent.mkdir(parents=True)
    path.write_bytes(chunk)
    (Path(folder) / "zarr.json").write_text(json.dumps(document))


def v2(folder, chunk, *, compressor=None, filters=None, dtype="<u2"):
    """Write an array of Zarr's version 2 with one chunk."""
    document = {
        "zarr_format": 2, "shape": [64, 64], "chunks": [64, 64], "dtype": dtype, "compressor": compressor,
        "filters": filters, "fill_value": 0, "order": "C",
    }  # fmt: skip
    Path(folder).mkdir(parents=True)
    (Path(folder) / "0.0").write_bytes(chunk)
    (Path(folder) / ".zarray").write_text(json.dumps(document))


def codec(name):
    """Return what the metadata of version 3 says of a compressor."""
    configuration = {
        "gzip": {"level": 1},
        "zstd": {"level": 1, "checksum": False},
        "blosc": {"typesize": 2, "cname": "lz4", "clevel": 5, "shuffle": "noshuffle", "blocksize": 0},
    }
    return {"name": name, "configuration": configuration[name]}


def sharded(*inner):
    return [
        {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": [32, 32],
                "codecs": [LITTLE, *inner],
                "index_codecs": [LITTLE, {"name": "crc32c"}],
                "index_location": "end",
            },
        }
    ]


def shard(chunks, first):
    """Return a shard whose index has an entry for the first of four chunks."""
    index = struct.pack("<8Q", *first, *[ABSENT] * 6)
    return chunks + index + struct.pack("<I", google_crc32c.value(index))


def sparse(path, size):
    """Make a file that is as large as that and takes no space."""
    with Path(path).open("r+b" if Path(path).exists() else "wb") as file:
        file.truncate(size)


def linked(path, target):
    """Put a link in the place of a file or folder."""
    if os.path.lexists(path):
        Path(path).unlink()
    Path(path).symlink_to(target)
