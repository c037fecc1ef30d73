"""A made-up smile: what tests use in place of a generator's edit.

``smile_warp`` lifts and widens the mouth corners of a picture by a smooth warp, and paints teeth
when asked; the rest of the picture stays as it is, bit for bit.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

# Median of the landmarks of ../shared/faces in the tight crop, made symmetric, in 1/1000 of a side.
# fmt: off
_MEAN_LANDMARKS = (
    (97, 337), (101, 441), (112, 544), (129, 647), (165, 744), (224, 829), (303, 900), (394, 955),
    (496, 971), (598, 955), (689, 900), (768, 829), (827, 744), (863, 647), (880, 544), (891, 441),
    (895, 337), (169, 254), (220, 205), (290, 190), (364, 199), (433, 227), (559, 227), (628, 199),
    (702, 190), (773, 205), (823, 254), (496, 309), (496, 376), (496, 444), (496, 514), (410, 560),
    (452, 574), (496, 587), (541, 574), (582, 560), (250, 323), (294, 300), (344, 300), (391, 331),
    (342, 338), (292, 337), (602, 331), (648, 300), (698, 300), (743, 323), (701, 337), (651, 338),
    (328, 686), (389, 660), (451, 648), (496, 659), (541, 648), (603, 660), (664, 686), (605, 745),
    (545, 772), (496, 776), (447, 772), (387, 745), (353, 690), (450, 684), (496, 688), (542, 684),
    (639, 690), (543, 718), (496, 724), (450, 718),
)
# fmt: on


def mean_landmarks(size_px: int) -> Float32:
    """``[68, 2]`` landmarks of an average face in a tight crop of ``size_px``."""
    return np.array(_MEAN_LANDMARKS, np.float32) / 1000.0 * size_px


def small_face(size_px: int) -> Float32:
    """``mean_landmarks`` with jaw and brows drawn in, so that no tight crop cuts its mask."""
    points = mean_landmarks(size_px)
    points[:27] += 0.2 * (size_px / 2 - points[:27])
    return points


def smile_warp(
    image_RR3: npt.NDArray[np.number],
    landmarks_in_crop: npt.NDArray[np.floating],
    *,
    strength: float = 1.0,
    teeth: bool = False,
) -> Float32:
    """The picture with mouth corners lifted outwards by 12 % of the mouth's width.

    Args:
        image_RR3: RGB ``[R, R, 3]``, 0..255.
        landmarks_in_crop: ``[68, 2]`` in pixels of the picture.
        strength: factor of the movement; 0 gives the picture back.
        teeth: also paint a bright band between the lips, which no warp can explain.

    Returns:
        ``[R, R, 3]`` float32, 0..255.
    """
    image = np.ascontiguousarray(image_RR3, np.float32)
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    map_x, map_y = x.copy(), y.copy()
    left, right = landmarks_in_crop[48], landmarks_in_crop[54]
    mouth_px = float(np.hypot(*(right - left)))
    for corner, outwards in ((left, -1.0), (right, 1.0)):
        near = _bump(x, y, corner, radius=0.6 * mouth_px) * strength * 0.12 * mouth_px
        map_x -= outwards * 0.5 * near
        map_y += near
    warped = cv2.remap(image, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    if teeth:
        warped = _paint_teeth(warped, landmarks_in_crop, mouth_px, strength)
    return np.clip(warped, 0, 255).astype(np.float32)


def _bump(x: Float32, y: Float32, centre: Float32, *, radius: float) -> Float32:
    """1 at the centre, smoothly 0 from ``radius`` on."""
    squared = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / radius**2
    return np.maximum(1.0 - squared, 0.0) ** 2


def _paint_teeth(image: Float32, landmarks: Float32, mouth_px: float, strength: float) -> Float32:
    centre = landmarks[[62, 66]].mean(0)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    ellipse = ((x - centre[0]) / (0.32 * mouth_px)) ** 2 + ((y - centre[1]) / (0.1 * mouth_px)) ** 2
    alpha = strength * np.clip(1.5 * (1.0 - ellipse), 0.0, 1.0)[..., None]
    return image + alpha * (np.array([235, 230, 220], np.float32) - image)
