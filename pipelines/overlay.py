"""What an edit goes by, drawn over a frame: crops, landmarks, masks and numbers of the faces."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.faces import face_mask
from vidinv.geometry import transform_points
from vidinv.sheets import Picture
from vidinv.types import FaceTrack

MASK_PX = 128
CROP, MASK, MEASURED, FILLED_IN = (255, 220, 0), (0, 170, 255), (0, 230, 0), (255, 40, 40)
"""RGB: the crop that the generator sees, the outline of the mask, landmarks, and such between
sightings.
"""
_SUBPIXEL_BITS = 4


def draw_faces(
    picture: Picture, index: int, tracks: Iterable[FaceTrack], *, crop_scale: float
) -> Picture:
    """A frame with every face that is there.

    Args:
        picture: RGB ``[H, W, 3]`` uint8; not modified.
        index: of the frame.
        crop_scale: of the alignment that the tracks' crops are of (``Alignment.crop_scale``).
    """
    drawn = picture.copy()
    thick = max(1, round(min(picture.shape[:2]) / 400))
    for track in tracks:
        if track.covers(index):
            _draw(drawn, index, track, crop_scale, thick)
    return drawn


def _draw(drawn: Picture, index: int, track: FaceTrack, crop_scale: float, thick: int) -> None:
    crop, landmarks = track.crop(index), track.landmarks(index)
    to_frame = crop.crop_to_frame(MASK_PX)
    low, high = -0.5, MASK_PX - 0.5
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    square = transform_points(corners, to_frame)
    _outline(drawn, square, CROP, thick)
    mask = face_mask(landmarks, crop=crop, size_px=MASK_PX, crop_scale=crop_scale)
    outlines, _ = cv2.findContours(
        (mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    for outline in outlines:
        _outline(drawn, transform_points(outline[:, 0].astype(float), to_frame), MASK, thick)
    colour = MEASURED if track.measured_T[index - track.first] else FILLED_IN
    for point in _fixed(landmarks):
        cv2.circle(drawn, point, thick << _SUBPIXEL_BITS, colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    where = (int(square[:, 0].min()) + 4 * thick, int(square[:, 1].min()) + 14 * thick)
    cv2.putText(
        drawn,
        str(track.person),
        where,
        cv2.FONT_HERSHEY_SIMPLEX,
        0.45 * thick,
        CROP,
        thick,
        cv2.LINE_AA,
    )


def _outline(
    drawn: Picture, points: npt.NDArray[np.floating], colour: tuple[int, int, int], thick: int
) -> None:
    polygon = np.array(_fixed(points), np.int32)
    cv2.polylines(drawn, [polygon], True, colour, thick, cv2.LINE_AA, _SUBPIXEL_BITS)


def _fixed(points: npt.NDArray[np.floating]) -> list[tuple[int, int]]:
    """As OpenCV takes parts of a pixel."""
    scaled = np.rint(np.asarray(points) * (1 << _SUBPIXEL_BITS)).astype(int)
    return [(int(x), int(y)) for x, y in scaled]
