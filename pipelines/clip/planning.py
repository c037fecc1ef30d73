"""The first pass over a clip: its shots, the faces to edit, and the segments to edit them in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pipelines.clip.plan import SEGMENT_FRAMES, ClipPlan, plan_segments
from pipelines.clip.window import AnalysisWindow
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
from vidinv.types import FaceTrack, Frame, TimeRange
from vidinv.video import ShotDetector, VideoInfo, read_image


def plan_clip(
    frames: Iterable[Frame],
    info: VideoInfo,
    *,
    pack: Pack,
    backend: Backend,
    face: str | None,
    within: TimeRange | None = None,
    segment_frames: int = SEGMENT_FRAMES,
    chain_chunks: int = 1,
    key: Mapping[str, Any] | None = None,
) -> ClipPlan:
    """Analyse a clip or picture; ``exact_times`` is for its reader to say, after the last frame.

    Args:
        frames: all of them, in display order; read once, never held.
        face: whom to edit (``EditSpec.face``); None edits nobody.
        within: where (``EditSpec.within``); tracks end with it.
        segment_frames: wished length of a segment.
        chain_chunks: of the method (``vidinv.inversion.Inverter``): segments begin where a run of
            so many chunks does.

    Raises:
        UsageError: ``face`` names someone who is not there, ``within`` no frame.
    """
    # People are numbered from the start of the clip, whatever part of it is edited.
    is_number = face is not None and re.fullmatch(r"[+-]?\d+", face) is not None
    window = AnalysisWindow(info, within, from_start=is_number)
    if (square := whole_alignment(pack.alignment)) is not None:
        _check_whole(face, pack)
        analysis = whole_tracks(
            window.watch(frames),
            is_new_shot=ShotDetector().update,
            square=square,
            pixel_aspect=info.pixel_aspect,
        )
    else:
        analysis = analyse(
            window.watch(frames),
            is_new_shot=ShotDetector().update,
            alignment=named_alignment(pack.alignment),
            pixel_aspect=info.pixel_aspect,
            backend=backend,
        )
    edited = window.edited()
    analysis = window.placed(analysis)
    found = tracks = _cut(analysis.tracks, edited)
    if face is None:
        tracks = ()
    elif square is None:
        candidates = analysis if is_number else replace(analysis, tracks=found)
        tracks = select_tracks(candidates, face, backend=backend, load_image=read_image)
        tracks = _cut(tracks, edited)
    segments = plan_segments(
        analysis.shots,
        chunk_frames=window.chunk_frames,
        halo_frames=window.halo_frames,
        chain_chunks=chain_chunks,
        target_frames=segment_frames,
    )
    return ClipPlan(
        info=info,
        analysis=replace(analysis, tracks=tracks),
        times_T2=window.times(),
        exact_times=False,
        num_tracks=len(found),
        segments=segments if tracks else (),
        key=key or {},
    )


def _cut(tracks: Iterable[FaceTrack], frames: range) -> tuple[FaceTrack, ...]:
    """What of the tracks lies in these frames."""
    return tuple(cut for track in tracks if (cut := track.within(frames)) is not None)


def _check_whole(face: str | None, pack: Pack) -> None:
    """Nobody can be chosen where no face is sought."""
    if face not in (None, "largest", "all"):
        raise UsageError(f"pack {pack.name} edits whole frames: --face {face} chooses nobody")
