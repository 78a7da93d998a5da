"""Work on a stream in threads, in order and with bounded look-ahead.

Threads, not processes: Pillow's decoders and torch release the interpreter lock, and nothing has to be pickled.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def map_ordered(
    function: Callable[[S], T], items: Iterable[S], workers: int, look_ahead: int = 64
) -> Iterator[tuple[S, T]]:
    """Yield ``(item, function(item))`` in the order of `items`, computed by `workers` threads.

    At most `look_ahead` results wait, so memory is bounded whatever the length of `items`. What `function` raises is
    raised here, at its item.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="counterstain") as pool:
        waiting: deque[tuple[S, Future[T]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) >= look_ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
