"""One clip or picture in this process: analyse, then invert, edit, compose and encode in one go.

The stages overlap in threads; decoding and encoding run in child processes of their own. Memory is
bounded by a few chunks of frames whatever the length of the clip.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from pipelines.identity import IdentitySampler
from pipelines.meter import MemoryMeter, Progress
from pipelines.parallel import Prefetch
from pipelines.tuning import tune_process
from vidinv.editing.directions import Directions
from vidinv.errors import MissingDependencyError, UsageError
from vidinv.faces import Backend, analyse, dlib_backend, named_alignment, select_tracks
from vidinv.packs import Pack
from vidinv.stages import FaceEditor, FrameComposer, chunked, frames_without
from vidinv.types import Analysis, ClipResult, EditSpec, FaceTrack, Frame, Image, TrackSummary
from vidinv.video import (
    EncodeOptions,
    ShotDetector,
    VideoInfo,
    copy_media,
    is_image_path,
    open_reader,
    open_writer,
    read_image,
    write_image,
)

_ONE_SECOND = Fraction(1)


@dataclass(frozen=True)
class EditRequest:
    """Everything that a run needs to know.

    Attributes:
        spec: what to change; ignored but for ``face`` and ``method`` when ``invert_only``.
        invert_only: paste back what the inversion gives, without edit and detail transfer.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        identity: look at a few frames with the recognition net (about 1.5 s a run).
    """

    input: Path
    output: Path
    pack: Pack
    spec: EditSpec
    invert_only: bool = False
    device: str = "auto"
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    overwrite: bool = False
    identity: bool = True


def run(request: EditRequest, *, progress: Progress | None = None) -> ClipResult:
    """Edit or invert one clip or still picture.

    Raises:
        UsageError: a request that cannot be meant; nothing is written.
        MediaError: an input that cannot be read, or an output that cannot be written; nothing is
            left at the output.
    """
    check_paths(request)
    run = _Run(request, progress or Progress())
    with MemoryMeter() as meter:
        outcome = run.image() if is_image_path(request.input) else run.clip()
    return outcome.result(request, peak_rss_mb=meter.peak_mb, warnings=run.warnings)


def check_paths(request: EditRequest) -> None:
    """UsageError for an output that would lose something or make no sense."""
    source, output = request.input, request.output
    if source.exists() and output.exists() and source.samefile(output):
        raise UsageError(f"{output} is the input itself: give another output")
    if output.exists() and not request.overwrite:
        raise UsageError(f"{output} exists: give another output, or --overwrite to replace it")
    if is_image_path(source) != is_image_path(output):
        kinds = ("a picture", "a video") if is_image_path(source) else ("a video", "a picture")
        raise UsageError(f"{source} is {kinds[0]}, but {output} names {kinds[1]}")


def choose_device(name: str) -> torch.device:
    """The device of a name; MissingDependencyError for a GPU that is not there."""
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name == "cuda" and not available:
        raise MissingDependencyError("no CUDA device is available; use --device cpu")
    return torch.device(name)


@dataclass
class _Outcome:
    analysis: Analysis
    tracks: tuple[FaceTrack, ...]
    sampler: IdentitySampler
    seconds: float

    def result(
        self, request: EditRequest, *, peak_rss_mb: float, warnings: Sequence[str]
    ) -> ClipResult:
        frames = self.analysis.num_frames
        attributes = {} if request.invert_only else request.spec.attributes
        return ClipResult(
            input=str(request.input),
            output=str(request.output),
            frames=frames,
            faces_edited=sum(track.num_frames for track in self.tracks),
            frames_without_face=frames_without(self.analysis, self.tracks),
            tracks=tuple(TrackSummary(t.id, t.first, t.last, t.num_frames) for t in self.tracks),
            method=request.spec.method,
            pack=request.pack.name,
            attributes={name: _plain_strength(keys) for name, keys in attributes.items()},
            fps=round(frames / max(self.seconds, 1e-9), 3),
            seconds=round(self.seconds, 3),
            peak_rss_mb=round(peak_rss_mb, 1),
            identity=self.sampler.summary(),
            warnings=tuple(warnings),
        )


class _Run:
    """One run: loads what it needs, then times the work."""

    def __init__(self, request: EditRequest, progress: Progress) -> None:
        self.request, self.progress = request, progress
        self.warnings: list[str] = []
        tune_process()
        self.inverter = request.pack.inverter(
            request.spec.method, device=choose_device(request.device)
        )
        self.directions: Directions | None = None
        if not request.invert_only:
            self.directions = request.pack.directions()
            for name, keyframes in request.spec.attributes.items():
                extremes = {min(s for _, s in keyframes), max(s for _, s in keyframes)}
                for strength in sorted(extremes):
                    self.warnings += self.directions.warnings({name: strength})
        self.backend: Backend = dlib_backend()
        self.sampler = IdentitySampler(self.backend, request.pack.mean_embedding())

    def clip(self) -> _Outcome:
        """Edit a video."""
        request = self.request
        started = time.monotonic()
        with open_reader(request.input) as reader:
            info = reader.info
            first = _FirstFrame()
            frames = self.progress.track(
                first.watch(reader), label="analyse", total=info.num_frames
            )
            with Prefetch(frames, depth=4, name="decode") as decoded:
                analysis = self._analyse(decoded)
        tracks = self._select(analysis)
        if tracks:
            self._render_clip(info, analysis, tracks, start_seconds=first.seconds)
        else:
            self._say_unchanged(analysis)
            self.warnings += copy_media(request.input, request.output)
        return self._outcome(analysis, tracks, started)

    def image(self) -> _Outcome:
        """Edit a still picture."""
        request = self.request
        started = time.monotonic()
        frame = Frame(index=0, pts=0, time_base=_ONE_SECOND, image=read_image(request.input))
        analysis = self._analyse(iter([frame]))
        tracks = self._select(analysis)
        if tracks:
            ((_, picture),) = self._composed(iter([frame]), analysis, tracks, start_seconds=0.0)
            write_image(request.output, picture)
        else:
            self._say_unchanged(analysis)
            _copy_or_convert(request.input, request.output, frame.image)
        return self._outcome(analysis, tracks, started)

    def _outcome(
        self, analysis: Analysis, tracks: tuple[FaceTrack, ...], started: float
    ) -> _Outcome:
        self.sampler.summary()
        return _Outcome(analysis, tracks, self.sampler, time.monotonic() - started)

    def _analyse(self, frames: Iterator[Frame]) -> Analysis:
        return analyse(
            frames,
            is_new_shot=ShotDetector().update,
            alignment=named_alignment(self.request.pack.alignment),
            backend=self.backend,
        )

    def _select(self, analysis: Analysis) -> tuple[FaceTrack, ...]:
        if self.directions is not None and _all_zero(self.request.spec):
            return ()
        return select_tracks(
            analysis, self.request.spec.face, backend=self.backend, load_image=read_image
        )

    def _say_unchanged(self, analysis: Analysis) -> None:
        if analysis.tracks:
            self.warnings.append("every strength is 0: the input was copied unchanged")
        else:
            self.warnings.append(f"no face found in {self.request.input}: copied unchanged")

    def _render_clip(
        self,
        info: VideoInfo,
        analysis: Analysis,
        tracks: tuple[FaceTrack, ...],
        *,
        start_seconds: float,
    ) -> None:
        request = self.request
        with contextlib.ExitStack() as stack:
            writer = stack.enter_context(
                open_writer(request.output, source=info, options=request.encode)
            )
            reader = stack.enter_context(open_reader(request.input))
            composed = self._composed(iter(reader), analysis, tracks, start_seconds=start_seconds)
            stack.callback(composed.close)
            counted = self.progress.track(composed, label="edit", total=analysis.num_frames)
            for frame, picture in counted:
                writer.write(
                    Frame(frame.index, frame.pts, frame.time_base, picture, frame.duration)
                )
        self.warnings += writer.warnings

    def _composed(
        self,
        frames: Iterator[Frame],
        analysis: Analysis,
        tracks: tuple[FaceTrack, ...],
        *,
        start_seconds: float,
    ) -> Generator[tuple[Frame, Image], None, None]:
        """Source frames with their composed pictures; each stage runs in a thread of its own."""
        request = self.request
        editor = FaceEditor(
            self.inverter,
            directions=self.directions,
            spec=request.spec,
            tracks=tracks,
            resolution=request.pack.resolution,
            feature_scale=request.pack.edit_feature_scale,
            start_seconds=start_seconds,
        )
        composer = FrameComposer(detail=request.spec.detail and not request.invert_only)
        if request.identity:
            self.sampler.plan(tracks)
        with contextlib.ExitStack() as stack:
            chunks = stack.enter_context(Prefetch(chunked(frames, analysis.shots), name="decode"))
            edited = stack.enter_context(Prefetch(editor.process(chunks), name="edit"))
            composed = stack.enter_context(
                Prefetch(composer.process(edited), depth=4, name="compose")
            )
            for frame, picture in composed:
                self.sampler.observe(frame, picture)
                yield frame, picture


class _FirstFrame:
    """Remembers when the clip starts while its frames go by."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if frame.index == 0:
                self.seconds = frame.time_seconds
            yield frame


def _all_zero(spec: EditSpec) -> bool:
    return all(strength == 0 for keys in spec.attributes.values() for _, strength in keys)


def _plain_strength(keyframes: tuple[tuple[float, float], ...]) -> Any:
    """A number for a constant strength, else the keyframes."""
    return keyframes[0][1] if len(keyframes) == 1 else [list(key) for key in keyframes]


def _copy_or_convert(source: Path, output: Path, image: Image) -> None:
    """The same bytes where the format is the same, else the same picture."""
    if source.suffix.lower() != output.suffix.lower():
        write_image(output, image)
        return
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
