"""What was edited in a finished clip or picture, as the manifest says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.tasks import Row, StageResult
from pipelines.clip.session import ClipSummary
from vidinv.types import IdentitySummary


@dataclass(frozen=True)
class TrackIdentity:
    """One edited track (``TrackSummary``), and what the edit kept of the person."""

    id: int
    first: int
    last: int
    frames: int
    identity: IdentitySummary


@dataclass(frozen=True)
class EditResult(StageResult):
    """The output is there.

    Attributes:
        frames: of the clip.
        faces_edited: over all frames.
        identity: over the sampled faces of all tracks.
    """

    frames: int
    faces_edited: int
    frames_without_face: int
    tracks: tuple[TrackIdentity, ...]
    identity: IdentitySummary
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, summary: ClipSummary) -> Self:
        """From what a session says of its clip."""
        return cls(
            summary.frames,
            summary.faces_edited,
            summary.frames_without_face,
            tuple(
                TrackIdentity(t.id, t.first, t.last, t.frames, identity)
                for t, identity in zip(summary.tracks, summary.track_identity, strict=True)
            ),
            summary.identity,
            summary.warnings,
        )

    def apply_to(self, clip: Clip) -> None:
        clip.num_frames = self.frames

    def row_fields(self) -> Row:
        return {**self.to_json(), "synthetic": self.faces_edited > 0}
