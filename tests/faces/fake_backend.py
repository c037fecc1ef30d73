"""A backend without networks: one face in every picture that is not of one colour."""

from __future__ import annotations

import numpy as np

from tests.compose.made_up_change import mean_landmarks
from vidinv.faces import Backend
from vidinv.faces.protocols import Detection

SCORE = 0.5  # sure enough for upright pictures, not for those that are turned
PLACES = 4  # a side, of the mean colours that are its embedding


class MiddleDetector:
    """The face fills the middle half of the picture."""

    min_face_px = 1.0

    def detect(self, image, *, threshold=0.0):
        height, width = image.shape[:2]
        box = (width / 4, height / 4, width * 3 / 4, height * 3 / 4)
        return [Detection(box, SCORE)] if image.std() > 0 and threshold <= SCORE else []


class MeanLandmarks:
    """The mean face in the box."""

    def predict(self, image, box):
        left, top, right, _ = box
        return mean_landmarks(128) * np.float32((right - left) / 128) + np.float32([left, top])


class ColourEmbedder:
    """Mean colours of a picture's parts."""

    name = "colours"
    same_person_distance = 0.1

    def embed(self, image, landmarks):
        side = min(image.shape[:2]) // PLACES
        parts = image[: side * PLACES, : side * PLACES].reshape(PLACES, side, PLACES, side, 3)
        return (parts.mean((1, 3)) / 255).flatten().astype(np.float32)

    def embed_all(self, faces):
        return np.stack([self.embed(image, points) for image, points in faces])

    def distance(self, a, b):
        return float(np.linalg.norm(a - b))


def fake_backend() -> Backend:
    return Backend(MiddleDetector(), MeanLandmarks(), ColourEmbedder())
