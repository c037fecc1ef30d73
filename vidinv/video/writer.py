"""Writing video that gives back what the source had: frame times, size, colour tags, sound.

The encoder runs in a child process (see ``isolation``) beside the caller's own work. The output
appears under its name only when it is complete; until then, and after any error, there is nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from vidinv.errors import DecodeError, EncodeError, UsageError
from vidinv.files import put_in_place, temporary_path
from vidinv.types import Frame
from vidinv.video.codecs import EncodeOptions, choose_encoder, container_format, encoder_options
from vidinv.video.info import VideoInfo
from vidinv.video.isolation import ChildDied, ChildProcess, ChildStalled
from vidinv.video.reader import probe

ENCODE_WORKER = "vidinv.video.encode_worker"
# Slow presets hold many frames back before the first is done, and flush them all at the end.
STALL_SECONDS = 300.0

Finish = Callable[[Path], None]  # what is done to a complete file before it gets its name

# Between a run's stages: NUT keeps every time base exactly. It takes no ProRes, which MOV does, nor
# the alpha of VP9, which Matroska does (joining gives the frames their exact times again).
SEGMENT_FORMATS = {".nut": "nut", ".mov": "mov", ".mkv": "matroska"}


@dataclass(frozen=True, slots=True)
class Cut:
    """The part of a source whose sound and other streams an output has, in the source's time base.

    Attributes:
        start: time of its first frame, which is then shown at 0; None begins as the source does.
        end: when its last frame is over.
    """

    start: int | None
    end: int


def open_writer(
    path: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | VideoInfo,
    options: EncodeOptions | None = None,
    segment: bool = False,
    cut: Cut | None = None,
    comment: str | None = None,
    finish: Finish | None = None,
    worker: str = ENCODE_WORKER,
) -> VideoWriter:
    """A context manager with ``write(frame)``; leaving it completes the file.

    Args:
        path: output; its extension chooses the container. An existing file is replaced.
        source: the clip whose properties and other streams are given back.
        options: encoder and quality.
        segment: write the picture alone, for ``join_segments``; path and options are those of
            ``segment_path``.
        cut: what of the source's streams is given back, whole packets; None: all.
        comment: stands in the file, behind the comment of the source.
        finish: is given the complete file before it gets its name, and may change it.
        worker: importable name of the encoding program.

    Raises:
        UsageError: unknown extension or encoder, a pair that does not go together, or a preset or
            quality that the encoder does not take.
        EncodeError: the output cannot be written.
    """
    info = source if isinstance(source, VideoInfo) else probe(source)
    options = options or EncodeOptions()
    return VideoWriter(
        path,
        info=info,
        options=options,
        segment=segment,
        cut=cut,
        comment=comment,
        finish=finish,
        worker=worker,
    )


def try_writing(
    path: str | os.PathLike[str],
    *,
    source: VideoInfo,
    options: EncodeOptions,
    folder: Path,
    on_alive: Callable[[], None] = lambda: None,
) -> None:
    """Find out whether ``open_writer`` will write ``path``, without a frame: encoder, header, and
    all packets that are copied.

    Args:
        folder: where files may be made, and are removed again.
        on_alive: called now and then while it works.

    Raises:
        UsageError, EncodeError: as ``open_writer``.
    """
    VideoWriter(path, info=source, options=options).try_out(folder, on_alive)


def copy_media(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    on_alive: Callable[[], None] = lambda: None,
    worker: str = ENCODE_WORKER,
    stall_seconds: float = STALL_SECONDS,
) -> tuple[str, ...]:
    """Copy every packet of ``source`` into the container that ``output`` names, no re-encoding.

    Args:
        on_alive: called now and then while it works.
        worker: importable name of the copying program.
        stall_seconds: how long it may show no sign of life.

    Returns:
        Warnings about streams that the container does not take.

    Raises:
        UsageError: unknown extension.
        EncodeError: the container does not take the video, or the output cannot be written.
    """
    source, output = Path(source), Path(output)
    if not source.is_file():
        raise DecodeError(f"{source}: no such file")
    request = {
        "task": "copy",
        "source": str(source.absolute()),
        "format": container_format(output),
        "suffix": output.suffix.lower(),
    }
    return _remuxed(output, request, on_alive, worker=worker, stall_seconds=stall_seconds)


def segment_path(
    path: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    options: EncodeOptions,
    source: VideoInfo | None = None,
) -> tuple[Path, EncodeOptions]:
    """How to write a segment of ``output``, for ``open_writer(..., segment=True)``.

    Args:
        path: name without a suffix.
        options: of the whole output.
        source: what is encoded.

    Returns:
        ``path`` with the suffix of a format that takes the encoder, and options that name it.

    Raises:
        UsageError: as ``open_writer`` for ``output``.
    """
    output = Path(output)
    encoder = choose_encoder(output, options, source=source)
    suffix = ".mov" if encoder == "prores_ks" else ".nut"
    has_alpha = "yuva" in (options.pix_fmt or "") or (source is not None and source.has_alpha)
    suffix = ".mkv" if encoder == "libvpx-vp9" and has_alpha else suffix
    return Path(f"{os.fspath(path)}{suffix}"), replace(options, encoder=encoder)


def join_segments(
    segments: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    source: VideoInfo,
    times: Sequence[tuple[int, int]],
    comment: str | None = None,
    finish: Finish | None = None,
    on_alive: Callable[[], None] = lambda: None,
    worker: str = ENCODE_WORKER,
    stall_seconds: float = STALL_SECONDS,
) -> tuple[str, ...]:
    """Put encoded segments one after another, with the source's other streams; no re-encoding.

    Args:
        segments: files written with ``segment=True`` and the same options, in order.
        source: facts about the clip whose other streams are copied.
        times: (pts, duration) of every frame of the clip, in the source's time base.
        comment, finish: as for ``open_writer``.
        on_alive, worker, stall_seconds: as for ``copy_media``.

    Returns:
        Warnings about streams that the container does not take.

    Raises:
        EncodeError: segments that do not fit together, or an output that cannot be written.
    """
    output = Path(output)
    request = {
        "task": "join",
        "source": source.path,
        "format": container_format(output),
        "info": source.to_json(),
        "segments": [os.path.abspath(path) for path in segments],
        "times": [list(time) for time in times],
        "comment": comment,
    }
    return _remuxed(output, request, on_alive, finish, worker=worker, stall_seconds=stall_seconds)


def _remuxed(
    output: Path,
    request: Mapping[str, Any],
    on_alive: Callable[[], None],
    finish: Finish | None = None,
    *,
    worker: str,
    stall_seconds: float,
) -> tuple[str, ...]:
    """Let a child make ``output`` without another word from here; its warnings."""
    session = _Session(output, on_alive, stall_seconds=stall_seconds)
    try:
        session.start(worker, request)
        done = session.receive("done")
    except BaseException:
        session.abandon()
        raise
    session.complete(finish)
    return tuple(done["warnings"])


class VideoWriter:
    """Encodes frames into a file that has the source's properties; see ``open_writer``.

    ``warnings`` is complete after the ``with``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        info: VideoInfo,
        options: EncodeOptions,
        segment: bool = False,
        cut: Cut | None = None,
        comment: str | None = None,
        finish: Finish | None = None,
        worker: str = ENCODE_WORKER,
    ) -> None:
        self.path = Path(path)
        self.info = replace(info, path=None) if segment else info
        self.warnings: tuple[str, ...] = ()
        self.num_written = 0
        if segment:
            self._format, self._encoder = SEGMENT_FORMATS[self.path.suffix], str(options.encoder)
        else:
            self._format = container_format(self.path)
            self._encoder = choose_encoder(self.path, options, source=self.info)
        self._options, self._comment, self._finishing = options, comment, finish
        self._is_segment, self._cut = segment, cut
        self._module = worker
        self._session: _Session | None = None
        self._num_free = 0
        self._last_pts: int | None = None

    def try_out(self, folder: Path, on_alive: Callable[[], None]) -> None:
        """Begin the file in ``folder``, and remove it."""
        session = _Session(self.path, on_alive, folder=folder)
        try:
            session.start(self._module, self._request())
            session.receive("ready")
        finally:
            session.abandon()

    def __enter__(self) -> VideoWriter:
        self._session = _Session(self.path)
        try:
            self._session.start(self._module, self._request())
            self._session.receive("ready")
            info = self.info
            self._ring.map(
                height=info.height, width=info.width, dtype=info.frame_dtype, alpha=info.has_alpha
            )
        except BaseException:
            self._session.abandon()
            raise
        self._num_free = self._ring.num_slots
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        if kind is not None:
            session.abandon()
            return
        try:
            self._finish(session)
        except BaseException:
            session.abandon()
            raise
        session.complete(self._finishing)

    def write(self, frame: Frame) -> None:
        """Encode one frame at its own time; frames come in the order of display.

        Args:
            frame: image ``[height, width, 3]`` of the source's size and type (uint8, or uint16
                above 8 bits), time in any time base that the source's can express; its alpha is
                written where the pixel format has one.
        """
        if self._session is None:
            raise RuntimeError("open the writer with `with` first")
        pts, duration = self._in_time_base(frame)
        self._check(frame, pts)
        while self._num_free == 0 or self._session.has_message():
            self._session.receive("free")
            self._num_free += 1
        self._ring.write(self.num_written, frame.image, frame.alpha)
        message: dict[str, Any] = {"pts": pts, "duration": duration}
        if frame.captions:
            message["captions"] = frame.captions.hex()
        self._session.send(message)
        self._num_free -= 1
        self.num_written += 1
        self._last_pts = pts

    def _finish(self, session: _Session) -> None:
        if not self.num_written:
            raise EncodeError(f"{self.path}: no frame was written, so there is no video to make")
        session.send({"finish": True})
        while "done" not in (message := session.receive("done", "free")):
            pass
        self.warnings = tuple(message["warnings"])

    def _in_time_base(self, frame: Frame) -> tuple[int, int]:
        if frame.time_base == self.info.time_base:
            return frame.pts, frame.duration
        scale: Fraction = frame.time_base / self.info.time_base
        return round(frame.pts * scale), round(frame.duration * scale)

    def _check(self, frame: Frame, pts: int) -> None:
        expected = (self.info.height, self.info.width, 3)
        if frame.image.shape != expected or frame.image.dtype != self.info.frame_dtype:
            raise UsageError(
                f"{self.path}: frame {frame.index} is {frame.image.dtype} {frame.image.shape}, "
                f"expected {self.info.frame_dtype} {expected}"
            )
        if self._last_pts is not None and pts <= self._last_pts:
            raise UsageError(
                f"{self.path}: frame {frame.index} has time {pts}, not after {self._last_pts}"
            )

    @property
    def _ring(self) -> Any:
        assert self._session is not None
        assert self._session.child is not None
        return self._session.child.ring

    def _request(self) -> dict[str, Any]:
        return {
            "task": "encode",
            "source": self.info.path,
            "format": self._format,
            "info": self.info.to_json(),
            "encoder": self._encoder,
            "options": encoder_options(self._encoder, self._options),
            "threads": self._options.threads,
            "pix_fmt": self._options.pix_fmt,
            "comment": self._comment,
            "segment": self._is_segment,
            "cut": None if self._cut is None else asdict(self._cut),
        }


