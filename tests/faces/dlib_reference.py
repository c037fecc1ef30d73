"""dlib's own recognition code, which ours is measured against."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import dlib
import numpy as np

from vidinv.faces.dlib_backend import DlibEmbedder
from vidinv.faces.weights import RECOGNITION_FILE, weight_file
from vidinv.types import Image

PADDING = 0.25  # of face_recognition_model_v1


def dlib_chip(image: Image, landmarks: np.ndarray) -> np.ndarray:
    """``[150, 150, 3]``."""
    return dlib.get_face_chip(image, _shape(landmarks), 150, PADDING)


def dlib_embedding(image: Image, landmarks: np.ndarray) -> np.ndarray:
    """``[128]``."""
    found = _network().compute_face_descriptor(image, _shape(landmarks))
    return np.array(found, np.float32)


class DlibOwnEmbedder(DlibEmbedder):
    """The embedder, with dlib's own code behind it."""

    def embed_all(self, faces: Iterable[tuple[Image, np.ndarray]]) -> np.ndarray:
        return np.stack([dlib_embedding(np.ascontiguousarray(i), points) for i, points in faces])


@cache
def _network() -> Any:
    return dlib.face_recognition_model_v1(str(weight_file(RECOGNITION_FILE)))


def _shape(landmarks: np.ndarray) -> Any:
    points = [dlib.point(int(x), int(y)) for x, y in np.rint(landmarks)]
    return dlib.full_object_detection(dlib.rectangle(0, 0, 1, 1), points)
