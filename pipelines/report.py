"""Compare an edited clip with its source: identity, flicker, attributes, frame by frame.

Three passes: faces are found in the source; both clips are measured in step along the same tracks;
recognition looks at the chosen frames. Memory does not grow with the pictures of the clip.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.edit import EditRequest
from pipelines.edit import run as run_edit
from pipelines.meter import Progress
from pipelines.parallel import Prefetch
from pipelines.report_faces import ChipStore, TrackMeter
from pipelines.report_identity import Recognised, Recogniser
from pipelines.report_inversion import InversionMeter
from pipelines.tuning import tune_process
from vidinv.errors import UsageError
from vidinv.faces import analyse, dlib_backend, named_alignment
from vidinv.packs import Pack
from vidinv.report import (
    ATTRIBUTES,
    DLIB_BASELINE,
    ClipFacts,
    FrameRow,
    Recognition,
    Report,
    Summary,
    Thumbnail,
    TrackFacts,
    choose_thumbnails,
    rank,
    write_report,
)
from vidinv.stages import frames_without
from vidinv.types import Analysis, EditSpec, FaceTrack, Frame
from vidinv.video import EncodeOptions, ShotDetector, is_image_path, open_reader, read_image

# A face counts as changed where it differs by this many levels more than its surroundings do. Set
# by judgement between re-encoding and a weak edit; not measured over many clips.
_CHANGED_LEVELS = 1.5
_NEARLY_LOSSLESS_CRF = 10  # the inversion is measured, not its encoding


@dataclass(frozen=True)
class ReportRequest:
    """What to compare, and where to write.

    Attributes:
        page: the HTML file; JSON and CSV go beside it under the same name.
        every: look at every n-th frame's identity; None chooses so that it takes about 40 s.
        inversion: invert the source, too, and measure what the inversion alone loses.
        edit: what the output was made with, shown as given.
    """

    source: Path
    output: Path
    page: Path
    pack: Pack
    every: int | None = None
    inversion: bool = False
    method: str = "fse"
    device: str = "auto"
    edit: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False


def run(request: ReportRequest, *, progress: Progress | None = None) -> Report:
    """Measure, rank, and write page, JSON and CSV.

    Raises:
        UsageError: clips that do not belong together, or a request that cannot be meant.
        MediaError: a clip that cannot be read.
    """
    check_request(request)
    tune_process()
    progress = progress or Progress()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(ChipStore())
        inverted = _invert(request, stack, progress) if request.inversion else None
        measuring = _Measuring(request, store, inverted, progress)
        report = measuring.report()
        write_report(report, request.page, thumbnails=_thumbnails(report, store))
    return report


def check_request(request: ReportRequest) -> None:
    """UsageError for what cannot be compared, before anything is measured."""
    check_page(request.page, overwrite=request.overwrite)
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
    if page.exists() and not overwrite:
        raise UsageError(f"{page} exists: give another page, or --overwrite to replace it")


def _invert(request: ReportRequest, stack: contextlib.ExitStack, progress: Progress) -> Path:
    """The inversion of the source in a temporary file that lives as long as ``stack``."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vidinv-report-"))
    suffix = ".png" if is_image_path(request.source) else ".mkv"
    inverted = Path(folder) / f"inversion{suffix}"
    edit = EditRequest(
        input=request.source,
        output=inverted,
        pack=request.pack,
        spec=EditSpec(method=request.method, face="all", detail=False),
        invert_only=True,
        device=request.device,
        encode=EncodeOptions(crf=_NEARLY_LOSSLESS_CRF),
    )
    run_edit(edit, progress=progress)
    return inverted


