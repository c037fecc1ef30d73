"""The stages: what the schedule, the workers, the journal and the progress line know of each.

The order of ``STAGES`` is the way of a clip: what comes next for it is the first stage that applies
to it and has something to do. It is the order of preference as well, from the end: what is nearest
to a finished clip runs first.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.batch.stages.analyse import AnalyseResult, AnalyseTask, analyse
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.context import StageContext
from pipelines.batch.stages.edit_result import EditResult
from pipelines.batch.stages.fetch import FetchResult, FetchTask, fetch_clip
from pipelines.batch.stages.fit import FitResult, FitTask, fit
from pipelines.batch.stages.join import JoinTask, join
from pipelines.batch.stages.picture import PictureTask, picture
from pipelines.batch.stages.render import RenderResult, RenderTask, render
from pipelines.batch.stages.report_clip import ReportResult, ReportTask, report
from pipelines.batch.stages.tasks import Completed, RunOptions, StageResult, StageTask
from vidinv.inversion import find_method

Part = int | None  # number of a segment; None for a whole clip


class FramePass(enum.Enum):
    """Which pass over a clip the frames of a stage belong to; estimates of time go by both."""

    ANALYSIS = enum.auto()
    RENDERING = enum.auto()
    BOTH = enum.auto()


def _always(clip: Clip, options: RunOptions) -> bool:
    return True


def _needs_segments(clip: Clip, options: RunOptions) -> bool:
    return clip.made is None and not clip.job.is_picture


def _needs_fit(clip: Clip, options: RunOptions) -> bool:
    is_fitted = find_method(options.method).sample_frames > 0
    return is_fitted and _needs_segments(clip, options) and bool(clip.segment_frames)


def _needs_picture(clip: Clip, options: RunOptions) -> bool:
    return clip.made is None and clip.job.is_picture


def _is_remote(clip: Clip, options: RunOptions) -> bool:
    return clip.job.is_remote


def _needs_report(clip: Clip, options: RunOptions) -> bool:
    return options.reports is not None


def _once(clip: Clip) -> Sequence[Part]:
    return (None,)


def _each_segment(clip: Clip) -> Sequence[Part]:
    return range(len(clip.segment_frames or ()))


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage.

    Attributes:
        name: for people, and for ``seconds`` in the manifest.
        task: what it is told; a type of its own, by which a worker knows the stage.
        result: what it answers.
        function: what a worker does; raises what is wrong with a clip.
        gpu: it computes on the device of the networks: in a worker with a GPU, where there are any.
        frames: what the frames count for that it shows while it runs. Every stage shows frames or
            moves ``beats``; one that does neither for ``--stall-seconds`` is taken for hung.
        event: of its lines in the journal, from which a run is resumed; None where the row of the
            clip says all.
        applies: whether a clip needs it, as far as is known then.
        parts: one task for each: the clip as a whole, or its segments.
        renews: results of later stages were made from its own, and are void when it runs again.
        ahead_of: stages of which so many tasks may be ready before it waits.
        downloads: it waits where many copies lie on disk, and is tried again after all others.
    """

    name: str
    task: type[StageTask]
    result: type[StageResult]
    function: Callable[[StageContext, Any], StageResult]
    gpu: bool = False
    frames: FramePass | None = None
    event: str | None = None
    applies: Callable[[Clip, RunOptions], bool] = _always
    parts: Callable[[Clip], Sequence[Part]] = _once
    renews: bool = False
    ahead_of: tuple[str, ...] = ()
    downloads: bool = False

    def missing(self, clip: Clip) -> list[Part]:
        """Parts of a clip that are not done."""
        done = clip.results_of(self.result)
        return [part for part in self.parts(clip) if part not in done]


FETCH = Stage(
    "fetch",
    FetchTask,
    FetchResult,
    fetch_clip,
    event="fetched",
    applies=_is_remote,
    downloads=True,
)
ANALYSE = Stage(
    "analyse",
    AnalyseTask,
    AnalyseResult,
    analyse,
    frames=FramePass.ANALYSIS,
    event="analysed",
    applies=_needs_segments,
    renews=True,
    ahead_of=("fit", "render"),
)
PICTURE = Stage(
    "picture",
    PictureTask,
    EditResult,
    picture,
    gpu=True,
    frames=FramePass.BOTH,
    applies=_needs_picture,
)
FIT = Stage(
    "fit",
    FitTask,
    FitResult,
    fit,
    gpu=True,
    event="fitted",
    applies=_needs_fit,
    renews=True,  # a second fit may give other numbers
)
RENDER = Stage(
    "render",
    RenderTask,
    RenderResult,
    render,
    gpu=True,
    frames=FramePass.RENDERING,
    event="rendered",
    applies=_needs_segments,
    parts=_each_segment,
)
JOIN = Stage("join", JoinTask, EditResult, join, applies=_needs_segments)
REPORT = Stage("report", ReportTask, ReportResult, report, applies=_needs_report)

STAGES = (FETCH, ANALYSE, PICTURE, FIT, RENDER, JOIN, REPORT)


def next_stage(clip: Clip, options: RunOptions) -> Stage | None:
    """The first stage that has something to do for a clip; None when all is done."""
    if clip.made is not None and options.reports is None:
        return None
    return next((s for s in STAGES if s.applies(clip, options) and s.missing(clip)), None)


def record(clip: Clip, stage: Stage, part: Part, done: Completed) -> None:
    """What a stage has done for a clip, now or in an earlier run."""
    if stage.renews:
        for void in STAGES[STAGES.index(stage) :]:
            clip.results.pop(void.result, None)
            clip.seconds.pop(void.name, None)
    clip.results.setdefault(stage.result, {})[part] = done.result
    clip.seconds[stage.name] += done.seconds
    done.result.apply_to(clip)


def forget_part(clip: Clip, stage: Stage, part: Part) -> None:
    """What it made is gone."""
    clip.results.get(stage.result, {}).pop(part, None)


def stage_of(task: StageTask) -> Stage:
    """The stage of a task."""
    return next(stage for stage in STAGES if stage.task is type(task))
