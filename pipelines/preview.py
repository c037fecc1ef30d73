"""``--preview``: source and edit in one video or on one sheet, written while the output is.

A video shows both side by side, or split by a line that wipes over the picture; a sheet shows the
edited faces at several times, source above edit. Both are made to be looked at on a screen: eight
bits, square pixels, no larger than it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from pipelines.clip.plan import ClipPlan
from pipelines.clip.window import frames_within
from vidinv.editing.schedules import attributes_of, strength_at
from vidinv.errors import UsageError, VidinvError
from vidinv.faces.crops import as_displayed, as_uint8
from vidinv.paths import check_replaceable
from vidinv.sheets import CAPTION_PX, NO_BREAK, Picture, captioned, sheet
from vidinv.types import EditSpec, FaceTrack, Frame, Image, RenderMode
from vidinv.video import (
    EncodeOptions,
    VideoInfo,
    check_kind,
    choose_encoder,
    is_image_path,
    keeps_comment,
    open_writer,
    write_image,
)

STYLES = ("side", "split")
SCREEN_PX = (1920, 1080)
WIPE_SECONDS = 4.0  # there and back
LINE_PX = 2
SHEET_COLUMNS = 6
TILE_PX = 220
TILE_REACH = 1.5  # a tile shows so much more than the face's crop

NO_COMMENT = "{suffix} pictures have no comment: nothing in it says edited"

Finish = Callable[[Path], None]


@dataclass(frozen=True)
class Preview:
    """What is asked for.

    Attributes:
        path: a video, or a picture for a sheet.
        style: of a video: ``"side"`` or ``"split"``.
    """

    path: Path
    style: str = "side"

    @property
    def is_sheet(self) -> bool:
        return is_image_path(self.path)

    def check(self, *, source: Path, output: Path, overwrite: bool) -> None:
        """UsageError for one that cannot be written, or that makes no sense; before any work."""
        if self.style not in STYLES:
            raise UsageError(f"--preview-style {self.style}: there are {', '.join(STYLES)}")
        if self.path.resolve() == output.resolve():
            raise UsageError(f"--preview {self.path} is the output itself: give another file")
        check_kind(self.path)
        if self.is_sheet:
            if self.style != "side":
                raise UsageError(f"--preview-style {self.style} is of videos, as preview.mp4")
        elif is_image_path(source):
            raise UsageError(f"--preview {self.path}: of a picture it is one too, as preview.png")
        else:
            choose_encoder(self.path, EncodeOptions())
        check_replaceable(self.path, sources=[source], overwrite=overwrite)

    def open(self, plan: ClipPlan, spec: EditSpec, *, comment: str, finish: Finish) -> ShownPairs:
        """What takes the frames of a run; complete at the end of the ``with``."""
        if self.is_sheet:
            return PreviewSheet(self.path, plan, spec, comment=comment, finish=finish)
        return PreviewVideo(self, plan, spec, comment=comment, finish=finish)


class ShownPairs(AbstractContextManager["ShownPairs"]):
    """A preview that is being made; nothing is left of it after an error of the run.

    A fault of its own (a full disk) never costs the run: it is given up, and ``warnings`` says why.

    Attributes:
        warnings: complete after the ``with``.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._is_given_up = False

    def __enter__(self) -> Self:
        with self._guarded():
            self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._abandon(error)
        elif not self._is_given_up:
            with self._guarded():
                self._complete()

    def add(self, frame: Frame, picture: Image) -> None:
        """A frame of the source, and its picture in the output; in order."""
        if not self._is_given_up:
            with self._guarded():
                self._add(frame, picture)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (VidinvError, OSError) as error:
            self._is_given_up = True
            self._abandon(error)
            self.warnings.append(f"not written: {error}")

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _add(self, frame: Frame, picture: Image) -> None: ...

    @abstractmethod
    def _complete(self) -> None: ...

    @abstractmethod
    def _abandon(self, error: BaseException) -> None: ...


class PreviewVideo(ShownPairs):
    """Both as a video, with sound and times of the source; of a range alone where there is one."""

    def __init__(
        self, preview: Preview, plan: ClipPlan, spec: EditSpec, *, comment: str, finish: Finish
    ) -> None:
        super().__init__()
        info, first = plan.info, plan.output.first
        inside = frames_within(plan.times_T2, info, spec.within)
        self._frames = range(max(first, inside.start), inside.stop)
        width, height = fitted_size(info, columns=1 if preview.style == "split" else 2)
        self._size = (width, height)
        self._made = "inversion" if spec.mode is RenderMode.INVERT else "edited"
        self._join = _wiped if preview.style == "split" else _side_by_side
        columns = 1 if preview.style == "split" else 2
        self._writer = open_writer(
            preview.path,
            source=info.of_pictures(width=columns * width, height=height + CAPTION_PX),
            cut=plan.cut(self._frames),
            comment=comment,
            finish=finish,
        )

    def _begin(self) -> None:
        self._writer.__enter__()

    def _add(self, frame: Frame, picture: Image) -> None:
        if frame.index not in self._frames:
            return
        before, after = (_resized(image, self._size) for image in (frame.image, picture))
        both = self._join(before, after, self._made, frame.time_seconds)
        self._writer.write(replace(frame, image=both, alpha=None, captions=b""))

    def _complete(self) -> None:
        self._writer.__exit__(None, None, None)
        self.warnings += self._writer.warnings

    def _abandon(self, error: BaseException) -> None:
        self._writer.__exit__(type(error), error, error.__traceback__)


