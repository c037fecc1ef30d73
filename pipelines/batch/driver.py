"""``vidinv batch``: find the clips, start workers, run the schedule, write the manifest."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.batch.inputs.find import find_jobs
from pipelines.batch.request.estimate import ClipEstimate, Estimate, estimate_clips, free_bytes
from pipelines.batch.request.jobs import Job, Keyframes, Settings, pack_digest
from pipelines.batch.request.result import BatchResult
from pipelines.batch.schedule import Schedule
from pipelines.batch.stages.tasks import ReportOptions
from pipelines.batch.status.journal import (
    DISK_FULL,
    INDEX_FILE,
    MANIFEST_FILE,
    WORK_FOLDER,
    Journal,
    JournalHistory,
    check,
    start,
)
from pipelines.batch.status.progress import LOG_FILE, Watcher
from pipelines.batch.status.reports import check_pages, write_data_set_page
from pipelines.batch.status.resume import resume_clips
from pipelines.batch.workers.cluster import check_dashboard, local_nodes
from pipelines.batch.workers.pools import WORKER_CPUS, PoolRequest, choose_pools
from pipelines.batch.workers.ray_workers import RUNNER_CLASS, STALL_SECONDS, RayWorkers
from pipelines.clip.plan import SEGMENT_FRAMES
from pipelines.clip.saved import check_folder
from vidinv.errors import EncodeError, UsageError
from vidinv.files import printable_values
from vidinv.packs import DEFAULT_PACK, load_pack
from vidinv.video import EncodeOptions, choose_encoder

_NAMES_SHOWN = 3


@dataclass(frozen=True)
class BatchRequest:
    """Everything that a batch run needs to know.

    Attributes:
        inputs: files, folders, globs and manifests, as typed; also URLs of them.
        output: folder of the outputs.
        attributes, face: for clips whose manifest row gives none.
        address: of a Ray cluster; None starts Ray on this machine.
        resume, restart: what to do about an earlier run in the same folder.
        num_workers, num_gpu_workers: None takes one a CPU, and one a GPU that renders.
        worker_cpus: CPUs that each worker reserves in Ray's books.
        dashboard: start Ray's too; a cluster at ``address`` has its own.
        latents: folder where analysis and inversions are kept, and taken from.
        stall_seconds: a task that moves no frame for so long is killed.
        report: compare every clip with its source, and write a page over all of them.
        inversion: in the reports, also measure what the inversion alone loses.
        runner_class: ``module:class`` that runs the tasks.
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
    num_gpu_workers: int | None = None
    worker_cpus: float = WORKER_CPUS
    dashboard: bool = False
    segment_frames: int = SEGMENT_FRAMES
    latents: Path | None = None
    stall_seconds: float = STALL_SECONDS
    report: bool = False
    inversion: bool = True
    quiet: bool = True
    runner_class: str = RUNNER_CLASS

    @property
    def pools(self) -> PoolRequest:
        """What it wants of the cluster; UsageError for values that go with none."""
        return PoolRequest(self.num_workers, self.num_gpu_workers, self.worker_cpus, self.device)


def run(request: BatchRequest) -> BatchResult:
    """Edit every clip that can be edited; failures are rows of the manifest.

    Raises:
        UsageError: a request that cannot be meant, an earlier run in the way, too many workers.
        VidinvError: a run that cannot go on (no worker, a full disk); ``--resume`` continues it.
    """
    jobs, settings = _checked(request)
    started = time.monotonic()
    for folder in (request.output, request.latents):
        if folder is not None:
            _make_folder(folder)
    output = request.output.absolute()  # workers of a cluster start in folders of their own
    with _full_disk_told(output), contextlib.closing(Journal(output)) as journal:
        _check_folder(request, journal, jobs, settings)
        with _workers(request, settings) as workers, _watcher(request, journal, workers) as watcher:
            workers.tell = watcher.note
            watcher.note(_start_line(request, jobs, workers, watcher))
            workers.wait_until_up()
            # Only now: a run that could not start leaves an earlier one as it was.
            start(journal, settings, jobs, restart=request.restart, reports=request.report)
            manifest = request.output / MANIFEST_FILE
            manifest.unlink(missing_ok=True)  # of an earlier run, or attempt
            if request.report:  # one that is there is ours
                (request.output / INDEX_FILE).unlink(missing_ok=True)
            if others := _others(journal, jobs):
                watcher.note(others)
            schedule = Schedule(
                jobs,
                output=output,
                journal=journal,
                workers=workers,
                watcher=watcher,
                method=settings.method,
                reports=ReportOptions(request.inversion) if request.report else None,
            )
            resumed = schedule.frames_resumed
            up = time.monotonic()
            rows = schedule.run()
            seconds = time.monotonic() - up
            write_manifest(manifest, rows)
            result = BatchResult(
                rows=tuple(rows),
                manifest=manifest,
                seconds=seconds,
                start_seconds=up - started,
                frames_resumed=resumed,
                stage_seconds=dict(watcher.throughput.busy),
                num_workers=workers.count,
                workers=tuple(workers.facts),
                page=write_data_set_page(request.output, rows) if request.report else None,
            )
            for line in result.summary():
                watcher.note(line)
    return result


