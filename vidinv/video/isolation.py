"""Child processes that decode and encode, so that a hostile file can be killed and not kill us.

FFmpeg can crash or hang on damaged input. The child is a fresh interpreter (no fork, so threads in
the parent do no harm) that imports PyAV and NumPy only. Messages are JSON lines over pipes; frames
travel through a ring of slots in anonymous shared memory that has no name and so cannot leak.
The child leaves when its standard input closes: it never outlives the parent, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

# A few frames let the two sides overlap; more would only use memory. 64 MiB holds 8 slots up to
# 2.7 megapixels of 8-bit RGB; a 4K 16-bit frame alone takes 50 MB, hence at least two slots.
MAX_SLOTS, MIN_SLOTS, RING_BYTES = 8, 2, 64 << 20
FIRST_FREE_FD = 3  # 0 to 2 are the standard streams
# Readers with wide registers go past the last pixel: swscale's of RGB takes 48 bytes for 16 pixels,
# so up to 45 behind a picture. FFmpeg asks for as many behind its own input
# (AV_INPUT_BUFFER_PADDING_SIZE of libavcodec/defs.h).
PADDING_BYTES = 64
assert MAX_SLOTS * np.dtype(np.uint64).itemsize <= PADDING_BYTES

# A child that works without a result to tell sends this, at most so often.
HEARTBEAT, HEARTBEAT_SECONDS = {"alive": True}, 0.2


class ChildStalled(Exception):
    """The child said nothing for the time allowed."""


class ChildDied(Exception):
    """The child ended without a word; the message tells how (exit status or signal)."""


class FrameMissing(Exception):
    """A slot does not hold the frame that was announced."""


class FrameRing:
    """Slots of one frame each in anonymous shared memory; the owner passes ``fd`` to the child.

    A slot holds the picture and, of clips with transparency, its alpha behind it.

    Behind the last slot lie ``PADDING_BYTES`` that may be read. They hold a number for each slot:
    which frame it has, counted from 1. New memory is zero: a black picture that nobody wrote is
    no frame.

    Args:
        fd: an inherited descriptor in the child; None makes new memory.
    """

    def __init__(self, fd: int | None = None) -> None:
        self.fd = _anonymous_file() if fd is None else fd
        self._slots: list[npt.NDArray[Any]] = []
        self._alphas: list[npt.NDArray[Any]] = []
        self._written: npt.NDArray[np.uint64] | None = None

    @property
    def num_slots(self) -> int:
        return len(self._slots)

    def map(self, *, height: int, width: int, dtype: str, alpha: bool = False) -> None:
        """Size and map the memory for RGB frames ``[height, width, 3]``; both sides call this.

        Args:
            alpha: with ``[height, width]`` of the same type for each.
        """
        num_pixels = height * width
        frame_bytes = num_pixels * (4 if alpha else 3) * np.dtype(dtype).itemsize
        num_slots = max(MIN_SLOTS, min(MAX_SLOTS, RING_BYTES // frame_bytes))
        end = frame_bytes * num_slots
        size = end + PADDING_BYTES
        if os.fstat(self.fd).st_size != size:
            os.ftruncate(self.fd, size)
        memory = memoryview(mmap.mmap(self.fd, size))
        slots = np.frombuffer(memory[:end], dtype).reshape(num_slots, -1)
        self._slots = [slot[: 3 * num_pixels].reshape(height, width, 3) for slot in slots]
        self._alphas = [slot[3 * num_pixels :].reshape(height, width) for slot in slots if alpha]
        self._written = np.frombuffer(memory[end:], np.uint64, count=num_slots)

    def write(
        self, number: int, image: npt.NDArray[Any], alpha: npt.NDArray[Any] | None = None
    ) -> None:
        """Put frame ``number``, ``[H, W, 3]``, into its slot, with its alpha ``[H, W]``."""
        assert self._written is not None
        np.copyto(self.slot(number), image)
        if self._alphas:
            slot = self._alphas[number % self.num_slots]
            np.copyto(slot, np.iinfo(slot.dtype).max if alpha is None else alpha)
        self._written[number % self.num_slots] = number + 1

    def read(self, number: int) -> npt.NDArray[Any]:
        """``[H, W, 3]`` view of frame ``number``.

        Raises:
            FrameMissing: the other side has not written it.
        """
        assert self._written is not None
        if self._written[number % self.num_slots] != number + 1:
            raise FrameMissing(f"frame {number} did not reach the shared memory")
        return self.slot(number)

    def alpha(self, number: int) -> npt.NDArray[Any] | None:
        """``[H, W]`` view of the alpha of a frame that was read, or None."""
        return self._alphas[number % self.num_slots] if self._alphas else None

    def slot(self, number: int) -> npt.NDArray[Any]:
        """``[H, W, 3]`` view of the slot that frame ``number`` uses."""
        return self._slots[number % self.num_slots]

    def close(self) -> None:
        """Give the memory back; views of slots that are still held keep their part alive."""
        self._slots, self._alphas, self._written = [], [], None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("vidinv-frames")
    with tempfile.TemporaryFile() as file:  # macOS: an unlinked file does the same
        return os.dup(file.fileno())


@contextlib.contextmanager
def standard_descriptors_taken() -> Iterator[None]:
    """What is opened inside gets no descriptor of a standard stream, also where one is closed.

    Services start programs so. A child has standard streams of its own, which would replace what
    it is to inherit under the same number; and what is printed here would go into a pipe.
    """
    held: list[int] = []
    try:
        while (fd := os.open(os.devnull, os.O_RDWR)) < FIRST_FREE_FD:
            held.append(fd)
        os.close(fd)
        yield
    finally:
        for fd in held:
            os.close(fd)


def end_real_time_priority() -> None:
    """Give every thread of this process ordinary priority again.

    Run by root, libsvtav1 takes the highest real-time priority, for the thread that opens it too,
    and then nothing else gets its cores.
    """
    if not hasattr(os, "sched_setscheduler"):  # macOS
        return
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            os.sched_setscheduler(int(thread), os.SCHED_OTHER, os.sched_param(0))


class ChildProcess:
    """One child process running ``module.main()``; ends with ``close``, collection or the parent.

    Args:
        module: importable name of the child's program.
        request: first message to the child; a ``ring_fd`` is added to it.
        on_alive: called at its heartbeats.
    """

    def __init__(
        self,
        module: str,
        *,
        request: Mapping[str, Any],
        on_alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_alive = on_alive
        with standard_descriptors_taken():
            self.ring = FrameRing()
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
            try:
                self._process = _spawn(module, self.ring.fd, self._log)
            except BaseException:
                self.ring.close()
                self._log.close()
                raise
        self._end = weakref.finalize(self, _end_process, self._process, self.ring, self._log)
        self._buffer = b""
        self.send({**request, "ring_fd": self.ring.fd})

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Queue a message for the child; a dead child shows at the next ``receive``."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def receive(self, *, timeout_seconds: float) -> dict[str, Any]:
        """The child's next message; its heartbeats only start the wait anew.

        Raises:
            ChildStalled: nothing came for ``timeout_seconds``.
            ChildDied: the child ended.
        """
        while (message := self._receive(timeout_seconds)) == HEARTBEAT:
            self._on_alive()
        return message

    def _receive(self, timeout_seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            if not _readable(fd, timeout_seconds):
                raise ChildStalled
            data = os.read(fd, 1 << 16)
            if not data:
                raise ChildDied(self._how_it_ended())
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def has_message(self) -> bool:
        """A ``receive`` would not wait."""
        assert self._process.stdout is not None
        return b"\n" in self._buffer or _readable(self._process.stdout.fileno(), 0.0)

    def close(self) -> None:
        """Kill the child if it still runs, and free everything; safe to call again."""
        self._end()

    def _how_it_ended(self) -> str:
        status = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        cause = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        return f"{cause}: {lines[-1]}" if lines else cause


def _spawn(module: str, ring_fd: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    program = f"from {module} import main; main()"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        pass_fds=(ring_fd,),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
        start_new_session=True,  # Ctrl-C reaches the parent only, which then ends the child
    )


def _end_process(process: subprocess.Popen[bytes], ring: FrameRing, log: IO[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    log.close()
    ring.close()


def _readable(fd: int, timeout_seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(timeout_seconds * 1000))


class Heartbeat:
    """Signs of life of a child in a stretch without messages; not where ``has_message`` is asked.

    Args:
        channel: to the parent, whose ``receive`` swallows them.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._last = time.monotonic()

    def beat(self) -> None:
        """Call at each step of the work."""
        now = time.monotonic()
        if now - self._last >= HEARTBEAT_SECONDS:
            self._channel.send(HEARTBEAT)
            self._last = now


class Channel:
    """The child's end: messages in by a thread, messages out on a private descriptor.

    Args:
        on_parent_gone: called before leaving when the parent closed the pipe or died.
    """

    def __init__(self, on_parent_gone: Callable[[], None] = lambda: None) -> None:
        # Native libraries may print: their standard output must not mix into the messages.
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._on_parent_gone = on_parent_gone
        self._pending: list[dict[str, Any]] = []
        self._arrived = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, message: Mapping[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except BrokenPipeError:
            self._leave()

    def receive(self) -> dict[str, Any]:
        """Wait for the parent's next message."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._pending)
            return self._pending.pop(0)

    def set_on_parent_gone(self, action: Callable[[], None]) -> None:
        self._on_parent_gone = action

    def _listen(self) -> None:
        with open(0, "rb", closefd=False) as pipe:
            for line in pipe:
                with self._arrived:
                    self._pending.append(json.loads(line))
                    self._arrived.notify()
        self._leave()

    def _leave(self) -> None:
        self._on_parent_gone()
        os._exit(1)
