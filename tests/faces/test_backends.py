"""Backends: cheap constructors, weights found or named, landmarks and embeddings of real faces."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.clip.saved import key_of
from tests.video.clips import write_clip
from vidinv.cli import main
from vidinv.errors import MissingDependencyError, UnknownNameError
from vidinv.faces import dlib_backend, find_backend, find_faces
from vidinv.faces.dlib_backend import DlibEmbedder, DlibLandmarks
from vidinv.faces.fan_backend import FAN_FILE, SFD_FILE, fan_backend, require_weights
from vidinv.faces.weights import weight_file
from vidinv.packs import load_pack
from vidinv.types import EditSpec

from .conftest import Clip
from .dlib_reference import DlibOwnEmbedder, dlib_embedding


def test_constructors_load_nothing() -> None:
    assert not vars(DlibLandmarks())
    assert "_network" not in vars(DlibEmbedder())


def test_weights_are_found_without_importing_their_package() -> None:
    assert weight_file("shape_predictor_68_face_landmarks.dat").stat().st_size > 50e6


def test_missing_weights_fail_with_the_remedy() -> None:
    with pytest.raises(MissingDependencyError, match="pip install face_recognition_models"):
        weight_file("no_such.dat")


def test_fan_weights_present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("face_alignment", reason="the gpu extra is not installed")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    for name in (FAN_FILE, SFD_FILE):
        (tmp_path / "hub" / "checkpoints" / name).touch()
    require_weights()


@pytest.mark.parametrize("command", ["edit", "invert", "batch", "faces", "report"])
def test_every_command_finds_faces_with_what_landmarks_names(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Without its weights, which are never fetched, one line says what is missing."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    clip = write_clip(tmp_path / "a.mp4", [np.zeros((64, 64, 3), np.uint8)] * 3)
    more = {
        "edit": ["-o", str(tmp_path / "b.mp4"), "--attr", "smile"],
        "invert": ["-o", str(tmp_path / "b.mp4")],
        "batch": ["-o", str(tmp_path / "out"), "--attr", "smile"],
        "faces": [],
        "report": [str(clip), "-o", str(tmp_path / "page.html")],
    }[command]
    assert main([command, str(clip), *more, "--landmarks", "fan", "--quiet"]) == 1
    said = capsys.readouterr().err.strip()
    assert "face-alignment" in said
    assert "\n" not in said
    assert not (tmp_path / "b.mp4").exists()
    with pytest.raises(SystemExit, match="2"):
        main([command, str(clip), *more, "--landmarks", "mediapipe"])


def test_backends_are_found_by_name() -> None:
    assert find_backend("dlib", device="cpu").detector.min_face_px > 0
    with pytest.raises(UnknownNameError, match=r"unknown landmarks 'fna'.*fan"):
        find_backend("fna", device="cpu")


def test_latents_of_another_face_finder_are_not_used(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", [np.zeros((64, 64, 3), np.uint8)] * 3)
    keys = [
        key_of(clip, pack=load_pack(), spec=EditSpec(landmarks=name), segment_frames=160)
        for name in ("dlib", "fan")
    ]
    assert keys[0] != keys[1]


def test_fan_weights_absent_fails_naming_files_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("face_alignment", reason="the gpu extra is not installed")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
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


def test_embeddings_of_many_faces_are_those_of_dlib(clip: Clip) -> None:
    """More than a batch holds, from frames of several sizes, in the order given."""
    names = ("cuts_crowd.mp4", "expression_512.mp4", "talk_hand_512.mp4")
    faces = [
        (image, face.landmarks)
        for name in names
        for image in clip(name, 8)[::2]
        for face in find_faces(image, dlib_backend())
    ]
    faces = faces[:5] * 3 + faces
    assert len(faces) > 20
    ours, theirs = (e.embed_all(faces) for e in (DlibEmbedder(), DlibOwnEmbedder()))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(DlibEmbedder().embed(*faces[-1]), theirs[-1], atol=1e-5)
    assert (ours.dtype, DlibEmbedder().embed_all([]).shape) == (np.float32, (0, 128))


@pytest.mark.slow
def test_twelve_faces_cost_a_fifth_of_what_they_cost_dlib(clip: Clip) -> None:
    image = clip("talk_hand_512.mp4", 1)[0]
    faces = [(image, find_faces(image, dlib_backend())[0].landmarks)] * 12

    def cpu_seconds(embedder: DlibEmbedder) -> float:
        embedder.embed_all(faces[:1])
        started = time.process_time()
        embedder.embed_all(faces)
        return time.process_time() - started

    ours, theirs = DlibEmbedder(), DlibOwnEmbedder()
    assert min(cpu_seconds(ours) for _ in range(5)) < cpu_seconds(theirs) / 5


def embed_in(connection: Connection, image: np.ndarray, landmarks: np.ndarray) -> None:
    connection.send(dlib_backend().embedder.embed_all([(image, landmarks)] * 3))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("kind", ["fork", "spawn"])
def test_child_processes_embed(clip: Clip, kind: str) -> None:
    """Also a copy of a process whose torch has threads, and has used the network in them."""
    image = clip("talk_hand_512.mp4", 1)[0]
    landmarks = find_faces(image, dlib_backend())[0].landmarks
    num_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        wanted = dlib_backend().embedder.embed_all([(image, landmarks)] * 3)
        context = multiprocessing.get_context(kind)
        here, there = context.Pipe()
        child = context.Process(target=embed_in, args=(there, image, landmarks))
        child.start()
        try:
            assert here.poll(60), "the child hangs"
            np.testing.assert_allclose(here.recv(), wanted, atol=1e-5)
        finally:
            child.kill()
            child.join()
    finally:
        torch.set_num_threads(num_threads)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_embeds_as_a_cpu_does(clip: Clip) -> None:
    image = clip("talk_hand_512.mp4", 1)[0]
    face = (image, find_faces(image, dlib_backend())[0].landmarks)
    found = dlib_backend(device="cuda").embedder.embed(*face)
    np.testing.assert_allclose(found, dlib_embedding(*face), atol=1e-5)


def test_embedding_of_16_bit_is_that_of_8_bit(clip: Clip) -> None:
    image = clip("talk_hand_512.mp4", 1)[0]
    backend = dlib_backend()
    landmarks = find_faces(image, backend)[0].landmarks
    deep = backend.embedder.embed(image.astype(np.uint16) * 257, landmarks)
    np.testing.assert_array_equal(deep, backend.embedder.embed(image, landmarks))
