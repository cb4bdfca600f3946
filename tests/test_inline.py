"""A coroutine of zarr runs where it is asked for, and where it cannot, on zarr's own loop."""

import asyncio
import gc
import selectors
import threading
import warnings

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from bigncc import inline


class Noting(LocalStore):
    """A store that notes which thread reads its files."""

    threads: set

    async def get(self, key, prototype, byte_range=None):
        found = await super().get(key, prototype, byte_range)
        self.threads.add(await asyncio.to_thread(threading.get_ident))
        return found


def noting(tmp_path):
    store = Noting(tmp_path)
    store.threads = set()
    array = zarr.create_array(store, shape=(40, 50), chunks=(8, 9), shards=(16, 18), dtype="u2")
    array[...] = np.arange(2000).reshape(40, 50)
    store.threads.clear()
    return array


def read(array):
    return np.asarray(inline.run(array.async_array.getitem(np.s_[3:39, 5:44]), array.store))


def test_nobody_asks_the_system_for_news_while_there_is_work(tmp_path, monkeypatch):
    array, looks = noting(tmp_path), []
    read(array)
    monkeypatch.setattr(selectors.DefaultSelector, "select", lambda _, timeout=None: looks.append(timeout) or [])
    found = read(array)
    assert not looks
    np.testing.assert_array_equal(found, np.arange(2000).reshape(40, 50)[3:39, 5:44])


def test_everything_happens_on_the_calling_thread(tmp_path):
    array = noting(tmp_path)
    expected = np.arange(2000).reshape(40, 50)[3:39, 5:44]
    np.testing.assert_array_equal(read(array), expected)
    assert array.store.threads == {threading.get_ident()}


def test_within_a_running_loop_zarr_does_it(tmp_path):
    array = noting(tmp_path)

    async def notebook():
        return read(array)

    np.testing.assert_array_equal(asyncio.run(notebook()), np.arange(2000).reshape(40, 50)[3:39, 5:44])
    assert threading.get_ident() not in array.store.threads


@pytest.mark.parametrize(("store", "here"), [(MemoryStore(), True), (WrapperStore(MemoryStore()), True)])
def test_only_what_waits_for_no_network_runs_here(store, here):
    async def where():
        return threading.get_ident()

    assert (inline.run(where(), store) == threading.get_ident()) == here


def test_other_stores_stay_with_zarrs_loop():
    from zarr.storage import FsspecStore

    async def where():
        return threading.get_ident()

    assert inline.run(where(), FsspecStore.__new__(FsspecStore)) != threading.get_ident()


def test_faults_are_raised_and_the_loop_goes_on(tmp_path):
    async def faulty():
        await asyncio.to_thread(np.zeros, 3)
        message = "as planned"
        raise KeyError(message)

    with pytest.raises(KeyError, match="as planned"):
        inline.run(faulty(), MemoryStore())
    assert inline.run(asyncio.sleep(0, 7), MemoryStore()) == 7


def test_nothing_is_left_of_what_failed():
    ended = []

    async def slow(number):
        for _ in range(3):
            await asyncio.sleep(0.01)
        ended.append(number)

    async def faulty():
        await asyncio.sleep(0)
        message = "as planned"
        raise OSError(message)

    async def together():
        await asyncio.gather(slow(1), faulty(), slow(2))

    with pytest.raises(OSError, match="as planned"):
        inline.run(together(), MemoryStore())
    assert not asyncio.all_tasks(inline._own.loop.loop)
    inline.run(asyncio.sleep(0.1), MemoryStore())
    assert ended == []


def test_a_loop_is_closed_with_its_thread(tmp_path):
    array, loops = noting(tmp_path), []

    def work():
        read(array)
        loops.append(inline._own.loop.loop)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        gc.collect()
    assert loops[0].is_closed()