class _Session:
    """One child that writes one file under a temporary name beside it, or in ``folder``."""

    def __init__(
        self,
        path: Path,
        on_alive: Callable[[], None] = lambda: None,
        *,
        folder: Path | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.path, self._stall_seconds = path, stall_seconds
        self._on_alive = on_alive
        self.child: ChildProcess | None = None
        self._temporary = temporary_path(path if folder is None else folder / path.name)

    def start(self, module: str, request: Mapping[str, Any]) -> None:
        folder = self._temporary.absolute().parent
        if not folder.is_dir():
            raise EncodeError(f"{self.path}: the folder {folder} does not exist; make it first")
        if not os.access(folder, os.W_OK):
            raise EncodeError(f"{self.path}: the folder {folder} cannot be written to")
        request = {**request, "output": str(self._temporary.absolute())}
        self.child = ChildProcess(module, request=request, on_alive=self._on_alive)

    def send(self, message: Mapping[str, Any]) -> None:
        assert self.child is not None
        self.child.send(message)

    def has_message(self) -> bool:
        assert self.child is not None
        return self.child.has_message()

    def receive(self, *kinds: str) -> dict[str, Any]:
        """The next message, which must be of one of ``kinds``; EncodeError for anything else."""
        assert self.child is not None
        try:
            message = self.child.receive(timeout_seconds=self._stall_seconds)
        except ChildStalled:
            raise EncodeError(f"{self.path}: encoding hung for {self._stall_seconds:g} s") from None
        except ChildDied as error:
            raise EncodeError(f"{self.path}: the encoder crashed ({error})") from None
        if "error" in message:
            raise EncodeError(f"{self.path}: {message['error']}")
        assert any(kind in message for kind in kinds), message
        return message

    def abandon(self) -> None:
        """End the child and leave nothing behind."""
        if self.child is not None:
            self.child.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def complete(self, finish: Finish | None = None) -> None:
        """Give the finished file its name."""
        try:
            if finish is not None:
                finish(self._temporary)
            put_in_place(self._temporary, self.path)
        except OSError as error:
            raise EncodeError(f"{self.path}: cannot be replaced ({error.strerror})") from None
        finally:
            self.abandon()
