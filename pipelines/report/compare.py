"""Compare an edited clip with its source: identity, flicker, attributes, frame by frame.

Three passes: faces are found in the source; source, output and inversion are measured in step along
the same tracks; recognition embeds the chosen frames. Memory does not grow with the pictures of
the clip.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from pipelines.clip.networks import Networks, choose_device
from pipelines.clip.session import ClipSession
from pipelines.clip.window import without_edges
from pipelines.meter import Progress
from pipelines.parallel import Prefetch
from pipelines.process import set_up_process
from pipelines.report.clips import Clips, Invert
from pipelines.report.inversion_meter import InversionMeter, inverted
from pipelines.report.recognition import Recognised, Recogniser
from pipelines.report.request import ReportRequest, check_request
from pipelines.report.summary import changed_tracks, mean_over_tracks, summarise, track_facts
from pipelines.report.track_meter import ChipStore, TrackMeter, measure_pops_without_strangers
from vidinv.faces import DEFAULT_LANDMARKS, analyse, find_backend, named_alignment
from vidinv.inversion import TrackState
from vidinv.rendering import frames_without
from vidinv.report import (
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
    strangers_from,
    write_report,
)
from vidinv.types import Analysis, EditSpec, RenderMode
from vidinv.video import ShotDetector


def run(request: ReportRequest, *, progress: Progress | None = None) -> Report:
    """Measure, rank, and write page, JSON and CSV.

    Raises:
        UsageError: clips that do not belong together, or an invalid request.
        MediaError: a clip that cannot be read.
    """
    check_request(request)
    set_up_process()
    with ChipStore() as store:
        report = _Comparison(request, store, progress or Progress()).report()
        shown = choose_thumbnails(report, regular=request.ordinary_frames)
        thumbnails = [Thumbnail.of(row, store.chips(row.track, row.frame)) for row in shown]
        write_report(report, request.page, thumbnails=thumbnails)
    return report


class _Comparison:
    """The three passes of one report, and what they find."""

    def __init__(self, request: ReportRequest, store: ChipStore, progress: Progress) -> None:
        self.request, self.store, self.progress = request, store, progress
        self.clips = Clips(request.source, request.output, on_error=request.on_error)
        self.every = request.every
        self.notes: list[str] = []
        device = "cpu" if request.landmarks == DEFAULT_LANDMARKS else request.device
        self.backend = find_backend(request.landmarks, device=str(choose_device(device)))
        self.strangers = strangers_from(self.backend.embedder.name)
        self.inversion: InversionMeter | None = None
        if request.inversion:
            self.inversion = InversionMeter(request.pack.resolution, store)
            self.notes += self.inversion.notes
        self.mean = request.pack.mean_embedding()
        self.recogniser = Recogniser(
            store,
            self.backend.embedder,
            mean=0.0 if self.mean is None else self.mean.numpy(),
            clips=("source", "output", *(("inversion",) if self.inversion else ())),
            counted=self._counted,
            max_embeddings=request.max_embeddings,
        )

    def report(self) -> Report:
        """Measure everything."""
        analysis = self._analyse()
        if self.request.analysis is not None and self.every is None:
            # All of these faces were edited: the sampling is known before they are measured.
            self.every = self.recogniser.choose_every(sum(t.num_frames for t in analysis.tracks))
        rows = self._measure(analysis)
        self.notes += self.clips.notes()
        changed = changed_tracks(rows)
        if rows and not changed:
            self.notes.append("no face differs from the source: figures are over all faces")
        compared = [row for row in rows if not changed or row.track in changed]
        known = self.recogniser.embed(compared, self.every)
        standing_out = self._rank(rows)
        steadiness = self.recogniser.steadiness(known)
        over_tracks = mean_over_tracks(steadiness, {row.track for row in compared})
        shown = self._shown(analysis)
        return Report(
            source=self._facts("source", analysis),
            output=self._facts("output", analysis),
            pack=self.request.pack.name,
            edit=dict(self.request.edit),
            recognition=self._recognition(known),
            shots=shown.shots,
            frames_without_face=self._frames_without_face(analysis),
            tracks=self._tracks(shown, rows, changed, steadiness),
            summary=summarise(compared, over_tracks, self.strangers),
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
                new_shot=ShotDetector().update,
                alignment=named_alignment(self.request.pack.alignment),
                pixel_aspect=self.clips.pixel_aspect(),
                backend=self.backend,
            )

    def _shown(self, analysis: Analysis) -> Analysis:
        """With cuts of the source alone; measuring goes by the shots that the run went by."""
        part = self.request.part
        if part is None or len(part.searched) == analysis.num_frames:
            return analysis
        first, last = part.searched[0], part.searched[-1]
        self.notes.append(f"cuts and faces were sought in frames {first} to {last} only")
        return without_edges(analysis, part.searched)

    def _frames_without_face(self, analysis: Analysis) -> int:
        part, found = self.request.part, frames_without(analysis, analysis.tracks)
        return found if part is None else found - (analysis.num_frames - len(part.edited))

    def _measure(self, analysis: Analysis) -> list[FrameRow]:
        smile = self.request.pack.smile_measure()
        meters = {
            track.id: TrackMeter(track, self.backend, self.store, smile)
            for track in analysis.tracks
        }
        steps = self.clips.in_step(self._invert(analysis))
        counted = self.progress.track(steps, label="measure", total=analysis.num_frames)
        with contextlib.closing(steps):
            for step in counted:
                for track in analysis.tracks_at(step.frame.index):
                    row = meters[track.id].observe(step.frame, step.seconds, step.pictures)
                    if self.inversion is not None and track.id in step.faces:
                        self.inversion.measure(row, step.faces[track.id])
        return [row for meter in meters.values() for row in meter.finish()]

    def _invert(self, analysis: Analysis) -> Invert | None:
        if self.inversion is None:
            return None
        request = self.request
        spec = EditSpec(method=request.method, face="all", mode=RenderMode.INVERT)
        networks = request.networks or Networks(
            request.pack, request.method, device=request.device, landmarks=request.landmarks
        )
        session = ClipSession(request.source, spec, networks)
        self.notes += session.method_notes
        return partial(
            inverted,
            session=session,
            analysis=analysis,
            states=self._states(session, analysis),
            every=self.every or 1,
        )

    def _states(self, session: ClipSession, analysis: Analysis) -> Mapping[int, TrackState]:
        """What the method has fitted to each track; known, or fitted now."""
        if not session.needs_fit(analysis.tracks):
            return {}
        if self.request.states is not None:
            return self.request.states
        with contextlib.ExitStack() as stack:
            frames = self.progress.track(
                self.clips.source_frames(stack), label="sample", total=analysis.num_frames
            )
            tell = stack.enter_context(self.progress.shares(label="fit"))
            return session.fit(analysis.tracks, frames, progress=tell)

    def _rank(self, rows: Sequence[FrameRow]) -> tuple[Finding, ...]:
        """Twice: what someone else's face changes is no measure of sudden changes."""
        found = rank(rows, strangers=self.strangers)
        counted = partial(self._counted, label="sudden changes")
        for track in {item.track for item in found if "identity" in item.reasons}:
            own = [row for row in rows if row.track == track]
            measure_pops_without_strangers(own, self.store, counted)
        return rank(rows, strangers=self.strangers)

    def _counted(self, rows: Sequence[FrameRow], label: str) -> Iterator[FrameRow]:
        return self.progress.track(rows, label=label, total=len(rows))

    def _recognition(self, known: Recognised) -> Recognition:
        network = self.backend.embedder.name
        return Recognition(
            network=network,
            mean_centred=self.mean is not None,
            every=known.every,
            embedded=known.num_rows,
            refined=known.refined,
            baseline=baseline_of(network),
            neighbours=known.neighbours,
            pairs=sum(map(len, known.pairs.values())),
        )

    def _facts(self, name: str, analysis: Analysis) -> ClipFacts:
        source = self.request.source_name or str(self.clips.source)
        shown = source if name == "source" else str(self.clips.output)
        return self.clips.facts(name, shown=shown, num_frames=analysis.num_frames)

    def _tracks(
        self,
        analysis: Analysis,
        rows: Sequence[FrameRow],
        changed: set[int],
        steadiness: Mapping[int, Mapping[str, float]],
    ) -> tuple[TrackFacts, ...]:
        return tuple(
            track_facts(
                track,
                rows,
                changed=track.id in changed,
                steadiness=steadiness.get(track.id, {}),
                strangers=self.strangers,
            )
            for track in analysis.tracks
        )
