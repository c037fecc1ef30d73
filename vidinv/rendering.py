"""The first stages that every run is made of: chunks of frames, and their edited faces.

``edit`` runs them in this process, ``batch`` on Ray; both call these very functions. Work goes in
chunks of consecutive frames that are anchored to the start of the shot, so the same faces are
computed in the same batches whatever the number of workers. ``vidinv.composing`` is next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from vidinv.editing.directions import Directions
from vidinv.editing.schedules import attributes_of, strength_at
from vidinv.faces import crop_scale_of, extract_crop
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
