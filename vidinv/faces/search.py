"""Searching a whole picture for faces, small first.

The detector's cost grows with the pixels, its reach with the enlargement: so a picture is searched
at a few fixed sizes, each only when the one before found nothing. The detector sees faces that are
turned by up to about 25 degrees, and whole: where it finds none, turned and mirrored pictures are
searched as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vidinv.faces.align import MIRRORED
from vidinv.faces.chips import ROLLS, face_side, landmarks_of, refine_landmarks
from vidinv.faces.crops import as_uint8
from vidinv.faces.protocols import Backend, Box, Detection, Gray, Points
from vidinv.geometry import transform_points
from vidinv.types import FloatArray, Image

# Long sides in pixels. Of 11 real clips 320 finds the faces in 8 (10 ms), 720 in all (30-45 ms).
SEARCH_SIDES_PX = (320, 720, 1280)
_MAX_ENLARGEMENT = 1.5  # 55 px faces show at it; more found no more on the test clips
# Larger frames are analysed at half, a third, ... of their size: chips are 320 px anyway, and the
# frames kept for following back stay under 2 MB each.
_MAX_ANALYSED_SIDE_PX = 1920
# Faces seen the right way up score 1.2 or more (4 pictures of rolled heads and 6 upright clips,
# eight angles), up to 0.8 where they are turned by 45 degrees and 0.4 by more.
ROLLED_SCORE = 1.0

# Where the middle of a cut-off face may lie, and how far half of it reaches, in long sides of the
# picture; the detector sees faces from a third of that side on.
_CUT_OFF_SIDE_PX = 240
_CUT_OFF_MIDDLES = (0.0, 0.05, 0.1)
_CUT_OFF_REACH = 0.4
_CUT_OFF_SCORE = 1.0
_CUT_OFF_ASIDE = 0.1  # of the detector's box


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A face of a still picture: ``[68, 2]`` landmarks, tight side in pixels, and score."""

    landmarks: Points
    side_px: float
    score: float


def find_faces(image: Image, backend: Backend) -> list[FoundFace]:
    """Faces of one RGB picture (uint8 or uint16), largest first; landmarks in its pixels."""
    gray = analysis_gray(image)
    scale = reduction(image.shape)
    for side_px in search_sides(max(gray.shape), SEARCH_SIDES_PX):
        found = [d for d in detect_at(gray, side_px, backend) if d.score >= 0]
        if found:
            faces = [
                FoundFace(
                    scale_points(landmarks_of(gray, d, backend), scale),
                    face_side(d.box) * scale,
                    d.score,
                )
                for d in found
            ]
            return sorted(faces, key=lambda face: -face.side_px)
    rare = find_cut_off(gray, backend) or find_rolled(gray, SEARCH_SIDES_PX[1], backend)
    if rare is None:
        return []
    landmarks = scale_points(rare.landmarks, scale)
    return [FoundFace(landmarks, rare.side_px * scale, rare.score)]


