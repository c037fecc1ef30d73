"""The stages of a batch run, as one plain object per worker process: analyse, render, join.

A stage takes a task and returns a row, both plain data; a clip that cannot be done is a row too,
with stage, cause and file. Nothing here knows Ray: the same object runs in this process in tests.
"""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from pipelines.batch.jobs import Job, Settings
from pipelines.edit import choose_device
from pipelines.identity import FaceSample, IdentitySampler, summarise
from pipelines.segments import (
    ClipPlan,
    FrameTimes,
    Segment,
    composed_frames,
    load_plan,
    plan_segments,
    save_plan,
)
from pipelines.tuning import tune_process
from vidinv.editing.directions import Directions
from vidinv.errors import DecodeError, UsageError
from vidinv.faces import Backend, analyse, dlib_backend, named_alignment, select_tracks
from vidinv.inversion import Inverter
from vidinv.packs import Pack, load_pack
from vidinv.stages import FaceEditor, FrameComposer, frames_without
from vidinv.types import Analysis, Frame
from vidinv.video import (
    ShotDetector,
    VideoReader,
    copy_media,
    join_segments,
    open_reader,
    open_writer,
    read_image,
    segment_path,
)
from vidinv.video.reader import Part

PLAN_FILE = "plan.safetensors"

Row = dict[str, Any]
T = TypeVar("T")


