"""Run an iterator in a thread of its own, a bounded number of items ahead.

Chaining stages this way overlaps them: OpenCV, torch and the pipes to the decoding and encoding
processes release the interpreter lock, so two cores are kept busy without copying a frame.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL_SECONDS = 0.1  # how soon a blocked producer notices that nobody wants more


class _End:
    """Last item of the queue: why the producer stopped."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Prefetch(Generic[T]):
    """Iterator over ``source``, produced ``depth`` items ahead; use as a context manager.

    An exception in the producer is raised where the item would have been. Leaving the context
    stops the producer, closes the source (if it is a generator) and joins the thread.
    """

    def __init__(self, source: Iterable[T], *, depth: int = 1, name: str = "prefetch") -> None:
        self._source = source
        self._queue: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._finished = False
        self._thread = threading.Thread(target=self._produce, name=name, daemon=True)

    def __enter__(self) -> Prefetch[T]:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._finished:
            raise StopIteration
        item = self._queue.get()
        if isinstance(item, _End):
            self._finished = True
            if item.error is not None:
                raise item.error
            raise StopIteration
        return item

    def _produce(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._source:
                if not self._put(item):
                    break
        except BaseException as caught:  # handed to the consumer, whatever it is
            error = caught
        close = getattr(self._source, "close", None)
        if close is not None:
            close()
        self._put(_End(error))

    def _put(self, item: T | _End) -> bool:
        """False when the consumer has left."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False
