"""``vidinv batch``: find the clips, start workers, run the schedule, write the manifest."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipelines.batch.request.batch_request import BatchRequest, check_request
from pipelines.batch.request.estimate import (
    ClipEstimate,
    Estimate,
    Look,
    estimate_clips,
    free_bytes,
)
from pipelines.batch.request.jobs import Job, Settings
from pipelines.batch.request.result import BatchResult
from pipelines.batch.schedule import Schedule
from pipelines.batch.stages.tasks import ReportOptions
from pipelines.batch.status.journal import (
    DISK_FULL,
    INDEX_FILE,
    MANIFEST_FILE,
    Journal,
    JournalHistory,
    check,
    start,
)
from pipelines.batch.status.progress import LOG_FILE, RunMonitor
from pipelines.batch.status.reports import check_pages, write_data_set_page
from pipelines.batch.status.resume import resume_clips
from pipelines.batch.workers.cluster import check_dashboard, local_nodes
from pipelines.batch.workers.pools import choose_pools
from pipelines.batch.workers.ray_workers import RayWorkers
from vidinv.errors import EncodeError, UsageError
from vidinv.files import atomic_file, printable_values
from vidinv.video import probe

StartWorkers = Callable[[BatchRequest, Settings], AbstractContextManager[RayWorkers]]

_NAMES_SHOWN = 3


def ray_workers(request: BatchRequest, settings: Settings) -> RayWorkers:
    """Workers of a run, as its request wants them; they start with the ``with``."""
    return RayWorkers(
        settings,
        pools=request.pools,
        address=request.address,
        dashboard=request.dashboard,
        stall_seconds=request.stall_seconds,
        runner_class=request.runner_class,
    )


def run(request: BatchRequest, *, start_workers: StartWorkers = ray_workers) -> BatchResult:
    """Edit every clip that can be edited; failures are rows of the manifest.

    Args:
        start_workers: gives the workers, which start with a ``with`` and end with it.

    Raises:
        UsageError: an invalid request, an earlier run in the way, too many workers.
        VidinvError: a run that cannot go on (no worker, a full disk); ``--resume`` continues it.
    """
    skipped: list[str] = []
    jobs, settings = check_request(request, skipped=skipped.append)
    started = time.monotonic()
    for folder in (request.output, request.latents):
        if folder is not None:
            _make_folder(folder)
    output = request.output.absolute()  # workers of a cluster start in folders of their own
    with _full_disk_told(output), contextlib.closing(Journal(output)) as journal:
        _check_folder(request, journal, jobs, settings)
        with (
            start_workers(request, settings) as workers,
            _monitor(request, journal, workers) as monitor,
        ):
            workers.tell = monitor.message
            monitor.message(_start_line(request, jobs, workers, monitor))
            if skipped:
                monitor.message(_skipped_line(skipped), "\n".join(skipped))
            workers.wait_until_up()
            # Only now: a run that could not start leaves an earlier one as it was.
            _begin(request, journal, jobs, settings, monitor)
            schedule = Schedule(
                jobs,
                output=output,
                journal=journal,
                workers=workers,
                monitor=monitor,
                method=settings.method,
                reports=ReportOptions(request.inversion) if request.report else None,
            )
            resumed, up = schedule.frames_resumed, time.monotonic()
            rows = schedule.run()
            seconds = time.monotonic() - up
            write_manifest(request.output / MANIFEST_FILE, rows)
            result = BatchResult(
                rows=tuple(rows),
                manifest=request.output / MANIFEST_FILE,
                seconds=seconds,
                start_seconds=up - started,
                frames_resumed=resumed,
                stage_seconds=dict(monitor.throughput.busy),
                num_workers=workers.count,
                workers=tuple(workers.facts),
                skipped=tuple(skipped),
                page=write_data_set_page(request.output, rows) if request.report else None,
            )
            for line in result.summary():
                monitor.message(line)
    return result


def _begin(
    request: BatchRequest,
    journal: Journal,
    jobs: Sequence[Job],
    settings: Settings,
    monitor: RunMonitor,
) -> None:
    """Write the journal's first lines; what is there of an earlier run, or attempt, goes."""
    start(journal, settings, jobs, restart=request.restart, reports=request.report)
    (request.output / MANIFEST_FILE).unlink(missing_ok=True)
    if request.report:  # one that is there is ours
        (request.output / INDEX_FILE).unlink(missing_ok=True)
    if others := _others(journal, jobs):
        monitor.message(others)


def _others(journal: Journal, jobs: Sequence[Job]) -> str:
    """Outputs of earlier runs that the manifest will not have, as a line; empty for none."""
    names = sorted(journal.outputs - {job.output for job in jobs})
    names = [name for name in names if (journal.folder.parent / name).exists()]
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"outputs of earlier runs that this one is not asked for: {shown}{more}" if names else ""


def _skipped_line(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    files = "file that is" if len(names) == 1 else "files that are"
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"skipped {len(names)} {files} no clip or picture of a known kind: {shown}{more}"


def _start_line(
    request: BatchRequest, jobs: Sequence[Job], workers: RayWorkers, monitor: RunMonitor
) -> str:
    url = workers.dashboard_url
    at = f"; dashboard at http://{url} (a token: ray get-auth-token)" if url else ""
    return f"{len(jobs)} clips for {request.output}, log {monitor.path}; {workers.describe()}{at}"


def estimate(
    request: BatchRequest, *, tell: Callable[[str], None] = lambda line: None, look: Look = probe
) -> Estimate:
    """What ``run`` would do (``--dry-run``); nothing is written, no cluster is asked.

    Args:
        tell: is given a line for each clip, as soon as it is known.
        look: as for ``estimate_clips``.

    Raises:
        UsageError, VidinvError: what ``run`` would refuse before any work.
    """
    skipped: list[str] = []
    jobs, settings = check_request(request, skipped=skipped.append)
    if skipped:
        tell(_skipped_line(skipped))
    output = request.output.absolute()
    history = JournalHistory(output)
    _check_folder(request, history, jobs, settings)
    num_workers = _count_workers(request)
    if request.restart:
        history.lines = []
    clips = resume_clips(jobs, output=output, journal=history, with_reports=request.report)
    missing = [clip for clip in clips if clip.row is None]
    estimates: list[ClipEstimate] = []
    for one in estimate_clips(missing, report=request.report, look=look):
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


@contextlib.contextmanager
def _monitor(request: BatchRequest, journal: Journal, workers: RayWorkers) -> Iterator[RunMonitor]:
    log = journal.folder / LOG_FILE
    monitor = RunMonitor(log, num_workers=workers.count, quiet=request.quiet)
    with contextlib.closing(monitor):
        try:
            yield monitor
        except BaseException as error:
            monitor.log(f"the run ended: {str(error) or type(error).__name__}")
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
    with atomic_file(path) as temporary:
        temporary.write_text("".join(json.dumps(printable_values(row)) + "\n" for row in rows))
