"""The stages that every run is made of: chunks of frames, their edited faces, composed frames.

``edit`` runs them in this process, ``batch`` on Ray; both call these very functions. Work goes in
chunks of consecutive frames that are anchored to the start of the shot, so the same faces are
computed in the same batches whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from vidinv.compose import Change, Composer, FrameChange, apply_change, steadied
from vidinv.editing.directions import Directions
from vidinv.editing.schedules import attributes_of, strength_at
from vidinv.faces import crop_scale_of, extract_crop, face_mask, track_confidence
from vidinv.geometry import transform_points
from vidinv.inversion import Inverter, TrackState
from vidinv.occlusion import OccluderFinder
from vidinv.types import (
    Analysis,
    Crop,
    EditSpec,
    FaceTrack,
    Frame,
    Image,
    Inversion,
    RenderMode,
)

MAX_CHUNK_FRAMES = 8
MAX_CHUNK_BYTES = 64 * 2**20  # a few chunks are in flight at once
# Frames before and after a chunk that its changes are averaged with, fewer of very large frames:
# those after it wait in memory.
MAX_HALO_FRAMES = 8
MAX_HALO_BYTES = 256 * 2**20
FADE_FRAMES = 8  # a third of a second
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FaceEdit:
    """One face of one frame on its way from the networks to the frame.

    Attributes:
        landmarks: ``[68, 2]`` in frame pixels.
        source_crop, rendered, edited: ``[R, R, 3]`` float32 RGB, 0..255: the aligned face, what
            the generator makes of it, and the same with the edit.
        crop_scale: of the alignment that ``crop`` is of (``Alignment.crop_scale``).
        edited_landmarks: where the edit moves them, as far as the directions tell: the outline of
            the face; None where it is not known.
        occluded: ``[R, R]`` float32 0..1, how far something else shows there, which keeps the
            source; None where nobody looked.
    """

    track: FaceTrack
    crop: Crop
    landmarks: npt.NDArray[np.float32]
    source_crop: Float32
    rendered: Float32
    edited: Float32
    crop_scale: float
    edited_landmarks: npt.NDArray[np.float32] | None = None
    occluded: Float32 | None = None


@dataclass(frozen=True)
class Chunk:
    """Consecutive frames of one shot and, for each, its edited faces."""

    frames: list[Frame]
    faces: list[list[FaceEdit]]


def chunk_length(frame: Frame) -> int:
    """Frames in a chunk: by size alone, so that it is the same in every run of a clip."""
    return int(np.clip(MAX_CHUNK_BYTES // frame.image.nbytes, 1, MAX_CHUNK_FRAMES))


def halo_frames(frame: Frame) -> int:
    """Frames on either side of a chunk that its pictures depend on: by size alone."""
    return int(np.clip(MAX_HALO_BYTES // frame.image.nbytes, 1, MAX_HALO_FRAMES))


def chunked(frames: Iterable[Frame], shots: Sequence[tuple[int, int]]) -> Iterator[list[Frame]]:
    """Group frames into chunks that begin at the start of each shot and never cross a cut."""
    starts = {first for first, _ in shots}
    chunk: list[Frame] = []
    for frame in frames:
        if chunk and (frame.index in starts or len(chunk) == chunk_length(frame)):
            yield chunk
            chunk = []
        chunk.append(frame)
    if chunk:
        yield chunk


class SavedInversions(Protocol):
    """Where inversions of an earlier run are found, and those of this one are kept.

    ``frames`` are the consecutive frames of a chunk; ``codes`` are the names of the codes that are
    wanted with the latents: an inversion that was kept without one of them does not serve.
    """

    def get(self, track: int, frames: range, *, codes: Set[str]) -> Inversion | None:
        """What was kept, with these codes; None where it is to be computed."""

    def put(self, track: int, frames: range, inversion: Inversion) -> None:
        """Keep what was computed, with all of its codes; frames come in order."""


class FaceEditor:
    """Second stage: crops, inversion and rendering of the selected tracks, chunk by chunk.

    Args:
        resolution: side R of the aligned faces.
        alignment: name of the crop formula that the crops of ``tracks`` are of, the pack's.
        directions: of the attributes of ``spec``; not needed in mode ``INVERT``.
        shots: (first, last) of each shot: methods that go on from chunk to chunk start anew at
            places counted from there.
        start_seconds: time of the clip's first frame; keyframes count from there.
        states: what the method fitted to each track, by id.
        saved: None computes every inversion and keeps none.
        occluders: finds what lies in front of faces; None does not look.
    """

    def __init__(
        self,
        inverter: Inverter,
        *,
        resolution: int,
        alignment: str,
        directions: Directions | None,
        spec: EditSpec,
        tracks: Sequence[FaceTrack],
        shots: Sequence[tuple[int, int]],
        start_seconds: float = 0.0,
        states: Mapping[int, TrackState] | None = None,
        saved: SavedInversions | None = None,
        occluders: OccluderFinder | None = None,
    ) -> None:
        self.occluders = occluders
        self.inverter, self.resolution, self.spec = inverter, resolution, spec
        self.directions = None if spec.mode is RenderMode.INVERT else directions
        self.crop_scale = crop_scale_of(alignment)
        self.tracks, self.shots = tracks, shots
        self.start_seconds, self.states, self.saved = start_seconds, states or {}, saved
        self._last: dict[int, tuple[int, Inversion]] = {}

    def process(self, chunks: Iterable[list[Frame]]) -> Iterator[Chunk]:
        """Edit the faces of every chunk; frames without a selected face pass through."""
        for frames in chunks:
            faces: list[list[FaceEdit]] = [[] for _ in frames]
            for track in self.tracks:
                rows = [row for row, frame in enumerate(frames) if track.covers(frame.index)]
                if rows:
                    edits = self._edit_track(track, [frames[row] for row in rows])
                    for row, edit in zip(rows, edits, strict=True):
                        faces[row].append(edit)
            yield Chunk(frames, faces)

    def _edit_track(self, track: FaceTrack, frames: list[Frame]) -> list[FaceEdit]:
        crops = [track.crop(frame.index) for frame in frames]
        sources = aligned_faces(track, frames, self.resolution)
        landmarks = [track.landmarks(frame.index) for frame in frames]
        inversion = self._invert(track, sources, frames)
        rendered, edited = self._render(track, inversion, frames)
        moved = self._moved(track, landmarks, crops, frames)
        rows = zip(crops, landmarks, sources, rendered, edited, strict=True)
        return [
            FaceEdit(track, *row, self.crop_scale, after, self._occluded(track, frame))
            for row, after, frame in zip(rows, moved, frames, strict=True)
        ]

    def _occluded(self, track: FaceTrack, frame: Frame) -> Float32 | None:
        if self.occluders is None or not track.is_face:
            return None
        return self.occluders(
            frame.image,
            crop=track.crop(frame.index),
            landmarks_682=track.landmarks(frame.index),
            size_px=self.resolution,
        )

    def _moved(
        self,
        track: FaceTrack,
        landmarks: Sequence[Float32],
        crops: Sequence[Crop],
        frames: list[Frame],
    ) -> Sequence[Float32 | None]:
        """Landmarks with the outline where the edit moves it; None where nobody measured that."""
        if self.directions is None:
            return [None] * len(frames)
        shifts = self.directions.outline_shift(self._strengths(track, frames))
        if shifts is None:
            return [None] * len(frames)
        rows = zip(landmarks, crops, shifts, strict=True)
        return [with_outline_moved(points, crop, shift) for points, crop, shift in rows]

    def _invert(self, track: FaceTrack, sources_NRR3: Float32, frames: list[Frame]) -> Inversion:
        inversion = self._find_saved(track, sources_NRR3, frames)
        if inversion is None:
            inversion = self._encode(track, sources_NRR3, frames)
        if self.inverter.chain_chunks > 1:
            self._last[track.id] = self._run_of(track, frames), inversion
            if frames[-1].index == track.last:  # nothing goes on from there
                del self._last[track.id]
        return inversion

    def _find_saved(
        self, track: FaceTrack, sources_NRR3: Float32, frames: list[Frame]
    ) -> Inversion | None:
        """What was kept, with the codes that were not."""
        if self.saved is None:
            return None
        mode = self.spec.mode
        needed = self.inverter.codes_for(mode)
        stored = {name for name in needed if self.inverter.codes[name].stored}
        inversion = self.saved.get(track.id, _indices(frames), codes=stored)
        if inversion is None or stored == needed:
            return inversion
        state = self.states.get(track.id)
        return self.inverter.recompute(to_tensor(sources_NRR3), inversion, state, mode=mode)

    def _encode(self, track: FaceTrack, sources_NRR3: Float32, frames: list[Frame]) -> Inversion:
        """With the chunk before as a start, where both lie in one run of ``chain_chunks``."""
        run, previous = self._last.get(track.id, (-1, None))
        inversion = self.inverter.encode(
            to_tensor(sources_NRR3),
            self.states.get(track.id),
            mode=self.spec.mode,
            previous=previous if run == self._run_of(track, frames) else None,
        )
        if self.saved is not None:
            kept = [name for name in inversion.codes if self.inverter.codes[name].stored]
            self.saved.put(track.id, _indices(frames), inversion.with_codes(kept))
        return inversion

    def _run_of(self, track: FaceTrack, frames: list[Frame]) -> int:
        """Number of the run of ``chain_chunks``, counted from the start of the shot."""
        offset = frames[0].index - self.shots[track.shot][0]
        return offset // (chunk_length(frames[0]) * self.inverter.chain_chunks)

    def _render(
        self, track: FaceTrack, inversion: Inversion, frames: list[Frame]
    ) -> tuple[Float32, Float32]:
        render = partial(
            self.inverter.render, inversion, state=self.states.get(track.id), mode=self.spec.mode
        )
        rendered = to_array(render(inversion.unedited))
        if self.directions is None:
            return rendered, rendered
        strengths = self._strengths(track, frames)
        edited = self.directions.apply(inversion.latents_NLD, strengths)
        if edited.equals(inversion.unedited):
            return rendered, rendered
        return rendered, to_array(render(edited))

    def _strengths(self, track: FaceTrack, frames: list[Frame]) -> dict[str, torch.Tensor]:
        """Of each attribute of the face at the times of the frames, ``[N]``."""
        seconds = np.array([frame.time_seconds - self.start_seconds for frame in frames])
        return {
            name: torch.from_numpy(np.asarray(strength_at(keyframes, seconds)))
            for name, keyframes in attributes_of(self.spec.attributes, track.person).items()
        }


def with_outline_moved(points_682: Float32, crop: Crop, shift_P2: Float32) -> Float32:
    """Landmarks ``[68, 2]`` in frame pixels with their outline moved by an edit.

    Args:
        shift_P2: of the first P landmarks, in sides of the crop (``Directions.outline_shift``).
    """
    moved = points_682.copy()
    moved[: len(shift_P2)] += shift_P2 @ crop.crop_to_frame(1)[:, :2].astype(np.float32).T
    return moved


@dataclass(frozen=True)
class _Observed:
    """A chunk whose changes are found, and for each frame the faces with them, by track."""

    chunk: Chunk
    steps: list[dict[int, FrameChange]]


class FrameComposer:
    """Third stage: paste the edited faces of each frame; one ``Composer`` per track.

    A change is averaged over the frames around it (``vidinv.compose.steady``), up to
    ``halo_frames`` beyond its chunk and never beyond its shot: a chunk is painted when so many
    frames after it are there. An edited face that comes or goes inside its shot fades over
    ``FADE_FRAMES`` instead of jumping, and one in profile fades by its confidence; an inversion is
    pasted in full, frame by frame: it is there to be seen.

    Args:
        is_averaged: False leaves each frame its own change: to measure what the average is for.
    """

    def __init__(
        self, *, mode: RenderMode, shots: Sequence[tuple[int, int]], is_averaged: bool = True
    ) -> None:
        self.mode, self.shots, self.is_averaged = mode, shots, is_averaged
        self._composers: dict[int, Composer] = {}
        self._confidences: dict[int, npt.NDArray[np.float64]] = {}

    def process(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Frame, Image]]:
        """Source frame and composed picture, frame by frame."""
        return (self._pasted if self.mode is RenderMode.INVERT else self._averaged)(chunks)

    def _pasted(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Frame, Image]]:
        for chunk in chunks:
            for frame, faces in zip(chunk.frames, chunk.faces, strict=True):
                image = frame.image
                for face in faces:
                    composer = Composer(detail=False, crop_scale=face.crop_scale)
                    image = composer.compose(image, crop=face.crop, **_to_compose(face))
                yield frame, image

    def _averaged(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Frame, Image]]:
        starts = {first for first, _ in self.shots}
        past: list[dict[int, FrameChange]] = []  # of the shot, as far as the average reaches
        waiting: list[_Observed] = []  # the chunks of the shot that are not painted yet
        for chunk in chunks:
            if chunk.frames[0].index in starts:
                yield from self._paint_all(past, waiting)
                past, waiting = [], []
            waiting.append(self._observe(chunk))
            halo = halo_frames(chunk.frames[0])
            while sum(len(later.steps) for later in waiting[1:]) >= halo:
                yield from self._paint(past, waiting, halo)
        yield from self._paint_all(past, waiting)

    def _observe(self, chunk: Chunk) -> _Observed:
        return _Observed(chunk, [self._steps(faces) for faces in chunk.faces])

    def _steps(self, faces: list[FaceEdit]) -> dict[int, FrameChange]:
        present = {face.track.id for face in faces}
        # A track has no gaps, so a composer whose face is gone is never needed again.
        self._composers = {k: c for k, c in self._composers.items() if k in present}
        return {face.track.id: self._step(face) for face in faces}

    def _step(self, face: FaceEdit) -> FrameChange:
        composer = self._composers.setdefault(
            face.track.id,
            Composer(detail=self.mode is RenderMode.TRANSFER, crop_scale=face.crop_scale),
        )
        return composer.observe(**_to_compose(face), occluded=face.occluded)

    def _paint_all(
        self, past: list[dict[int, FrameChange]], waiting: list[_Observed]
    ) -> Iterator[tuple[Frame, Image]]:
        while waiting:
            yield from self._paint(past, waiting, halo_frames(waiting[0].chunk.frames[0]))

    def _paint(
        self, past: list[dict[int, FrameChange]], waiting: list[_Observed], halo: int
    ) -> Iterator[tuple[Frame, Image]]:
        """Paint the first of the waiting chunks, which then belongs to the past."""
        future = [steps for later in waiting[1:] for steps in later.steps][:halo]
        now = waiting.pop(0)
        changes = self._changes(past, now.steps, future)
        for frame, faces, changed in zip(now.chunk.frames, now.chunk.faces, changes, strict=True):
            image = frame.image
            for face in faces:
                change = changed[face.track.id].scaled(self._opacity(face.track, frame.index))
                image = apply_change(image, crop=face.crop, change=change)
            yield frame, image
        past[:] = [*past, *now.steps][-halo:]

    def _changes(
        self,
        past: list[dict[int, FrameChange]],
        now: list[dict[int, FrameChange]],
        future: list[dict[int, FrameChange]],
    ) -> list[dict[int, Change]]:
        """What is laid on each frame of ``now``, by track."""
        if not self.is_averaged:
            alone = range(1)
            return [{n: steadied([step], alone)[0] for n, step in at.items()} for at in now]
        changes: list[dict[int, Change]] = [{} for _ in now]
        around, first = [*past, *now, *future], len(past)
        for number in sorted({number for steps in now for number in steps}):
            rows = [row for row, steps in enumerate(around) if number in steps]
            inside = [row for row in rows if first <= row < first + len(now)]
            wanted = range(rows.index(inside[0]), rows.index(inside[-1]) + 1)
            found = steadied([around[row][number] for row in rows], wanted)
            for row, change in zip(inside, found, strict=True):
                changes[row - first][number] = change
        return changes

    def _opacity(self, track: FaceTrack, index: int) -> float:
        """1 well inside the track and at the cuts of its shot, less near its other ends, and where
        the face is not to be trusted.
        """
        first, last = self.shots[track.shot]
        frames = FADE_FRAMES
        if track.first > first:
            frames = min(frames, index - track.first)
        if track.last < last:
            frames = min(frames, track.last - index)
        ramp = (frames + 1) / (FADE_FRAMES + 1)
        # Of the whole track, wherever this run begins: segments have the same.
        if track.id not in self._confidences:
            self._confidences[track.id] = track_confidence(track)
        confidence = float(self._confidences[track.id][index - track.first])
        return ramp * ramp * (3.0 - 2.0 * ramp) * confidence


def _to_compose(face: FaceEdit) -> dict[str, Any]:
    """What a ``Composer`` takes of a face."""
    pictures = {"source_crop": face.source_crop, "rendered": face.rendered, "edited": face.edited}
    size_px = len(face.edited)
    if not face.track.is_face:
        return {**pictures, "mask": np.ones((size_px, size_px), np.float32)}
    to_mask = partial(face_mask, crop=face.crop, size_px=size_px, crop_scale=face.crop_scale)
    after = face.edited_landmarks
    return {
        **pictures,
        "mask": to_mask(face.landmarks),
        "edited_mask": None if after is None else to_mask(after),
        "landmarks": transform_points(face.landmarks, face.crop.frame_to_crop(size_px)),
    }


def aligned_faces(track: FaceTrack, frames: Sequence[Frame], resolution: int) -> Float32:
    """``[N, R, R, 3]`` 0..255: the track's face in each frame, as networks see it."""
    crops = [extract_crop(f.image, track.crop(f.index), resolution) for f in frames]
    return np.stack([as_float_rgb(crop) for crop in crops])


