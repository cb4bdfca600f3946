"""Chunks from strangers: none is decoded to more than its array says, whatever it says of itself.

A few bytes of gzip, zstd or blosc can stand for gigabytes, and decoders allocate what they are told. Here each step of
a chunk's codecs knows how many bytes it can have at most. What says its size is asked first; what does not is
decoded no further than that.
"""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import math
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer

KINDS: dict[type[Any], str] = {GzipCodec: "gzip", ZstdCodec: "zstd", BloscCodec: "blosc"}
"""Compressors of Zarr's version 3; those of version 2 say by themselves what they are called."""

_SLACK = 2**12
_SPACE = 2**16

_BLOCK = 2**17
"""Bytes that a block of zstd stands for at most."""

_UNSAID = 2**25
"""Bytes of blocks which are not full, in zstd that does not say its size: they are counted as if they were."""

_ABSENT = np.iinfo(np.uint64).max
"""What an index has twice for a chunk that is not stored."""

_MAGIC = 0xFD2FB528
_SKIPPED = range(0x184D2A50, 0x184D2A60)


def encoded(size: int) -> int:
    """Return how many bytes so many can become at most by a compressor that finds nothing in them."""
    return size + size // 20 + _SLACK


def bounded(metadata: Any) -> tuple[Any, int]:
    """Return the metadata of an array with codecs that keep to it, and the size of its largest stored object.

    Parameters
    ----------
    metadata : ArrayV2Metadata or ArrayV3Metadata
        Of an array of numbers.
    """
    itemsize = metadata.dtype.to_native_dtype().itemsize
    if metadata.zarr_format == 2:
        filters, compressor, size = _version_2(metadata, itemsize)
        return replace(metadata, filters=filters, compressor=compressor), size + _SPACE
    shape = metadata.chunk_grid.chunk_shape
    codecs, size = _version_3(metadata.codecs, shape, itemsize)
    return replace(metadata, codecs=codecs), size + _SPACE


def _version_2(metadata: Any, itemsize: int) -> tuple[tuple[Any, ...] | None, Any, int]:
    size, filters = math.prod(metadata.chunks) * itemsize, []
    for each in metadata.filters or ():
        if each.codec_id in ("delta", "fixedscaleoffset"):
            size = size // each.dtype.itemsize * each.astype.itemsize
            filters.append(each)
        elif each.codec_id in _DECODERS:
            filters.append(Kept(each, size))
            size = encoded(size)
        else:  # shuffled, or with a checksum
            filters.append(each)
            size += _SLACK
    if metadata.compressor is None:
        return tuple(filters) or None, None, size
    kept = Kept(metadata.compressor, size) if metadata.compressor.codec_id in _DECODERS else metadata.compressor
    return tuple(filters) or None, kept, encoded(size)


