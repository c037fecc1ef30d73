"""Measures of one face through a clip and its edit, frame by frame, for ``vidinv report``.

A face is measured in a chip: the FFHQ square of the source's landmarks, cut from source and
output alike. Chips are kept as JPEG in a temporary file, so that memory does not grow with the
clip; recognition and thumbnails come back for the frames they want. The inversion's is there twice:
pasted into the frame, to be looked at, and as the generator gave it, to be recognised. Also kept
are output - source, which sudden changes are told from: when someone else's face is found, it no
longer counts as usual there.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.faces import FFHQ, TIGHT, extract_crop, face_mask
from vidinv.faces.chips import refine_landmarks
from vidinv.faces.crops import as_uint8
from vidinv.faces.protocols import Backend, Points
from vidinv.geometry import transform_points
from vidinv.metrics.attributes import SmileMeasure, geometry, normalised_landmarks
from vidinv.metrics.temporal import NeighbourDifference
from vidinv.report.model import FrameRow
from vidinv.report.ranking import REACH
from vidinv.types import FaceTrack, Frame, Image

CHIP_PX = 256  # the recognition net takes 150 px of about 230 in it
GENERATED = "generated"  # the name of the chip that is the generator's own picture
_JPEG_QUALITY = 95
_FLOW_PX = 160  # flow of a face costs 2 ms here
_POP_PX = 48
_DIFFERENCE = "difference"  # beside the names of clips
_ON_FACE, _OFF_FACE = 0.98, 0.02  # of the mask; between them lies the border

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FaceDifference:
    """Output - source of a face at a small size, and where its face and the mask's border are.

    Attributes:
        levels: ``[P, P, 3]`` int16; ``face``, ``border``: ``[P, P]`` bool.
    """

    levels: npt.NDArray[np.int16]
    face: npt.NDArray[np.bool_]
    border: npt.NDArray[np.bool_]

    def departure(self, near: Sequence[FaceDifference]) -> tuple[float | None, float | None]:
        """How far it is from the median of those near in time, inside the face and at the border.

        Levels of 0..255.
        """
        usual = np.median([other.levels for other in near], axis=0)
        departure = np.abs(self.levels - usual).mean(2)
        return _mean(departure, self.face), _mean(departure, self.border)


class ChipStore:
    """Chips on disk, by track, frame and clip name; a context manager."""

    def __init__(self) -> None:
        self._file: IO[bytes]
        self._places: dict[tuple[int, int, str], tuple[int, int]] = {}
        self._points: dict[tuple[int, int, str], Points] = {}

    def __enter__(self) -> ChipStore:
        self._file = tempfile.TemporaryFile(prefix="vidinv-report-")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, track: int, frame: int, chips: dict[str, Picture], points: Points) -> None:
        """Keep chips of one face in one frame, and its ``[68, 2]`` landmarks in their pixels."""
        for name, chip in chips.items():
            self._points[track, frame, name] = points
            quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
            coded = cv2.imencode(".jpg", np.ascontiguousarray(chip[..., ::-1]), quality)[1]
            self._write((track, frame, name), coded.tobytes())

    def chip(self, track: int, frame: int, name: str) -> Picture:
        """``[CHIP_PX, CHIP_PX, 3]`` RGB; a larger generator's picture is as large as it is."""
        data = np.frombuffer(self._read((track, frame, name)), np.uint8)
        return as_uint8(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])

    def put_difference(self, track: int, frame: int, difference: FaceDifference) -> None:
        """Keep how source and output differ; exact."""
        data = [difference.levels, difference.face, difference.border]
        self._write((track, frame, _DIFFERENCE), b"".join(one.tobytes() for one in data))

    def difference(self, track: int, frame: int) -> FaceDifference:
        """What ``put_difference`` kept."""
        data = self._read((track, frame, _DIFFERENCE))
        shape, size = (_POP_PX, _POP_PX), _POP_PX**2
        levels = np.frombuffer(data, np.int16, 3 * size).reshape(*shape, 3)
        face, border = np.frombuffer(data, bool, offset=6 * size).reshape(2, *shape)
        return FaceDifference(levels, face, border)

    def _write(self, key: tuple[int, int, str], data: bytes) -> None:
        self._places[key] = (self._file.tell(), len(data))
        self._file.write(data)

    def _read(self, key: tuple[int, int, str]) -> bytes:
        offset, length = self._places[key]
        end = self._file.tell()
        self._file.seek(offset)
        data = self._file.read(length)
        self._file.seek(end)
        return data

    def has(self, track: int, frame: int, name: str) -> bool:
        """Whether there is such a chip; the inversion's are made for some frames only."""
        return (track, frame, name) in self._places

    def chips(self, track: int, frame: int) -> dict[str, Picture]:
        """The face in a frame of each clip, by its name."""
        names = ("source", "output", "inversion")
        return {n: self.chip(track, frame, n) for n in names if self.has(track, frame, n)}

    def points(self, track: int, frame: int, name: str) -> Points:
        """``[68, 2]`` landmarks of the source in pixels of a chip."""
        return self._points[track, frame, name]