def frames_without(analysis: Analysis, tracks: Sequence[FaceTrack]) -> int:
    """Number of frames of the clip in which none of ``tracks`` is present."""
    covered = np.zeros(analysis.num_frames, bool)
    for track in tracks:
        covered[track.first : track.last + 1] = True
    return int((~covered).sum())


def _indices(frames: Sequence[Frame]) -> range:
    """Of consecutive frames."""
    return range(frames[0].index, frames[-1].index + 1)


def as_float_rgb(image: Image) -> Float32:
    """uint8 or uint16 picture as float32 in 0..255."""
    scale = 255.0 / np.iinfo(image.dtype).max
    return image.astype(np.float32) * np.float32(scale)


def to_tensor(images_NRR3: Float32) -> torch.Tensor:
    """``[N, R, R, 3]`` 0..255 -> ``[N, 3, R, R]`` in [-1, 1], channels last."""
    return torch.from_numpy(images_NRR3).permute(0, 3, 1, 2) / 127.5 - 1.0


def to_array(images_N3RR: torch.Tensor) -> Float32:
    """``[N, 3, R, R]`` in [-1, 1] -> ``[N, R, R, 3]`` float32 clipped to 0..255."""
    scaled = images_N3RR.add(1).mul_(127.5).clamp_(0, 255)
    return scaled.float().permute(0, 2, 3, 1).contiguous().cpu().numpy()
