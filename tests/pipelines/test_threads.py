"""`map_ordered`: order, bounded look-ahead, errors at their place, and no thread left behind."""

import threading
import time
from collections.abc import Iterator

import pytest

from pipelines.threads import map_ordered


def alive() -> int:
    return sum(thread.name.startswith("counterstain") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("look_ahead", [1, 3, 64])
def test_results_come_in_the_order_of_the_items(workers: int, look_ahead: int) -> None:
    def late_first(item: int) -> int:
        time.sleep(0.002 * (item % 3 == 0))
        return item * item

    found = list(map_ordered(late_first, range(40), workers, look_ahead))
    assert found == [(item, item * item) for item in range(40)]
    assert list(map_ordered(late_first, [], workers, look_ahead)) == []
    assert alive() == 0


@pytest.mark.parametrize("look_ahead", [1, 5])
def test_no_more_than_look_ahead_items_are_taken_before_their_results_are(look_ahead: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(100):
            taken += 1
            yield item

    for done, _ in enumerate(map_ordered(lambda item: item, items(), 2, look_ahead), start=1):
        assert taken <= done + look_ahead - 1
    assert taken == 100


def test_work_goes_on_while_a_result_is_used() -> None:
    computed = threading.Semaphore(0)

    def note(item: int) -> int:
        computed.release()
        return item

    results = map_ordered(note, range(8), 2, look_ahead=4)
    next(results)
    for _ in range(4):
        assert computed.acquire(timeout=5)
    results.close()


def test_several_threads_work_at_once() -> None:
    together = threading.Barrier(3, timeout=5)
    assert len(list(map_ordered(lambda _: together.wait(), range(6), 3, look_ahead=6))) == 6


def test_an_error_is_raised_at_its_item() -> None:
    def fail_at_five(item: int) -> int:
        if item == 5:
            raise KeyError(item)
        return item

    results = map_ordered(fail_at_five, range(20), 3, look_ahead=8)
    seen = [next(results)[0] for _ in range(5)]
    with pytest.raises(KeyError, match="5"):
        next(results)
    assert seen == [0, 1, 2, 3, 4]
    assert alive() == 0


def test_an_error_of_the_items_is_raised() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(map_ordered(lambda item: item, items(), 2))
    assert alive() == 0


def test_closing_early_cancels_what_has_not_begun() -> None:
    begun = []
    gate = threading.Event()

    def wait(item: int) -> int:
        begun.append(item)
        if item:
            gate.wait(5)
        return item

    results = map_ordered(wait, range(100), 2, look_ahead=50)
    assert next(results) == (0, 0)
    threading.Timer(0.1, gate.set).start()
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 3
    assert len(begun) <= 5
    assert alive() == 0


def test_results_that_were_taken_are_not_kept() -> None:
    class Result:
        alive = 0

        def __init__(self) -> None:
            Result.alive += 1

        def __del__(self) -> None:
            Result.alive -= 1

    for _ in map_ordered(lambda _: Result(), range(200), 2, look_ahead=4):
        assert Result.alive <= 6
    assert Result.alive <= 1