class PreviewSheet(ShownPairs):
    """The edited faces at several times, evenly spread over the frames that have one."""

    def __init__(
        self, path: Path, plan: ClipPlan, spec: EditSpec, *, comment: str, finish: Finish
    ) -> None:
        super().__init__()
        self._path, self._spec, self._plan = path, spec, plan
        self._comment, self._finish = comment, finish
        self._columns: list[tuple[tuple[str, Picture], tuple[str, Picture]]] = []
        edited = sorted(
            {n for track in plan.analysis.tracks for n in range(track.first, track.last + 1)}
        )
        # In the middle of equal parts: at its ends an edit may be faded out.
        count = min(SHEET_COLUMNS, len(edited))
        self._chosen = {edited[int((n + 0.5) * len(edited) / count)] for n in range(count)}
        self._side_px = TILE_PX if len(self._chosen) > 1 else 2 * TILE_PX

    def _begin(self) -> None: ...

    def _add(self, frame: Frame, picture: Image) -> None:
        if frame.index not in self._chosen:
            return
        tracks = self._plan.analysis.tracks_at(frame.index)
        before, after = (
            _tile(image, tracks, frame.index, self._side_px) for image in (frame.image, picture)
        )
        seconds = frame.time_seconds - self._plan.start_seconds
        persons = sorted({track.person for track in tracks})
        words = (f"source {seconds:.1f} s", said(self._spec, seconds, persons))
        self._columns.append(((words[0], before), (words[1], after)))

    def _complete(self) -> None:
        if not self._columns:
            self.warnings.append("not written: the output has none of the edited frames")
            return
        rows = list(zip(*self._columns, strict=True))
        picture = sheet(rows, side_px=self._side_px, whole_captions=True)
        write_image(self._path, picture, comment=self._comment, finish=self._finish)
        if not keeps_comment(self._path):
            self.warnings.append(NO_COMMENT.format(suffix=self._path.suffix))

    def _abandon(self, error: BaseException) -> None: ...


def fitted_size(info: VideoInfo, *, columns: int) -> tuple[int, int]:
    """Width and height of one picture, as displayed, even, so that all columns fit a screen."""
    width, height = info.width * info.pixel_aspect, info.height
    scale = min(1.0, SCREEN_PX[0] / columns / width, (SCREEN_PX[1] - CAPTION_PX) / height)
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def _resized(image: Image, size: tuple[int, int]) -> Picture:
    image = as_uint8(image)
    if (image.shape[1], image.shape[0]) == size:
        return image
    how = cv2.INTER_AREA if size[1] < image.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _side_by_side(before: Picture, after: Picture, made: str, seconds: float) -> Picture:
    return np.concatenate([captioned(before, "source"), captioned(after, made)], axis=1)


def _wiped(before: Picture, after: Picture, made: str, seconds: float) -> Picture:
    """Left of a line the source, right of it the edit; the line goes to and fro."""
    phase = 2 * np.pi * seconds / WIPE_SECONDS
    x = round(before.shape[1] * (0.5 + 0.5 * np.sin(phase)))
    both = np.concatenate([before[:, :x], after[:, x:]], axis=1)
    both[:, max(0, x - LINE_PX // 2) : x + LINE_PX // 2] = 255
    return captioned(both, f"source | {made}")


def _tile(image: Image, tracks: Sequence[FaceTrack], index: int, side_px: int) -> Picture:
    """The part of a frame with these faces, as a square that is white where the frame ends."""
    crops = [track.crop(index) for track in tracks]
    image = as_displayed(as_uint8(image), crops[0].pixel_aspect)
    reach = [TILE_REACH * crop.side_px / 2 for crop in crops]
    x = [crop.center_x + side * r for crop, r in zip(crops, reach, strict=True) for side in (-1, 1)]
    y = [crop.center_y + side * r for crop, r in zip(crops, reach, strict=True) for side in (-1, 1)]
    half = max(max(x) - min(x), max(y) - min(y)) / 2
    left, right = _clipped((max(x) + min(x)) / 2, half, image.shape[1])
    top, bottom = _clipped((max(y) + min(y)) / 2, half, image.shape[0])
    part = image[top:bottom, left:right]
    scale = side_px / max(part.shape[:2])
    height, width = (max(1, round(length * scale)) for length in part.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    tile = np.full((side_px, side_px, 3), 255, np.uint8)
    top, left = (side_px - height) // 2, (side_px - width) // 2
    tile[top : top + height, left : left + width] = cv2.resize(
        part, (width, height), interpolation=how
    )
    return tile


def _clipped(center: float, half: float, length: int) -> tuple[int, int]:
    first = round(center - half)
    end = int(np.clip(first + round(2 * half), 1, length))
    return int(np.clip(first, 0, end - 1)), end


def said(spec: EditSpec, seconds: float, persons: Sequence[int]) -> str:
    """The strengths at a time, of those whom a tile shows."""
    if spec.mode is RenderMode.INVERT:
        return "inversion"
    theirs = [attributes_of(spec.attributes, person) for person in persons]
    shown = theirs[0]
    if any(its != shown for its in theirs):
        pairs = zip(persons, theirs, strict=True)
        shown = {f"{face}:{name}": keys for face, its in pairs for name, keys in its.items()}
    return ", ".join(
        f"{name}{NO_BREAK}{strength_at(keys, seconds):.1f}" for name, keys in shown.items()
    )
