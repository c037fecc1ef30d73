"""Temporal windows of face tracks, cut out of video as training data.

    python -m training.data video CLIPS data/windows --frames 8

follows the faces of every clip of a folder (vidinv.faces), cuts each track into windows of so many
frames in turn, and writes the arrays of ``training.data`` with the frames of a window as rows in
turn, ``window`` in meta.json, and ``sheet.png`` to look at (a window a row). Frames are read by
number (``FrameSampler``), for the analysis in order and for the windows alone afterwards. Labels
are unknown but for what landmarks show. Whole clips are held out.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.data import ATTRIBUTES, create_images, standardised_targets, weight_map
from vidinv.errors import DecodeError, UsageError
from vidinv.faces.align import TIGHT
from vidinv.faces.analysis import analyse
from vidinv.faces.crops import extract_crop
from vidinv.files import temporary_path
from vidinv.types import Crop, FaceTrack, Frame
from vidinv.video import FrameSampler, ShotDetector, probe

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".m4v")
LANDMARK_PX = 128  # pixels of the crop that landmarks are in (training.data)
READ_AT_ONCE = 16  # frames
MIN_SHARE = 0.5  # a face of less than half of the wanted side has nothing to teach
MIN_MEASURED = 0.5  # of a window's frames, where the face was seen and not filled in
HELD_OUT = 0.1  # of the clips, at least one
SHEET_WINDOWS = 16


@dataclass(frozen=True)
class Window:
    """Frames of one track: ``first`` and those after it, counted from the clip's start."""

    clip: str
    person: int
    track: int
    first: int


@dataclass(frozen=True)
class ClipWindows:
    """What is cut out of a clip: windows, and the tracks that they are numbered in."""

    path: Path
    tracks: tuple[FaceTrack, ...]
    windows: tuple[Window, ...]


