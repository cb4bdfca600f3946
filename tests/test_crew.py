"""Tiles in work at once: in order, no more than asked, each in its turn, and nobody waits for what has failed."""

import importlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from bigncc import crew
from bigncc.errors import StoppedError


def test_tiles_in_flight_come_in_order_and_no_more_than_asked_are_begun():
    begun = []

    def work(item):
        begun.append(item)
        time.sleep(0.02 * (item % 3))
        return -item

    found = crew.in_flight(work, range(9), 2)
    assert next(found) == 0
    assert set(begun) <= {0, 1}
    assert list(found) == [-i for i in range(1, 9)]


def test_a_fault_in_flight_ends_with_those_beside_it():
    ended, begun = [], threading.Event()

    def work(item):
        if item == 0:
            begun.wait()
            message = "as planned"
            raise KeyError(message)
        begun.set()
        time.sleep(0.1)
        ended.append(item)

    with pytest.raises(KeyError, match="as planned"):
        list(crew.in_flight(work, range(9), 2))
    assert ended == [1]  # nothing writes any more when the error is seen


def test_a_stop_waits_for_nobody():
    ended = threading.Event()

    def work(item):
        if item == 0:
            message = "as planned"
            raise StoppedError(message)
        ended.wait()

    with pytest.raises(StoppedError):
        list(crew.in_flight(work, range(9), 2))
    ended.set()


def test_a_tile_begins_when_the_one_before_leaves_a_thread_idle():
    turn, threads, steps = threading.Lock(), 3, []

    def tile(name, blocks, failing=None):
        with crew.in_turn(turn, blocks, threads) as one_more:
            for i in range(blocks):
                if i == failing:
                    message = "as planned"
                    raise KeyError(message)
                steps.append((name, i))
                one_more()
                time.sleep(0.05)

    with ThreadPoolExecutor(3) as pool:
        begun = [pool.submit(tile, *words) for words in (("a", 6), ("b", 2, 1), ("c", 1))]
        begun[0].result()
        with pytest.raises(KeyError, match="as planned"):
            begun[1].result()
        begun[2].result()
    first = {name: steps.index((name, 0)) for name in "abc"}
    order = sorted(first, key=first.get)
    assert len(steps) == 8
    assert not turn.locked()
    before = {name: [step for step in steps[: first[name]] if step[0] == "a"] for name in order}
    # 3 of its 6 blocks are left to 3 threads until the fourth is done, and then there is no reason to wait
    assert min(first["b"], first["c"]) < steps.index(("a", 5))
    assert all(not before[name] or len(before[name]) >= 4 for name in "bc")


def widths():
    """How many threads each library takes for a product."""
    importlib.import_module("numpy")  # which has one
    found = {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}
    assert found
    return found


@pytest.mark.parametrize("first_to_go", [0, 1])
def test_while_anybody_needs_it_products_take_a_thread_each_and_then_what_they_took_before(first_to_go):
    with threadpool_limits(2, "blas"):
        both = [crew.one_thread_a_product() for _ in range(2)]
        for each in both:
            each.__enter__()
            assert widths() == {1}
        both.pop(first_to_go).__exit__(None, None, None)
        assert widths() == {1}
        both.pop().__exit__(None, None, None)
        assert widths() == {2}
        with pytest.raises(KeyError), crew.one_thread_a_product():
            raise KeyError
        assert widths() == {2}