class TrackMeter:
    """Measures one track; ``observe`` in frame order, then ``finish``.

    Args:
        smile: the pack's; None measures no smile but the mouth's geometry.
    """

    def __init__(
        self,
        track: FaceTrack,
        backend: Backend,
        store: ChipStore,
        smile: SmileMeasure | None = None,
    ) -> None:
        self.track, self._backend, self._store = track, backend, store
        self._smile = smile
        self._differ = NeighbourDifference()
        self._window: deque[tuple[FrameRow, FaceDifference]] = deque(maxlen=2 * REACH + 1)
        self._waiting: deque[tuple[FrameRow, FaceDifference]] = deque()
        self.rows: list[FrameRow] = []

    def observe(self, frame: Frame, seconds: float, pictures: Mapping[str, Image]) -> FrameRow:
        """Measure the face in ``pictures`` (source, output and, if made, inversion)."""
        landmarks, crop = self.track.landmarks(frame.index), self.track.crop(frame.index)
        square = FFHQ.crop(landmarks, pixel_aspect=self.track.pixel_aspect)
        chips = {
            name: as_uint8(extract_crop(picture, square, CHIP_PX))
            for name, picture in pictures.items()
        }
        points = transform_points(landmarks, square.frame_to_crop(CHIP_PX)).astype(np.float32)
        self._store.put(self.track.id, frame.index, chips, points)
        row = FrameRow(
            frame=frame.index,
            seconds=round(seconds, 4),
            track=self.track.id,
            shot=self.track.shot,
            seen=bool(self.track.measured_T[frame.index - self.track.first]),
            face_px=round(crop.side_px, 1),
        )
        mask = face_mask(landmarks, crop=square, size_px=_FLOW_PX, crop_scale=FFHQ.crop_scale)
        self._flicker(row, chips, mask)
        self._attributes(row, chips, points)
        self._keep_difference(row, chips, mask)
        self.rows.append(row)
        return row

    def finish(self) -> list[FrameRow]:
        """The rows of the track, complete."""
        while self._waiting:
            self._measure_pop(*self._waiting.popleft())
        return self.rows

    def _flicker(self, row: FrameRow, chips: dict[str, Picture], mask: Mask) -> None:
        small = {name: _resized(chip, _FLOW_PX) for name, chip in chips.items()}
        maps = self._differ(small["source"], small["source"], small["output"])
        face, border = mask >= _ON_FACE, _border(mask)
        if maps is not None:
            row.flicker_source, row.flicker_output = (_mean(m, face) for m in maps)
            row.border_source, row.border_output = (_mean(m, border) for m in maps)
        change = cv2.absdiff(small["source"], small["output"]).mean(2)
        row.change, row.change_beside = _mean(change, face), _mean(change, mask <= _OFF_FACE)

    def _attributes(self, row: FrameRow, chips: dict[str, Picture], points: Points) -> None:
        row.source_attributes = self._shape(chips["source"], points)
        row.output_attributes = self._shape(chips["output"], points)

    def _shape(self, chip: Picture, points: Points) -> dict[str, float]:
        """Attributes of the landmarks found in this chip, near those of the source."""
        gray = as_uint8(cv2.cvtColor(chip, cv2.COLOR_RGB2GRAY))
        side_px = TIGHT.crop(points).side_px
        found = refine_landmarks(gray, points, side_px, self._backend)[None]
        shape = measure_shape(found)
        if self._smile is not None:
            shape["smile"] = self._smile(found)
        return {name: float(values[0]) for name, values in shape.items()}

    def _keep_difference(self, row: FrameRow, chips: dict[str, Picture], mask: Mask) -> None:
        source, output = (_resized(chips[name], _POP_PX) for name in ("source", "output"))
        small = _resized(mask, _POP_PX)
        levels = output.astype(np.int16) - source
        difference = FaceDifference(levels, small >= _ON_FACE, _border(small))
        self._store.put_difference(row.track, row.frame, difference)
        self._window.append((row, difference))
        self._waiting.append((row, difference))
        if len(self._waiting) > REACH:
            self._measure_pop(*self._waiting.popleft())

    def _measure_pop(self, row: FrameRow, difference: FaceDifference) -> None:
        near = [other for there, other in self._window if abs(there.frame - row.frame) <= REACH]
        row.pop_face, row.pop_border = difference.departure(near)


def measure_pops_without_strangers(
    rows: Sequence[FrameRow],
    store: ChipStore,
    counted: Callable[[Sequence[FrameRow]], Iterable[FrameRow]] = iter,
) -> None:
    """Sudden changes of rows of one track near others that are someone else's face.

    Those no longer count as usual: where they are most of the frames within ``REACH``, the good
    ones would be the exception. A row that is left without neighbours stays as it is.
    """
    frames = np.array([row.frame for row in rows])
    others = np.array(["identity" in row.reasons for row in rows], bool)
    near = [row for row in rows if (np.abs(frames[others] - row.frame) <= REACH).any()]
    for row in counted(near):
        usual = frames[~others & (np.abs(frames - row.frame) <= REACH)]
        if len(usual):
            near_by = [store.difference(row.track, int(frame)) for frame in usual]
            own = store.difference(row.track, row.frame)
            row.pop_face, row.pop_border = own.departure(near_by)


def measure_shape(landmarks_M682: Points) -> dict[str, npt.NDArray[np.float64]]:
    """``geometry`` and the mouth's corners: lift over the lips' middle and distance, eye units."""
    points = normalised_landmarks(landmarks_M682)
    middle = (points[:, 62, 1] + points[:, 66, 1]) / 2
    corners = (points[:, 48, 1] + points[:, 54, 1]) / 2
    mouth = {
        "mouth_corners": middle - corners,
        "mouth_width": np.linalg.norm(points[:, 54] - points[:, 48], axis=1),
    }
    return {**mouth, **geometry(landmarks_M682)}


def _border(mask: Mask) -> npt.NDArray[np.bool_]:
    return (mask > _OFF_FACE) & (mask < _ON_FACE)


def _mean(values: npt.NDArray[np.floating], inside: npt.NDArray[np.bool_]) -> float | None:
    return float(values[inside].mean()) if inside.any() else None


def _resized(picture: npt.NDArray, size_px: int) -> npt.NDArray:
    return np.asarray(cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_AREA))
