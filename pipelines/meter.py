"""Peak memory of the process tree, and progress that a person can read."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Set
from types import TracebackType
from typing import TypeVar

import psutil
from tqdm import tqdm

T = TypeVar("T")
_SAMPLE_SECONDS = 0.2


class MemoryMeter:
    """Samples the resident memory of this process and its children; ``peak_mb`` is the largest sum.

    Children that were there before it belong to the caller (a Ray cluster, say) and do not count,
    nor does what they start meanwhile.
    Memory that processes share is counted once for each of them.
    """

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._others = frozenset(psutil.Process().children(recursive=True))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-meter", daemon=True)

    def __enter__(self) -> MemoryMeter:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        self.peak_mb = max(self.peak_mb, resident_mb(but=self._others))


def resident_mb(*, but: Set[psutil.Process] = frozenset()) -> float:
    """Resident memory of this process and its children now, in MiB, without those of ``but`` and
    what these have started.
    """
    own = psutil.Process()
    total, left_out = 0, {process.pid for process in but}
    for process in [own, *own.children(recursive=True)]:  # parents come before their children
        with contextlib.suppress(psutil.Error):  # a child may end between the two calls
            if process in but or process.ppid() in left_out:
                left_out.add(process.pid)
            else:
                total += process.memory_info().rss
    return total / 2**20


class Progress:
    """A bar for each pass on a terminal: frames, frames per second, time left."""

    def __init__(self, *, quiet: bool = True) -> None:
        self.quiet = quiet

    def note(self, text: str) -> None:
        """Say something before or during the work, on stderr."""
        if not self.quiet:
            tqdm.write(f"vidinv: note: {text}", file=sys.stderr)

    def track(self, items: Iterable[T], *, label: str, total: int | None) -> Iterator[T]:
        """Yield ``items``, counting them."""
        off = True if self.quiet else None  # None: off where stderr is no terminal
        bar = tqdm(items, desc=label, total=total, unit="frame", disable=off, leave=False)
        with contextlib.closing(bar):
            yield from bar

    @contextlib.contextmanager
    def shares(self, *, label: str) -> Iterator[Callable[[float], None]]:
        """A bar for work without frames: it is told the share that is done, 0..1."""
        off = True if self.quiet else None
        with tqdm(desc=label, total=100, unit="%", disable=off, leave=False) as bar:
            yield lambda share: bar.update(round(100 * share) - bar.n)
