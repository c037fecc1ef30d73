"""One clip or picture in this process: analyse, then invert, edit, compose and encode in one go.

The stages overlap in threads; decoding and encoding run in child processes of their own. Memory is
bounded by a few chunks of frames whatever the length of the clip (and a segment of inversions where
they are kept).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import torch

from pipelines.clip.plan import SEGMENT_FRAMES, ClipPlan, composed_frames
from pipelines.clip.planning import plan_clip
from pipelines.clip.samples import FaceSample, IdentitySampler
from pipelines.clip.saved import SavedClip, key_of
from pipelines.meter import MemoryMeter, Progress
from pipelines.parallel import Prefetch
from pipelines.process import tune_process
from vidinv.editing.directions import Directions
from vidinv.editing.schedules import as_plain, is_zero
from vidinv.errors import MissingDependencyError, UsageError
from vidinv.faces import Backend, dlib_backend
from vidinv.inversion import Inverter
from vidinv.packs import Pack
from vidinv.rendering import FaceEditor, FrameComposer, frames_without
from vidinv.types import ClipResult, EditSpec, Frame, Image, TrackSummary
from vidinv.video import (
    EncodeOptions,
    VideoInfo,
    choose_encoder,
    copy_media,
    has_transparency,
    is_image_path,
    open_reader,
    open_writer,
    read_image,
    rgb_profile,
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
        latents: folder of this clip (``pipelines.clip.saved.clip_folder``) where its analysis and
            inversions are kept, and taken from.
        segment_frames: wished length of what one file of them holds.
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
    latents: Path | None = None
    segment_frames: int = SEGMENT_FRAMES


def run(request: EditRequest, *, progress: Progress | None = None) -> ClipResult:
    """Edit or invert one clip or still picture.

    Raises:
        UsageError: a request that cannot be meant; nothing is written.
        MediaError: an input that cannot be read, or an output that cannot be written; nothing is
            left at the output.
    """
    check_output(request)
    run = _Run(request, progress or Progress(), _load_networks(request))
    with MemoryMeter() as meter:
        outcome = run.image() if is_image_path(request.input) else run.clip()
    return outcome.result(request, peak_rss_mb=meter.peak_mb, warnings=run.warnings)


@dataclass(frozen=True)
class Networks:
    """What a run computes with; ``directions`` is None where only the inversion is pasted."""

    inverter: Inverter
    directions: Directions | None
    backend: Backend


def edit_picture(
    request: EditRequest, networks: Networks
) -> tuple[ClipPlan, list[FaceSample], list[str]]:
    """Edit a still picture as ``run`` does, with networks that are loaded already.

    Returns:
        Its faces, those that were compared with the output, and warnings.

    Raises:
        UsageError, MediaError: as ``run``.
    """
    check_output(request)
    run = _Run(request, Progress(quiet=True), networks)
    outcome = run.image()
    return outcome.plan, outcome.sampler.samples(), run.warnings


def check_output(request: EditRequest) -> None:
    """UsageError for an output that would lose something or make no sense, or that no encoder of
    ours writes as asked.
    """
    source, output = request.input, request.output
    if source.exists() and output.exists() and source.samefile(output):
        raise UsageError(f"{output} is the input itself: give another output")
    if output.exists() and not request.overwrite:
        raise UsageError(f"{output} exists: give another output, or --overwrite to replace it")
    if is_image_path(source) != is_image_path(output):
        kinds = ("a picture", "a video") if is_image_path(source) else ("a video", "a picture")
        raise UsageError(f"{source} is {kinds[0]}, but {output} names {kinds[1]}")
    if not is_image_path(output):
        choose_encoder(output, request.encode)


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
    plan: ClipPlan
    sampler: IdentitySampler
    seconds: float

    def result(
        self, request: EditRequest, *, peak_rss_mb: float, warnings: Sequence[str]
    ) -> ClipResult:
        frames, tracks = self.plan.analysis.num_frames, self.plan.analysis.tracks
        attributes = {} if request.invert_only else request.spec.attributes
        return ClipResult(
            input=str(request.input),
            output=str(request.output),
            frames=frames,
            faces_edited=sum(track.num_frames for track in tracks),
            frames_without_face=frames_without(self.plan.analysis, tracks),
            tracks=tuple(TrackSummary(t.id, t.first, t.last, t.num_frames) for t in tracks),
            method=request.spec.method,
            pack=request.pack.name,
            attributes=as_plain(attributes),
            fps=round(frames / max(self.seconds, 1e-9), 3),
            seconds=round(self.seconds, 3),
            peak_rss_mb=round(peak_rss_mb, 1),
            identity=self.sampler.summary(),
            warnings=tuple(warnings),
        )


class _Run:
    """One run; the work is timed, the loading of networks is not."""

    def __init__(self, request: EditRequest, progress: Progress, networks: Networks) -> None:
        self.request, self.progress = request, progress
        self.warnings: list[str] = []
        self.inverter, self.directions = networks.inverter, networks.directions
        self.backend = networks.backend
        if self.directions is not None:
            self.warnings += self.directions.warnings(request.spec.attributes)
        self.sampler = IdentitySampler(self.backend, request.pack.mean_embedding())
        self.saved = None if request.latents is None else self._saved_clip(request.latents)

    def clip(self) -> _Outcome:
        """Edit a video."""
        started = time.monotonic()
        plan = self._recalled() or self._plan_of_clip()
        if plan.analysis.tracks:
            self._render_clip(plan)
        else:
            self._say_unchanged(plan)
            self.warnings += copy_media(self.request.input, self.request.output)
        return self._outcome(plan, started)

    def image(self) -> _Outcome:
        """Edit a still picture."""
        started = time.monotonic()
        image = read_image(self.request.input)
        frame = Frame(index=0, pts=0, time_base=_ONE_SECOND, image=image)
        plan = self._recalled() or self._plan_of_image(frame)
        if plan.analysis.tracks:
            ((_, picture),) = self._composed([frame], plan)
            self._write_image(picture)
        else:
            self._say_unchanged(plan)
            if self.request.input.suffix.lower() == self.request.output.suffix.lower():
                _copy(self.request.input, self.request.output)
            else:
                self._write_image(image)
        return self._outcome(plan, started)

    def _write_image(self, image: Image) -> None:
        write_image(self.request.output, image, profile=rgb_profile(self.request.input))
        if has_transparency(self.request.input):
            self.warnings.append("the transparency of the picture is lost: it was written opaque")

    def _outcome(self, plan: ClipPlan, started: float) -> _Outcome:
        self.sampler.summary()
        self.warnings += self.saved.notes if self.saved else []
        return _Outcome(plan, self.sampler, time.monotonic() - started)

    @property
    def _unchanged(self) -> bool:
        return self.directions is not None and is_zero(self.request.spec.attributes)

    def _saved_clip(self, folder: Path) -> SavedClip:
        request = self.request
        key = key_of(
            request.input,
            pack=request.pack,
            spec=request.spec,
            segment_frames=request.segment_frames,
        )
        return SavedClip(folder, key)

    def _recalled(self) -> ClipPlan | None:
        """The plan of an earlier run."""
        plan = None if self.saved is None else self.saved.plan(self.request.input)
        return plan.unedited() if plan is not None and self._unchanged else plan

    def _plan_of_clip(self) -> ClipPlan:
        with open_reader(self.request.input) as reader:
            info = reader.info
            frames = self.progress.track(reader, label="analyse", total=info.num_frames)
            with Prefetch(frames, depth=4, name="decode") as decoded:
                plan = self._plan(decoded, info)
            return self._kept(replace(plan, exact_times=reader.exact_times))

    def _plan_of_image(self, frame: Frame) -> ClipPlan:
        height, width = frame.image.shape[:2]
        info = VideoInfo.from_scratch(width=width, height=height, rate=1)
        return self._kept(self._plan([frame], info))

    def _plan(self, frames: Iterable[Frame], info: VideoInfo) -> ClipPlan:
        return plan_clip(
            frames,
            info,
            pack=self.request.pack,
            backend=self.backend,
            face=None if self._unchanged else self.request.spec.face,
            segment_frames=self.request.segment_frames,
            key=self.saved.key if self.saved else None,
        )

    def _kept(self, plan: ClipPlan) -> ClipPlan:
        # Nobody was chosen for strength 0: that is no plan for other strengths.
        if self.saved is not None and not self._unchanged:
            self.saved.keep(plan)
        return plan

    def _say_unchanged(self, plan: ClipPlan) -> None:
        if plan.num_tracks:
            self.warnings.append("every strength is 0: the input was copied unchanged")
        else:
            self.warnings.append(f"no face found in {self.request.input}: copied unchanged")

    def _render_clip(self, plan: ClipPlan) -> None:
        request = self.request
        with contextlib.ExitStack() as stack:
            writer = stack.enter_context(
                open_writer(request.output, source=plan.info, options=request.encode)
            )
            reader = stack.enter_context(open_reader(request.input))
            composed = self._composed(reader, plan)
            stack.callback(composed.close)
            total = plan.analysis.num_frames
            for frame, picture in self.progress.track(composed, label="edit", total=total):
                writer.write(
                    Frame(frame.index, frame.pts, frame.time_base, picture, frame.duration)
                )
        self.warnings += writer.warnings

    def _composed(
        self, frames: Iterable[Frame], plan: ClipPlan
    ) -> Generator[tuple[Frame, Image], None, None]:
        """Source frames with their composed pictures; each stage runs in a thread of its own."""
        request = self.request
        editor = FaceEditor(
            self.inverter,
            pack=request.pack,
            directions=self.directions,
            spec=request.spec,
            tracks=plan.analysis.tracks,
            start_seconds=plan.start_seconds,
            saved=self.saved.inversions(plan) if self.saved else None,
        )
        composer = (
            FrameComposer(detail=False)
            if request.invert_only
            else FrameComposer(detail=request.spec.detail, shots=plan.analysis.shots)
        )
        if request.identity:
            self.sampler.plan(plan.analysis.tracks)
        composed = composed_frames(
            frames, plan=plan, segment=plan.whole, editor=editor, composer=composer
        )
        with contextlib.closing(composed):
            for frame, picture in composed:
                self.sampler.observe(frame, picture)
                yield frame, picture


def _load_networks(request: EditRequest) -> Networks:
    tune_process()
    return Networks(
        request.pack.inverter(request.spec.method, device=choose_device(request.device)),
        None if request.invert_only else request.pack.directions(),
        dlib_backend(),
    )


def _copy(source: Path, output: Path) -> None:
    """The same bytes; the output appears when it is complete."""
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