def find_rolled(gray: Gray, side_px: int, backend: Backend) -> FoundFace | None:
    """The surest face of a picture that is turned this way and that; None if none is sure.

    Args:
        gray: ``[H, W]``, searched at a long side of ``side_px`` at most.
    """
    scale = min(1.0, side_px / max(gray.shape))
    small = as_uint8(cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    best: tuple[float, Detection, Gray, FloatArray] | None = None
    for degrees in ROLLS:
        turned, matrix = _turned(small, degrees)
        for detection in backend.detector.detect(turned, threshold=ROLLED_SCORE):
            if best is None or detection.score > best[0]:
                best = detection.score, detection, turned, matrix
    if best is None:
        return None
    score, detection, turned, matrix = best
    rough = backend.landmarks.predict(turned, detection.box)
    back = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
    inside = transform_points(rough, back).astype(np.float32)
    landmarks = scale_points(inside, max(gray.shape) / max(small.shape))
    side = face_side(detection.box) / scale
    return FoundFace(refine_landmarks(gray, landmarks, side, backend), side, score)


def find_cut_off(gray: Gray, backend: Backend) -> FoundFace | None:
    """The surest face that a side of the picture cuts about in half; None if none is sure.

    Half a face and its mirror image are a face; where the middle of it is, the detector says.
    """
    scale = min(1.0, _CUT_OFF_SIDE_PX / max(gray.shape))
    small = as_uint8(cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    length = max(small.shape)
    best: FoundFace | None = None
    for mirrored in (False, True):
        side = np.ascontiguousarray(small[:, ::-1]) if mirrored else small
        for middle in (round(part * length) for part in _CUT_OFF_MIDDLES):
            half = side[:, middle : middle + round(_CUT_OFF_REACH * length)]
            face = _mirrored_face(half, backend)
            if face is None or (best is not None and best.score >= face.score):
                continue
            # The middle of the two halves lies between two pixels.
            points = face.landmarks + np.array([middle - half.shape[1], 0], np.float32)
            if mirrored:
                points = _flipped(points, small.shape[1])
            factor = max(gray.shape) / length
            best = FoundFace(scale_points(points, factor), face.side_px * factor, face.score)
    return best


def _mirrored_face(half: Gray, backend: Backend) -> FoundFace | None:
    """The face that half a picture and its mirror image make, if its middle is theirs."""
    whole = np.ascontiguousarray(np.hstack([half[:, ::-1], half]))
    middle = half.shape[1] - 0.5
    for detection in backend.detector.detect(whole, threshold=_CUT_OFF_SCORE):
        left, _, right, _ = detection.box
        if abs((left + right) / 2 - middle) < _CUT_OFF_ASIDE * (right - left):
            landmarks = backend.landmarks.predict(whole, detection.box)
            return FoundFace(landmarks, face_side(detection.box), detection.score)
    return None


def _flipped(points: Points, width: int) -> Points:
    """``[68, 2]`` landmarks in the mirrored picture: left and right change their places."""
    flipped = points[list(MIRRORED)].copy()
    flipped[:, 0] = width - 1 - flipped[:, 0]
    return flipped


def _turned(gray: Gray, degrees: float) -> tuple[Gray, FloatArray]:
    """A picture turned counter-clockwise, whole, and the ``[2, 3]`` matrix that turned it."""
    height, width = gray.shape
    middle = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, degrees, 1.0), np.float64)
    cosine, sine = np.abs(matrix[0, :2])
    size = math.ceil(width * cosine + height * sine), math.ceil(height * cosine + width * sine)
    matrix[:, 2] += [(size[0] - width) / 2, (size[1] - height) / 2]
    return as_uint8(cv2.warpAffine(gray, matrix, size)), matrix


def search_sides(length_px: int, sides_px: Sequence[int]) -> list[int]:
    """The long sides at which a picture with this long side is worth searching."""
    limit = round(length_px * _MAX_ENLARGEMENT)
    return sorted({min(side_px, limit) for side_px in sides_px})


def detect_at(gray: Gray, side_px: int, backend: Backend) -> list[Detection]:
    """Faces of a gray frame searched at a long side of ``side_px``, in pixels of the frame."""
    scale = side_px / max(gray.shape)
    size = max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    found = backend.detector.detect(as_uint8(cv2.resize(gray, size, interpolation=how)))
    width, height = gray.shape[1] / size[0], gray.shape[0] / size[1]
    return [Detection(_scale_box(d.box, width, height), d.score) for d in found]


def analysis_gray(image: Image) -> Gray:
    """The 8-bit gray picture that is analysed: ``image`` at ``1 / reduction`` of its size."""
    gray = as_uint8(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    factor = reduction(image.shape)
    if factor == 1:
        return gray
    height, width = (side // factor * factor for side in gray.shape)
    size = width // factor, height // factor
    return as_uint8(cv2.resize(gray[:height, :width], size, interpolation=cv2.INTER_AREA))


def reduction(shape: tuple[int, ...]) -> int:
    """Whole factor by which a frame of this shape is reduced for the analysis."""
    return max(1, math.ceil(max(shape[:2]) / _MAX_ANALYSED_SIDE_PX))


def scale_points(points: Points, scale: float) -> Points:
    """Pixel coordinates of the same points in a picture ``scale`` times as large."""
    return ((points + 0.5) * scale - 0.5).astype(np.float32)


def _scale_box(box: Box, width: float, height: float) -> Box:
    left, top, right, bottom = box
    return (
        (left + 0.5) * width - 0.5,
        (top + 0.5) * height - 0.5,
        (right + 0.5) * width - 0.5,
        (bottom + 0.5) * height - 0.5,
    )
