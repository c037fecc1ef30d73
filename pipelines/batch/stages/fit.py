"""``fit``: what the method learns of each track of a clip, once, before its segments come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.batch.stages.analyse import load_made_plan
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.context import StageContext
from pipelines.batch.stages.tasks import StageResult, StageTask
from vidinv.errors import DecodeError
from vidinv.inversion.state import TrackState, distinct_states, state_path
from vidinv.types import Frame


@dataclass(frozen=True)
class FitTask(StageTask):
    """A clip that was analysed."""


@dataclass(frozen=True)
class FitResult(StageResult):
    """Ids of the tracks, and the digest of the state of each; its file is in the clip's folder."""

    tracks: tuple[int, ...]
    digests: tuple[str, ...]

    def is_kept(self, clip: Clip) -> bool:
        return all(state_path(clip.folder, digest).is_file() for digest in self.digests)


def fit(context: StageContext, task: FitTask) -> FitResult:
    """Write the states into the clip's folder; those of an earlier run serve."""
    job, plan = task.local_job, load_made_plan(task.folder)
    session = context.session(job, plan.key)
    tracks = plan.analysis.tracks
    states = session.recall_states() if session.needs_fit(tracks) else {}
    if states is None:
        if session.saved is not None:
            session.saved.join(plan)
        with context.open(job) as reader:
            states = session.fit(
                tracks,
                _shown(reader, context),
                progress=lambda share: context.beat(),
            )
    for state in distinct_states(states):
        state.save(task.folder)
    context.notes += session.notes
    return FitResult(tuple(states), tuple(state.digest for state in states.values()))


def _shown(frames: Iterable[Frame], context: StageContext) -> Iterator[Frame]:
    """Frames that are gone through: the worker is alive."""
    for frame in frames:
        context.beat()
        yield frame


def digests_of(clip: Clip) -> Mapping[int, str]:
    """Digest of the state of each track, by id; empty where the method fits nothing."""
    result = clip.result_of(FitResult)
    return {} if result is None else dict(zip(result.tracks, result.digests, strict=True))


def load_states(folder: Path, digests: Mapping[int, str]) -> dict[int, TrackState]:
    """States of a clip, by track; tracks of one person share a state, which is read once.

    Raises:
        FileNotFoundError, DecodeError: a file is gone or damaged; a damaged one is removed, so that
            the next attempt at the clip fits anew.
    """
    found = {}
    for digest in {*digests.values()}:
        try:
            found[digest] = TrackState.load(folder, digest)
        except DecodeError:
            state_path(folder, digest).unlink(missing_ok=True)
            raise
    return {number: found[digest] for number, digest in digests.items()}
