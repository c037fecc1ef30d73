"""The report of one finished clip of a data set, as a worker makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pipelines.batch.request.jobs import Job
from pipelines.batch.status.reports import figures
from pipelines.meter import Progress
from pipelines.report.compare import run
from pipelines.report.request import ReportRequest
from vidinv.editing.schedules import as_plain
from vidinv.inversion import Inverter
from vidinv.packs import Pack
from vidinv.types import Analysis

# Of recognition, a clip: 12 frames of source, inversion and output, and the neighbours of 8 of them
# in source and output, 3.4 s of a CPU; up to 6 more frames beside suspicious ones. A single report
# takes 600 and shows 24 ordinary frames.
MAX_EMBEDDINGS = 36
ORDINARY_FRAMES = 6

Row = dict[str, Any]
T = TypeVar("T")
Count = Callable[[Iterable[Any]], Iterable[Any]]


def report_clip(
    job: Job,
    task: Row,
    *,
    analysis: Analysis | None,
    pack: Pack,
    inverter: Inverter,
    count: Count,
) -> Row:
    """Write the report of a finished clip; returns what the manifest says of it.

    Args:
        job: with the source on this machine.
        task: ``"job"``: as it was asked for; ``"output"``: the file; ``"root"`` and ``"page"``:
            where the report goes; ``"inversion"``: whether the inversion alone is measured.
        analysis: of the source, as the clip was edited by it; None for a picture.
        count: passes items on and counts them, which shows that the worker is alive.
    """
    request = ReportRequest(
        source=Path(job.input),
        output=Path(task["output"]),
        page=Path(task["root"]) / task["page"],
        pack=pack,
        max_embeddings=MAX_EMBEDDINGS,
        ordinary_frames=ORDINARY_FRAMES,
        inversion=task["inversion"],
        inverter=inverter,
        edit={
            **as_plain(job.attributes),
            "method": inverter.name,
        },
        analysis=analysis,
        source_name=Job.from_json(task["job"]).shown,
        overwrite=True,
    )
    return figures(run(request, progress=_CountedProgress(count)), task["page"])


class _CountedProgress(Progress):
    """Shows nothing; every item of every pass is counted."""

    def __init__(self, count: Count) -> None:
        super().__init__(quiet=True)
        self._count = count

    def track(self, items: Iterable[T], *, label: str, total: int | None) -> Iterator[T]:
        return iter(self._count(items))
