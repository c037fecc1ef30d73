"""Decoded frames as a viewer sees them: upright, and all of the clip's first size.

Streams change their size or rotation in the middle (calls over bad networks, joined recordings). A
frame of another shape is shown whole, as players show it in a window: fitted, with black bars.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type as SideDataType

from vidinv.video.alpha import alpha_of, has_alpha, resized
from vidinv.video.color import ToRgb
from vidinv.video.info import VideoInfo


class Orientation:
    """How the stored picture is turned and mirrored for display."""

    def __init__(self, *, transpose: bool, flip_x: bool, flip_y: bool) -> None:
        self.transpose, self.flip_x, self.flip_y = transpose, flip_x, flip_y

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """From the display matrix, if any."""
        return cls.said_by(frame) or cls(transpose=False, flip_x=False, flip_y=False)

    @classmethod
    def said_by(cls, frame: av.VideoFrame) -> Orientation | None:
        """From the display matrix (ISO 14496-12: x' = a x + c y, y' = b x + d y); None without."""
        side_data: Any = frame.side_data  # its stub knows string keys only
        data = side_data.get(SideDataType.DISPLAYMATRIX)
        if data is None:
            return None
        a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(data), np.int32)[:5])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(transpose=False, flip_x=a < 0, flip_y=d < 0)
        return cls(transpose=True, flip_x=c < 0, flip_y=b < 0)

    @property
    def degrees_clockwise(self) -> int:
        """The rotation part: 0, 90, 180 or 270."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0

    def upright(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of ``[H, W, 3]`` or ``[H, W]`` as displayed."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


class Displayed:
    """Stored frames to RGB ``[height, width, 3]`` as ``info`` has it; ``notes`` say what it did.

    Args:
        info: of the clip, from its first frame.
        orientation: of the first frame; later ones that say nothing are turned as those before.
    """

    def __init__(self, info: VideoInfo, orientation: Orientation) -> None:
        self.notes: list[str] = []
        self._info, self._orientation = info, orientation
        self._transposed = orientation.transpose
        self._found_alpha, self._has_fitted = info.has_alpha, False
        self._to_rgb: dict[tuple[int, int], ToRgb] = {}

    def __call__(self, frame: av.VideoFrame, number: int) -> npt.NDArray[Any]:
        """The picture of frame ``number``; a view, copy it to keep it."""
        self.look_at(frame, number)
        if self._is_usual(frame):
            return self._orientation.upright(self._converter(frame.width, frame.height)(frame))
        return self._fitted(frame)

    def look_at(self, frame: av.VideoFrame, number: int) -> None:
        """Note what frame ``number`` changes for those after it, whether it is converted or not."""
        self._orientation = Orientation.said_by(frame) or self._orientation
        if not self._found_alpha and has_alpha(frame):
            self._found_alpha = True
            self.notes.append(
                f"pixels are transparent from frame {number} on, but not in the first one: "
                "they are written opaque"
            )
        if not self._has_fitted and not self._is_usual(frame):
            self._has_fitted = True
            turned, info = self._orientation.transpose, self._info
            shown = (frame.height, frame.width) if turned else (frame.width, frame.height)
            self.notes.append(
                f"the picture is {shown[0]}x{shown[1]} from frame {number} on, "
                f"{info.width}x{info.height} before: edited frames are fitted into that, with bars"
            )

    def alpha(self, frame: av.VideoFrame) -> npt.NDArray[Any]:
        """``[height, width]`` of the frame that was converted last; bars are transparent."""
        alpha = alpha_of(frame, self._info.frame_dtype)
        if self._is_usual(frame):
            return self._orientation.upright(alpha)
        canvas = np.zeros((self._info.height, self._info.width), self._info.frame_dtype)
        rows, columns, stored = self._place(frame)
        fitted = resized(alpha, width=stored[0], height=stored[1])
        canvas[rows, columns] = self._orientation.upright(fitted)
        return canvas

    def _is_usual(self, frame: av.VideoFrame) -> bool:
        """Of the first frame's size, and turned as that one."""
        usual = self._info.coded_width, self._info.coded_height
        is_turned_alike = self._orientation.transpose == self._transposed
        return (frame.width, frame.height) == usual and is_turned_alike

    def _place(self, frame: av.VideoFrame) -> tuple[slice, slice, tuple[int, int]]:
        """Rows and columns of a fitted picture, and its width and height before it is turned."""
        info, turned = self._info, self._orientation.transpose
        shown = (frame.height, frame.width) if turned else (frame.width, frame.height)
        # In the pixels of the clip, which the stored ones of a turned picture lie across.
        across = 1.0 if turned == self._transposed else info.pixel_aspect**-2
        scale = min(info.width / (shown[0] * across), info.height / shown[1])
        width = min(info.width, max(1, round(shown[0] * across * scale)))
        height = min(info.height, max(1, round(shown[1] * scale)))
        stored = (height, width) if turned else (width, height)
        top, left = (info.height - height) // 2, (info.width - width) // 2
        return slice(top, top + height), slice(left, left + width), stored

    def _fitted(self, frame: av.VideoFrame) -> npt.NDArray[Any]:
        """The whole picture in the middle, as large as fits, on black."""
        info = self._info
        rows, columns, stored = self._place(frame)
        canvas = np.zeros((info.height, info.width, 3), info.frame_dtype)
        canvas[rows, columns] = self._orientation.upright(self._converter(*stored)(frame))
        return canvas

    def _converter(self, width: int, height: int) -> ToRgb:
        """One for each size: swscale sets up its tables once."""
        size = width, height
        if size not in self._to_rgb:
            self._to_rgb[size] = ToRgb(width=width, height=height, dtype=self._info.frame_dtype)
        return self._to_rgb[size]
