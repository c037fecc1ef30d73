"""Small pictures for the page: the frames that stand out, and some from all along the clip."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.report.model import FrameRow, Report

MAX_WORST = 24
MAX_REGULAR = 24
# 48 pairs of about 6 KB a picture keep the page under a megabyte.
_SIDE_PX, _JPEG_QUALITY = 176, 80


@dataclass(frozen=True)
class Thumbnail:
    """One face in one frame; ``pictures``: clip name -> data URI."""

    frame: int
    track: int
    seconds: float
    pictures: Mapping[str, str]

    @classmethod
    def of(cls, row: FrameRow, chips: Mapping[str, npt.NDArray[np.uint8]]) -> Thumbnail:
        """From square RGB chips by clip name."""
        pictures = {name: data_uri(chip) for name, chip in chips.items()}
        return cls(row.frame, row.track, row.seconds, pictures)


def data_uri(picture: npt.NDArray[np.uint8]) -> str:
    """An RGB square as a small JPEG inside a URI."""
    small = cv2.resize(picture, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    data = cv2.imencode(".jpg", np.ascontiguousarray(small[..., ::-1]), quality)[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")


def choose_thumbnails(report: Report, *, regular: int = MAX_REGULAR) -> list[FrameRow]:
    """Rows to show: the worst that stand out, then ``regular`` evenly of the changed tracks."""
    by_place = {(row.frame, row.track): row for row in report.rows}
    worst = [by_place[f.frame, f.track] for f in report.standing_out[:MAX_WORST]]
    changed = {track.id for track in report.tracks if track.changed}
    rows = [row for row in report.rows if not changed or row.track in changed]
    rows = [row for row in rows if row.distance is not None] or rows  # embedded, as far as any
    spread = np.linspace(0, len(rows) - 1, min(regular, len(rows))).round().astype(int)
    chosen = {(row.frame, row.track): row for row in (*worst, *(rows[i] for i in spread))}
    return list(chosen.values())
