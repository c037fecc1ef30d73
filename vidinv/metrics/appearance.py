"""What can be read from pixels of an aligned face without labels: beard, glasses, lips, brows and
irises.

Simple measures at places that the 68 landmarks give, on 128 px tight crops, each rising with what
its name says; their tails are right by eye. They serve as targets of directions, and as what says
how far an edit went. Edges and darkness grow with a picture's contrast as well, so directions hold
``contrast`` fixed.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.metrics.attributes import normalised_landmarks

APPEARANCE = ("beard", "glasses", "lips", "brows", "irises")
SIDE = 128
CHEEK_RADIUS, CHIN_RADIUS = 0.09, 0.055  # in distances between the outer corners of the eyes
IRIS_RADIUS = 0.3  # in widths of the eye
IRIS_SHARE = 20  # percent of the pixels there that are iris, whichever way somebody looks
SPREAD = 3.5  # standardised measures are clipped to this, as the labels are
EDGES_AT_REST = 5.0  # levels: keeps ratios of edges finite on flat pictures

Float32 = npt.NDArray[np.float32]


def measure_appearance(
    images_NRR3: Iterable[npt.NDArray[np.generic]], landmarks_N682: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """``[N, 5]`` measures in the order of ``APPEARANCE``, and ``[N, 3]`` of contrast.

    Args:
        images_NRR3: RGB 0..255 of any side.
        landmarks_N682: in pixels of a 128 px crop.
    """
    points = np.asarray(landmarks_N682, np.float32)
    pairs = zip(images_NRR3, points, strict=True)
    rows = np.array([_from_pixels(_lightness(image), face) for image, face in pairs])
    shape = normalised_landmarks(points)
    lips = (shape[:, 57, 1] - shape[:, 66, 1]) + (shape[:, 62, 1] - shape[:, 51, 1])
    brows = shape[:, [36, 39, 42, 45], 1].mean(1) - shape[:, 17:27, 1].mean(1)
    return np.column_stack([rows[:, :2], lips, brows, rows[:, 2]]), rows[:, 3:]


def _lightness(image_RR3: npt.NDArray[np.generic]) -> Float32:
    """``[128, 128]`` CIE L of 0..255."""
    image = np.asarray(image_RR3, np.float32)
    resized = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    pixels = np.clip(np.rint(resized), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[..., 0], np.float32)


def _from_pixels(light: Float32, points: Float32) -> tuple[float, ...]:
    """Beard, glasses, irises, and spread of the face, spread of the picture, edges of the face."""
    across = np.abs(cv2.Sobel(light, cv2.CV_32F, 1, 0, ksize=3))
    down = np.abs(cv2.Sobel(light, cv2.CV_32F, 0, 1, ksize=3))
    face = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(face, [np.rint(points[:17]).astype(np.int32)], 1)
    inside = face.astype(bool)
    edges = float((across + down)[inside].mean()) if inside.any() else 0.0
    spread = float(light[inside].std()) if inside.any() else 0.0
    return (
        _beard(light, points),
        _glasses(down, points, edges + EDGES_AT_REST),
        _irises(light, points),
        spread,
        float(np.log(light.std() + EDGES_AT_REST)),
        float(np.log(edges + EDGES_AT_REST)),
    )


def _beard(light: Float32, points: Float32) -> float:
    """How much darker than the cheeks the upper lip and the chin are, as a share."""
    unit = float(np.linalg.norm(points[45] - points[36]))
    chin = [0.5 * points[8] + 0.5 * points[57]]
    chin += [0.55 * points[side] + 0.45 * points[57] for side in (6, 10)]
    lip = [(points[33] + points[51]) / 2]
    lip += [lip[0] + (points[51 + side] - points[51]) for side in (-1, 1)]
    hair = float(np.mean([_disc(light, c, CHIN_RADIUS * unit).mean() for c in chin + lip]))
    return _darker_than_cheeks(light, points, hair)


def _irises(light: Float32, points: Float32) -> float:
    """How much darker than the cheeks the darkest part of the eyes is, as a share."""
    dark = [
        np.percentile(_disc(light, eye.mean(0), IRIS_RADIUS * float(np.ptp(eye[:, 0]))), IRIS_SHARE)
        for eye in (points[36:42], points[42:48])
    ]
    return _darker_than_cheeks(light, points, float(np.mean(dark)))


def _darker_than_cheeks(light: Float32, points: Float32, level: float) -> float:
    radius = CHEEK_RADIUS * float(np.linalg.norm(points[45] - points[36]))
    cheeks = [points[[41, 2, 31, 48]].mean(0), points[[46, 14, 35, 54]].mean(0)]
    skin = float(np.mean([_disc(light, centre, radius).mean() for centre in cheeks]))
    return (skin - level) / max(skin, 20.0)


def _disc(light: Float32, centre: Float32, radius: float) -> Float32:
    """``[n]``: the pixels of a disc of at least one."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    x, y = np.clip(np.rint(centre), 0, SIDE - 1).astype(int)
    cv2.circle(mask, (int(x), int(y)), max(1, round(radius)), 1, -1)
    return light[mask.astype(bool)]


def _glasses(down: Float32, points: Float32, edges: float) -> float:
    """Horizontal edges on the bridge of the nose and below the eyes, over those of the face."""
    gap = float(np.linalg.norm(points[42] - points[39]))
    height = float(np.linalg.norm(points[29] - points[27]))
    middle = (points[27] + points[28]) / 2
    bridge = _window(
        down,
        (middle[0] - 0.2 * gap, middle[0] + 0.2 * gap),
        (points[27, 1] - 0.25 * gap, points[29, 1]),
    ).mean()
    below = []
    for eye in (points[36:42], points[42:48]):
        x, half = eye[:, 0].mean(), np.ptp(eye[:, 0]) / 2
        low = eye[:, 1].max()
        rows = (low + 0.25 * height, low + 1.1 * height)
        below.append(_window(down, (x - half, x + half), rows).max(0).mean())
    return float(np.log1p(bridge / edges) + np.log1p(np.mean(below) / edges))


def _window(image: Float32, columns: tuple[float, float], rows: tuple[float, float]) -> Float32:
    """A window of at least one pixel inside the picture."""
    (left, right), (top, bottom) = (
        (int(np.clip(a, 0, SIDE - 1)), int(np.clip(b, 0, SIDE - 1))) for a, b in (columns, rows)
    )
    return image[top : bottom + 1, left : right + 1]
