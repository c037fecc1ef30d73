"""One face in a normalised picture: upright, fixed size, gray.

Given roughly where the landmarks are, the face is warped into a *chip*. In it the predictor gets
the same box every time (a detector's box jitters, and its landmarks with it), the detector's
window fits exactly (so asking "is this still a face?" costs 2 ms whatever the frame size), and
optical flow is measured in units of the face.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.faces.align import TIGHT
from vidinv.faces.crops import as_uint8, extract_crop, mirror_missing
from vidinv.faces.protocols import Backend, Box, Detection, Gray, Points
from vidinv.geometry import transform_points
from vidinv.types import Crop, FloatArray

# dlib's box measured in the tight crop on 8 real clips: same centre, 0.86 +- 0.06 of its side.
_BOX_OF_TIGHT = 0.86
_CHIP_OF_TIGHT = 1.4  # room for the detector's padding and for a fast move between frames
_LANDMARK_PX = 320  # dlib answers in whole pixels: 1 px is then 0.4 % of the face
_FLOW_PX = 160
# Face box in detector windows: a face a third smaller than thought still fills a window.
_FACE_WINDOWS = 1.4
# Least score of a face that is known to be about there; profiles and hands cost about this much.
KNOWN_FACE_SCORE = -0.3
# Turns, in degrees, between which a detector that sees faces turned by 25 degrees sees all of them.
ROLLS = (45, -45, 90, -90, 135, -135, 180)
# A face seen upside down scores 0.4 or less, at least 1.2 less than the right way up.
_ROLL_MARGIN = 0.6
# Flow whose way back misses by more than this (chip pixels) is not believed.
_ROUND_TRIP_PX = 1.0
_MIN_POINTS = 8  # fewer do not tell a motion from noise
_WINDOW_PX, _PYRAMID_LEVELS = 15, 3  # reach about 60 px of 160: a third of the face per frame
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03)


@dataclass(frozen=True, slots=True)
class Motion:
    """Where landmarks went between two frames, by optical flow.

    Attributes:
        landmarks: ``[68, 2]`` where they are now; unbelievable ones moved with the rest.
        growth: size of the face relative to the frame before.
        believed: fraction of the landmarks in the picture whose flow holds both ways, 0..1.
    """

    landmarks: Points
    growth: float
    believed: float


def face_box(landmarks: FloatArray) -> Box:
    """The box a detector would draw around ``[68, 2]`` landmarks."""
    crop = TIGHT.crop(landmarks)
    half = _BOX_OF_TIGHT * crop.side_px / 2
    x, y = crop.center_x, crop.center_y
    return x - half, y - half, x + half, y + half


def face_side(box: Box) -> float:
    """Side of the tight crop that goes with a detector's box, in pixels."""
    return (box[2] - box[0]) / _BOX_OF_TIGHT


def landmarks_of(gray: Gray, detection: Detection, backend: Backend) -> Points:
    """``[68, 2]`` landmarks of a detection: once in its box, once more in the upright chip."""
    rough = backend.landmarks.predict(gray, detection.box)
    return refine_landmarks(gray, rough, face_side(detection.box), backend)


def refine_landmarks(gray: Gray, landmarks: FloatArray, side_px: float, backend: Backend) -> Points:
    """``[68, 2]`` landmarks measured anew around an estimate of them.

    ``side_px`` is the side of the tight crop as detections tell it. Taken from the landmarks it
    would feed back: a mouth wide open enlarges the box, and a larger box the mouth.
    """
    crop = _chip_crop(landmarks, side_px)
    found = backend.landmarks.predict(_chip(gray, crop, _LANDMARK_PX), _box_in_chip(_LANDMARK_PX))
    return _to_frame(found, crop, _LANDMARK_PX)


def detect_in_chip(
    gray: Gray, landmarks: FloatArray, side_px: float, backend: Backend
) -> tuple[float, float]:
    """Score of the surest face right there, and its tight side in pixels; (-1, side) if none.

    Seen are faces a little below the detector's operating point: it is known where to look.
    """
    size_px = round(backend.detector.min_face_px * _FACE_WINDOWS * _CHIP_OF_TIGHT / _BOX_OF_TIGHT)
    crop = _chip_crop(landmarks, side_px)
    found = backend.detector.detect(_chip(gray, crop, size_px), threshold=KNOWN_FACE_SCORE)
    if not found:
        return -1.0, side_px
    return found[0].score, face_side(found[0].box) * crop.side_px / size_px