def _others(journal: Journal, jobs: Sequence[Job]) -> str:
    """Outputs of earlier runs that the manifest will not have, as a line; empty for none."""
    names = sorted(journal.outputs - {job.output for job in jobs})
    names = [name for name in names if (journal.folder.parent / name).exists()]
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"outputs of earlier runs that this one is not asked for: {shown}{more}" if names else ""


def _start_line(
    request: BatchRequest, jobs: Sequence[Job], workers: RayWorkers, watcher: Watcher
) -> str:
    url = workers.dashboard_url
    at = f"; dashboard at http://{url} (a token: ray get-auth-token)" if url else ""
    return f"{len(jobs)} clips for {request.output}, log {watcher.path}; {workers.describe()}{at}"


def estimate(request: BatchRequest, *, tell: Callable[[str], None] = lambda line: None) -> Estimate:
    """What ``run`` would do (``--dry-run``); nothing is written, no cluster is asked.

    Args:
        tell: is given a line for each clip, as soon as it is known.

    Raises:
        UsageError, VidinvError: what ``run`` would refuse before any work.
    """
    jobs, settings = _checked(request)
    output = request.output.absolute()
    history = JournalHistory(output)
    _check_folder(request, history, jobs, settings)
    num_workers = _count_workers(request)
    if request.restart:
        history.lines = []
    clips = resume_clips(jobs, output=output, journal=history, with_reports=request.report)
    missing = [clip for clip in clips if clip.row is None]
    estimates: list[ClipEstimate] = []
    for one in estimate_clips(missing, report=request.report):
        tell(one.line)
        estimates.append(one)
    return Estimate(
        estimates=tuple(estimates),
        num_done=len(clips) - len(missing),
        num_workers=num_workers,
        free_bytes=free_bytes(output),
    )


def _count_workers(request: BatchRequest) -> int | None:
    """As many as a run would start; a cluster's own are not known."""
    if request.address is not None:
        return request.num_workers
    nodes = local_nodes()
    if request.dashboard:
        check_dashboard()
    return sum(pool.num_workers for pool in choose_pools(nodes, request.pools))


def _check_folder(
    request: BatchRequest, history: JournalHistory, jobs: Sequence[Job], settings: Settings
) -> None:
    """UsageError for what is in the way in the output folder; nothing is written."""
    if request.report:
        check_pages(request.output, jobs, history)
    check(history, settings, jobs, resume=request.resume, restart=request.restart)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror})") from None


def _checked(request: BatchRequest) -> tuple[tuple[Job, ...], Settings]:
    """Jobs and settings, after everything that can be wrong about them is checked."""
    if request.resume and request.restart:
        raise UsageError("--resume and --restart exclude each other")
    if request.dashboard and request.address is not None:
        raise UsageError("--dashboard starts one with a Ray on this machine; a cluster has its own")
    if request.output.exists() and not request.output.is_dir():
        raise UsageError(f"{request.output}: not a folder")
    if request.latents is not None:
        check_folder(request.latents, cleared=request.output / WORK_FOLDER)
    request.pools  # noqa: B018 - values that go with no cluster
    manifest = request.output / MANIFEST_FILE
    if any(Path(text).absolute() == manifest.absolute() for text in request.inputs):
        raise UsageError(
            f"{manifest}: the run writes its own manifest there; move the list elsewhere"
        )
    if request.segment_frames < 1:
        raise UsageError(f"--segment-frames {request.segment_frames}: give at least 1")
    if not request.stall_seconds > 0:  # nor is NaN
        raise UsageError(f"--stall-seconds {request.stall_seconds:g}: give a time above 0")
    pack = load_pack(request.pack)
    pack.inverter(request.method)  # UnknownNameError before any worker starts
    jobs = find_jobs(
        request.inputs,
        output=request.output,
        attributes=request.attributes,
        face=request.face,
        attribute_names=pack.directions().names(),
    )
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
        latents=None if request.latents is None else str(request.latents.absolute()),
    )
    for job in jobs:
        if not job.is_picture:
            choose_encoder(Path(job.output), settings.encode)
    return jobs, settings


def _workers(request: BatchRequest, settings: Settings) -> RayWorkers:
    return RayWorkers(
        settings,
        pools=request.pools,
        address=request.address,
        dashboard=request.dashboard,
        stall_seconds=request.stall_seconds,
        runner_class=request.runner_class,
    )


@contextlib.contextmanager
def _watcher(request: BatchRequest, journal: Journal, workers: RayWorkers) -> Iterator[Watcher]:
    log = journal.folder / LOG_FILE
    watcher = Watcher(log, num_workers=workers.count, quiet=request.quiet)
    with contextlib.closing(watcher):
        try:
            yield watcher
        except BaseException as error:
            watcher.log(f"the run ended: {str(error) or type(error).__name__}")
            raise


@contextlib.contextmanager
def _full_disk_told(output: Path) -> Iterator[None]:
    """What the driver itself could not write; what workers cannot write is in their rows."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            message = f"{output}: the disk is full; make room, then run again with --resume"
            raise EncodeError(message) from None
        raise


def write_manifest(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One JSON line for each clip."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text("".join(json.dumps(printable_values(row)) + "\n" for row in rows))
    os.replace(temporary, path)
