"""One clip or picture in this process: analyse, then invert, edit, compose and encode in one go.

The stages overlap in threads; decoding and encoding run in child processes of their own. Memory is
bounded by a few chunks of frames whatever the length of the clip (and a segment of inversions where
they are kept).
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipelines.clip.networks import Networks
from pipelines.clip.plan import ClipPlan
from pipelines.clip.samples import IdentitySampler
from pipelines.clip.session import ClipSession, ClipSummary
from pipelines.edit_request import EditRequest, check_output
from pipelines.meter import MemoryMeter, Progress
from pipelines.parallel import Prefetch
from pipelines.preview import NO_COMMENT, ShownPairs
from vidinv.editing.schedules import as_plain
from vidinv.files import atomic_file
from vidinv.inversion import TrackState
from vidinv.paths import sole_writer
from vidinv.provenance import (
    Finisher,
    check_credentials,
    edit_comment,
)
from vidinv.types import ClipResult, Frame, Image, RenderMode
from vidinv.video import (
    VideoInfo,
    VideoReader,
    alpha_note,
    copy_media,
    is_image_path,
    keeps_alpha,
    keeps_comment,
    keeps_profile,
    open_reader,
    open_writer,
    picture_tags,
    read_with_alpha,
    rgb_profile,
    same_kind,
    write_image,
)
from vidinv.video.credentials_mark import LOST, has_credentials

_ONE_SECOND = Fraction(1)


def run(
    request: EditRequest,
    *,
    progress: Progress | None = None,
    networks: Networks | None = None,
) -> ClipResult:
    """Edit or invert one clip or still picture.

    Args:
        networks: of the request's pack and method; None loads them.

    Raises:
        UsageError: an invalid request; nothing is written.
        MediaError: an input that cannot be read, or an output that cannot be written; nothing is
            left at the output.
    """
    check_output(request)
    check_credentials(request.credentials)
    written = [request.output] + ([request.preview.path] if request.preview is not None else [])
    with contextlib.ExitStack() as stack:
        for path in written:
            stack.enter_context(sole_writer(path))
        return _run(request, progress or Progress(), networks)


def _run(request: EditRequest, progress: Progress, networks: Networks | None) -> ClipResult:
    networks = networks or Networks(
        request.pack, request.spec.method, device=request.device, landmarks=request.spec.landmarks
    )
    edit = _Edit(request, progress, networks.load(request.spec))
    with MemoryMeter() as meter:
        started = time.monotonic()
        summary = edit.picture() if is_image_path(request.input) else edit.clip()
        seconds = time.monotonic() - started
    return _result(request, summary, seconds=seconds, peak_rss_mb=meter.peak_mb)


def edit_picture(
    request: EditRequest, networks: Networks, *, progress: Progress | None = None
) -> ClipSummary:
    """Edit a still picture as ``run`` does, with networks that are loaded already.

    Raises:
        UsageError, MediaError: as ``run``.
    """
    check_output(request)
    return _Edit(request, progress or Progress(), networks).picture()


def _result(
    request: EditRequest, summary: ClipSummary, *, seconds: float, peak_rss_mb: float
) -> ClipResult:
    spec = request.spec
    return ClipResult(
        input=str(request.input),
        output=str(request.output),
        frames=summary.frames,
        faces_edited=summary.faces_edited,
        frames_without_face=summary.frames_without_face,
        tracks=summary.tracks,
        method=spec.method,
        pack=request.pack.name,
        attributes={} if spec.mode is RenderMode.INVERT else as_plain(spec.attributes),
        fps=round(summary.frames / max(seconds, 1e-9), 3),
        seconds=round(seconds, 3),
        peak_rss_mb=round(peak_rss_mb, 1),
        identity=summary.identity,
        warnings=summary.warnings,
        frames_in_range=summary.frames_in_range,
        frames_held=summary.frames_held,
    )


class _Edit:
    """A clip or picture through its session, from input to output."""

    def __init__(self, request: EditRequest, progress: Progress, networks: Networks) -> None:
        self.request, self.progress = request, progress
        self.session = ClipSession(
            request.input,
            request.spec,
            networks,
            latents=request.latents,
            segment_frames=request.segment_frames,
        )
        _ = self.session.saved  # a folder that cannot serve is found out before the work
        self.warnings = self.session.request_warnings()
        self.notes_of_preview: list[str] = []
        self.sampler = IdentitySampler(networks.backend)
        self.comment = edit_comment(request.spec, pack=request.pack.name)
        self.finisher = Finisher(request.credentials, request.output, request.edited_from)

    def clip(self) -> ClipSummary:
        """Edit a video."""
        plan = self.session.recall_plan()
        if plan is None:
            plan = self._analyse()
        else:
            self._tell_what_is_lost(plan.info)
        is_edited = bool(plan.analysis.tracks)
        if not is_edited:
            self._tell_unchanged(plan)
        if is_edited or plan.output_part is not None:
            self._render_clip(plan, self._states(plan), is_edited=is_edited)
        else:
            self.warnings += copy_media(self.request.input, self.request.output)
        return self._summary(plan)

    def picture(self) -> ClipSummary:
        """Edit a still picture."""
        image, alpha = read_with_alpha(self.request.input)
        frame = Frame(index=0, pts=0, time_base=_ONE_SECOND, image=image, alpha=alpha)
        plan = self.session.recall_plan() or self._analyse_picture(frame)
        if plan.analysis.tracks:
            states = self._states(plan, frames=[frame])
            ((_, picture),) = self._composed(plan, [frame], states)
            with self._opened_preview(plan) as preview:
                self._write_picture(picture, alpha, is_edited=True)
                if preview is not None:
                    preview.add(frame, picture)
        else:
            self._tell_unchanged(plan)
            if same_kind(self.request.input, self.request.output):
                _copy(self.request.input, self.request.output)
            else:
                self._write_picture(image, alpha)
        return self._summary(plan)

    def _write_picture(self, image: Image, alpha: Image | None, *, is_edited: bool = False) -> None:
        profile, tags = rgb_profile(self.request.input), picture_tags(self.request.input)
        write_image(
            self.request.output,
            image,
            alpha=alpha,
            profile=profile,
            tags=tags,
            comment=self.comment if is_edited else None,
            finish=self.finisher if is_edited else None,
        )
        self.warnings += [*self.finisher.warnings, *tags.lost_in(self.request.output)]
        if not is_edited and has_credentials(self.request.input):
            self.warnings.append(f"{LOST}the copy is of another kind, and not signed")
        if is_edited and not keeps_comment(self.request.output):
            suffix = self.request.output.suffix
            self.warnings.append(NO_COMMENT.format(suffix=suffix))
        if profile and not keeps_profile(self.request.output):
            suffix = self.request.output.suffix
            self.warnings.append(f"{suffix} pictures have no colour profile: the source's is lost")
        if alpha is not None and not keeps_alpha(self.request.output):
            self.warnings.append("the transparency of the picture is lost: it was written opaque")

    def _tell_unchanged(self, plan: ClipPlan) -> None:
        self.warnings.append(self.session.why_unchanged(plan))
        if self.request.preview is not None:
            self.warnings.append(f"no preview: {self.request.preview.path} was not written")

    @contextlib.contextmanager
    def _opened_preview(self, plan: ClipPlan) -> Iterator[ShownPairs | None]:
        """The preview, complete at the end of the ``with``, and what it warns of told."""
        request = self.request
        if request.preview is None or not plan.analysis.tracks:
            yield None
            return
        finish = Finisher(request.credentials, request.preview.path, request.edited_from)
        opened = request.preview.open(plan, request.spec, comment=self.comment, finish=finish)
        with opened as preview:
            yield preview
        self.notes_of_preview = [f"preview: {n}" for n in (*preview.warnings, *finish.warnings)]

    def _summary(self, plan: ClipPlan) -> ClipSummary:
        warnings = [*self.warnings, *self.notes_of_preview, *self.session.notes]
        return self.session.summary(plan, self.sampler.samples(), warnings)

    def _open(self, **part: Any) -> VideoReader:
        return open_reader(self.request.input, on_error=self.request.on_error, **part)

    def _analyse(self) -> ClipPlan:
        session = self.session
        with self._open(until=session.last_frame, around=session.analysed) as reader:
            info = reader.info
            self._tell_what_is_lost(info)
            frames = self.progress.track(reader, label="analyse", total=self._num_analysed(info))
            with Prefetch(frames, depth=4, name="decode") as decoded:
                return self.session.make_plan(
                    decoded,
                    info,
                    has_exact_times=lambda: reader.exact_times,
                    damage=lambda: (reader.num_held, reader.notes),
                )

    def _num_analysed(self, info: VideoInfo) -> int | None:
        """About how many frames the analysis reads."""
        until, total = self.session.last_frame, info.num_frames
        if until is None:
            return total
        count = until.count + round(until.start * (info.average_rate or 25))
        return count if total is None else min(count, total)

    def _tell_what_is_lost(self, info: VideoInfo) -> None:
        """Before the work; UsageError for an encoder that does not go with the clip."""
        note = alpha_note(self.request.output, self.request.encode, info)
        if note is not None:
            self.progress.note(note)

    def _analyse_picture(self, frame: Frame) -> ClipPlan:
        height, width = frame.image.shape[:2]
        info = VideoInfo.from_scratch(width=width, height=height, rate=1)
        return self.session.make_plan([frame], info, has_exact_times=lambda: False)

    def _states(
        self, plan: ClipPlan, *, frames: Sequence[Frame] | None = None
    ) -> Mapping[int, TrackState]:
        """What the method has fitted to each track, now or in an earlier run.

        Args:
            frames: of a picture; a clip is read.
        """
        tracks = plan.analysis.tracks
        if not self.session.needs_fit(tracks):
            return {}
        states = self.session.recall_states()
        if states is not None:
            return states
        with contextlib.ExitStack() as stack:
            read = frames or stack.enter_context(self._open())
            tell = stack.enter_context(self.progress.shares(label="fit"))
            return self.session.fit(tracks, read, progress=tell)

    def _render_clip(
        self, plan: ClipPlan, states: Mapping[int, TrackState], *, is_edited: bool
    ) -> None:
        request, output = self.request, plan.output
        with contextlib.ExitStack() as stack:
            # Entered first, so that it is finished last: when the output is in its place.
            preview = stack.enter_context(self._opened_preview(plan))
            writer = stack.enter_context(
                open_writer(
                    request.output,
                    source=plan.info,
                    options=request.encode,
                    cut=plan.cut(range(output.first, output.last + 1)),
                    comment=self.comment if is_edited else None,
                    finish=self.finisher if is_edited else None,
                )
            )
            part = None if plan.output_part is None else plan.part(output)
            reader = stack.enter_context(self._open(part=part))
            composed = self._composed(plan, reader, states)
            stack.callback(composed.close)
            total = output.num_frames
            for frame, picture in self.progress.track(composed, label="edit", total=total):
                writer.write(replace(frame, image=picture))
                if preview is not None:
                    preview.add(frame, picture)
        self.warnings += (*writer.warnings, *self.finisher.warnings)
        if not is_edited and has_credentials(request.input):
            self.warnings.append(f"{LOST}the output is cut, and not signed")

    def _composed(
        self, plan: ClipPlan, frames: Iterable[Frame], states: Mapping[int, TrackState]
    ) -> Generator[tuple[Frame, Image], None, None]:
        """Source frames with their composed pictures; some are kept to compare identities."""
        if self.request.identity:
            self.sampler.choose(plan.analysis.tracks)
        composed = self.session.render(plan, plan.output, frames, states)
        with contextlib.closing(composed):
            for frame, picture in composed:
                self.sampler.observe(frame, picture)
                yield frame, picture


def _copy(source: Path, output: Path) -> None:
    """The same bytes; the output appears when it is complete."""
    with atomic_file(output) as temporary:
        shutil.copyfile(source, temporary)
