"""The first pass over a clip: its shots, the faces to edit, and the segments to edit them in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.clip.plan import SEGMENT_FRAMES, ClipPlan, plan_segments
from vidinv.errors import UsageError
from vidinv.faces import (
    Backend,
    analyse,
    named_alignment,
    select_tracks,
    whole_alignment,
    whole_tracks,
)
from vidinv.packs import Pack
from vidinv.rendering import chunk_length, halo_frames
from vidinv.types import Analysis, FaceTrack, Frame
from vidinv.video import ShotDetector, VideoInfo, read_image


def plan_clip(
    frames: Iterable[Frame],
    info: VideoInfo,
    *,
    pack: Pack,
    backend: Backend,
    face: str | None,
    segment_frames: int = SEGMENT_FRAMES,
    chain_chunks: int = 1,
    key: Mapping[str, Any] | None = None,
) -> ClipPlan:
    """Analyse a clip or picture; ``exact_times`` is for its reader to say, after the last frame.

    Args:
        frames: all of them, in display order; read once, never held.
        face: whom to edit (``EditSpec.face``); None edits nobody.
        segment_frames: wished length of a segment.
        chain_chunks: of the method (``vidinv.inversion.Inverter``): segments begin where a run of
            so many chunks does.

    Raises:
        UsageError: ``face`` names someone who is not there.
    """
    times = _FrameTimes()
    tracks: tuple[FaceTrack, ...] = ()
    if (square := whole_alignment(pack.alignment)) is not None:
        _check_whole(face, pack)
        analysis = whole_tracks(
            times.watch(frames),
            is_new_shot=ShotDetector().update,
            square=square,
            pixel_aspect=info.pixel_aspect,
        )
        if face is not None:
            tracks = analysis.tracks
    else:
        analysis = analyse(
            times.watch(frames),
            is_new_shot=ShotDetector().update,
            alignment=named_alignment(pack.alignment),
            pixel_aspect=info.pixel_aspect,
            backend=backend,
        )
        if face is not None:
            tracks = select_tracks(analysis, face, backend=backend, load_image=read_image)
    segments = plan_segments(
        analysis.shots,
        chunk_frames=times.chunk_frames,
        halo_frames=times.halo_frames,
        chain_chunks=chain_chunks,
        target_frames=segment_frames,
    )
    return ClipPlan(
        info=info,
        analysis=Analysis(analysis.num_frames, analysis.shots, tracks),
        times_T2=times.array(),
        exact_times=False,
        num_tracks=len(analysis.tracks),
        segments=segments if tracks else (),
        key=key or {},
    )


def _check_whole(face: str | None, pack: Pack) -> None:
    """Nobody can be chosen where no face is sought."""
    if face not in (None, "largest", "all"):
        raise UsageError(f"pack {pack.name} edits whole frames: --face {face} chooses nobody")


class _FrameTimes:
    """Remembers the times of the frames that go by, and the lengths that their size decides."""

    def __init__(self) -> None:
        self.chunk_frames = self.halo_frames = 1
        self._times: list[tuple[int, int]] = []

    def watch(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if not self._times:
                self.chunk_frames, self.halo_frames = chunk_length(frame), halo_frames(frame)
            self._times.append((frame.pts, frame.duration))
            yield frame

    def array(self) -> npt.NDArray[np.int64]:
        """``[T, 2]``: pts and duration."""
        return np.array(self._times, np.int64).reshape(-1, 2)
