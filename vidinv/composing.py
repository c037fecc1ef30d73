"""The last stage that every run is made of: edited faces, averaged over time, laid on their frames.

What comes before is in ``vidinv.rendering``; fields and pixels are ``vidinv.compose``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vidinv.compose import Change, Composer, FrameChange, apply_change, steadied
from vidinv.faces import face_mask, track_confidence
from vidinv.geometry import transform_points
from vidinv.rendering import Chunk, FaceEdit
from vidinv.types import FaceTrack, Frame, Image, RenderMode

# Frames before and after a chunk that its changes are averaged with, fewer of very large frames:
# those after it wait in memory.
MAX_HALO_FRAMES = 8
MAX_HALO_BYTES = 256 * 2**20
FADE_FRAMES = 8  # a third of a second


def halo_frames(frame: Frame) -> int:
    """Frames on either side of a chunk that its pictures depend on: by size alone."""
    return int(np.clip(MAX_HALO_BYTES // frame.image.nbytes, 1, MAX_HALO_FRAMES))


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
