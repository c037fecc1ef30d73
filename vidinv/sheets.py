"""Contact sheets: pictures side by side, each under its caption."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

CAPTION_PX = 20
NO_BREAK = "\N{NO-BREAK SPACE}"  # between words of a caption that stay on one line
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
_MARGIN_PX = 4

Picture = npt.NDArray[np.uint8]


def captioned(picture: Picture, text: str, *, lines: int = 1) -> Picture:
    """``[H, W, 3]`` with a white strip above that holds the text; what does not fit ends in dots.

    Args:
        lines: how many the strip has.
    """
    strip = np.full((lines * CAPTION_PX, picture.shape[1], 3), 255, np.uint8)
    broken = _broken(text, picture.shape[1])
    shown = [*broken[: lines - 1], " ".join(broken[lines - 1 :])]
    for number, line in enumerate(shown, 1):
        where = (_MARGIN_PX, number * CAPTION_PX - 6)
        line = _shortened(line.replace(NO_BREAK, " "), picture.shape[1])
        cv2.putText(strip, line, where, _FONT, _FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])


def _broken(text: str, width_px: int) -> list[str]:
    """Lines that fit, broken at spaces; a word that does not fit has its own."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and not _fits(longer, width_px):
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _shortened(line: str, width_px: int) -> str:
    if _fits(line, width_px):
        return line
    while line and not _fits(line + "...", width_px):
        line = line[:-1]
    return line + "..."


def _fits(text: str, width_px: int) -> bool:
    (text_px, _), _ = cv2.getTextSize(text.replace(NO_BREAK, " "), _FONT, _FONT_SCALE, 1)
    return bool(text_px <= width_px - 2 * _MARGIN_PX)


def resized(picture: npt.NDArray[np.floating] | Picture, side_px: int) -> Picture:
    """A square picture, 0..255 of any type, at another size: antialiased, or enlarged cubically."""
    values = np.asarray(picture, np.float32)
    if side_px != len(picture):
        how = cv2.INTER_AREA if side_px < len(picture) else cv2.INTER_CUBIC
        values = np.asarray(cv2.resize(values, (side_px, side_px), interpolation=how))
    return np.rint(values).clip(0, 255).astype(np.uint8)


def sheet(
    rows: Sequence[Sequence[tuple[str, npt.NDArray[np.floating] | Picture]]],
    *,
    side_px: int,
    whole_captions: bool = False,
) -> Picture:
    """Rows of squares of one side; every row has as many as the first.

    Args:
        rows: captions and square pictures ``[R, R, 3]`` RGB 0..255, of any size each.
        whole_captions: they have as many lines as the longest of their row needs, instead of one.
    """
    strips = []
    for row in rows:
        needed = max(len(_broken(text, side_px)) for text, _ in row)
        lines = needed if whole_captions else 1
        tiles = [captioned(resized(picture, side_px), text, lines=lines) for text, picture in row]
        strips.append(np.concatenate(tiles, axis=1))
    return np.concatenate(strips)