class _Measuring:
    """The three passes of one report."""

    def __init__(
        self, request: ReportRequest, store: ChipStore, inverted: Path | None, progress: Progress
    ) -> None:
        self.request, self.store, self.progress = request, store, progress
        self.clips = {"source": request.source, "output": request.output}
        self.notes: list[str] = []
        self.inversion: InversionMeter | None = None
        if inverted is not None:
            self.clips["inversion"] = inverted
            self.inversion = InversionMeter(request.pack.resolution)
            self.notes += self.inversion.notes
        self.backend = dlib_backend()
        self.sizes: dict[str, tuple[int, int]] = {}
        self.last_seconds: dict[str, float] = dict.fromkeys(self.clips, 0.0)

    def report(self) -> Report:
        """Measure everything."""
        analysis = self._analyse()
        rows = self._measure(analysis)
        changed = _changed_tracks(rows)
        if rows and not changed:
            self.notes.append("no face differs from the source: figures are over all faces")
        looked = [row for row in rows if not changed or row.track in changed]
        recogniser, known = self._recognise(looked)
        standing_out = rank(rows)
        return Report(
            source=self._facts("source", analysis),
            output=self._facts("output", analysis),
            pack=self.request.pack.name,
            edit=dict(self.request.edit),
            recognition=self._recognition(known),
            shots=analysis.shots,
            frames_without_face=frames_without(analysis, analysis.tracks),
            tracks=tuple(_track_facts(track, changed) for track in analysis.tracks),
            summary=summarise(looked, recogniser.steadiness(known), self._strangers()),
            standing_out=standing_out,
            rows=tuple(sorted(rows, key=lambda row: (row.frame, row.track))),
            has_inversion=self.inversion is not None,
            notes=tuple(self.notes),
        )

    def _analyse(self) -> Analysis:
        with contextlib.ExitStack() as stack:
            frames = _open(self.request.source, stack)
            counted = self.progress.track(frames, label="faces", total=None)
            decoded = stack.enter_context(Prefetch(counted, depth=4, name="decode"))
            return analyse(
                decoded,
                is_new_shot=ShotDetector().update,
                alignment=named_alignment(self.request.pack.alignment),
                backend=self.backend,
            )

    def _measure(self, analysis: Analysis) -> list[FrameRow]:
        meters = {
            track.id: TrackMeter(track, self.backend, self.store) for track in analysis.tracks
        }
        steps = self._in_step()
        counted = self.progress.track(steps, label="measure", total=analysis.num_frames)
        first_seconds: float | None = None
        with contextlib.closing(steps):
            for frames in counted:
                frame = frames["source"]
                first_seconds = frame.time_seconds if first_seconds is None else first_seconds
                pictures = {name: other.image for name, other in frames.items()}
                for track in analysis.tracks_at(frame.index):
                    seconds = frame.time_seconds - first_seconds
                    row = meters[track.id].observe(frame, seconds, pictures)
                    if self.inversion is not None:
                        self.inversion.measure(row, track.crop(frame.index), pictures)
        return [row for meter in meters.values() for row in meter.finish()]

    def _in_step(self) -> Generator[dict[str, Frame], None, None]:
        """The same frame of every clip, by name; UsageError where one ends before the others."""
        with contextlib.ExitStack() as stack:
            streams = [
                stack.enter_context(Prefetch(_open(path, stack), depth=4, name=f"decode {name}"))
                for name, path in self.clips.items()
            ]
            for number, frames in enumerate(itertools.zip_longest(*streams)):
                step = dict(zip(self.clips, frames, strict=True))
                missing = [name for name, frame in step.items() if frame is None]
                if missing:
                    raise self._length_error(missing, number, streams)
                self._check_size(step)
                yield step

    def _length_error(
        self, missing: Sequence[str], number: int, streams: Sequence[Iterator[Frame]]
    ) -> UsageError:
        """Counts the longer clip to its end, to say both lengths."""
        longer = number + 1 + max(sum(1 for _ in stream) for stream in streams)
        lengths = {name: number if name in missing else longer for name in self.clips}
        source, output = self.request.source, self.request.output
        return UsageError(
            f"{source} has {lengths['source']} frames and {output} {lengths['output']}: "
            "give an output together with the very clip that it was made from"
        )

    def _check_size(self, step: dict[str, Frame]) -> None:
        sizes = {name: frame.image.shape[1::-1] for name, frame in step.items()}
        if len(set(sizes.values())) > 1:
            (w, h), (ow, oh) = sizes["source"], sizes["output"]
            raise UsageError(
                f"{self.request.source} is {w}x{h} and {self.request.output} {ow}x{oh}: "
                "a report compares clips of the same size"
            )
        self.sizes = sizes
        self.last_seconds = {name: frame.time_seconds for name, frame in step.items()}

    def _recognise(self, rows: Sequence[FrameRow]) -> tuple[Recogniser, Recognised]:
        mean = self.request.pack.mean_embedding()
        recogniser = Recogniser(
            self.store,
            self.backend.embedder,
            mean=0.0 if mean is None else mean.numpy(),
            clips=tuple(self.clips),
            counted=lambda items, label: self.progress.track(items, label=label, total=len(items)),
        )
        return recogniser, recogniser.look(rows, self.request.every)

    def _recognition(self, known: Recognised) -> Recognition:
        return Recognition(
            network=self.backend.embedder.name,
            mean_centred=self.request.pack.mean_embedding() is not None,
            every=known.every,
            looked_at=len(known.embeddings) // len(known.clips),
            refined=known.refined,
            baseline=self._baseline(),
        )

    def _baseline(self) -> Mapping[str, float] | None:
        known = self.backend.embedder.name.startswith("dlib")
        return DLIB_BASELINE if known else None

    def _strangers(self) -> float | None:
        baseline = self._baseline()
        return None if baseline is None else baseline["strangers_p5"]

    def _facts(self, name: str, analysis: Analysis) -> ClipFacts:
        width, height = self.sizes[name]
        seconds = round(self.last_seconds[name], 3)
        return ClipFacts(str(self.clips[name]), analysis.num_frames, width, height, seconds)


