"""An edited clip with deliberate faults: another face in some frames, a jumping one in others."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np

from tests.video.clips import images_of, write_clip
from vidinv.types import Image


def write_faulty_clip(
    path: Path, edited: Path, stranger: Path, *, swapped: Collection[int], flickers: Collection[int]
) -> Path:
    """``edited`` with the face of ``stranger`` in some frames, and a jumping one in others.

    Args:
        stranger: a clip of the same size with its face at the same place at the same time.
        swapped, flickers: frame numbers.
    """
    pictures = []
    for number, (own, other) in enumerate(zip(images_of(edited), images_of(stranger), strict=True)):
        if number in swapped:
            pictures.append(paste_face(own, other))
        elif number in flickers:
            pictures.append(paste_face(own, jumping(own, number)))
        else:
            pictures.append(own)
    return write_clip(path, pictures)


def jumping(image: Image, number: int) -> Image:
    """Brighter by a sixth and two pixels aside."""
    shift = np.array([[1, 0, 2 if number % 2 else -2], [0, 1, 0]], np.float32)
    moved = cv2.warpAffine(image, shift, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return np.clip(moved.astype(np.float32) * 1.16, 0, 255).astype(np.uint8)


def paste_face(image: Image, other: Image) -> Image:
    """The middle of ``other``, where the made clips have their face, over ``image``."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.float32)
    cv2.ellipse(
        mask,
        (width // 2, height // 2),
        (round(0.3 * width), round(0.38 * height)),
        0,
        0,
        360,
        1,
        -1,
    )
    mask = cv2.GaussianBlur(mask, (0, 0), width / 64)[..., None]
    return (image * (1 - mask) + other * mask).round().astype(np.uint8)
