"""The recognition network is dlib's on real faces, has gradients, and refuses a wrong file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vidinv.errors import MissingDependencyError
from vidinv.faces import dlib_backend, find_faces
from vidinv.faces.dlib_chips import cut_chip
from vidinv.faces.dlib_recognition import DlibRecognition, load_recognition
from vidinv.faces.weights import RECOGNITION_FILE, weight_file

from .conftest import Clip
from .dlib_reference import dlib_embedding

CLIPS = ("talk_hand_512.mp4", "cuts_crowd.mp4", "expression_512.mp4", "greenscreen_512.mp4")


@pytest.fixture(scope="module")
def network() -> DlibRecognition:
    return load_recognition()


@pytest.fixture(scope="module")
def data() -> bytes:
    return weight_file(RECOGNITION_FILE).read_bytes()


def faces_of(clip: Clip) -> list[tuple[np.ndarray, np.ndarray]]:
    images = [clip(name, 1)[0] for name in CLIPS]
    return [(i, f.landmarks) for i in images for f in find_faces(i, dlib_backend())]


def as_batch(chips: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float()


def test_embeddings_are_those_of_dlib(clip: Clip, network: DlibRecognition) -> None:
    faces = faces_of(clip)
    assert len(faces) > 3
    chips = as_batch([cut_chip(*face) for face in faces])
    ours = network(chips).numpy()
    np.testing.assert_allclose(ours, [dlib_embedding(*face) for face in faces], atol=1e-5)
    one_by_one = torch.cat([network(chip[None]) for chip in chips])
    np.testing.assert_allclose(one_by_one.numpy(), ours, atol=1e-5)


def test_gradients_reach_the_picture_from_every_map(network: DlibRecognition) -> None:
    chips = (255 * torch.rand(2, 3, 150, 150)).requires_grad_()
    maps, embedding = network.features(chips)
    shapes = [tuple(found.shape) for found in maps]
    assert shapes == [(2, 32, 35, 35), (2, 64, 17, 17), (2, 128, 8, 8), (2, 256, 2, 2)]
    assert torch.equal(embedding, network(chips))
    for found in (*maps, embedding):
        (gradient,) = torch.autograd.grad(found.square().sum(), chips, retain_graph=True)
        assert (gradient.flatten(1).abs().sum(1) > 0).all()
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_gradient_is_that_of_differences(network: DlibRecognition) -> None:
    torch.manual_seed(0)
    double = load_recognition().double()
    chips = (255 * torch.rand(1, 3, 150, 150, dtype=torch.double)).requires_grad_()
    target, step = torch.zeros(1, 128, dtype=torch.double), torch.randn_like(chips)
    (gradient,) = torch.autograd.grad((double(chips) - target).norm(), chips)
    ends = [(double(chips.detach() + sign * 1e-7 * step) - target).norm() for sign in (1, -1)]
    assert float((gradient * step).sum()) == pytest.approx(
        float(ends[0] - ends[1]) / 2e-7, rel=1e-3
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:345],
        lambda data: data[:-1000],
        lambda data: b"not a network" + data[13:],
        lambda data: data.replace(b"\x05con_4\x01\x02\x02", b"\x05con_4\x01\x02\x0f", 1),
        lambda data: data[:1000] + b"\xff" * 400 + data[1400:],
        lambda data: data[:40_000] + data[40_004:],
        lambda data: data[:-70_000] + bytes([data[-70_000] ^ 1]) + data[-69_999:],
    ],
)
def test_a_damaged_file_is_one_error(tmp_path: Path, data: bytes, damage) -> None:
    path = tmp_path / "network.dat"
    path.write_bytes(damage(data))
    with pytest.raises(MissingDependencyError, match=r"network\.dat is not dlib's .*install it"):
        load_recognition(path)


def test_a_foreign_or_missing_file_is_the_same_error(tmp_path: Path) -> None:
    landmarks = weight_file("shape_predictor_68_face_landmarks.dat")
    for path in (landmarks, tmp_path / "none.dat", tmp_path):
        with pytest.raises(MissingDependencyError, match=f"{path.name} is not dlib's recognition"):
            load_recognition(path)


def test_loading_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    load_recognition()
    assert torch.equal(torch.rand(2), wanted)
