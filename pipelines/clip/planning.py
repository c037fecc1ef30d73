"""The first pass over a clip: its shots, the faces to edit, and the segments to edit them in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pipelines.clip.plan import SEGMENT_FRAMES, ClipPlan, plan_segments, segment_of
from pipelines.clip.window import AnalysisWindow
from vidinv.editing.schedules import attributes_of, is_zero, named_faces
from vidinv.errors import UsageError
from vidinv.faces import (
    Backend,
    analyse,
    face_numbers,
    named_alignment,
    numbered,
    select_tracks,
    whole_alignment,
    whole_tracks,
)
from vidinv.packs import Pack
from vidinv.types import Analysis, EditSpec, FaceTrack, Frame, RenderMode
from vidinv.video import ShotDetector, VideoInfo, read_image


def plan_clip(
    frames: Iterable[Frame],
    info: VideoInfo,
    *,
    pack: Pack,
    backend: Backend,
    spec: EditSpec,
    segment_frames: int = SEGMENT_FRAMES,
    chain_chunks: int = 1,
    key: Mapping[str, Any] | None = None,
) -> ClipPlan:
    """Analyse a clip or picture; ``exact_times`` is for its reader to say, after the last frame.

    Args:
        frames: all of them, in display order, up to the last that ``spec.max_frames`` asks for;
            read once, never held.
        spec: whom to edit, and when: tracks end with ``within``. These are whom ``face`` names and
            who has attributes of their own, without those who have nothing to change.
        segment_frames: wished length of a segment.
        chain_chunks: of the method (``vidinv.inversion.Inverter``): segments begin where a run of
            so many chunks does.

    Raises:
        UsageError: ``spec`` names someone who is not there, or a time without a frame.
    """
    window = AnalysisWindow(info, spec)
    if (square := whole_alignment(pack.alignment)) is not None:
        _check_whole(spec, pack)
        analysis = whole_tracks(
            window.watch(frames),
            new_shot=ShotDetector().update,
            square=square,
            pixel_aspect=info.pixel_aspect,
        )
    else:
        analysis = analyse(
            window.watch(frames),
            new_shot=ShotDetector().update,
            alignment=named_alignment(pack.alignment),
            pixel_aspect=info.pixel_aspect,
            backend=backend,
        )
    edited = window.edited()
    analysis = window.placed(analysis)
    found = tracks = _cut(analysis.tracks, edited)
    wanted = range(window.first_wanted(), analysis.num_frames)
    # A clip that is over before is whole.
    is_over = spec.max_frames is None or len(wanted) < spec.max_frames
    if square is None:
        # Not what the analysis saw of what lies behind: its margin decides nothing.
        is_whole = is_over and edited.stop == analysis.num_frames
        tracks = _cut(_chosen(analysis, found, spec, backend, is_whole=is_whole), edited)
    elif spec.mode is not RenderMode.INVERT and is_zero(spec.attributes):
        tracks = ()
    segments = plan_segments(
        analysis.shots,
        chunk_frames=window.chunk_frames,
        halo_frames=window.halo_frames,
        chain_chunks=chain_chunks,
        target_frames=segment_frames,
    )
    output_part = None
    if spec.max_frames is not None and (wanted.start or not is_over):
        output_part = segment_of(
            wanted,
            analysis.shots,
            chunk_frames=window.chunk_frames,
            chain_chunks=chain_chunks,
        )
    return ClipPlan(
        info=info,
        analysis=replace(analysis, tracks=tracks),
        times_T2=window.times(),
        exact_times=False,
        num_tracks=len(found),
        segments=segments if tracks else (),
        key=key or {},
        output_part=output_part,
    )


def _cut(tracks: Iterable[FaceTrack], frames: range) -> tuple[FaceTrack, ...]:
    """What of the tracks lies in these frames."""
    return tuple(cut for track in tracks if (cut := track.within(frames)) is not None)


def _chosen(
    analysis: Analysis,
    found: tuple[FaceTrack, ...],
    spec: EditSpec,
    backend: Backend,
    *,
    is_whole: bool,
) -> Iterable[FaceTrack]:
    """Whom ``spec`` names and changes.

    Args:
        found: the tracks in its time, which numbers do not ask for.
        is_whole: its time ends with the clip: a number that is not there is none of the clip's.
    """
    is_numbered = bool(face_numbers(spec.face))
    starts_late = spec.within is not None and spec.within.start > 0
    chosen = select_tracks(
        analysis if is_numbered else replace(analysis, tracks=found),
        spec.face,
        backend=backend,
        load_image=read_image,
        is_whole=is_whole and (is_numbered or not starts_late),
    )
    if spec.mode is RenderMode.INVERT:
        return chosen
    ids = {track.id for track in chosen}
    for number in named_faces(spec.attributes):
        ids |= {track.id for track in numbered(analysis, number, is_whole)}
    changed = (t for t in analysis.tracks if not is_zero(attributes_of(spec.attributes, t.person)))
    return [track for track in changed if track.id in ids]


def _check_whole(spec: EditSpec, pack: Pack) -> None:
    """Nobody can be chosen where no face is sought."""
    choices = [] if spec.face in ("largest", "all") else [f"--face {spec.face}"]
    choices += [f"--attr {number}:NAME" for number in named_faces(spec.attributes)]
    if choices:
        raise UsageError(f"pack {pack.name} edits whole frames: {choices[0]} chooses nobody")
