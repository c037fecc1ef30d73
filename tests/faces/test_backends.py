"""Backends: cheap constructors, weights found or named, landmarks and embeddings of real faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vidinv.errors import MissingDependencyError
from vidinv.faces import dlib_backend, find_faces
from vidinv.faces.dlib_backend import DlibEmbedder, DlibLandmarks
from vidinv.faces.fan_backend import FAN_FILE, SFD_FILE, fan_backend, require_weights
from vidinv.faces.weights import weight_file

from .conftest import Clip


def test_constructors_load_nothing() -> None:
    assert not vars(DlibLandmarks())
    assert not vars(DlibEmbedder())


def test_weights_are_found_without_importing_their_package() -> None:
    assert weight_file("shape_predictor_68_face_landmarks.dat").stat().st_size > 50e6


def test_missing_weights_fail_with_the_remedy() -> None:
    with pytest.raises(MissingDependencyError, match="pip install face_recognition_models"):
        weight_file("no_such.dat")


def test_fan_weights_present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("face_alignment", reason="the gpu extra is not installed")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    for name in (FAN_FILE, SFD_FILE):
        (tmp_path / "checkpoints" / name).touch()
    require_weights()


def test_fan_weights_absent_fails_naming_files_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("face_alignment", reason="the gpu extra is not installed")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(MissingDependencyError) as caught:
        fan_backend(device="cpu")
    assert all(part in str(caught.value) for part in (FAN_FILE, SFD_FILE, str(tmp_path)))


def test_still_picture(clip: Clip) -> None:
    image = clip("talk_hand_512.mp4", 1)[0]
    faces = find_faces(image, dlib_backend())
    assert len(faces) == 1
    eyes = faces[0].landmarks[36:48].mean(0)
    assert np.linalg.norm(eyes - [270, 192]) < 15  # read off the picture


def test_still_picture_without_a_face(clip: Clip) -> None:
    assert find_faces(clip("noface_bottle.mp4", 1)[0], dlib_backend()) == []


def test_embedding_tells_people_apart(clip: Clip) -> None:
    backend = dlib_backend()

    def embed(image: np.ndarray) -> np.ndarray:
        return backend.embedder.embed(image, find_faces(image, backend)[0].landmarks)

    talk, woman = clip("talk_hand_512.mp4", 20), clip("expression_512.mp4", 1)
    same = backend.embedder.distance(embed(talk[0]), embed(talk[19]))
    other = backend.embedder.distance(embed(talk[0]), embed(woman[0]))
    assert same < 0.4 < 0.6 < other


def test_embedding_of_16_bit_is_that_of_8_bit(clip: Clip) -> None:
    image = clip("talk_hand_512.mp4", 1)[0]
    backend = dlib_backend()
    landmarks = find_faces(image, backend)[0].landmarks
    deep = backend.embedder.embed(image.astype(np.uint16) * 257, landmarks)
    np.testing.assert_array_equal(deep, backend.embedder.embed(image, landmarks))
