"""The stages of a batch run, as one plain object per worker process, from fetch to report.

A stage takes a task and returns a row, both plain data; a clip that cannot be done is a row too,
with stage, cause and file. Nothing here knows Ray: the same object runs in this process in tests.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch

from pipelines.batch.inputs.fetching import fetch
from pipelines.batch.inputs.sources import check_file, without_secrets
from pipelines.batch.request.jobs import Job, Settings
from pipelines.batch.stages.reporting import report_clip
from pipelines.batch.status.journal import DISK_FULL
from pipelines.clip.networks import Networks, choose_device
from pipelines.clip.plan import ClipPlan, Segment, composed_frames, load_plan, save_plan
from pipelines.clip.planning import plan_clip
from pipelines.clip.samples import (
    IdentitySampler,
    load_samples,
    save_samples,
)
from pipelines.clip.saved import Key, SavedClip, clip_folder, key_of
from pipelines.clip.session import ClipSession, ClipSummary
from pipelines.edit import EditRequest, edit_picture
from pipelines.process import set_up_process
from vidinv.editing.directions import Directions
from vidinv.editing.schedules import is_zero
from vidinv.errors import DecodeError, UsageError, VidinvError
from vidinv.faces import Backend
from vidinv.inversion import Inverter
from vidinv.latents import PLAN_FILE
from vidinv.packs import Pack, load_pack
from vidinv.rendering import FaceEditor, FrameComposer
from vidinv.types import Frame
from vidinv.video import (
    VideoReader,
    copy_media,
    join_segments,
    open_reader,
    open_writer,
    segment_path,
)
from vidinv.video.reader import Part

Row = dict[str, Any]
T = TypeVar("T")


class Stages:
    """Runs tasks one after another; networks load at the first task that needs them.

    A task is ``{"stage", "job", "folder"}``: the folder is the clip's own, for plan and segments.
    ``render`` adds ``"segment"`` (its number), ``join`` adds ``"output"``, and ``"files"`` and
    ``"warnings"`` of the segments, ``report`` what ``report_clip`` needs. A row has ``"status"``
    (``"done"`` or ``"failed"``) and ``"seconds"``; a failed one also ``"cause"``, ``"file"``, and
    ``"retry"``: whether a second attempt may help.

    ``frames_done`` counts on while a task runs; ``num_expected`` is what the header of a clip in
    its analysis says that there will be. ``beats`` counts on where no frame is done: while a
    file is fetched, frames before a segment are gone through, an output is joined or copied.
    Later stages see the copy that was fetched in the place of a remote clip.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = Settings.from_json(settings)
        self.frames_done = 0
        self.num_expected: int | None = None
        self.beats = 0
        set_up_process()

    def run(self, task: Row) -> Row:
        """Do one task; never raises for a clip."""
        started = time.monotonic()
        job = Job.from_json(task["job"])
        here = job if task["stage"] == "fetch" else job.local(Path(task["folder"]))
        self.num_expected = None
        try:
            row = {"status": "done", **getattr(self, task["stage"])(here, task)}
        except Exception as error:
            row = _failure(error, job)
        if job.is_remote:
            row = _as_shown(row, here.input, job.shown)
        return {**row, "seconds": round(time.monotonic() - started, 3)}

    def fetch(self, job: Job, task: Row) -> Row:
        """Copy a remote clip into its folder."""
        folder = Path(task["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        size = job.stamp.get("size")
        return {"bytes": fetch(job.input, job.fetched(folder), size=size, on_chunk=self._beat)}

    def picture(self, job: Job, task: Row) -> Row:
        """Edit a still picture as ``vidinv edit`` does."""
        check_file(job.input)
        output = Path(task["output"])
        output.parent.mkdir(parents=True, exist_ok=True)
        _remove_parts(output)
        request = EditRequest(
            Path(job.input),
            output,
            pack=self.pack,
            spec=self.settings.spec(job),
            device=self.settings.device,
            overwrite=True,
            latents=self._latents_of(job),
            segment_frames=self.settings.segment_frames,
        )
        row = self._row(edit_picture(request, self.networks))
        self.frames_done += 1
        return row

    def analyse(self, job: Job, task: Row) -> Row:
        """Save the plan of a clip: its shots and faces, found now or by an earlier run."""
        check_file(job.input)
        clip, unchanged = Path(job.input), is_zero(job.attributes)
        key = self._key(clip, job)
        saved = self._saved(job, key)
        plan = saved.plan(clip) if saved else None
        if plan is None:
            plan = self._plan(job, key)
            # Nobody was chosen for strength 0: that is no plan for other strengths.
            if saved and not unchanged:
                saved.keep(plan)
        elif unchanged:
            plan = plan.unedited()
        folder = Path(task["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        save_plan(folder / PLAN_FILE, plan)
        return {
            "num_frames": plan.analysis.num_frames,
            "segment_frames": [segment.num_frames for segment in plan.segments],
            "notes": saved.notes if saved else [],
        }

    def render(self, job: Job, task: Row) -> Row:
        """Edit and encode one segment."""
        folder = Path(task["folder"])
        plan = load_plan(folder / PLAN_FILE)
        segment = plan.segments[task["segment"]]
        stem = _segment_stem(folder, segment)
        path, options = segment_path(stem, output=job.output, options=self.settings.encode)
        sampler = IdentitySampler(self.backend)
        sampler.choose(plan.analysis.tracks)
        saved = self._saved(job, plan.key)
        if saved:
            saved.join(plan)
        with (
            open_writer(path, source=plan.info, options=options, segment=True) as writer,
            self.open(job, part=plan.part(segment)) as reader,
        ):
            composed = self._composed(job, plan, segment, reader, saved)
            for frame, picture in self._counted(composed):
                sampler.observe(frame, picture)
                writer.write(
                    Frame(frame.index, frame.pts, frame.time_base, picture, frame.duration)
                )
        # Not in the row: embeddings would be nine tenths of the journal.
        save_samples(_samples_path(stem), sampler.samples())
        return {
            "file": path.name,
            "warnings": list(writer.warnings),
            "notes": saved.notes if saved else [],
        }

    def join(self, job: Job, task: Row) -> Row:
        """Make the output of a clip from its segments, or copy a clip that is not edited."""
        folder, output = Path(task["folder"]), Path(task["output"])
        plan = load_plan(folder / PLAN_FILE)
        output.parent.mkdir(parents=True, exist_ok=True)
        _remove_parts(output)
        warnings = [*self.directions.warnings(job.attributes), *task.get("warnings", ())]
        if plan.segments:
            files = [folder / name for name in task["files"]]
            warnings += join_segments(
                files,
                output,
                source=plan.info,
                times=plan.times_T2.tolist(),
                on_alive=self._beat,
            )
        else:
            warnings += [_unchanged(plan), *copy_media(job.input, output, on_alive=self._beat)]
        stems = [_segment_stem(folder, segment) for segment in plan.segments]
        samples = [sample for stem in stems for sample in load_samples(_samples_path(stem))]
        return self._row(self._session(job, plan.key).summary(plan, samples, warnings))

    def report(self, job: Job, task: Row) -> Row:
        """Compare an output with its source; a report that is there is replaced."""
        return {
            "report": report_clip(
                job,
                task,
                analysis=None if job.is_picture else self._planned(job, task).analysis,
                pack=self._report_pack,
                inverter=self._report_inverter,
                count=self._counted,
            )
        }

    def _planned(self, job: Job, task: Row) -> ClipPlan:
        """The clip's plan; found again where an earlier run made the output, and cleared up."""
        path = Path(task["folder"]) / PLAN_FILE
        if not path.is_file():
            self.analyse(job, task)
        return load_plan(path)

    def open(self, job: Job, *, part: Part | None = None) -> VideoReader:
        """A reader of a clip."""
        return open_reader(job.input, part=part, on_alive=self._beat)

    def _key(self, clip: Path, job: Job) -> Key:
        return key_of(
            clip,
            pack=self.pack,
            spec=self.settings.spec(job),
            segment_frames=self.settings.segment_frames,
        )

    def _latents_of(self, job: Job) -> Path | None:
        latents = self.settings.latents
        return None if latents is None else clip_folder(Path(latents), job.output)

    def _saved(self, job: Job, key: Key) -> SavedClip | None:
        folder = self._latents_of(job)
        return None if folder is None else SavedClip(folder, key)

    def _plan(self, job: Job, key: Key) -> ClipPlan:
        with self.open(job) as reader:
            self.num_expected = reader.info.num_frames
            plan = plan_clip(
                self._counted(reader),
                reader.info,
                pack=self.pack,
                backend=self.backend,
                face=None if is_zero(job.attributes) else job.face,
                segment_frames=self.settings.segment_frames,
                key=key,
            )
            return replace(plan, exact_times=reader.exact_times)

    def _composed(
        self,
        job: Job,
        plan: ClipPlan,
        segment: Segment,
        frames: Iterable[Frame],
        saved: SavedClip | None = None,
    ) -> Iterator[tuple[Frame, Any]]:
        editor = FaceEditor(
            self.inverter,
            resolution=self.pack.resolution,
            directions=self.directions,
            spec=self.settings.spec(job),
            tracks=plan.analysis.tracks,
            shots=plan.analysis.shots,
            start_seconds=plan.start_seconds,
            saved=saved.inversions(plan, {}, {}) if saved else None,
        )
        composer = FrameComposer(mode=self.settings.spec(job).mode, shots=plan.analysis.shots)
        return composed_frames(frames, plan=plan, segment=segment, editor=editor, composer=composer)

    def _session(self, job: Job, key: Key | None = None) -> ClipSession:
        return ClipSession(
            Path(job.input),
            self.settings.spec(job),
            self.networks,
            latents=self._latents_of(job),
            segment_frames=self.settings.segment_frames,
            key=key,
        )

    def _row(self, summary: ClipSummary) -> Row:
        tracks = [
            {**asdict(track), "identity": asdict(summary.track_identity[track.id])}
            for track in summary.tracks
        ]
        return {
            "frames": summary.frames,
            "faces_edited": summary.faces_edited,
            "frames_without_face": summary.frames_without_face,
            "tracks": tracks,
            "identity": asdict(summary.identity),
            "warnings": list(summary.warnings),
        }

    def _beat(self) -> None:
        self.beats += 1

    def _counted(self, items: Iterable[T]) -> Iterator[T]:
        for item in items:
            yield item
            self.frames_done += 1

    @cached_property
    def networks(self) -> Networks:
        pack = load_pack(self.settings.pack)
        return Networks(pack, self.settings.method, device=self.settings.device)

    @property
    def pack(self) -> Pack:
        return self.networks.pack

    @property
    def inverter(self) -> Inverter:
        return self.networks.inverter

    @cached_property
    def _report_pack(self) -> Pack:
        """Opened again: its networks stay on the CPU, whatever renders here."""
        return load_pack(self.settings.pack)

    @cached_property
    def _report_inverter(self) -> Inverter:
        return self._report_pack.inverter(self.settings.method)

    @cached_property
    def device(self) -> torch.device:
        return choose_device(self.settings.device)

    @property
    def directions(self) -> Directions:
        return self.networks.directions

    @property
    def backend(self) -> Backend:
        return self.networks.backend


def _segment_stem(folder: Path, segment: Segment) -> Path:
    """Where the files of a segment lie, without their suffixes."""
    return folder / f"{segment.number:05d}"


def _remove_parts(output: Path) -> None:
    """What a worker that was killed while it made this output has left beside it."""
    name = re.compile(re.escape(f".{output.name}.") + r"[0-9a-f]{8}\.part")
    for found in os.listdir(output.parent):
        if name.fullmatch(found):
            with contextlib.suppress(OSError):  # of use to nobody, and in nobody's way
                (output.parent / found).unlink()


def _samples_path(stem: Path) -> Path:
    return stem.with_suffix(".faces.safetensors")


def _failure(error: Exception, job: Job) -> Row:
    """A row for an error; the traceback only of what nobody expected."""
    expected = isinstance(error, (UsageError, DecodeError))
    known = isinstance(error, (VidinvError, OSError))
    cause = " ".join(str(error).split()) if known else f"{type(error).__name__}: {error}"
    disk_full = _is_disk_full(error)
    if disk_full and isinstance(error, OSError):  # it does not always know the file
        cause = f"{job.shown}: the disk is full"
    return {
        "status": "failed",
        "cause": cause,
        "file": job.shown,
        "retry": not expected,
        "disk_full": disk_full,
        "traceback": "" if known else "".join(traceback.format_exception(error)),
    }


def _as_shown(row: Row, copy: str, name: str) -> Row:
    """What a row says of the copy of a remote clip, said of the clip; without passwords."""

    def say(value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return [say(item) for item in value]
        return without_secrets(value.replace(copy, name)) if isinstance(value, str) else value

    return {
        key: say(value) if key in ("cause", "traceback", "warnings", "notes") else value
        for key, value in row.items()
    }


def _is_disk_full(error: Exception) -> bool:
    code = error.errno if isinstance(error, OSError) else None
    said = ("the disk is full", *map(os.strerror, DISK_FULL))  # by encoders; by safetensors
    return code in DISK_FULL or any(text in str(error) for text in said)


def _unchanged(plan: ClipPlan) -> str:
    if plan.num_tracks:
        return "every strength is 0: the input was copied unchanged"
    return "no face found: the input was copied unchanged"
