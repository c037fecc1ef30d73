"""``vidinv batch``: find the clips, start workers, run the schedule, write the manifest."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.batch.inputs import find_jobs
from pipelines.batch.jobs import Job, Keyframes, Settings, pack_digest
from pipelines.batch.journal import Journal, start
from pipelines.batch.progress import LOG_FILE, Watcher
from pipelines.batch.ray_workers import STAGES_CLASS, STALL_SECONDS, RayWorkers
from pipelines.batch.schedule import Schedule
from pipelines.segments import SEGMENT_FRAMES
from vidinv.errors import DecodeError, UsageError
from vidinv.packs import DEFAULT_PACK, Pack, load_pack
from vidinv.video import EncodeOptions, probe, segment_path

MANIFEST_FILE = "manifest.jsonl"


@dataclass(frozen=True)
class BatchRequest:
    """Everything that a batch run needs to know.

    Attributes:
        inputs: files, folders, globs and manifests, as typed.
        output: folder of the outputs.
        attributes, face: for clips whose manifest row gives none.
        address: of a Ray cluster; None starts Ray on this machine.
        resume, restart: what to do about an earlier run in the same folder.
        num_workers: None takes one a CPU.
        stall_seconds: a task that moves no frame for so long is killed.
        stages_class: ``module:class`` that runs the tasks.
    """

    inputs: Sequence[str]
    output: Path
    attributes: Mapping[str, Keyframes] = field(default_factory=dict)
    face: str = "largest"
    method: str = "fse"
    pack: str | Path = DEFAULT_PACK
    detail: bool = True
    seed: int = 0
    device: str = "auto"
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    address: str | None = None
    resume: bool = False
    restart: bool = False
    num_workers: int | None = None
    segment_frames: int = SEGMENT_FRAMES
    stall_seconds: float = STALL_SECONDS
    quiet: bool = True
    stages_class: str = STAGES_CLASS


@dataclass(frozen=True)
class BatchResult:
    """What a run did.

    Attributes:
        rows: the manifest, a row for each clip.
        seconds: wall time of the run without its start-up.
        start_seconds: until the first worker could take a task.
    """

    rows: tuple[dict[str, Any], ...]
    manifest: Path
    seconds: float
    start_seconds: float

    @property
    def quarantined(self) -> tuple[dict[str, Any], ...]:
        return tuple(row for row in self.rows if row["status"] != "done")

    def as_dict(self) -> dict[str, Any]:
        """Plain types only, ready for ``json.dumps``."""
        return {
            "clips": len(self.rows),
            "quarantined": len(self.quarantined),
            "frames": sum(row.get("frames", 0) for row in self.rows),
            "manifest": str(self.manifest),
            "seconds": round(self.seconds, 3),
            "start_seconds": round(self.start_seconds, 3),
        }


def run(request: BatchRequest) -> BatchResult:
    """Edit every clip that can be edited; failures are rows of the manifest.

    Raises:
        UsageError: a request that cannot be meant, an earlier run in the way, too many workers.
        VidinvError: a run that cannot go on (no worker, a full disk); ``--resume`` continues it.
    """
    jobs, settings = _checked(request)
    started = time.monotonic()
    request.output.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(Journal(request.output)) as journal:
        start(journal, settings, jobs, resume=request.resume, restart=request.restart)
        with _workers(request, settings) as workers, _watcher(request, journal, workers) as watcher:
            schedule = Schedule(
                jobs, output=request.output, journal=journal, workers=workers, watcher=watcher
            )
            workers.wait_until_up()
            up = time.monotonic()
            rows = schedule.run()
            seconds = time.monotonic() - up
    manifest = request.output / MANIFEST_FILE
    write_manifest(manifest, rows)
    return BatchResult(tuple(rows), manifest, seconds, up - started)


def plan(request: BatchRequest) -> list[str]:
    """The lines of ``--dry-run``: what would be done, and about how long and large it is.

    Time and disk go by the number of frames and pixels; sound and other streams are not counted.
    """
    jobs, _ = _checked(request)
    lines, frames, seconds, size = [], 0, 0.0, 0
    for job in jobs:
        try:
            info = probe(job.input)
        except DecodeError as error:
            lines.append(f"{job.output}\tcannot be read: {error}")
            continue
        count = info.num_frames or 0
        frames += count
        seconds += _CLIP_SECONDS + count * _frame_seconds(info.width * info.height)
        size += round(count * info.width * info.height * _BITS_A_PIXEL / 8)
        lines.append(f"{job.output}\t{count} frames {info.width}x{info.height}\t{job.input}")
    workers = request.num_workers or os.cpu_count() or 1
    free = shutil.disk_usage(_existing(request.output)).free
    lines.append(
        f"{len(jobs)} clips, about {frames} frames, {seconds / workers / 60:.1f} min with "
        f"{workers} workers, {size / 1e6:.0f} MB of {free / 1e9:.0f} GB free"
    )
    return lines


# CPU seconds of `vidinv edit` less its imports (4 s) and 24 embeddings (1.6 s), on a machine under
# load: 0.09 a frame of greenscreen_512.mp4, 0.08 of grid_bbaf2n.mpg (360x288). Order of magnitude.
_FRAME_SECONDS, _MEGAPIXEL_SECONDS, _CLIP_SECONDS = 0.075, 0.05, 3.0
# Outputs of the default encoder: 0.29 (grid_bbaf2n.mpg) and 0.16 (greenscreen_512.mp4). Segments of
# a clip lie beside its output until it is done.
_BITS_A_PIXEL = 0.3


def _frame_seconds(pixels: int) -> float:
    return _FRAME_SECONDS + _MEGAPIXEL_SECONDS * pixels / 1e6


def _existing(path: Path) -> Path:
    return next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())


def _checked(request: BatchRequest) -> tuple[tuple[Job, ...], Settings]:
    """Jobs and settings, after everything that can be wrong about them is checked."""
    if request.resume and request.restart:
        raise UsageError("--resume and --restart exclude each other")
    if request.num_workers is not None and request.num_workers < 1:
        raise UsageError(f"--workers {request.num_workers}: give at least 1")
    if request.segment_frames < 1:
        raise UsageError(f"--segment-frames {request.segment_frames}: give at least 1")
    jobs = find_jobs(
        request.inputs, output=request.output, attributes=request.attributes, face=request.face
    )
    pack = load_pack(request.pack)
    _check_names(pack, request.method, jobs)
    encode = request.encode
    settings = Settings(
        pack=str(pack.folder.absolute()),
        pack_digest=pack_digest(pack.meta),
        method=request.method,
        detail=request.detail,
        seed=request.seed,
        device=request.device,
        encode=EncodeOptions(encode.encoder, encode.preset, encode.crf, encode.threads or 1),
        segment_frames=request.segment_frames,
    )
    for job in jobs:  # an encoder that does not go with its container
        segment_path("", output=job.output, options=settings.encode)
    return jobs, settings


def _check_names(pack: Pack, method: str, jobs: Sequence[Job]) -> None:
    """UnknownNameError before any worker starts."""
    pack.inverter(method)
    directions = pack.directions()
    for name in {name for job in jobs for name in job.attributes}:
        directions[name]


def _workers(request: BatchRequest, settings: Settings) -> RayWorkers:
    return RayWorkers(
        settings.to_json(),
        address=request.address,
        num_workers=request.num_workers,
        device=request.device,
        stall_seconds=request.stall_seconds,
        stages_class=request.stages_class,
    )


@contextlib.contextmanager
def _watcher(request: BatchRequest, journal: Journal, workers: RayWorkers) -> Iterator[Watcher]:
    log = journal.folder / LOG_FILE
    watcher = Watcher(log, num_workers=workers.count, quiet=request.quiet)
    with contextlib.closing(watcher):
        yield watcher


def write_manifest(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One JSON line for each clip."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(temporary, path)
