"""Contact sheets: pictures side by side, each under its caption."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

CAPTION_PX = 20
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
_MARGIN_PX = 4

Picture = npt.NDArray[np.uint8]


def captioned(picture: Picture, text: str) -> Picture:
    """``[H, W, 3]`` with a white strip above that holds the text (what fits of it)."""
    strip = np.full((CAPTION_PX, picture.shape[1], 3), 255, np.uint8)
    where = (_MARGIN_PX, CAPTION_PX - 6)
    cv2.putText(strip, text, where, _FONT, _FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])


def resized(picture: npt.NDArray[np.floating] | Picture, side_px: int) -> Picture:
    """A square picture, 0..255 of any type, at another size: antialiased, or enlarged cubically."""
    values = np.asarray(picture, np.float32)
    if side_px != len(picture):
        how = cv2.INTER_AREA if side_px < len(picture) else cv2.INTER_CUBIC
        values = np.asarray(cv2.resize(values, (side_px, side_px), interpolation=how))
    return np.rint(values).clip(0, 255).astype(np.uint8)


def sheet(
    rows: Sequence[Sequence[tuple[str, npt.NDArray[np.floating] | Picture]]], *, side_px: int
) -> Picture:
    """Rows of squares of one side; every row has as many as the first.

    Args:
        rows: captions and square pictures ``[R, R, 3]`` RGB 0..255, of any size each.
    """
    lines = []
    for row in rows:
        tiles = [captioned(resized(picture, side_px), text) for text, picture in row]
        lines.append(np.concatenate(tiles, axis=1))
    return np.concatenate(lines)
