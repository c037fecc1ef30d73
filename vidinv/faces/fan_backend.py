"""The GPU option: SFD detector and FAN landmarks of the face-alignment package.

On a CPU FAN costs 200-400 ms a face, so dlib stays the default there. The package fetches weights
from the network by itself when they are missing; here they are looked up in the torch hub cache
first, and missing ones are an error that names them. Identity still comes from dlib.
"""

from __future__ import annotations

import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidinv.errors import MissingDependencyError
from vidinv.faces.dlib_backend import DlibEmbedder
from vidinv.faces.protocols import Backend, Box, Detection, Picture, Points

# As face-alignment 1.5 names them (api.models_urls, detection.sfd.models_urls).
FAN_FILE = "2DFAN4-11f355bf06.pth.tar"
SFD_FILE = "s3fd-619a316812.pth"
_SFD_THRESHOLD = 0.5  # its operating point, a probability


class FanModels:
    """SFD and FAN on one device; loads both at the first use and never downloads.

    Args:
        device: torch device name, e.g. ``"cuda"``.
    """

    min_face_px = 60.0  # SFD's anchors start at 16 px; this keeps chips sharp enough to judge

    def __init__(self, *, device: str) -> None:
        self._device = device

    @cached_property
    def _models(self) -> Any:
        require_weights()
        import face_alignment

        return face_alignment.FaceAlignment(
            face_alignment.LandmarksType.TWO_D, device=self._device, compile=False
        )

    def detect(self, image: Picture, *, threshold: float = 0.0) -> list[Detection]:
        """Faces, surest first; scores are SFD's probabilities less its operating point."""
        found = self._models.face_detector.detect_from_image(_as_rgb(image))
        faces = [Detection(_box(row), float(row[4]) - _SFD_THRESHOLD) for row in found]
        faces = [face for face in faces if face.score >= threshold]
        return sorted(faces, key=lambda face: -face.score)

    def predict(self, image: Picture, box: Box) -> Points:
        found = self._models.get_landmarks_from_image(_as_rgb(image), detected_faces=[box])
        return np.asarray(found[0], np.float32)


def fan_backend(*, device: str = "cuda") -> Backend:
    """SFD, FAN and dlib's embedder; MissingDependencyError at once if a weight file is missing."""
    require_weights()
    models = FanModels(device=device)
    return Backend(detector=models, landmarks=models, embedder=DlibEmbedder(device=device))


def require_weights() -> None:
    """Raise MissingDependencyError, naming files and folder, unless FAN can run offline."""
    if importlib.util.find_spec("face_alignment") is None:
        raise MissingDependencyError(
            "face-alignment is not installed: install it with \"pip install -e '.[gpu]'\""
        )
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    missing = [name for name in (FAN_FILE, SFD_FILE) if not (folder / name).is_file()]
    if missing:
        raise MissingDependencyError(
            f"face-alignment weights missing: put {' and '.join(missing)} into {folder}"
        )


def _as_rgb(image: Picture) -> Picture:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _box(row: Any) -> Box:
    left, top, right, bottom = (float(value) for value in row[:4])
    return left, top, right, bottom
