"""Decoding and encoding programs on a slow machine: nothing is wrong, and long stretches are mute.

The first pictures decoded and the first packets copied take ``PAUSE_SECONDS`` each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from vidinv.video import decode_worker, encode_worker
from vidinv.video.mending import Mending
from vidinv.video.packets import PacketCopier

PAUSES, PAUSE_SECONDS = 12, 0.4


def main() -> None:
    """Decode."""
    Mending.frames = _slow(Mending.frames)
    decode_worker.main()


def encode() -> None:
    PacketCopier._made = _slow(PacketCopier._made)
    encode_worker.main()


def _slow(items: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    def slowly(*arguments: Any) -> Iterator[Any]:
        for number, item in enumerate(items(*arguments)):
            if number < PAUSES:
                time.sleep(PAUSE_SECONDS)
            yield item

    return slowly
