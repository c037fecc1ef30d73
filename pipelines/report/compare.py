"""Compare an edited clip with its source: identity, flicker, attributes, frame by frame.

Three passes: faces are found in the source; source, output and inversion are measured in step along
the same tracks; recognition looks at the chosen frames. Memory does not grow with the pictures of
the clip.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.edit import choose_device
from pipelines.meter import Progress
from pipelines.parallel import Prefetch
from pipelines.process import tune_process
from pipelines.report.clips import Clips, Invert
from pipelines.report.inversion_meter import InversionMeter, inverted
from pipelines.report.recognition import MAX_EMBEDDINGS, Recognised, Recogniser
from pipelines.report.summary import changed_tracks, mean_over_tracks, summarise, track_facts
from pipelines.report.track_meter import ChipStore, TrackMeter, settle_again
from vidinv.errors import UsageError
from vidinv.faces import analyse, dlib_backend, named_alignment
from vidinv.inversion import Inverter
from vidinv.packs import Pack
from vidinv.rendering import frames_without
from vidinv.report import (
    MAX_REGULAR,
    ClipFacts,
    Finding,
    FrameRow,
    Recognition,
    Report,
    Thumbnail,
    TrackFacts,
    baseline_of,
    choose_thumbnails,
    rank,
    report_files,
    strangers_from,
    write_report,
)
from vidinv.types import Analysis
from vidinv.video import ShotDetector, is_image_path


@dataclass(frozen=True)
class ReportRequest:
    """What to compare, and where to write.

    Attributes:
        page: the HTML file; JSON and CSV go beside it under the same name.
        every: look at every n-th frame's identity; None chooses by ``max_embeddings``.
        max_embeddings: how often the recognition network may look, at 64 ms a time on a CPU; half
            as often again beside suspicious frames, and at a few neighbours for TL-ID.
        ordinary_frames: how many frames that do not stand out are shown.
        inversion: invert the source, too, and measure what the inversion alone loses.
        inverter: the networks of ``method`` where they are loaded already.
        edit: what the output was made with, shown as given.
        analysis: shots and tracks of the source where they are known; only those tracks are
            measured.
        source_name: what the page calls the source; None is its path.
    """

    source: Path
    output: Path
    page: Path
    pack: Pack
    every: int | None = None
    max_embeddings: int = MAX_EMBEDDINGS
    ordinary_frames: int = MAX_REGULAR
    inversion: bool = True
    method: str = "fse"
    device: str = "auto"
    inverter: Inverter | None = None
    edit: Mapping[str, Any] = field(default_factory=dict)
    analysis: Analysis | None = None
    source_name: str | None = None
    overwrite: bool = False


def run(request: ReportRequest, *, progress: Progress | None = None) -> Report:
    """Measure, rank, and write page, JSON and CSV.

    Raises:
        UsageError: clips that do not belong together, or a request that cannot be meant.
        MediaError: a clip that cannot be read.
    """
    check_request(request)
    tune_process()
    with ChipStore() as store:
        measuring = _Measuring(request, store, progress or Progress())
        report = measuring.report()
        write_report(report, request.page, thumbnails=_thumbnails(request, report, store))
    return report


def check_request(request: ReportRequest) -> None:
    """UsageError for what cannot be compared, before anything is measured."""
    check_page(request.page, overwrite=request.overwrite)
    if is_image_path(request.source) != is_image_path(request.output):
        raise UsageError(
            f"{request.source} and {request.output}: a report compares two clips or two pictures"
        )
    if request.every is not None and request.every < 1:
        raise UsageError(f"every must be 1 or more, got {request.every}")


def check_page(page: Path, *, overwrite: bool) -> None:
    """UsageError for a report that would replace something unasked, or is no HTML file."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{page} does not name a page: give a file that ends in .html")
    for path in () if overwrite else report_files(page):
        if path.exists():
            raise UsageError(f"{path} exists: give another page, or --overwrite to replace it")


