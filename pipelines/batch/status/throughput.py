"""How fast a run is and how long it will take, from what its workers have done and do now."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.render import RenderResult
from pipelines.batch.stages.table import FramePass
from pipelines.batch.workers.protocol import RunningTask, ScheduledTask

# Worker seconds of a rendered frame for each second of an analysed one, as long as only one of the
# two was seen: 3.2, 3.5 and 5.2 on greenscreen_512.mp4, expression_512.mp4 and grid_bbaf2n.mpg.
RENDER_TO_ANALYSE = 3.5


class Throughput:
    """Worker seconds and frames of each stage in this run; tasks that still run count too.

    Args:
        num_workers: how many there are; some may be idle.

    Attributes:
        running: the tasks that run now, as far as they are.
    """

    def __init__(self, *, num_workers: int) -> None:
        self.num_workers = num_workers
        self.seconds = 0.0
        self.busy: defaultdict[str, float] = defaultdict(float)
        self._frames: Counter[FramePass | None] = Counter()
        self._seconds: defaultdict[FramePass | None, float] = defaultdict(float)
        self.running: Sequence[RunningTask] = ()

    def tick(self, running: Sequence[RunningTask], *, seconds: float) -> None:
        """``seconds`` have passed since the last call, with these tasks running."""
        self.seconds += seconds
        for one in running:
            self.busy[one.task.stage.name] += seconds
            self._seconds[one.task.stage.frames] += seconds

    def task_done(self, task: ScheduledTask) -> None:
        """A task went through its frames."""
        self._frames[task.stage.frames] += task.num_frames

    @property
    def num_busy(self) -> int:
        return len(self.running)

    def share(self, stage: str) -> float:
        """Part of the time of all workers that went into a stage, 0..1."""
        return self.busy[stage] / max(1e-9, self.seconds * self.num_workers)

    def fps(self) -> float | None:
        """Frames that go through the whole run in a second; None before the first ones."""
        cost = self._costs()
        return None if cost is None else self._rate() / sum(cost)

    def seconds_left(self, clips: Sequence[Clip]) -> float | None:
        """Estimated time to the end of the run; None before there is anything to go by."""
        cost = self._costs()
        lengths = expected_frames(clips)
        if cost is None or lengths is None:
            return None
        analyse = render = 0.0
        for clip, length in zip(clips, lengths, strict=True):
            if clip.row is not None or clip.made is not None:
                continue
            if clip.job.is_picture:
                render += length
            elif clip.segment_frames is None:
                analyse, render = analyse + length, render + length
            else:
                render += sum(clip.segment_frames) - rendered_frames(clip)
        analyse -= self._frames_running(FramePass.ANALYSIS)
        render -= self._frames_running(FramePass.RENDERING)
        left = max(0.0, analyse) * cost[0] + max(0.0, render) * cost[1]
        return left / self._rate()

    def _costs(self) -> tuple[float, float] | None:
        """Worker seconds of a frame in its analysis, and in everything that comes after it."""
        analysed = self._frames[FramePass.ANALYSIS] + self._frames_running(FramePass.ANALYSIS)
        pictures = self._frames[FramePass.BOTH]
        moving = self._frames[FramePass.RENDERING] + self._frames_running(FramePass.RENDERING)
        rendered = moving + pictures
        later = sum(s for frames, s in self._seconds.items() if frames is not FramePass.ANALYSIS)
        analyse = self._seconds[FramePass.ANALYSIS] / analysed if analysed else 0.0
        render = later / rendered if rendered else 0.0
        if not analyse and not render:
            return None
        if rendered and rendered == pictures and not analysed:
            return 0.0, render
        return analyse or render / RENDER_TO_ANALYSE, render or analyse * RENDER_TO_ANALYSE

    def _rate(self) -> float:
        """Workers that were busy, on average."""
        return sum(self.busy.values()) / self.seconds

    def _frames_running(self, frames: FramePass) -> int:
        return sum(one.frames for one in self.running if one.task.stage.frames is frames)


def expected_frames(clips: Sequence[Clip]) -> list[float] | None:
    """Frames of each clip: counted, or as its header says, or the mean of the others.

    None as long as no clip was opened. A clip that was quarantined before that has none.
    """
    known = [1 if c.job.is_picture else c.num_frames or c.num_expected for c in clips]
    moving = [length for c, length in zip(clips, known, strict=True) if not c.job.is_picture]
    given = [length for length in moving if length]
    if moving and not given:
        return None
    mean = sum(given) / max(1, len(given))
    return [
        float(length or (0 if clip.row is not None else mean))
        for clip, length in zip(clips, known, strict=True)
    ]


def rendered_frames(clip: Clip) -> int:
    """Frames of the segments that are there."""
    lengths = clip.segment_frames or ()
    return sum(lengths[number] for number in clip.results_of(RenderResult) if number is not None)


def finished_frames(clips: Iterable[Clip], running: Iterable[RunningTask]) -> int:
    """Frames that need no more work, but for the joining of their segments."""
    done = sum(one.frames for one in running if one.task.stage.frames is FramePass.RENDERING)
    for clip in clips:
        is_made = clip.row is not None or clip.made is not None
        done += (clip.num_frames or 0) if is_made else rendered_frames(clip)
    return done