def summarise(
    rows: Sequence[FrameRow], steadiness: Mapping[str, float | None], strangers: float | None
) -> Summary:
    """Figures over rows; ``strangers`` is the distance from which a frame counts as a stranger."""
    distances = _known(rows, "distance")
    similarities = _known(rows, "similarity")
    beyond = None if strangers is None else int((distances >= strangers).sum())
    columns = ("flicker_source", "flicker_output", "border_source", "border_output")
    quality = ("psnr_inversion", "ssim_inversion", "lpips_inversion")
    means = {name: _mean(_known(rows, name)) for name in (*columns, *quality)}
    return Summary(
        **steadiness,
        **means,
        distance_median=_quantile(distances, 0.5),
        distance_p95=_quantile(distances, 0.95),
        similarity_median=_quantile(similarities, 0.5),
        similarity_min=_quantile(similarities, 0.0),
        like_strangers=beyond if len(distances) else None,
        similarity_inversion_median=_quantile(_known(rows, "similarity_inversion"), 0.5),
        attributes={name: _attribute(rows, name) for name in ATTRIBUTES} if rows else {},
    )


def _attribute(rows: Sequence[FrameRow], name: str) -> tuple[float | None, float | None]:
    clips = ([r.source_attributes[name] for r in rows], [r.output_attributes[name] for r in rows])
    source, output = (_quantile(np.array(values), 0.5) for values in clips)
    return source, output


def _known(rows: Sequence[FrameRow], column: str) -> np.ndarray:
    values = [getattr(row, column) for row in rows]
    return np.array([value for value in values if value is not None and np.isfinite(value)])


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _quantile(values: np.ndarray, share: float) -> float | None:
    return float(np.quantile(values, share)) if len(values) else None


def _changed_tracks(rows: Sequence[FrameRow]) -> set[int]:
    return {
        r.track
        for r in rows
        if r.change is not None
        and r.change_beside is not None
        and r.change - r.change_beside > _CHANGED_LEVELS
    }


def _track_facts(track: FaceTrack, changed: set[int]) -> TrackFacts:
    filled_in = int((~track.measured_T).sum())
    return TrackFacts(
        track.id,
        track.shot,
        track.first,
        track.last,
        track.num_frames,
        filled_in,
        track.id in changed,
    )


def _thumbnails(report: Report, store: ChipStore) -> list[Thumbnail]:
    names = ("source", "output", "inversion") if report.has_inversion else ("source", "output")
    return [
        Thumbnail.of(row, {name: store.chip(row.track, row.frame, name) for name in names})
        for row in choose_thumbnails(report)
    ]


def _open(path: Path, stack: contextlib.ExitStack) -> Iterator[Frame]:
    """Frames of a clip or the one of a picture; the reader lives as long as ``stack``."""
    if is_image_path(path):
        return iter([Frame(index=0, pts=0, time_base=Fraction(1), image=read_image(path))])
    return iter(stack.enter_context(open_reader(path)))
