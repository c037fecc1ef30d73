"""The default networks: dlib's HOG detector, 68-point predictor and recognition embedding.

They run offline on a CPU: the code of the first two comes with dlib-bin, the weights with
``face_recognition_models``; recognition runs in torch, on any device. The 68-point model was
trained on iBUG 300-W, which is licensed for non-commercial use; the detector and the recognition
model were not.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch

from vidinv.errors import MissingDependencyError
from vidinv.faces.crops import as_uint8
from vidinv.faces.dlib_chips import cut_chip
from vidinv.faces.dlib_recognition import EMBEDDING_DIM, DlibRecognition, load_recognition
from vidinv.faces.protocols import (
    Backend,
    Box,
    Detection,
    Embedding,
    Embeddings,
    Picture,
    Points,
)
from vidinv.faces.weights import LANDMARK_FILE, weight_file
from vidinv.types import Image

_MAX_BATCH = 16  # a CPU gains little beyond 8


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
    """dlib's recognition network: 128 numbers, compared by Euclidean distance.

    Args:
        device: torch device name.
    """

    name = "dlib_face_recognition_resnet_v1"
    same_person_distance = 0.6  # dlib's documentation of the model; 99.38 % on LFW

    def __init__(self, *, device: str = "cpu") -> None:
        self._device = device

    @cached_property
    def _network(self) -> DlibRecognition:
        _prepare_for_forks()
        return load_recognition().to(self._device)

    def embed(self, image: Image, landmarks: Points) -> Embedding:
        return self.embed_all([(image, landmarks)])[0]

    def embed_all(self, faces: Iterable[tuple[Image, Points]]) -> Embeddings:
        chips = (cut_chip(as_uint8(image), landmarks) for image, landmarks in faces)
        found = [self._run(batch) for batch in _batches(chips)]
        return np.concatenate(found) if found else np.empty((0, EMBEDDING_DIM), np.float32)

    @torch.inference_mode()
    def _run(self, chips: list[Picture]) -> Embeddings:
        batch = torch.from_numpy(np.stack(chips)).to(self._device).permute(0, 3, 1, 2).float()
        # Convolutions of a GPU would round to 10 bits: embeddings then move by about 1e-3.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self._network(batch).cpu().numpy()

    def distance(self, a: Embedding, b: Embedding) -> float:
        return float(np.linalg.norm(a - b))


@cache
def _prepare_for_forks() -> None:
    """One thread for torch in forked children: OpenMP's others are gone there, and waited for."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def _batches(chips: Iterator[Picture]) -> Iterator[list[Picture]]:
    while batch := list(itertools.islice(chips, _MAX_BATCH)):
        yield batch


@cache
def dlib_backend(*, device: str = "cpu") -> Backend:
    """The default backend, one per process and device; weights (0.6 s, 120 MB) load at first use.

    Args:
        device: torch device name, of the recognition network; the others run on the CPU.
    """
    embedder = DlibEmbedder(device=device)
    return Backend(detector=DlibDetector(), landmarks=DlibLandmarks(), embedder=embedder)


def _dlib() -> Any:
    try:
        import dlib
    except ImportError as error:
        raise MissingDependencyError(
            "dlib is not installed: install it with 'pip install dlib-bin'"
        ) from error
    return dlib