def _version_3(codecs: Iterable[Any], shape: tuple[int, ...], itemsize: int) -> tuple[tuple[Any, ...], int]:
    size = math.prod(shape) * itemsize
    found: list[Any] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            sharded = codec if isinstance(codec, Sharded) else _sharded(codec, itemsize)
            found.append(sharded)
            # of what was appended to a shard, what it replaced is still there
            size = 2 * (math.prod(shape) // math.prod(codec.chunk_shape)) * (sharded.most + 16)
        elif isinstance(codec, Bounded) or type(codec) in KINDS:
            found.append(codec if isinstance(codec, Bounded) else Bounded(codec, size))
            size = encoded(size)
        else:
            found.append(codec)
            size += _SLACK if isinstance(codec, Crc32cCodec) else 0
    return tuple(found), size


@dataclass(frozen=True)
class Kept:
    """A compressor of Zarr's version 2 that decodes to so many bytes at most."""

    codec: Any
    most: int
    codec_id: str = "kept"

    def decode(self, buf: Any, out: Any = None) -> Any:  # noqa: ARG002
        """Return what the bytes stand for; ValueError if that is too much."""
        return _DECODERS[self.codec.codec_id](buf, self.most, lambda: self.codec.decode(buf))

    def encode(self, buf: Any) -> Any:
        """Return the bytes that stand for these."""
        return self.codec.encode(buf)

    def get_config(self) -> Any:
        """Return what the metadata says of the compressor."""
        return self.codec.get_config()

    @classmethod
    def from_config(cls, config: Any) -> Any:
        """Return the compressor that metadata means."""
        import numcodecs

        return numcodecs.get_codec(config)


@dataclass(frozen=True)
class Bounded(BytesBytesCodec):
    """A compressor of Zarr's version 3 that decodes to so many bytes at most."""

    codec: Any
    most: int
    is_fixed_size = False

    def to_dict(self) -> Any:
        """Return what the metadata says of the compressor."""
        return self.codec.to_dict()

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """Return the same for an array."""
        return replace(self, codec=self.codec.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Return what the compressor says of the size, which most do not know."""
        return self.codec.compute_encoded_size(input_byte_length, chunk_spec)  # type: ignore[no-any-return]

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        decode = _DECODERS[KINDS[type(self.codec)]]
        found = decode(
            chunk_bytes.as_numpy_array(), self.most, lambda: self.codec._decode_sync(chunk_bytes, chunk_spec)
        )
        return chunk_spec.prototype.buffer.from_bytes(found) if isinstance(found, bytes) else found

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._decode_sync, chunk_bytes, chunk_spec)

    async def _encode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer | None:
        return await self.codec._encode_single(chunk_bytes, chunk_spec)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Sharded(ShardingCodec):
    """Shards whose index leads to nothing that is larger than a chunk, and whose chunks are bounded."""

    itemsize: int = 1
    most: int = field(init=False, default=0)

    def __init__(self, *, itemsize: int, chunk_shape: Any, codecs: Any, **others: Any) -> None:
        super().__init__(chunk_shape=chunk_shape, **others)
        kept, most = _version_3(codecs, self.chunk_shape, itemsize)
        for name, value in (("itemsize", itemsize), ("codecs", kept), ("most", most)):
            object.__setattr__(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {"bounded": self.to_dict(), "itemsize": self.itemsize}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state["bounded"])
        self.__init__(  # type: ignore[misc]
            itemsize=state["itemsize"], chunk_shape=self.chunk_shape, codecs=self.codecs,
            index_codecs=self.index_codecs, index_location=self.index_location,
        )  # fmt: skip

    async def _decode_shard_index(self, index_bytes: Buffer, chunks_per_shard: tuple[int, ...]) -> Any:
        index = await super()._decode_shard_index(index_bytes, chunks_per_shard)
        large = index.offsets_and_lengths[index.offsets_and_lengths[..., 1] > self.most]
        if not (large == _ABSENT).all():
            raise ValueError(_too_much("its index leads to a larger chunk", self.most))
        return index


def _sharded(codec: ShardingCodec, itemsize: int) -> Sharded:
    return Sharded(
        itemsize=itemsize, chunk_shape=codec.chunk_shape, codecs=codec.codecs, index_codecs=codec.index_codecs,
        index_location=codec.index_location,
    )  # fmt: skip


def _too_much(what: str, most: int) -> str:
    return f"{what}, where at most {most} bytes can be, as the array says"


def _check(size: int, most: int) -> None:
    if size > most:
        raise ValueError(_too_much(f"it stands for {size} bytes", most))


Plainly = Callable[[], Any]


def _zstd(data: Any, most: int, plainly: Plainly) -> Any:
    known, unknown = _sizes_of_zstd(memoryview(data).cast("B"), most)
    _check(known, most)
    if unknown:
        _check(known + unknown, most + _UNSAID)
    return plainly()


def _sizes_of_zstd(data: memoryview, most: int) -> tuple[int, int]:
    """Return how many bytes the frames stand for that say so, and those that do not at most."""
    known, unknown, at, end = 0, 0, 0, len(data)
    while at + 8 <= end and known <= most and unknown <= most + _UNSAID:
        (magic, first) = struct.unpack_from("<IB", data, at)
        if magic in _SKIPPED:
            at += 8 + int(struct.unpack_from("<I", data, at + 4)[0])
            continue
        if magic != _MAGIC:
            break  # which the decoder refuses
        single, code = bool(first & 0x20), first >> 6
        width = 1 if single and code == 0 else (0, 2, 4, 8)[code]
        at += 5 + (not single) + (0, 1, 2, 4)[first & 3]
        said = int.from_bytes(data[at : at + width], "little") + 256 * (width == 2) if width else None
        at += width
        last, blocks = False, 0
        while not last and at + 3 <= end and blocks <= most + _UNSAID:
            head = int.from_bytes(data[at : at + 3], "little")
            last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
            at += 3 + (1 if kind == 1 else size)
            blocks += min(size, _BLOCK) if kind < 2 else _BLOCK
        at += 4 * bool(first & 4)
        known, unknown = known + (said or 0), unknown + (blocks if said is None else 0)
    return known, unknown


def _blosc(data: Any, most: int, plainly: Plainly) -> Any:
    size = memoryview(data).nbytes
    if size < 16:
        message = f"{size} bytes, where a header of blosc has 16"
        raise ValueError(message)
    stands, _, whole = struct.unpack_from("<III", data, 4)
    _check(stands, most)
    if whole > size:
        message = f"{size} bytes are left of {whole}"
        raise ValueError(message)
    return plainly()


def _lz4(data: Any, most: int, plainly: Plainly) -> Any:
    if memoryview(data).nbytes >= 4:
        _check(struct.unpack_from("<I", data)[0], most)
    return plainly()


def _gzip(data: Any, most: int, _plainly: Plainly) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise ValueError(_too_much("it goes on", most))
    return found


def _zlib(data: Any, most: int, _plainly: Plainly) -> bytes:
    decoder = zlib.decompressobj()
    found = decoder.decompress(data, most + 1)
    if len(found) > most:
        raise ValueError(_too_much("it goes on", most))
    if not decoder.eof:
        message = "it ends too early"
        raise ValueError(message)
    return found


def _bz2(data: Any, most: int, _plainly: Plainly) -> bytes:
    found, rest = b"", bytes(data)
    while rest:
        decoder = bz2.BZ2Decompressor()
        try:
            found += decoder.decompress(rest, most + 1 - len(found))
        except OSError:
            if found:  # after the last one something else may follow
                break
            raise
        if len(found) > most:
            raise ValueError(_too_much("it goes on", most))
        if not decoder.eof:
            message = "it ends too early"
            raise ValueError(message)
        rest = decoder.unused_data
    return found


_DECODERS: dict[str, Callable[[Any, int, Plainly], Any]] = {
    "zstd": _zstd,
    "blosc": _blosc,
    "lz4": _lz4,
    "gzip": _gzip,
    "zlib": _zlib,
    "bz2": _bz2,
}
"""How each compressor decodes bytes to so many at most, plainly if these are no more."""
