"""Streaming frames out of an untrusted file: exact times, upright RGB, in a child process.

A file that crashes or hangs FFmpeg ends in a DecodeError that names it and the frame reached;
memory is bounded by the ring of ``isolation`` whatever the length of the clip.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vidinv.errors import DecodeError
from vidinv.types import Frame, Image
from vidinv.video.info import VideoInfo
from vidinv.video.isolation import ChildDied, ChildProcess, ChildStalled, FrameMissing
from vidinv.video.part import Around, Until

DECODE_WORKER = "vidinv.video.decode_worker"
# Long enough for a slow disk, short enough that a hanging file is reported within 30 s.
STALL_SECONDS = 20.0


def probe(
    path: str | os.PathLike[str],
    *,
    timeout_seconds: float = STALL_SECONDS,
    on_error: str = "stop",
) -> VideoInfo:
    """What a file says about itself; decodes its first picture in a child process.

    Args:
        on_error: what becomes of damage (``open_reader``).

    Raises:
        DecodeError: the file is missing, damaged, or not a video.
    """
    with VideoReader(
        path, timeout_seconds=timeout_seconds, on_error=on_error, probe_only=True
    ) as reader:
        return reader.info


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive frames of a clip.

    Attributes:
        first: number of the first frame, counted from the start of the clip.
        count: how many; a clip that ends earlier gives fewer.
        pts: time of the first frame as a whole read gave it, to seek there; None counts the
            frames from the start of the file, for clips whose times are not exact.
    """

    first: int
    count: int
    pts: int | None = None


def open_reader(
    path: str | os.PathLike[str],
    *,
    part: Part | None = None,
    until: Until | None = None,
    around: Around | None = None,
    timeout_seconds: float = STALL_SECONDS,
    on_alive: Callable[[], None] = lambda: None,
    on_error: str = "stop",
    worker: str = DECODE_WORKER,
) -> VideoReader:
    """A context manager over the frames of a clip, once through, in display order.

    Args:
        path: a local file.
        part: read these frames only; they are the same, bit for bit, as in a whole read.
        until: of a read from the start.
        around: other frames have a black picture, at a fraction of the time; None: all have theirs.
        timeout_seconds: longest wait for one frame before the file counts as hanging.
        on_alive: called now and then while frames before ``part`` are gone through.
        on_error: what becomes of damage: ``"stop"`` raises, ``"skip"`` holds the last good picture
            in place of those that are lost.
        worker: importable name of the decoding program.
    """
    return VideoReader(
        path,
        part=part,
        until=until,
        around=around,
        timeout_seconds=timeout_seconds,
        on_alive=on_alive,
        on_error=on_error,
        worker=worker,
    )


class VideoReader:
    """Iterator of ``Frame``: images ``[H, W, 3]`` RGB, uint8, or uint16 above 8 bits.

    ``info`` is known inside the ``with``. Frames own their pixels and may be kept. After the last
    frame, ``exact_times`` says whether every frame has the time that the file gives it,
    ``num_held`` how many pictures were lost, and ``notes`` what else a person should know.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        part: Part | None = None,
        until: Until | None = None,
        around: Around | None = None,
        timeout_seconds: float = STALL_SECONDS,
        on_alive: Callable[[], None] = lambda: None,
        on_error: str = "stop",
        worker: str = DECODE_WORKER,
        probe_only: bool = False,
    ) -> None:
        self.path = Path(path)
        self._timeout_seconds, self._on_alive = timeout_seconds, on_alive
        self._module = worker
        self._probe_only = probe_only
        self._part, self._until, self._around = part, until, around
        self._on_error = on_error
        self.exact_times, self.num_held = False, 0
        self.notes: tuple[str, ...] = ()
        self._child: ChildProcess | None = None
        self._info: VideoInfo | None = None
        self._num_read = self._num_pictures = 0

    @property
    def info(self) -> VideoInfo:
        """Facts about the clip; only inside the ``with``."""
        if self._info is None:
            raise RuntimeError("open the reader with `with` first")
        return self._info

    def __enter__(self) -> VideoReader:
        if not self.path.is_file():
            raise DecodeError(f"{self.path}: no such file")
        request = {
            "path": str(self.path.absolute()),
            "probe_only": self._probe_only,
            "on_error": self._on_error,
            "part": None if self._part is None else asdict(self._part),
            "until": None if self._until is None else asdict(self._until),
            "around": None if self._around is None else asdict(self._around),
        }
        self._child = ChildProcess(self._module, request=request, on_alive=self._on_alive)
        try:
            self._info = VideoInfo.from_json(self._receive()["info"])
            if not self._probe_only:
                self._child.ring.map(
                    height=self._info.height,
                    width=self._info.width,
                    dtype=self._info.frame_dtype,
                    alpha=self._info.has_alpha,
                )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self._child is None:
            raise StopIteration
        message = self._receive()
        if "end" in message:
            self.exact_times = message.get("exact_times", False)
            self.notes, self.num_held = tuple(message.get("notes", ())), message.get("held", 0)
            self.close()
            raise StopIteration
        index = self._num_read + (0 if self._part is None else self._part.first)
        image, alpha = self._black() if message.get("black") else self._picture()
        self._num_read += 1
        captions = bytes.fromhex(message.get("captions", ""))
        times = message["pts"], self.info.time_base
        return Frame(index, *times, image, message["duration"], alpha, captions)

    def _picture(self) -> tuple[Image, Image | None]:
        assert self._child is not None
        number, ring = self._num_pictures, self._child.ring
        try:
            image = ring.read(number).copy()
            alpha = None if (stored := ring.alpha(number)) is None else stored.copy()
        except FrameMissing as error:
            self.close()
            raise DecodeError(f"{self.path}: the decoder failed ({error})") from None
        self._child.send({"free": number})
        self._num_pictures += 1
        return image, alpha

    def _black(self) -> tuple[Image, None]:
        """In place of a picture that is not needed; it takes no memory."""
        info = self.info
        black = np.zeros((), info.frame_dtype)
        return np.broadcast_to(black, (info.height, info.width, 3)), None

    def close(self) -> None:
        """End the child process; the reader then has no more frames."""
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def _receive(self) -> dict[str, Any]:
        assert self._child is not None
        reached = f"after {self._num_read} frames" if self._num_read else "before the first frame"
        try:
            message = self._child.receive(timeout_seconds=self._timeout_seconds)
        except ChildStalled:
            self.close()
            reason = f"decoding hung for {self._timeout_seconds:g} s {reached}; the file is damaged"
            raise DecodeError(f"{self.path}: {reason}") from None
        except ChildDied as error:
            self.close()
            raise DecodeError(f"{self.path}: the decoder crashed {reached} ({error})") from None
        if "error" in message:
            self.close()
            raise DecodeError(f"{self.path}: {message['error']}")
        return message
