"""Ctrl-C and SIGTERM where they must wait, or come too late; imports nothing that takes time."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_KINDS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def interrupts_later(*, all_of_them: bool = True) -> Iterator[None]:
    """What comes meanwhile is a KeyboardInterrupt at the end.

    Args:
        all_of_them: else the second one is a KeyboardInterrupt at once.
    """
    came: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1 and not all_of_them:
            raise KeyboardInterrupt

    with _handled_by(wait):
        yield
    if came:
        raise KeyboardInterrupt


def sigterm_interrupts() -> None:
    """SIGTERM ends this process in order from now on, as Ctrl-C does: services are stopped so."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def without_interrupts() -> contextlib.AbstractContextManager[None]:
    """They do nothing: what is being ended is ended whole."""
    return _handled_by(lambda number, frame: None)


def ignore_interrupts() -> None:
    """From now on: the process ends already, and its exit code is decided."""
    if threading.current_thread() is threading.main_thread():
        for kind in _KINDS:
            signal.signal(kind, signal.SIG_IGN)


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """They go there, but for one that is ignored, as SIGINT is in the background."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.getsignal(kind) for kind in _KINDS}
    before = {kind: old for kind, old in before.items() if old not in (signal.SIG_IGN, None)}
    for kind in before:
        signal.signal(kind, handler)
    try:
        yield
    finally:
        for kind, old in before.items():
            signal.signal(kind, old)