class _Measuring:
    """The three passes of one report."""

    def __init__(self, request: ReportRequest, store: ChipStore, progress: Progress) -> None:
        self.request, self.store, self.progress = request, store, progress
        self.clips = Clips(request.source, request.output)
        self.every = request.every
        self.notes: list[str] = []
        self.backend = dlib_backend()
        self.inversion: InversionMeter | None = None
        if request.inversion:
            self.inverter = request.inverter or request.pack.inverter(
                request.method, device=choose_device(request.device)
            )
            self.inversion = InversionMeter(request.pack.resolution)
            self.notes += self.inversion.notes

    def report(self) -> Report:
        """Measure everything."""
        analysis = self._analyse()
        if self.request.analysis is not None and self.every is None:
            # All of these faces were edited: the raster is known before they are measured.
            self.every = self._recogniser().choose_every(sum(t.num_frames for t in analysis.tracks))
        rows = self._measure(analysis)
        self.notes += self.clips.notes()
        changed = changed_tracks(rows)
        if rows and not changed:
            self.notes.append("no face differs from the source: figures are over all faces")
        looked = [row for row in rows if not changed or row.track in changed]
        recogniser = self._recogniser()
        known = recogniser.look(looked, self.every)
        standing_out = self._rank(rows)
        steadiness = recogniser.steadiness(known)
        over_tracks = mean_over_tracks(steadiness, {row.track for row in looked})
        return Report(
            source=self._facts("source", analysis),
            output=self._facts("output", analysis),
            pack=self.request.pack.name,
            edit=dict(self.request.edit),
            recognition=self._recognition(known),
            shots=analysis.shots,
            frames_without_face=frames_without(analysis, analysis.tracks),
            tracks=self._tracks(analysis, rows, changed, steadiness),
            summary=summarise(looked, over_tracks, self._strangers()),
            standing_out=standing_out,
            rows=tuple(sorted(rows, key=lambda row: (row.frame, row.track))),
            has_inversion=self.inversion is not None,
            edited_only=self.request.analysis is not None,
            notes=tuple(self.notes),
        )

    def _analyse(self) -> Analysis:
        if self.request.analysis is not None:
            return self.request.analysis
        self.clips.check()
        with contextlib.ExitStack() as stack:
            frames = self.clips.source_frames(stack)
            counted = self.progress.track(frames, label="faces", total=None)
            decoded = stack.enter_context(Prefetch(counted, depth=4, name="decode"))
            return analyse(
                decoded,
                is_new_shot=ShotDetector().update,
                alignment=named_alignment(self.request.pack.alignment),
                backend=self.backend,
            )

    def _measure(self, analysis: Analysis) -> list[FrameRow]:
        smile = self.request.pack.smile_measure()
        meters = {
            track.id: TrackMeter(track, self.backend, self.store, smile)
            for track in analysis.tracks
        }
        steps = self.clips.in_step(self._invert(analysis))
        counted = self.progress.track(steps, label="measure", total=analysis.num_frames)
        first_seconds: float | None = None
        with contextlib.closing(steps):
            for step in counted:
                frame = step.frame
                first_seconds = frame.time_seconds if first_seconds is None else first_seconds
                for track in analysis.tracks_at(frame.index):
                    seconds = frame.time_seconds - first_seconds
                    row = meters[track.id].observe(frame, seconds, step.pictures)
                    if self.inversion is not None and track.id in step.faces:
                        self.inversion.measure(row, step.faces[track.id])
        return [row for meter in meters.values() for row in meter.finish()]

    def _invert(self, analysis: Analysis) -> Invert | None:
        if self.inversion is None:
            return None
        pack = self.request.pack
        every = self.every or 1
        return partial(inverted, analysis=analysis, inverter=self.inverter, pack=pack, every=every)

    def _rank(self, rows: Sequence[FrameRow]) -> tuple[Finding, ...]:
        """Twice: what someone else's face changes is no measure of sudden changes."""
        found = rank(rows, strangers=self._strangers())
        for track in {item.track for item in found if "identity" in item.reasons}:
            own = [row for row in rows if row.track == track]
            settle_again(own, self.store, partial(self._counted, label="sudden changes"))
        return rank(rows, strangers=self._strangers())

    def _counted(self, rows: Sequence[FrameRow], label: str) -> Iterator[FrameRow]:
        return self.progress.track(rows, label=label, total=len(rows))

    def _recogniser(self) -> Recogniser:
        mean = self.request.pack.mean_embedding()
        return Recogniser(
            self.store,
            self.backend.embedder,
            mean=0.0 if mean is None else mean.numpy(),
            clips=_clip_names(self.inversion is not None),
            counted=self._counted,
            max_embeddings=self.request.max_embeddings,
        )

    def _recognition(self, known: Recognised) -> Recognition:
        return Recognition(
            network=self.backend.embedder.name,
            mean_centred=self.request.pack.mean_embedding() is not None,
            every=known.every,
            looked_at=known.num_rows,
            refined=known.refined,
            baseline=baseline_of(self.backend.embedder.name),
            neighbours=known.neighbours,
            pairs=sum(map(len, known.pairs.values())),
        )

    def _strangers(self) -> float | None:
        return strangers_from(self.backend.embedder.name)

    def _facts(self, name: str, analysis: Analysis) -> ClipFacts:
        source = self.request.source_name or str(self.clips.source)
        path = source if name == "source" else str(self.clips.output)
        width, height = self.clips.sizes[name]
        seconds = round(self.clips.clocks[name].seconds, 3)
        return ClipFacts(path, analysis.num_frames, width, height, seconds)

    def _tracks(
        self,
        analysis: Analysis,
        rows: Sequence[FrameRow],
        changed: set[int],
        steadiness: Mapping[int, Mapping[str, float]],
    ) -> tuple[TrackFacts, ...]:
        facts = []
        for track in analysis.tracks:
            own = [row for row in rows if row.track == track.id]
            summary = summarise(own, steadiness.get(track.id, {}), self._strangers())
            badness = max((row.badness for row in own), default=0.0)
            facts.append(
                track_facts(track, changed=track.id in changed, summary=summary, badness=badness)
            )
        return tuple(facts)


def _clip_names(has_inversion: bool) -> tuple[str, ...]:
    return ("source", "output", "inversion") if has_inversion else ("source", "output")


def _thumbnails(request: ReportRequest, report: Report, store: ChipStore) -> list[Thumbnail]:
    names = _clip_names(report.has_inversion)
    return [
        Thumbnail.of(
            row,
            {
                name: store.chip(row.track, row.frame, name)
                for name in names
                if store.has(row.track, row.frame, name)
            },
        )
        for row in choose_thumbnails(report, regular=request.ordinary_frames)
    ]
