"""What the functions of all stages share in a worker process: settings, networks, progress."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch

from pipelines.batch.request.jobs import Job, Settings
from pipelines.clip.networks import Networks, choose_device
from pipelines.clip.saved import Key, clip_folder
from pipelines.clip.session import ClipSession
from pipelines.meter import Progress
from pipelines.process import set_up_process
from vidinv.packs import load_pack
from vidinv.video import Around, VideoReader, open_reader
from vidinv.video.reader import DECODE_WORKER, Part
from vidinv.video.writer import ENCODE_WORKER

T = TypeVar("T")


class StageContext:
    """Networks load when the first task needs them, and stay for those that follow.

    Args:
        join_worker: importable name of the program that joins segments and copies clips.

    Attributes:
        frames_done: counts on while a task runs.
        num_expected: what the header of a clip in its analysis says that there will be.
        beats: counts on where no frame is done: while a file is fetched, frames before a segment
            are gone through, a method searches, an output is joined or copied.
        notes: what a person should know of the task that runs.
    """

    def __init__(self, settings: Settings, *, join_worker: str = ENCODE_WORKER) -> None:
        self.settings, self.join_worker = settings, join_worker
        self.frames_done = 0
        self.num_expected: int | None = None
        self.beats = 0
        self.notes: list[str] = []
        set_up_process()

    def beat(self) -> None:
        """Show that the task goes on."""
        self.beats += 1

    def counted(self, items: Iterable[T]) -> Iterator[T]:
        """Count each as a frame that is done, once what it was needed for is."""
        for item in items:
            yield item
            self.frames_done += 1

    def open(
        self,
        job: Job,
        *,
        part: Part | None = None,
        around: Around | None = None,
        worker: str = DECODE_WORKER,
    ) -> VideoReader:
        """A reader of a clip; ``worker`` names the module of its child process."""
        return open_reader(
            job.input,
            part=part,
            around=around,
            on_alive=self.beat,
            on_error=self.settings.on_error,
            worker=worker,
        )

    def session(self, job: Job, key: Key | None = None) -> ClipSession:
        """The steps of a clip; ``key`` where its plan has it."""
        return ClipSession(
            Path(job.input),
            self.settings.spec(job),
            self.networks,
            latents=self.latents_of(job),
            segment_frames=self.settings.segment_frames,
            key=key,
        )

    def latents_of(self, job: Job) -> Path | None:
        """Where analysis and inversions of a clip are kept; None keeps none."""
        latents = self.settings.latents
        return None if latents is None else clip_folder(Path(latents), job.output)

    @cached_property
    def networks(self) -> Networks:
        settings = self.settings
        pack = load_pack(settings.pack).with_options(settings.method, settings.method_options)
        return Networks(
            pack,
            settings.method,
            device=settings.device,
            on_step=self.beat,
            landmarks=settings.landmarks,
        )

    @cached_property
    def report_networks(self) -> Networks:
        """Reports are made on the CPU, whatever renders here."""
        settings = self.settings
        return Networks(
            self.networks.pack, settings.method, on_step=self.beat, landmarks=settings.landmarks
        )

    @cached_property
    def device(self) -> torch.device:
        return choose_device(self.settings.device)


class TaskProgress(Progress):
    """Of passes inside a task: shows nothing, but that the worker is alive."""

    def __init__(self, context: StageContext) -> None:
        super().__init__(quiet=True)
        self._context = context

    def track(self, items: Iterable[T], *, label: str, total: int | None) -> Iterator[T]:
        """Every item of every pass is counted."""
        return self._context.counted(items)

    @contextlib.contextmanager
    def shares(self, *, label: str) -> Iterator[Callable[[float], None]]:
        """Every share that is told is a beat."""
        yield lambda share: self._context.beat()
