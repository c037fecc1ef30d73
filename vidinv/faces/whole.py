"""Packs of other things than faces: the same square of every frame, and nothing to detect.

Such a pack names its square as its alignment: ``frame``, the largest square in the middle;
``letterbox``, the square around the whole frame, as generators of cars have it; ``crop:X,Y,SIDE``,
a square of the frame by its left upper corner, in pixels as displayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from vidinv.errors import UsageError
from vidinv.faces.crops import as_displayed
from vidinv.types import Analysis, Crop, FaceTrack, Frame, Image

WHOLE_ALIGNMENTS = ("frame", "letterbox", "crop:X,Y,SIDE")


@dataclass(frozen=True)
class Square:
    """Which square of a frame a generator sees.

    Attributes:
        name: ``"frame"``, ``"letterbox"`` or ``"crop"``.
        left, top, side: of a ``"crop"``, in displayed pixels.
    """

    name: str
    left: float = 0.0
    top: float = 0.0
    side: float = 0.0

    def crop(self, width: int, height: int, *, pixel_aspect: float = 1.0) -> Crop:
        """For frames of this size as displayed; UsageError where the square is not in them."""
        if self.name == "crop":
            fits = self.left + self.side <= width and self.top + self.side <= height
            if not fits:
                raise UsageError(
                    f"the pack's square (left {self.left:g}, top {self.top:g}, side "
                    f"{self.side:g}) is not inside frames of {width}x{height}"
                )
            x, y, side = self.left + self.side / 2, self.top + self.side / 2, self.side
        else:
            x, y = width / 2, height / 2
            side = min(width, height) if self.name == "frame" else max(width, height)
        return Crop(x - 0.5, y - 0.5, side / 2, 0.0, pixel_aspect=pixel_aspect)


def whole_alignment(name: str) -> Square | None:
    """The square of an alignment without faces; None for one of faces, or of no kind.

    Raises:
        UsageError: ``crop:`` without three fitting numbers.
    """
    kind, colon, numbers = name.partition(":")
    if name in ("frame", "letterbox"):
        return Square(name)
    if kind != "crop" or not colon:
        return None
    try:
        left, top, side = map(float, numbers.split(","))
    except ValueError:
        left = top = side = -1.0
    if min(left, top) < 0 or not side > 0:
        raise UsageError(f"alignment {name!r} must be crop:X,Y,SIDE in pixels")
    return Square("crop", left, top, side)


def whole_tracks(
    frames: Iterable[Frame],
    *,
    new_shot: Callable[[Image], int | None],
    square: Square,
    pixel_aspect: float = 1.0,
) -> Analysis:
    """The shots of a clip, each with one track of the same square, which has no landmarks.

    Args:
        frames: the clip, in display order; read once, never held.
        new_shot: called once per frame in order; where a new shot begins, how many frames before
            show both shots, else None (``vidinv.video.ShotDetector.update``).
        pixel_aspect: width over height of a pixel.
    """
    firsts: list[int] = []
    count, crop = 0, None
    for frame in frames:
        mixed = new_shot(frame.image)
        if mixed is not None or not firsts:
            firsts.append(count - (mixed or 0) // 2)
        if crop is None:
            height, width = as_displayed(frame.image, pixel_aspect).shape[:2]
            crop = square.crop(width, height, pixel_aspect=pixel_aspect)
        count += 1
    if crop is None:
        return Analysis(0, (), ())
    lasts = [first - 1 for first in firsts[1:]] + [count - 1]
    shots = tuple(zip(firsts, lasts, strict=True))
    row = crop.as_array()
    tracks = tuple(
        FaceTrack(
            id=number,
            shot=number,
            first=first,
            landmarks_T682=np.full((last - first + 1, 68, 2), np.nan, np.float32),
            crops_T4=np.repeat(row[None], last - first + 1, axis=0),
            measured_T=np.ones(last - first + 1, bool),
            pixel_aspect=pixel_aspect,
        )
        for number, (first, last) in enumerate(shots)
    )
    return Analysis(count, shots, tracks)
