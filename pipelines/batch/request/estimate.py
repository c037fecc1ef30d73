"""``vidinv batch --dry-run``: what is to be done, and about how long and how large it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.fetch import FetchResult
from vidinv.errors import DecodeError
from vidinv.files import one_line
from vidinv.paths import check_file
from vidinv.video import VideoInfo, probe, read_image

Look = Callable[[str], VideoInfo]

# CPU seconds of `vidinv edit` less its imports (4 s) and embeddings (0.3 s), with faces-128:
# 0.09 a frame of greenscreen_512.mp4, 0.08 of grid_bbaf2n.mpg (360x288). Order of magnitude.
_FRAME_SECONDS, _MEGAPIXEL_SECONDS, _CLIP_SECONDS = 0.075, 0.05, 1.7
# CPU seconds of a report with the inversion, under load: 3.6 for grid_bbaf2n.mpg (75 frames), 4.7
# for greenscreen_512.mp4 (78), 9.0 for talk_hand_512.mp4 (183).
_REPORT_CLIP_SECONDS, _REPORT_FRAME_SECONDS = 1.0, 0.042
# Outputs of the default encoder: 0.29 (grid_bbaf2n.mpg) and 0.16 (greenscreen_512.mp4). Segments of
# a clip lie beside its output until it is done.
_BITS_A_PIXEL = 0.3
_LEAST_PROBES = 2  # at a time, also on one CPU: they wait for disks


@dataclass(frozen=True)
class ClipEstimate:
    """Of one clip or picture that is not done; a remote one is not opened.

    Attributes:
        input, output: as the manifest will show them.
        text: what is known of it, for people.
        frames: 0 where it is not known.
        width, height: of the picture in pixels; 0 where not known.
        seconds: of one worker.
        bytes: of the output.
        fetch_bytes: to download, as far as the server tells.
        cause: why it cannot be read, if so.
    """

    input: str
    output: str
    text: str
    is_picture: bool = False
    is_remote: bool = False
    frames: int = 0
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    bytes: int = 0
    fetch_bytes: int = 0
    cause: str | None = None

    @property
    def line(self) -> str:
        return "\t".join([one_line(self.output), self.text, one_line(self.input)])

    def as_dict(self) -> dict[str, Any]:
        """Plain types only."""
        names = ("input", "output", "frames", "width", "height", "bytes", "fetch_bytes", "cause")
        return {
            **{name: getattr(self, name) for name in names},
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Estimate:
    """What a run would do.

    Time and disk go by the number of frames and pixels; sound and other streams are not counted,
    and clips that are half done count as if nothing was done.

    Attributes:
        estimates: of the clips and pictures that are to do.
        num_done: those that an earlier run has done.
        num_workers: None where the cluster decides.
        free_bytes: on the disk of the outputs.
    """

    estimates: tuple[ClipEstimate, ...]
    num_done: int
    num_workers: int | None
    free_bytes: int

    @property
    def frames(self) -> int:
        return sum(one.frames for one in self.estimates)

    @property
    def worker_seconds(self) -> float:
        """What one worker alone would take."""
        return sum(one.seconds for one in self.estimates)

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.estimates)

    @property
    def fetch_bytes(self) -> int:
        return sum(one.fetch_bytes for one in self.estimates)

    def as_dict(self) -> dict[str, Any]:
        """Plain types only, ready for ``json.dumps``; ``seconds`` is null as ``num_workers``."""
        workers = self.num_workers
        return {
            "clips": len(self.estimates),
            "done": self.num_done,
            "frames": self.frames,
            "seconds": None if workers is None else round(self.worker_seconds / workers, 3),
            "worker_seconds": round(self.worker_seconds, 3),
            "num_workers": workers,
            "bytes": self.bytes,
            "free_bytes": self.free_bytes,
            "fetch_bytes": self.fetch_bytes,
            "rows": [one.as_dict() for one in self.estimates],
        }

    def summary(self) -> str:
        """One line over all of them."""
        pictures = sum(one.is_picture for one in self.estimates)
        minutes = self.worker_seconds / (self.num_workers or 1) / 60
        by = "for one worker" if self.num_workers is None else f"with {self.num_workers} workers"
        text = (
            f"{len(self.estimates) - pictures} clips"
            f"{f' and {pictures} pictures' if pictures else ''}, about {self.frames} frames, "
            f"{minutes:.1f} min {by}, {self.bytes / 1e6:.0f} MB of {self.free_bytes / 1e9:.0f} GB "
            "free"
        )
        remote = sum(one.is_remote for one in self.estimates)
        if remote:
            megabytes = self.fetch_bytes / 1e6
            text += f"; and {remote} remote files of {megabytes:.1f} MB, not opened"
        return f"{text}; {self.num_done} done already" if self.num_done else text


def estimate_clips(
    clips: Sequence[Clip], *, report: bool, look: Look = probe
) -> Iterator[ClipEstimate]:
    """Of each in turn, as soon as it is known; several are opened ahead.

    Args:
        look: what opens a clip and tells its size and length.
    """
    with ThreadPoolExecutor(max(_LEAST_PROBES, os.cpu_count() or 1)) as threads:
        try:
            # Pillow's warnings are caught for the whole process: pictures are read in one thread.
            ahead: list[Future[ClipEstimate] | None] = [
                None
                if clip.job.is_picture
                else threads.submit(_estimate, clip, report=report, look=look)
                for clip in clips
            ]
            for clip, future in zip(clips, ahead, strict=True):
                yield (
                    _estimate(clip, report=report, look=look) if future is None else future.result()
                )
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def free_bytes(folder: Path) -> int:
    """On the disk of a folder that need not exist yet."""
    path = folder.absolute()
    return shutil.disk_usage(next(p for p in [path, *path.parents] if p.exists())).free


def _estimate(clip: Clip, *, report: bool, look: Look) -> ClipEstimate:
    job = clip.job.local(clip.folder) if clip.result_of(FetchResult) else clip.job
    known: dict[str, Any] = {
        "input": clip.job.shown,
        "output": job.output,
        "is_picture": job.is_picture,
        "is_remote": job.is_remote,
    }
    fetch_bytes = (job.stamp.get("size") or 0) if job.is_remote else 0
    if clip.made is not None:
        frames = clip.num_frames or 0
        return ClipEstimate(
            **known,
            text=f"{_frames(frames)}, its report only",
            frames=frames,
            seconds=_report_seconds(frames),
            fetch_bytes=fetch_bytes,
        )
    if job.is_remote:
        is_known = job.stamp.get("size") is not None
        text = f"{fetch_bytes / 1e6:.1f} MB to fetch" if is_known else "to fetch, of unknown size"
        return ClipEstimate(**known, text=text, fetch_bytes=fetch_bytes)
    try:
        frames, width, height = _size(job.input, is_picture=job.is_picture, look=look)
    except DecodeError as error:
        return ClipEstimate(
            **known, text=f"cannot be read: {one_line(str(error))}", cause=str(error)
        )
    pixels = frames * width * height
    return ClipEstimate(
        **known,
        text=f"{_frames(frames)} {width}x{height}",
        frames=frames,
        width=width,
        height=height,
        seconds=(0 if job.is_picture else _CLIP_SECONDS)
        + frames * _FRAME_SECONDS
        + _MEGAPIXEL_SECONDS * pixels / 1e6
        + (_report_seconds(frames) if report else 0),
        bytes=round(pixels * _BITS_A_PIXEL / 8),
    )


def _frames(number: int) -> str:
    return f"{number} frame{'' if number == 1 else 's'}"


def _report_seconds(frames: int) -> float:
    return _REPORT_CLIP_SECONDS + frames * _REPORT_FRAME_SECONDS


def _size(path: str, *, is_picture: bool, look: Look) -> tuple[int, int, int]:
    """Frames, width and height."""
    check_file(path)
    if is_picture:
        height, width = read_image(path).shape[:2]
        return 1, width, height
    info = look(path)
    return info.num_frames or 0, info.width, info.height