def cut_windows(
    clips: Path,
    out: Path,
    *,
    frames: int = 8,
    resolution: int = 128,
    report: Callable[[str], None] = lambda _: None,
) -> int:
    """Write the windows of all clips below a folder; returns how many there are.

    Args:
        frames: of a window.
        resolution: side of the crops.
        report: a line for each clip, also for one that cannot be read, which is left out.

    Raises:
        UsageError: ``out`` is there already, no clip is, or none shows a face for long enough.
        MissingDependencyError: decord or dlib is not installed.
    """
    if out.exists():
        raise UsageError(f"{out} is there already: windows need a new folder")
    found = sorted(p for p in clips.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise UsageError(f"{clips}: no video here ({', '.join(SUFFIXES)})")
    planned: list[ClipWindows] = []
    for path in found:
        try:
            planned.append(plan_windows(path, frames=frames, resolution=resolution))
        except DecodeError as error:
            report(f"left out: {error}")
        else:
            report(f"{path}: {len(planned[-1].windows)} windows of {frames} frames")
    planned = [clip for clip in planned if clip.windows]
    if (count := sum(len(clip.windows) for clip in planned)) < 2:
        raise UsageError(
            f"{clips}: no two windows of {frames} frames show a face that is large enough, one to "
            "learn from and one to hold out"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(out)
    try:
        _write(planned, temporary, frames=frames, resolution=resolution)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count


def plan_windows(path: Path, *, frames: int, resolution: int) -> ClipWindows:
    """Follow the faces of a clip and divide their tracks into windows.

    Raises:
        DecodeError: it cannot be read.
    """
    aspect = probe(path).pixel_aspect
    with FrameSampler(path) as sampler:
        analysis = analyse(
            _frames(sampler),
            new_shot=ShotDetector().update,
            alignment=TIGHT,
            pixel_aspect=aspect,
        )
    windows = [
        Window(path.name, track.person, track.id, track.first + start)
        for track in analysis.tracks
        for start in range(0, track.num_frames - frames + 1, frames)
        if _is_usable(track, slice(start, start + frames), resolution)
    ]
    return ClipWindows(path, analysis.tracks, tuple(windows))


def _frames(sampler: FrameSampler) -> Iterator[Frame]:
    """All frames in order; their times decide nothing here."""
    for start in range(0, len(sampler), READ_AT_ONCE):
        numbers = range(start, min(start + READ_AT_ONCE, len(sampler)))
        for number, image in zip(numbers, sampler.batch(numbers), strict=True):
            yield Frame(number, number, Fraction(1), image)


def _is_usable(track: FaceTrack, rows: slice, resolution: int) -> bool:
    sides = 2 * np.hypot(*track.crops_T4[rows, 2:].T)
    seen = track.measured_T[rows].mean()
    return bool(sides.min() >= MIN_SHARE * resolution and seen >= MIN_MEASURED)


def _write(clips: list[ClipWindows], out: Path, *, frames: int, resolution: int) -> None:
    out.mkdir()
    windows = [window for clip in clips for window in clip.windows]
    count = len(windows) * frames
    images = create_images(out / f"faces{resolution}.npy", (count, 3, resolution, resolution))
    landmarks = np.empty((count, 68, 2), np.float32)
    row = 0
    for clip in clips:
        tracks = {track.id: track for track in clip.tracks}
        with FrameSampler(clip.path) as sampler:
            for window in clip.windows:
                rows = slice(row, row + frames)
                images[rows], landmarks[rows] = _cut(
                    sampler, tracks[window.track], window.first, frames, resolution
                )
                row += frames
    images.flush()
    np.save(out / "landmarks.npy", landmarks)
    np.save(out / "weights.npy", np.stack([weight_map(points) for points in landmarks]))
    np.save(out / "targets.npy", standardised_targets({}, landmarks))
    np.save(out / "split.npy", _is_train(clips).repeat(frames))
    meta = {"attributes": ATTRIBUTES, "count": count, "window": frames}
    meta |= {"windows": [asdict(window) for window in windows]}
    (out / "meta.json").write_text(json.dumps(meta))
    _save_sheet(images, len(windows), frames, out / "sheet.png")


def _cut(
    sampler: FrameSampler, track: FaceTrack, first: int, frames: int, resolution: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Crops ``[T, 3, R, R]``, and landmarks ``[T, 68, 2]`` in them."""
    pictures = sampler.batch(range(first, first + frames))
    crops, points = [], []
    for number, picture in enumerate(pictures, start=first - track.first):
        crop = Crop.from_array(track.crops_T4[number], pixel_aspect=track.pixel_aspect)
        crops.append(extract_crop(picture, crop, resolution).transpose(2, 0, 1))
        matrix = crop.frame_to_crop(LANDMARK_PX)
        points.append(track.landmarks_T682[number] @ matrix[:, :2].T + matrix[:, 2])
    return np.stack(crops), np.stack(points).astype(np.float32)


def _is_train(clips: list[ClipWindows]) -> npt.NDArray[np.bool_]:
    """``[windows]``: those of the last clips are held out; of a single clip, the last windows."""
    counts = [len(clip.windows) for clip in clips]
    held = max(1, math.floor(HELD_OUT * len(counts)))
    if len(counts) == 1:
        counts, held = [1] * counts[0], max(1, math.floor(HELD_OUT * counts[0]))
    return np.repeat(np.arange(len(counts)) < len(counts) - held, counts)


def _save_sheet(images: np.memmap, windows: int, frames: int, path: Path) -> None:
    """Some windows from all of them, a row each."""
    chosen = np.linspace(0, windows - 1, min(windows, SHEET_WINDOWS)).astype(int)
    rows = [np.concatenate(list(images[n * frames : (n + 1) * frames]), axis=-1) for n in chosen]
    Image.fromarray(np.concatenate(rows, axis=-2).transpose(1, 2, 0)).save(path)


def main(arguments: list[str]) -> None:
    """``CLIPS OUT [--frames N] [--resolution N]``."""
    parser = argparse.ArgumentParser(prog="python -m training.data video", description=__doc__)
    parser.add_argument("clips", type=Path, help="folder of clips, searched to the bottom")
    parser.add_argument("out", type=Path, help="folder of the arrays")
    parser.add_argument("--frames", type=int, default=8, help="of a window")
    parser.add_argument("--resolution", type=int, default=128, help="side of a crop in pixels")
    options = parser.parse_args(arguments)
    if min(options.frames, options.resolution // 8) < 1:
        parser.error("--frames starts at 1, --resolution at 8")
    count = cut_windows(
        options.clips,
        options.out,
        frames=options.frames,
        resolution=options.resolution,
        report=print,
    )
    print(f"{count} windows: {options.out}; look at {options.out / 'sheet.png'}")
