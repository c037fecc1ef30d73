"""What a report is asked to compare, checked before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.clip.networks import Networks
from pipelines.report.recognition import MAX_EMBEDDINGS
from vidinv.errors import UsageError
from vidinv.faces import DEFAULT_LANDMARKS
from vidinv.inversion import TrackState
from vidinv.packs import Pack
from vidinv.paths import check_input
from vidinv.report import MAX_REGULAR, report_files
from vidinv.types import Analysis
from vidinv.video import is_image_path


@dataclass(frozen=True)
class EditedPart:
    """What a run with ``--start`` or ``--end`` did not leave alone, in frames of the clip.

    Attributes:
        edited: faces elsewhere are not missed.
        searched: for cuts and faces; more than ``edited``.
    """

    edited: range
    searched: range


@dataclass(frozen=True)
class ReportRequest:
    """What to compare, and where to write.

    Attributes:
        page: the HTML file; JSON and CSV go beside it under the same name.
        every: sample every n-th frame's identity; None chooses by ``max_embeddings``.
        max_embeddings: of the sampled frames, at about 10 ms each on a CPU; half as many again
            beside suspicious frames, and a few neighbours for TL-ID.
        ordinary_frames: how many frames that do not stand out are shown.
        inversion: invert the source, too, and measure what the inversion alone loses.
        networks: of ``pack`` and ``method``, where they are loaded already.
        states: what the method fitted to each track, by id, where that is known.
        edit: what the output was made with, shown as given.
        analysis: shots and tracks of the source where they are known; only those tracks are
            measured.
        part: of the clip that ``analysis`` is of; None is all of it.
        source_name: what the page calls the source; None is its path.
        on_error: what becomes of damage of the source, as in the run that made the output:
            ``"stop"`` or ``"skip"`` (``open_reader``).
        landmarks: who finds faces: ``"dlib"`` or ``"fan"``.
    """

    source: Path
    output: Path
    page: Path
    pack: Pack
    every: int | None = None
    max_embeddings: int = MAX_EMBEDDINGS
    ordinary_frames: int = MAX_REGULAR
    inversion: bool = True
    method: str = "fse"
    device: str = "auto"
    networks: Networks | None = None
    states: Mapping[int, TrackState] | None = None
    edit: Mapping[str, Any] = field(default_factory=dict)
    analysis: Analysis | None = None
    part: EditedPart | None = None
    source_name: str | None = None
    overwrite: bool = False
    on_error: str = "stop"
    landmarks: str = DEFAULT_LANDMARKS


def check_request(request: ReportRequest) -> None:
    """UsageError for what cannot be compared, before anything is measured."""
    check_page(request.page, overwrite=request.overwrite)
    for path in (request.source, request.output):
        check_input(path)
    if is_image_path(request.source) != is_image_path(request.output):
        raise UsageError(
            f"{request.source} and {request.output}: a report compares two clips or two pictures"
        )
    if request.every is not None and request.every < 1:
        raise UsageError(f"every must be 1 or more, got {request.every}")


def check_page(page: Path, *, overwrite: bool) -> None:
    """UsageError for a report that would replace something unasked, or is no HTML file."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{page} does not name a page: give a file that ends in .html")
    for path in () if overwrite else report_files(page):
        if path.exists():
            raise UsageError(f"{path} exists: give another page, or --overwrite to replace it")
