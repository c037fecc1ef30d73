"""A clip cut into segments that any process can render, with the very stages that ``edit`` runs.

Analysis goes over the clip once, as far as an edit of a part of it needs; its plan (shots, tracks,
frame times: kilobytes a frame) is saved, and a segment needs the plan and the source file only.
Segments begin where a chunk of ``vidinv.rendering`` begins, counted from the start of the shot, and
a little before and after them is computed too (the halo of the average over time): their frames are
those of a one-process run, bit for bit.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.parallel import Prefetch
from vidinv.arrays import Array, as_decode_error, read_arrays, write_arrays
from vidinv.errors import DecodeError
from vidinv.rendering import Chunk, chunked
from vidinv.types import Analysis, FaceTrack, Frame, Image
from vidinv.video import Cut, Part, VideoInfo

# About 6 s of video: the halo and the start of a decoder and an encoder are some 5 % of the work,
# and at most this much is lost with a worker.
SEGMENT_FRAMES = 160

_TRACK_ARRAYS = ("landmarks_T682", "crops_T4", "measured_T")  # and the embedding, where it is


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames ``first..last`` (inclusive) of a clip; ``lead..tail`` are computed for them."""

    number: int
    lead: int
    first: int
    last: int
    tail: int

    @property
    def num_frames(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class ClipPlan:
    """What the analysis of a clip leaves for its segments.

    Attributes:
        analysis: shots, and the tracks to edit.
        times_T2: ``[T, 2]`` int64: pts and duration of each frame, in the clip's time base.
        exact_times: the file gives every frame its time, so that it can be sought.
        num_tracks: face tracks found where it is edited, chosen or not.
        num_held: frames that the file has lost, each with the last good picture in its place.
        notes: what a person should know of the file's damage and of how it was read.
        output_part: the frames that the output has, and the plan ends with, where these are not all
            of the clip's (``--max-frames``); else None.
        key: what decided it (``pipelines.clip.saved``), kept with it on disk.
    """

    info: VideoInfo
    analysis: Analysis
    times_T2: npt.NDArray[np.int64]
    exact_times: bool
    num_tracks: int
    segments: tuple[Segment, ...]
    key: Mapping[str, Any] = field(default_factory=dict)
    num_held: int = 0
    notes: tuple[str, ...] = ()
    output_part: Segment | None = None

    @property
    def start_seconds(self) -> float:
        return float(int(self.times_T2[0, 0]) * self.info.time_base)

    @property
    def output(self) -> Segment:
        """The output as one segment."""
        last = self.analysis.num_frames - 1
        return self.output_part or Segment(0, 0, 0, last, last)

    def unedited(self) -> ClipPlan:
        """The same clip with nothing to edit."""
        return replace(self, analysis=replace(self.analysis, tracks=()), segments=())

    def cut(self, frames: range) -> Cut | None:
        """What of the clip's streams goes with these frames of it; None: all of them."""
        if self.output_part is None and len(frames) == self.analysis.num_frames:
            return None
        first, (last, duration) = frames.start, self.times_T2[frames.stop - 1].tolist()
        usual = round(1 / ((self.info.average_rate or 25) * self.info.time_base))
        start = int(self.times_T2[first, 0]) if first else None
        return Cut(start, last + (duration or max(1, usual)))

    def part(self, segment: Segment) -> Part:
        """What to read for a segment."""
        pts = int(self.times_T2[segment.lead, 0]) if self.exact_times else None
        return Part(segment.lead, segment.tail - segment.lead + 1, pts)


def segment_of(
    frames: range, shots: Sequence[tuple[int, int]], *, chunk_frames: int, chain_chunks: int = 1
) -> Segment:
    """Frames as one segment, which is computed from the run of chunks on that they begin in."""
    run = chunk_frames * chain_chunks
    starts = (start for first, last in shots for start in range(first, last + 1, run))
    lead = max(start for start in starts if start <= frames.start)
    return Segment(0, lead, frames.start, frames.stop - 1, frames.stop - 1)


def plan_segments(
    shots: Sequence[tuple[int, int]],
    *,
    chunk_frames: int,
    halo_frames: int,
    chain_chunks: int = 1,
    target_frames: int = SEGMENT_FRAMES,
) -> tuple[Segment, ...]:
    """Cut a clip into segments of about equal length, each beginning with a chunk of its shot.

    Args:
        shots: (first, last) of each shot, inclusive, in order.
        chunk_frames: length of a chunk.
        halo_frames: frames on either side of a chunk that its pictures depend on
            (``vidinv.composing.halo_frames``).
        chain_chunks: of the method: segments and their leads begin where a run of so many does.
        target_frames: wished length; a segment may be longer by a run.
    """
    run = chunk_frames * chain_chunks
    lead = run * math.ceil(halo_frames / run)
    tail = chunk_frames * math.ceil(halo_frames / chunk_frames)
    starts = [
        (start, max(first, start - lead))
        for first, last in shots
        for start in range(first, last + 1, run)
    ]
    total = shots[-1][1] + 1
    count = math.ceil(total / target_frames)
    nearest = {
        min(starts, key=lambda s: abs(s[0] - total * number / count)) for number in range(count)
    }
    firsts = sorted(nearest)
    lasts = [first - 1 for first, _ in firsts[1:]] + [total - 1]
    shot_ends = {last: next(end for _, end in shots if end >= last) for last in lasts}
    return tuple(
        Segment(number, lead, first, last, min(shot_ends[last], last + tail))
        for number, ((first, lead), last) in enumerate(zip(firsts, lasts, strict=True))
    )


def composed_frames(
    frames: Iterable[Frame],
    *,
    plan: ClipPlan,
    segment: Segment,
    edit: Callable[[Iterable[list[Frame]]], Iterator[Chunk]],
    compose: Callable[[Iterable[Chunk]], Iterator[tuple[Frame, Image]]],
) -> Generator[tuple[Frame, Image], None, None]:
    """Source frames of a segment with their composed pictures.

    Args:
        frames: those of ``plan.part(segment)``.
        edit, compose: ``process`` of ``FaceEditor`` and of ``FrameComposer``.

    Raises:
        DecodeError: the file gives other frames than it did at its analysis.
    """
    checked = _checked(frames, plan, segment)
    with contextlib.ExitStack() as stack:
        chunks = stack.enter_context(Prefetch(chunked(checked, plan.analysis.shots), name="decode"))
        edited = stack.enter_context(Prefetch(edit(chunks), name="edit"))
        composed = stack.enter_context(Prefetch(compose(edited), depth=4, name="compose"))
        for frame, picture in composed:
            if segment.first <= frame.index <= segment.last:
                yield frame, picture


def _checked(frames: Iterable[Frame], plan: ClipPlan, segment: Segment) -> Iterator[Frame]:
    expected = segment.lead
    for frame in frames:
        if frame.index != expected or frame.pts != plan.times_T2[expected, 0]:
            break
        expected += 1
        yield frame
    if expected != segment.tail + 1:
        raise DecodeError(
            f"{plan.info.path}: frame {expected} is not what it was at the analysis; "
            "the file was changed since"
        )


def save_plan(path: Path, plan: ClipPlan) -> None:
    """Write a plan; it appears under its name when it is complete."""
    arrays: dict[str, npt.NDArray[Any]] = {"times_T2": plan.times_T2}
    for track in plan.analysis.tracks:
        for name in (*_TRACK_ARRAYS, "embedding"):
            if (value := getattr(track, name)) is not None:
                arrays[f"{track.id}.{name}"] = value
    facts = {
        "info": plan.info.to_json(),
        "exact_times": plan.exact_times,
        "num_tracks": plan.num_tracks,
        "shots": plan.analysis.shots,
        "tracks": [[t.id, t.shot, t.first, t.person] for t in plan.analysis.tracks],
        "segments": [asdict(segment) for segment in plan.segments],
        "key": plan.key,
        "num_held": plan.num_held,
        "notes": plan.notes,
        "output_part": None if plan.output_part is None else asdict(plan.output_part),
    }
    write_arrays(path, arrays, facts)


def load_plan(path: Path) -> ClipPlan:
    """The inverse of ``save_plan``.

    Raises:
        FileNotFoundError: there is none.
        DecodeError: it is not as it was written.
    """
    return build_plan(path, *read_arrays(path))


def build_plan(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> ClipPlan:
    """A plan from what ``read_arrays`` gave.

    Raises:
        DecodeError: another version wrote it, in a layout of its own.
    """
    with as_decode_error(path):
        times, info = arrays["times_T2"], VideoInfo.from_json(facts["info"])
        return ClipPlan(
            info=info,
            analysis=Analysis(
                num_frames=len(times),
                shots=tuple((first, last) for first, last in facts["shots"]),
                tracks=tuple(_track(arrays, info, *ids) for ids in facts["tracks"]),
            ),
            times_T2=times,
            exact_times=facts["exact_times"],
            num_tracks=facts["num_tracks"],
            segments=tuple(Segment(**segment) for segment in facts["segments"]),
            key=facts["key"],
            num_held=facts.get("num_held", 0),
            notes=tuple(facts.get("notes", ())),
            output_part=Segment(**part) if (part := facts.get("output_part")) else None,
        )


def _track(
    arrays: Mapping[str, Array], info: VideoInfo, number: int, shot: int, first: int, person: int
) -> FaceTrack:
    values: dict[str, Any] = {name: arrays[f"{number}.{name}"] for name in _TRACK_ARRAYS}
    embedding = arrays.get(f"{number}.embedding")
    return FaceTrack(
        id=number,
        shot=shot,
        first=first,
        embedding=embedding,
        pixel_aspect=info.pixel_aspect,
        person=person,
        **values,
    )
