"""Small pictures of a face-like thing, crops and masks, for the tests of compose."""

from __future__ import annotations

import cv2
import numpy as np

from tests.compose.made_up_change import mean_landmarks, smile_warp
from vidinv.types import Crop


def textured_face(size_px: int, *, seed: int = 0) -> np.ndarray:
    """RGB ``[S, S, 3]`` uint8: skin with texture, eyes and a mouth at the mean landmarks."""
    rng = np.random.default_rng(seed)
    skin = np.full((size_px, size_px, 3), (190, 150, 130), np.float32)
    skin += cv2.GaussianBlur(rng.normal(0, 1, skin.shape).astype(np.float32), (0, 0), 3) * 40
    points = mean_landmarks(size_px).astype(np.int32)
    for part, colour in ((slice(36, 42), (40, 30, 30)), (slice(42, 48), (40, 30, 30))):
        cv2.fillConvexPoly(skin, cv2.convexHull(points[part]), colour)
    cv2.fillConvexPoly(skin, cv2.convexHull(points[48:60]), (170, 80, 80))
    cv2.line(skin, points[48].tolist(), points[54].tolist(), (90, 40, 40), max(1, size_px // 100))
    skin += rng.normal(0, 6, skin.shape)
    return np.clip(skin, 0, 255).astype(np.uint8)


def scene(
    *, width: int = 320, height: int = 300, side_px: float = 220.0, center: tuple = (160.0, 150.0),
    roll: float = 0.15,
) -> tuple[np.ndarray, Crop]:  # fmt: skip
    """A noisy frame with the face laid in, and its crop."""
    half = side_px / 2
    crop = Crop(*center, half * np.cos(roll), half * np.sin(roll))
    frame = np.random.default_rng(1).integers(0, 255, (height, width, 3)).astype(np.uint8)
    face = textured_face(256)
    cv2.warpAffine(
        face, crop.crop_to_frame(256), (width, height), frame, cv2.INTER_LINEAR,
        cv2.BORDER_TRANSPARENT,
    )  # fmt: skip
    return frame, crop


def look(frame: np.ndarray, crop: Crop, size_px: int = 128) -> np.ndarray:
    """The frame under the crop at ``size_px``, float32 0..255."""
    large = max(size_px, round(crop.side_px / size_px) * size_px)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    matrix = crop.crop_to_frame(large)
    view = cv2.warpAffine(
        frame, matrix, (large, large), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    view = cv2.resize(view, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return view.astype(np.float32) / (257.0 if frame.dtype == np.uint16 else 1.0)


def face_mask(size_px: int = 128) -> np.ndarray:
    """``[R, R]`` uint8 0/1 ellipse over the face, well inside the crop."""
    mask = np.zeros((size_px, size_px), np.uint8)
    centre, axes = (size_px // 2, int(0.52 * size_px)), (int(0.38 * size_px), int(0.46 * size_px))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
    return mask


def mask_in_frame(mask: np.ndarray, crop: Crop, shape: tuple[int, ...]) -> np.ndarray:
    """``[H, W]`` bool: frame pixels whose nearest crop pixel is inside the mask."""
    matrix = crop.crop_to_frame(mask.shape[0])
    return cv2.warpAffine(mask, matrix, shape[1::-1], flags=cv2.INTER_NEAREST) > 0


def generator_pair(
    source: np.ndarray, *, strength: float = 1.0, teeth: bool = False, blur: float = 1 / 400
) -> dict:
    """What a generator makes of a face before and after a smile, as ``compose`` takes it.

    ``blur`` is a fraction of the side: 1/400 is nearly sharp, 1/40 a small autoencoder's G(w).
    """
    size = source.shape[0]
    smiling = smile_warp(source, mean_landmarks(size), strength=strength, teeth=teeth)
    blur = [cv2.GaussianBlur(picture, (0, 0), size * blur) for picture in (source, smiling)]
    return {"source_crop": source, "rendered": blur[0], "edited": blur[1]}
