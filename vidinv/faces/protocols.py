"""What the analysis asks of a detector, a landmark predictor and an embedder.

Three small protocols, so that the CPU default (dlib) and the GPU option (FAN) are interchangeable,
and tests can pass fakes. Constructors are cheap: weights load at the first call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vidinv.types import Image

Gray = npt.NDArray[np.uint8]
Picture = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
Points = npt.NDArray[np.float32]
Embedding = npt.NDArray[np.float32]
Embeddings = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Detection:
    """A face in a picture.

    Attributes:
        box: left, top, right, bottom in pixels of the picture.
        score: confidence in units of the detector; higher is surer.
    """

    box: Box
    score: float


class Detector(Protocol):
    """Finds faces."""

    @property
    def min_face_px(self) -> float:
        """Side of the smallest face box that is found, in pixels of the picture passed in."""

    def detect(self, image: Picture, *, threshold: float = 0.0) -> list[Detection]:
        """Faces of a uint8 picture (RGB ``[H, W, 3]`` or gray ``[H, W]``), surest first.

        Args:
            image: the picture, searched at the size it has.
            threshold: least score, in units where 0 is the detector's own operating point.
        """


class LandmarkPredictor(Protocol):
    """Places the 68 iBUG points in a face box."""

    def predict(self, image: Picture, box: Box) -> Points:
        """``[68, 2]`` float32 points in pixels of a uint8 picture (RGB or gray)."""


class Embedder(Protocol):
    """Describes whose face it is."""

    @property
    def name(self) -> str:
        """Name of the network, as the report prints it."""

    def embed(self, image: Image, landmarks: Points) -> Embedding:
        """``[D]`` float32 of the face with these ``[68, 2]`` landmarks in an RGB picture."""

    def embed_all(self, faces: Iterable[tuple[Image, Points]]) -> Embeddings:
        """``[N, D]`` float32: ``embed`` of many faces, which costs less than one by one."""

    def distance(self, a: Embedding, b: Embedding) -> float:
        """Dissimilarity of two embeddings; the smaller the likelier the same person."""

    @property
    def same_person_distance(self) -> float:
        """Distances up to this mean the same person."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The three networks that an analysis uses."""

    detector: Detector
    landmarks: LandmarkPredictor
    embedder: Embedder


def intersection_over_union(a: Sequence[float], b: Sequence[float]) -> float:
    """Overlap of two boxes (left, top, right, bottom), 0..1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (areas - shared)