def best_roll(
    gray: Gray, landmarks: Points, side_px: float, score: float, backend: Backend
) -> tuple[Points, float, float]:
    """Landmarks, side and score of a face that may be another way up than ``landmarks`` say.

    A detector sees a face in an upside-down head now and then, with the mouth on its forehead: seen
    the right way up it is a much surer one.
    """
    found = landmarks, side_px, score
    least = score + _ROLL_MARGIN
    for degrees in ROLLS:
        turned = _turn(landmarks, degrees)
        new_score, new_side = detect_in_chip(gray, turned, side_px, backend)
        if new_score > least:
            found, least = (turned, new_side, new_score), new_score
    if found[0] is not landmarks:
        found = refine_landmarks(gray, found[0], found[1], backend), *found[1:]
    return found


def _turn(landmarks: Points, degrees: float) -> Points:
    """Landmarks turned about the middle of the face's box."""
    crop = TIGHT.crop(landmarks)
    middle = (crop.center_x, crop.center_y)
    matrix = cv2.getRotationMatrix2D(middle, degrees, 1.0)
    return transform_points(landmarks, np.asarray(matrix)).astype(np.float32)


def follow_landmarks(before: Gray, now: Gray, landmarks: Points) -> Motion:
    """Carry ``[68, 2]`` landmarks from one gray frame to the next by pyramidal Lucas-Kanade."""
    crop = _chip_crop(landmarks, TIGHT.crop(landmarks).side_px)
    chips = _chip(before, crop, _FLOW_PX), _chip(now, crop, _FLOW_PX)
    start = transform_points(landmarks, crop.frame_to_crop(_FLOW_PX)).astype(np.float32)[:, None]
    there, found = _lucas_kanade(*chips, start)
    back, found_back = _lucas_kanade(*chips[::-1], there)
    miss = np.linalg.norm(back - start, axis=2)[:, 0]
    seen = _in_picture(landmarks, now)
    good = found & found_back & (miss < _ROUND_TRIP_PX) & seen
    similarity = _similarity(start[good, 0], there[good, 0])
    along = transform_points(start[:, 0], similarity)
    moved = np.where(good[:, None], there[:, 0], along)
    growth = float(np.hypot(*similarity[:, 0]))
    return Motion(_to_frame(moved, crop, _FLOW_PX), growth, float(good.sum() / max(1, seen.sum())))


def _in_picture(points: Points, gray: Gray) -> npt.NDArray[np.bool_]:
    """``[N]``: whether points lie in a picture; what is mirrored beyond its border flows back."""
    height, width = gray.shape
    return np.asarray(((points >= -0.5) & (points <= [width - 0.5, height - 0.5])).all(axis=1))


def _lucas_kanade(before: Gray, now: Gray, points: Points) -> tuple[Points, npt.NDArray[np.bool_]]:
    """Where ``[N, 1, 2]`` points went, and ``[N]`` whether each was found."""
    window = (_WINDOW_PX, _WINDOW_PX)
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before,
        now,
        points,
        np.empty_like(points),
        winSize=window,
        maxLevel=_PYRAMID_LEVELS,
        criteria=_STOP,
    )
    return np.asarray(there, np.float32), np.asarray(found)[:, 0] == 1


def _similarity(start: Points, there: Points) -> FloatArray:
    """``[2, 3]`` similarity that maps most of the points; the identity if there is none."""
    if len(start) >= _MIN_POINTS:
        found, _ = cv2.estimateAffinePartial2D(
            start, there, method=cv2.RANSAC, ransacReprojThreshold=3.0
        )
        if found is not None:
            return np.asarray(found, np.float64)
    return np.eye(2, 3)


def _chip_crop(landmarks: FloatArray, side_px: float) -> Crop:
    """The square of a chip: around and along with the landmarks, sized by the tight side."""
    center_x, center_y, *axis = TIGHT.crop(landmarks).as_array()
    axis_x, axis_y = np.array(axis) * (side_px * _CHIP_OF_TIGHT / 2 / max(np.hypot(*axis), 1e-6))
    return Crop(center_x, center_y, axis_x, axis_y)


def _chip(gray: Gray, crop: Crop, size_px: int) -> Gray:
    """A crop for tracking: what bilinear sampling aliases below half size does no harm here."""
    if crop.side_px > 2 * size_px:
        return as_uint8(extract_crop(gray, crop, size_px))
    chip = cv2.warpAffine(
        gray,
        crop.crop_to_frame(size_px),
        (size_px, size_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return as_uint8(mirror_missing(as_uint8(chip), crop, gray.shape))


def _to_frame(points: FloatArray, crop: Crop, size_px: int) -> Points:
    return transform_points(points, crop.crop_to_frame(size_px)).astype(np.float32)


def _box_in_chip(size_px: int) -> Box:
    half = size_px * _BOX_OF_TIGHT / _CHIP_OF_TIGHT / 2
    middle = (size_px - 1) / 2
    return middle - half, middle - half, middle + half, middle + half