class Stages:
    """Runs tasks one after another; networks load at the first task that needs them.

    A task is ``{"stage", "job", "folder"}``: the folder is the clip's own, for plan and segments.
    ``render`` adds ``"segment"`` (its number), ``join`` adds ``"output"``, ``"files"`` and
    ``"samples"``. A row has ``"status"`` (``"done"`` or ``"failed"``) and ``"seconds"``; a failed
    one also ``"cause"``, ``"file"``, and ``"retry"``: whether a second attempt may help.

    ``frames_done`` counts on while a task runs.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = Settings.from_json(settings)
        self.frames_done = 0
        tune_process()

    def run(self, task: Row) -> Row:
        """Do one task; never raises for a clip."""
        started = time.monotonic()
        job = Job.from_json(task["job"])
        try:
            row = {"status": "done", **getattr(self, task["stage"])(job, task)}
        except Exception as error:
            row = _failure(error, job)
        return {**row, "seconds": round(time.monotonic() - started, 3)}

    def analyse(self, job: Job, task: Row) -> Row:
        """Find shots and faces of a clip and save its plan."""
        times = FrameTimes()
        with self.open(job) as reader:
            analysis = analyse(
                self._counted(times.watch(reader)),
                is_new_shot=ShotDetector().update,
                alignment=named_alignment(self.pack.alignment),
                backend=self.backend,
            )
            info = reader.info
            exact_times = reader.exact_times
        tracks = (
            ()
            if _all_zero(job)
            else select_tracks(analysis, job.face, backend=self.backend, load_image=read_image)
        )
        segments = plan_segments(
            analysis.shots,
            chunk_frames=times.chunk_frames,
            target_frames=self.settings.segment_frames,
        )
        plan = ClipPlan(
            info=info,
            analysis=Analysis(analysis.num_frames, analysis.shots, tracks),
            times_T2=times.array(),
            exact_times=exact_times,
            num_tracks=len(analysis.tracks),
            segments=segments if tracks else (),
        )
        folder = Path(task["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        save_plan(folder / PLAN_FILE, plan)
        frames = [segment.num_frames for segment in plan.segments]
        return {"num_frames": analysis.num_frames, "segment_frames": frames}

    def render(self, job: Job, task: Row) -> Row:
        """Edit and encode one segment."""
        folder = Path(task["folder"])
        plan = load_plan(folder / PLAN_FILE)
        segment = plan.segments[task["segment"]]
        path, options = segment_path(
            folder / f"{segment.number:05d}", output=job.output, options=self.settings.encode
        )
        sampler = IdentitySampler(self.backend, None)
        sampler.plan(plan.analysis.tracks)
        with (
            open_writer(path, source=plan.info, options=options, segment=True) as writer,
            self.open(job, part=plan.part(segment)) as reader,
        ):
            for frame, picture in self._counted(self._composed(job, plan, segment, reader)):
                sampler.observe(frame, picture)
                writer.write(
                    Frame(frame.index, frame.pts, frame.time_base, picture, frame.duration)
                )
        samples = [
            [sample.track, sample.source.tolist(), sample.output.tolist()]
            for sample in sampler.samples()
        ]
        return {"file": path.name, "samples": samples, "warnings": list(writer.warnings)}

    def join(self, job: Job, task: Row) -> Row:
        """Make the output of a clip from its segments, or copy a clip that is not edited."""
        folder, output = Path(task["folder"]), Path(task["output"])
        plan = load_plan(folder / PLAN_FILE)
        output.parent.mkdir(parents=True, exist_ok=True)
        warnings = self._range_warnings(job)
        if plan.segments:
            files = [folder / name for name in task["files"]]
            warnings += join_segments(files, output, source=plan.info, times=plan.times_T2.tolist())
        else:
            warnings += [_unchanged(plan), *copy_media(job.input, output)]
        return self._result(plan, task, warnings)

    def open(self, job: Job, *, part: Part | None = None) -> VideoReader:
        """A reader of a clip."""
        return open_reader(job.input, part=part)

    def _composed(
        self, job: Job, plan: ClipPlan, segment: Segment, frames: Iterable[Frame]
    ) -> Iterator[tuple[Frame, Any]]:
        editor = FaceEditor(
            self.inverter,
            directions=self.directions,
            spec=self.settings.spec(job),
            tracks=plan.analysis.tracks,
            resolution=self.pack.resolution,
            feature_scale=self.pack.edit_feature_scale,
            start_seconds=plan.start_seconds,
        )
        composer = FrameComposer(detail=self.settings.detail)
        return composed_frames(frames, plan=plan, segment=segment, editor=editor, composer=composer)

    def _result(self, plan: ClipPlan, task: Row, warnings: list[str]) -> Row:
        tracks = plan.analysis.tracks
        samples = [
            FaceSample(track, np.array(source, np.float32), np.array(output, np.float32))
            for track, source, output in task["samples"]
        ]
        mean = self.pack.mean_embedding()
        per_track = {
            track.id: summarise([s for s in samples if s.track == track.id], mean)
            for track in tracks
        }
        return {
            "frames": plan.analysis.num_frames,
            "faces_edited": sum(track.num_frames for track in tracks),
            "frames_without_face": frames_without(plan.analysis, tracks),
            "tracks": [
                {
                    "id": track.id,
                    "first": track.first,
                    "last": track.last,
                    "frames": track.num_frames,
                    "identity": asdict(per_track[track.id]),
                }
                for track in tracks
            ],
            "identity": asdict(summarise(samples, mean)),
            "warnings": list(dict.fromkeys(warnings)),
        }

    def _range_warnings(self, job: Job) -> list[str]:
        extremes = (
            (name, strength)
            for name, keys in job.attributes.items()
            for strength in sorted({min(s for _, s in keys), max(s for _, s in keys)})
        )
        return [
            warning
            for name, strength in extremes
            for warning in self.directions.warnings({name: strength})
        ]

    def _counted(self, items: Iterable[T]) -> Iterator[T]:
        for item in items:
            yield item
            self.frames_done += 1

    @cached_property
    def pack(self) -> Pack:
        return load_pack(self.settings.pack)

    @cached_property
    def inverter(self) -> Inverter:
        return self.pack.inverter(self.settings.method, device=self.device)

    @cached_property
    def device(self) -> torch.device:
        return choose_device(self.settings.device)

    @cached_property
    def directions(self) -> Directions:
        return self.pack.directions()

    @cached_property
    def backend(self) -> Backend:
        return dlib_backend()


def _failure(error: Exception, job: Job) -> Row:
    """A row for an error; the traceback only of what nobody expected."""
    expected = isinstance(error, (UsageError, DecodeError))
    known = expected or isinstance(error, OSError)
    cause = " ".join(str(error).split()) if known else f"{type(error).__name__}: {error}"
    return {
        "status": "failed",
        "cause": cause,
        "file": job.input,
        "retry": not expected,
        "disk_full": _is_disk_full(error),
        "traceback": "" if known else "".join(traceback.format_exception(error)),
    }


def _is_disk_full(error: Exception) -> bool:
    code = error.errno if isinstance(error, OSError) else None
    return (
        code == errno.ENOSPC
        or os.strerror(errno.ENOSPC) in str(error)
        or ("the disk is full" in str(error))
    )


def _all_zero(job: Job) -> bool:
    return all(strength == 0 for keys in job.attributes.values() for _, strength in keys)


def _unchanged(plan: ClipPlan) -> str:
    if plan.num_tracks:
        return "every strength is 0: the input was copied unchanged"
    return "no face found: the input was copied unchanged"
