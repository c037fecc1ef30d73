"""``vidinv batch --dry-run``: what would be done, and about how long and how large it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.batch.jobs import Job
from pipelines.batch.sources import check_file, one_line
from vidinv.errors import DecodeError
from vidinv.video import probe, read_image

# CPU seconds of `vidinv edit` less its imports (4 s) and 24 embeddings (1.6 s), on a machine under
# load: 0.09 a frame of greenscreen_512.mp4, 0.08 of grid_bbaf2n.mpg (360x288). Order of magnitude.
_FRAME_SECONDS, _MEGAPIXEL_SECONDS, _CLIP_SECONDS = 0.075, 0.05, 3.0
# CPU seconds of a report with the inversion: 5.3 for grid_bbaf2n.mpg (75 frames), 6.2 for
# greenscreen_512.mp4 (78), 8.8 for talk_hand_512.mp4 (183).
_REPORT_CLIP_SECONDS, _REPORT_FRAME_SECONDS = 3.7, 0.028
# Outputs of the default encoder: 0.29 (grid_bbaf2n.mpg) and 0.16 (greenscreen_512.mp4). Segments of
# a clip lie beside its output until it is done.
_BITS_A_PIXEL = 0.3


@dataclass(frozen=True)
class _Estimate:
    """Of one clip; a remote one is not opened."""

    text: str
    frames: int = 0
    seconds: float = 0.0
    output_bytes: int = 0
    fetched_bytes: int = 0


def describe_jobs(
    jobs: Sequence[Job], *, output: Path, num_workers: int | None, report: bool = False
) -> list[str]:
    """A line for each job, and one for all.

    Time and disk go by the number of frames and pixels; sound and other streams are not counted.
    """
    estimates = [_estimate(job, report=report) for job in jobs]
    lines = [
        "\t".join([one_line(job.output), estimate.text, one_line(job.shown)])
        for job, estimate in zip(jobs, estimates, strict=True)
    ]
    return [*lines, _total(jobs, estimates, output, num_workers or os.cpu_count() or 1)]


def _estimate(job: Job, *, report: bool) -> _Estimate:
    if job.is_remote:
        size = job.stamp.get("size")
        text = "to fetch, of unknown size" if size is None else f"{size / 1e6:.1f} MB to fetch"
        return _Estimate(text, fetched_bytes=size or 0)
    try:
        check_file(job.input)
        frames, width, height = _size(job)
    except DecodeError as error:
        return _Estimate(f"cannot be read: {one_line(str(error))}")
    pixels = frames * width * height
    return _Estimate(
        f"{frames} frame{'' if frames == 1 else 's'} {width}x{height}",
        frames=frames,
        seconds=(0 if job.is_picture else _CLIP_SECONDS)
        + frames * _FRAME_SECONDS
        + _MEGAPIXEL_SECONDS * pixels / 1e6
        + (_REPORT_CLIP_SECONDS + frames * _REPORT_FRAME_SECONDS if report else 0),
        output_bytes=round(pixels * _BITS_A_PIXEL / 8),
    )


def _size(job: Job) -> tuple[int, int, int]:
    """Frames, width and height."""
    if job.is_picture:
        height, width = read_image(job.input).shape[:2]
        return 1, width, height
    info = probe(job.input)
    return info.num_frames or 0, info.width, info.height


def _total(
    jobs: Sequence[Job], estimates: Sequence[_Estimate], output: Path, num_workers: int
) -> str:
    pictures = sum(job.is_picture for job in jobs)
    seconds = sum(one.seconds for one in estimates)
    size = sum(one.output_bytes for one in estimates)
    free = shutil.disk_usage(_existing(output)).free
    text = (
        f"{len(jobs) - pictures} clips{f' and {pictures} pictures' if pictures else ''}, "
        f"about {sum(one.frames for one in estimates)} frames, {seconds / num_workers / 60:.1f} "
        f"min with {num_workers} workers, {size / 1e6:.0f} MB of {free / 1e9:.0f} GB free"
    )
    remote = sum(job.is_remote for job in jobs)
    if remote:
        fetched = sum(one.fetched_bytes for one in estimates)
        text += f"; and {remote} remote files of {fetched / 1e6:.1f} MB, not looked into"
    return text


def _existing(path: Path) -> Path:
    return next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())
