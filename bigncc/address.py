"""Zarr's view of an address: the objects below it, whose faults have a name."""

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from typing import Any, Self

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from bigncc import remote
from bigncc.errors import InputError, StoppedError
from bigncc.remote import USUAL, Storage


class Addressed(ObjectStore[Any]):
    """What is below an address, as a Zarr store.

    Parameters
    ----------
    place : str
        Such as ``s3://bucket/image.ome.zarr``.
    storage : Storage
        How it is reached.
    read_only : bool
        Whether it is an input; then a store that does not answer is bad input and no reason to go on later.
    most : int or None
        Bytes of an object that is read whole, at most.
    """

    def __init__(
        self, place: str, storage: Storage = USUAL, *, read_only: bool = False, most: int | None = None
    ) -> None:
        super().__init__(remote.opened(place, storage), read_only=read_only)
        self.place, self._storage, self._most = place, storage, most

    def __str__(self) -> str:
        return self.place

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return the same for reading, or for writing."""
        return type(self)(self.place, self._storage, read_only=read_only, most=self._most)

    def at_most(self, most: int) -> Self:
        """Return the same, of which no object is read whole that is larger."""
        return type(self)(self.place, self._storage, read_only=self.read_only, most=most)

    def _explained(self, key: str, doing: str) -> AbstractContextManager[None]:
        return remote.explained(f"{self.place}/{key}", doing, InputError if self.read_only else StoppedError)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read an object or a part of it; None if it is absent, but InputError if its bucket is."""
        from obstore.exceptions import GenericError

        try:
            with self._explained(key, "read"):
                for _ in range(remote.RETRIES):
                    try:
                        return await self._got(key, prototype, byte_range)
                    except GenericError as error:
                        if not remote.broke_off(error):
                            raise
                return await self._got(key, prototype, byte_range)
        except FileNotFoundError:
            return None

    async def _got(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None) -> Buffer:
        import obstore

        options = {} if byte_range is None else {"range": await self._range(key, byte_range)}
        answer = await obstore.get_async(self.store, key, options=options)  # type: ignore[arg-type]
        if byte_range is None and self._most is not None and answer.meta["size"] > self._most:
            message = f"{self.place}/{key} has {answer.meta['size']} bytes: at most {self._most} are accepted"
            raise InputError(message)
        return prototype.buffer.from_bytes(await answer.bytes_async())  # type: ignore[arg-type]

    async def _range(self, key: str, wanted: ByteRequest) -> Any:
        if isinstance(wanted, RangeByteRequest):
            return (wanted.start, wanted.end)
        if isinstance(wanted, OffsetByteRequest):
            return {"offset": wanted.offset}
        if self.place.startswith("az://"):  # which knows no ends
            return {"offset": max(0, await self.getsize(key) - wanted.suffix)}
        return {"suffix": wanted.suffix}

    async def exists(self, key: str) -> bool:
        """Say whether an object is stored."""
        with self._explained(key, "read"):
            return await super().exists(key)

    async def getsize(self, key: str) -> int:
        """Return the size of an object in bytes."""
        with self._explained(key, "read"):
            return await super().getsize(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object, whole or not at all."""
        import obstore

        with self._explained(key, "written"):
            # in one request: parts of a run that was killed would be kept, and paid for, unseen
            await obstore.put_async(self.store, key, value.as_buffer_like(), use_multipart=False)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write an object unless there is one."""
        with self._explained(key, "written"):
            await super().set_if_not_exists(key, value)

    def list(self) -> AsyncGenerator[str, None]:
        """Yield all keys; InputError if they are a web server's, or not to be listed."""
        return self._listed("", super().list())

    def list_prefix(self, prefix: str) -> AsyncGenerator[str, None]:
        """Yield the keys below a prefix; errors as `list`."""
        return self._listed(prefix, super().list_prefix(prefix))

    def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        """Yield the names just below a prefix; errors as `list`."""
        return self._listed(prefix, super().list_dir(prefix))

    async def _listed(self, prefix: str, keys: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        remote.check_listed(self.place)
        with self._explained(prefix, "listed"):
            async for key in keys:
                yield key
