"""Pictures of many sizes through the encoder's ring, in this process: a crash ends it.

python -m tests.video.sizes encode libx264 [EVERY]      critical sizes, all or each EVERY-th
python -m tests.video.sizes convert yuv420p uint8       every width, an unreadable page behind
python -m tests.video.sizes guard                       crashes, if such a page is unreadable
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import tempfile
from collections.abc import Iterator, Mapping
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidinv.video import VideoInfo
from vidinv.video.color import FromRgb
from vidinv.video.encode_worker import _Encoding
from vidinv.video.isolation import MAX_SLOTS, PADDING_BYTES, FrameRing

LEAST, MOST = 64, 1100
NUM_FRAMES = MAX_SLOTS + 2
FASTEST = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libsvtav1": {"preset": "13"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


def critical_sizes() -> Iterator[tuple[int, int]]:
    """(width, height): each width and each height from 64 to 1100, with the other side smallest.

    Critical: eight slots of width x height, a multiple of 512, fill their last page to its end.
    """
    for side in range(LEAST, MOST + 1):
        step = 512 // gcd(side, 512)
        other = step * -(-LEAST // step)
        yield from dict.fromkeys([(side, other), (other, side)])


def encode(encoder: str, every: str = "1") -> None:
    """More frames than the ring has slots, at each ``every``-th critical size."""
    with tempfile.TemporaryDirectory() as folder:
        for width, height in list(critical_sizes())[:: int(every)]:
            _say(f"{width}x{height}")
            if encoder != "libsvtav1" or (width | height) % 2 == 0:  # it takes no odd size
                _encode(width, height, encoder, Path(folder) / "out.mkv")


def convert(pix_fmt: str, dtype: str, padding_bytes: str = str(PADDING_BYTES)) -> None:
    """Pictures of every width that end ``padding_bytes`` before a page that cannot be read."""
    memory = _before_unreadable_page(2 * MOST * 3 * np.dtype(dtype).itemsize + PADDING_BYTES)
    memory = memory[: len(memory) - int(padding_bytes)]
    for width in range(LEAST, MOST + 1, 1 if "444" in pix_fmt else 2):
        _say(f"{width}x2")
        size = (2, width, 3)
        picture = memory[-np.prod(size) * np.dtype(dtype).itemsize :].view(dtype).reshape(size)
        FromRgb(
            width=width,
            height=2,
            dtype=dtype,
            encoder="libx264",
            pix_fmt=pix_fmt,
            color_matrix=1,
            color_range=1,
        )(picture)


def guard() -> None:
    """Read the first byte of the page behind."""
    memory = _before_unreadable_page(1)
    ctypes.string_at(memory.ctypes.data + len(memory) - 1, 1)
    _say("0x0")
    ctypes.string_at(memory.ctypes.data + len(memory), 1)


class _Channel:
    """Orders ``NUM_FRAMES`` black frames and the end, and counts those taken."""

    def __init__(self, ring: FrameRing) -> None:
        self._ring = ring
        frames = ({"pts": n, "duration": 1} for n in range(NUM_FRAMES))
        self._orders: list[dict[str, Any]] = [*frames, {"finish": True}]
        self.num_taken = 0

    def receive(self) -> dict[str, Any]:
        order = self._orders.pop(0)
        if "pts" in order:
            self._ring.write(order["pts"], np.zeros(1, np.uint8))
        return order

    def send(self, message: Mapping[str, Any]) -> None:
        self.num_taken += "free" in message


def _encode(width: int, height: int, encoder: str, output: Path) -> None:
    info = VideoInfo.from_scratch(width=width, height=height, rate=25)
    request = {
        "source": None,
        "output": str(output),
        "format": "matroska",
        "info": info.to_json(),
        "encoder": encoder,
        "options": FASTEST.get(encoder, {}),
        "threads": 1,
        "pix_fmt": None,
        "segment": False,
    }
    ring = FrameRing()
    channel = _Channel(ring)
    _Encoding(channel, ring, request).run()  # type: ignore[arg-type]
    ring.close()
    assert channel.num_taken == NUM_FRAMES


def _before_unreadable_page(num_bytes: int) -> npt.NDArray[np.uint8]:
    """At least so many bytes, the last one just before a page that a read of crashes at."""
    size = -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, size + mmap.PAGESIZE), np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    guard = ctypes.c_void_p(memory.ctypes.data + size)
    assert libc.mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    return memory[:size]


def _say(size: str) -> None:
    """The last line tells where it crashed."""
    print(size, flush=True)


if __name__ == "__main__":
    {"encode": encode, "convert": convert, "guard": guard}[sys.argv[1]](*sys.argv[2:])
