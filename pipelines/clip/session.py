"""One clip or picture on its way through a run: plan, fit, render, sum up.

``edit`` takes a clip through a session in one process; the tasks of ``batch`` each make a session
for the step that they do; ``report`` inverts with one. So every run does the same work in the same
order, and says the same things about it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch

from pipelines.clip.networks import Networks
from pipelines.clip.plan import SEGMENT_FRAMES, ClipPlan, Segment, composed_frames
from pipelines.clip.planning import plan_clip
from pipelines.clip.samples import FaceSample, summarise
from pipelines.clip.saved import Key, SavedClip, key_of
from pipelines.clip.track_samples import sample_persons, subject_of
from pipelines.clip.window import around_of, frames_within
from vidinv.composing import FrameComposer
from vidinv.editing.schedules import attributes_of, face_and_name, is_zero, named_faces
from vidinv.faces import face_numbers, faded_notes
from vidinv.inversion import TrackState, find_method
from vidinv.inversion.state import distinct_states
from vidinv.rendering import (
    FaceEditor,
    SavedInversions,
    frames_without,
    to_tensor,
)
from vidinv.types import (
    Analysis,
    EditSpec,
    FaceTrack,
    Frame,
    IdentitySummary,
    Image,
    RenderMode,
    TimeRange,
    TrackSummary,
)
from vidinv.video import Around, StreamInfo, Until, VideoInfo
from vidinv.video.part import seconds_of

TellShare = Callable[[float], None]


@dataclass(frozen=True)
class ClipSummary:
    """What became of a clip.

    Attributes:
        identity: over all tracks; ``track_identity`` of each, in their order.
    """

    frames: int
    faces_edited: int
    frames_without_face: int
    tracks: tuple[TrackSummary, ...]
    identity: IdentitySummary
    track_identity: tuple[IdentitySummary, ...]
    warnings: tuple[str, ...]
    frames_in_range: int
    frames_held: int = 0


class ClipSession:
    """The steps of one clip or picture.

    Args:
        clip: the file, on this machine.
        latents: the clip's folder of ``--latents``; None keeps nothing and takes nothing.
        segment_frames: wished length of a segment.
        key: what decided plan and inversions, where it is known; else it is found from the file.
    """

    def __init__(
        self,
        clip: Path,
        spec: EditSpec,
        networks: Networks,
        *,
        latents: Path | None = None,
        segment_frames: int = SEGMENT_FRAMES,
        key: Key | None = None,
    ) -> None:
        self.clip, self.spec, self.networks = clip, spec, networks
        self.segment_frames = segment_frames
        self.method = find_method(spec.method)
        self._latents, self._key = latents, key
        self._state_notes: list[str] = []

    @cached_property
    def saved(self) -> SavedClip | None:
        """What is kept of the clip, by this run and earlier ones; nothing of a trial."""
        if self._latents is None or self.spec.max_frames is not None:
            return None
        return SavedClip(self._latents, self.key)

    @cached_property
    def key(self) -> Key:
        """What decides plan and inversions."""
        return self._key or key_of(
            self.clip,
            pack=self.networks.pack,
            spec=self.spec,
            segment_frames=self.segment_frames,
        )

    @property
    def notes(self) -> list[str]:
        """What a person should know of what was kept, and of what was fitted."""
        kept = [] if self.saved is None else self.saved.notes
        if self._latents is not None and self.spec.max_frames is not None:
            kept = [f"--max-frames: latents are neither taken from {self._latents} nor kept there"]
        return [*kept, *self._state_notes]

    @property
    def is_copied(self) -> bool:
        """Every strength is 0: there is nothing to edit."""
        return self.spec.mode is not RenderMode.INVERT and is_zero(self.spec.attributes)

    @property
    def last_frame(self) -> Until | None:
        """Where the analysis ends before the clip does; None reads all of it."""
        if self.spec.max_frames is None:
            return None
        within = self.spec.within
        return Until(0.0 if within is None else within.start, self.spec.max_frames)

    @property
    def analysed(self) -> Around | None:
        """The frames that the analysis needs to see; None: all."""
        return around_of(self.spec)

    def recall_plan(self) -> ClipPlan | None:
        """The plan that an earlier run kept."""
        plan = None if self.saved is None else self.saved.plan(self.clip)
        return plan.unedited() if plan is not None and self.is_copied else plan

    def make_plan(
        self,
        frames: Iterable[Frame],
        info: VideoInfo,
        *,
        has_exact_times: Callable[[], bool],
        damage: Callable[[], tuple[int, tuple[str, ...]]] = lambda: (0, ()),
    ) -> ClipPlan:
        """Analyse the clip, and keep its plan.

        Args:
            frames: in order, from the clip's first one to the last that counts (``last_frame``);
                pictures of those beyond ``analysed`` are not looked at.
            has_exact_times: what the reader says of the clip's times after the last frame.
            damage: what it says of the clip's damage then: frames held, and notes.

        Raises:
            UsageError: ``spec`` names someone who is not there, or a time without a frame.
        """
        plan = plan_clip(
            frames,
            info,
            pack=self.networks.pack,
            backend=self.networks.backend,
            spec=self.spec,
            segment_frames=self.segment_frames,
            chain_chunks=self.method.chain_chunks,
            key=self.key,
        )
        num_held, notes = damage()
        plan = replace(plan, exact_times=has_exact_times(), num_held=num_held, notes=notes)
        # Nobody was chosen for strength 0: that is no plan for other strengths.
        if self.saved is not None and not self.is_copied:
            self.saved.keep(plan)
        return plan

    def needs_fit(self, tracks: Sequence[FaceTrack]) -> bool:
        """The method learns something of each track before it encodes."""
        # The class is asked first: networks are not loaded for methods that never fit.
        may_fit = self.method.sample_frames > 0 and bool(tracks)
        return may_fit and self.networks.inverter.sample_frames > 0

    def recall_states(self) -> dict[int, TrackState] | None:
        """What an earlier run fitted, by track."""
        states = None if self.saved is None else self.saved.states()
        self._take_notes(states or {})
        return states

    def _take_notes(self, states: Mapping[int, TrackState]) -> None:
        self._state_notes = [note for state in distinct_states(states) for note in state.notes]

    def fit(
        self,
        tracks: Sequence[FaceTrack],
        frames: Iterable[Frame],
        *,
        progress: TellShare = lambda share: None,
    ) -> dict[int, TrackState]:
        """Fit the method to each person, and keep the states, by track.

        Tracks of one person share a state.

        Args:
            frames: all of the clip's; reading ends with the last one that is sampled.
            progress: told the share that is done, 0..1.
        """
        inverter, fitted = self.networks.inverter, dict[int, TrackState]()
        samples = sample_persons(
            frames,
            tracks,
            count=inverter.sample_frames,
            resolution=self.networks.pack.resolution,
        )
        for subject, sample in samples.items():
            tell = partial(_tell_part, progress, len(fitted), len(samples))
            fitted[subject] = inverter.fit(to_tensor(sample), progress=tell)
        states = {track.id: fitted[subject_of(track)] for track in tracks}
        self._take_notes(states)
        if self.saved is not None:
            self.saved.keep_states(states)
        return states

    def render(
        self,
        plan: ClipPlan,
        segment: Segment,
        frames: Iterable[Frame],
        states: Mapping[int, TrackState],
    ) -> Generator[tuple[Frame, Image], None, None]:
        """Source frames of a segment with their composed pictures.

        Args:
            frames: those of ``plan.part(segment)``.
            states: of the tracks, where the method fits.

        Raises:
            DecodeError: the file gives other frames than it did at its analysis.
        """
        store = None
        if self.saved is not None:
            store = self.saved.inversions(plan, states, self._stored_dtypes())
        editor = self.editor(
            plan.analysis, states=states, start_seconds=plan.start_seconds, store=store
        )
        return composed_frames(
            frames,
            plan=plan,
            segment=segment,
            edit=editor.process,
            compose=self.composer(plan.analysis).process,
        )

    def editor(
        self,
        analysis: Analysis,
        *,
        states: Mapping[int, TrackState],
        start_seconds: float = 0.0,
        store: SavedInversions | None = None,
    ) -> FaceEditor:
        """The stage that inverts and renders the faces of the clip's tracks."""
        return FaceEditor(
            self.networks.inverter,
            resolution=self.networks.pack.resolution,
            alignment=self.networks.pack.alignment,
            directions=None if self.spec.mode is RenderMode.INVERT else self.networks.directions,
            spec=self.spec,
            tracks=analysis.tracks,
            shots=analysis.shots,
            start_seconds=start_seconds,
            states=states,
            saved=store,
            occluders=self.networks.occluders if self.spec.keeps_occluders else None,
        )

    def composer(self, analysis: Analysis) -> FrameComposer:
        """The stage that puts the rendered faces into their frames."""
        return FrameComposer(mode=self.spec.mode, shots=analysis.shots)

    def _stored_dtypes(self) -> dict[str, torch.dtype]:
        codes = self.networks.inverter.codes
        return {name: getattr(torch, code.stored) for name, code in codes.items() if code.stored}

    @property
    def method_notes(self) -> list[str]:
        """What the method chose by what this machine has."""
        choices = self.networks.pack.local_choices(self.spec.method)
        return [f"{self.spec.method}: {what}: {choice}" for what, choice in choices.items()]

    def request_warnings(self) -> list[str]:
        """Of the method, and of strengths outside what was checked to look natural."""
        if self.spec.mode is RenderMode.INVERT:
            return self.method_notes
        strengths = self.networks.directions.warnings(self.spec.attributes)
        return strengths if self.is_copied else [*self.method_notes, *strengths]

    def why_unchanged(self, plan: ClipPlan) -> str:
        """Why a clip without a track to edit is copied as it is."""
        is_whole = plan.output_part is None
        unchanged = "the input was copied unchanged" if is_whole else "pictures are unchanged"
        if plan.num_tracks and self.is_copied:
            return f"every strength is 0: {unchanged}"
        where = self._where(plan)
        if plan.num_tracks:
            return f"{self._nobody_changed(where)}: {unchanged}"
        others = [s for s in plan.info.other_streams if s.kind == "video" and not _is_cover(s)]
        named = ", ".join(f"#{stream.index} ({stream.codec})" for stream in others)
        more = f"; its other video streams were not searched: {named}" if named else ""
        done = "copied unchanged" if is_whole else unchanged
        return f"no face found in {self.clip}{where}: {done}{more}"

    def _where(self, plan: ClipPlan) -> str:
        """The part of the clip that was asked for, after a blank; nothing for all of it."""
        within = self.spec.within
        part = plan.output_part
        cut = part and plan.cut(range(part.first, part.last + 1))
        if cut:
            over = seconds_of(cut.end, int(plan.times_T2[0, 0]), plan.info.time_base)
            start, end = (0.0, None) if within is None else (within.start, within.end)
            within = TimeRange(start, over if end is None else min(end, over))
        return "" if within is None else f" {within}"

    def _nobody_changed(self, where: str) -> str:
        """Where there are faces, but none to edit: who is absent, and who has strength 0."""
        face, attributes = self.spec.face, self.spec.attributes
        absent, unchanged = set(face_numbers(face)), set[int]()
        is_picture = not absent and face not in ("largest", "all")
        if self.spec.mode is not RenderMode.INVERT:
            own = set(named_faces(attributes))
            unchanged = {n for n in own if is_zero(attributes_of(attributes, n))}
            absent = {n for n in absent | own if not is_zero(attributes_of(attributes, n))}
            everyones = {n: keys for n, keys in attributes.items() if face_and_name(n)[0] is None}
            is_picture = is_picture and not is_zero(everyones)
        said = [f"{_faces(absent)} not there{where}"] if absent else []
        if is_picture:
            said.append(f"face {face} is {'unchanged or ' if unchanged else ''}not there{where}")
        if unchanged:
            said.append(f"every strength of face {', '.join(map(str, sorted(unchanged)))} is 0")
        return "; ".join(said)

    def summary(
        self, plan: ClipPlan, samples: Sequence[FaceSample], warnings: Sequence[str]
    ) -> ClipSummary:
        """Counts and identity figures of a clip that is done."""
        tracks, mean = plan.analysis.tracks, self.networks.mean_embedding
        frames = plan.analysis.num_frames
        # An inversion is pasted in full.
        faded = [] if self.spec.mode is RenderMode.INVERT else faded_notes(tracks)
        in_range = len(frames_within(plan.times_T2, plan.info, self.spec.within))
        return ClipSummary(
            frames=plan.output.num_frames,
            faces_edited=sum(track.num_frames for track in tracks),
            frames_without_face=frames_without(plan.analysis, tracks) - (frames - in_range),
            frames_in_range=in_range,
            tracks=tuple(TrackSummary(t.person, t.first, t.last, t.num_frames) for t in tracks),
            identity=summarise(samples, mean),
            track_identity=tuple(
                summarise([s for s in samples if s.track == track.id], mean) for track in tracks
            ),
            warnings=tuple(dict.fromkeys([*plan.notes, *faded, *warnings])),
            frames_held=plan.num_held,
        )


def _tell_part(tell: TellShare, done: int, total: int, share: float) -> None:
    """Progress of one of ``total`` parts as progress of the whole."""
    tell((done + share) / total)


def _faces(numbers: set[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)))
    return f"faces {shown} are" if len(numbers) > 1 else f"face {shown} is"


def _is_cover(stream: StreamInfo) -> bool:
    """A still picture beside the clip, as of a song's album."""
    return stream.codec in ("mjpeg", "png", "bmp", "gif", "webp")
