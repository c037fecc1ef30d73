"""Landmarks and embeddings of generated and photographed faces that are aligned already.

Needs dlib, which bare GPU machines lack.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.faces.chips import face_box
from vidinv.faces.dlib_backend import dlib_backend
from vidinv.faces.protocols import Backend

MEASURE_PX = 256  # aligned faces are enlarged to this before landmarks are placed


class AlignedFaces:
    """Landmarks and embeddings of aligned faces; ``mean_landmarks`` in pixels of a 128 px crop."""

    def __init__(
        self, mean_landmarks_682: npt.NDArray[np.floating], backend: Backend | None = None
    ):
        self._backend = backend or dlib_backend()
        self._scale = MEASURE_PX / 128.0
        self._box = face_box(np.asarray(mean_landmarks_682, np.float32) * self._scale)

    def landmarks(self, images_NRR3: Iterable[npt.NDArray[np.floating]]) -> npt.NDArray[np.float32]:
        """``[N, 68, 2]`` in pixels of a 128 px crop; images RGB 0..255 of any side."""
        points = [self._backend.landmarks.predict(_enlarge(i), self._box) for i in images_NRR3]
        return (np.stack(points) + 0.5) / np.float32(self._scale) - 0.5

    def embeddings(
        self, images_NRR3: Iterable[npt.NDArray[np.floating]]
    ) -> npt.NDArray[np.float32]:
        """``[N, 128]`` recognition embeddings."""
        large = map(_enlarge, images_NRR3)
        predict = self._backend.landmarks.predict
        return self._backend.embedder.embed_all((face, predict(face, self._box)) for face in large)

    def embeddings_at(
        self,
        images_NRR3: Iterable[npt.NDArray[np.floating]],
        landmarks_N682: npt.NDArray[np.floating],
    ) -> npt.NDArray[np.float32]:
        """``[N, 128]``; landmarks in pixels of a 128 px crop."""
        points = (np.asarray(landmarks_N682, np.float32) + 0.5) * np.float32(self._scale) - 0.5
        return self._backend.embedder.embed_all(
            zip(map(_enlarge, images_NRR3), points, strict=True)
        )


def _enlarge(image: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    size = (MEASURE_PX, MEASURE_PX)
    resized = cv2.resize(np.asarray(image, np.float32), size, interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)
