"""Loss terms: names, gradients, sharing of features, and what each of them sees."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from training.terms import (
    CHIP_CENTRE,
    CHIP_SIDE,
    FeatureTerm,
    IdentityTerm,
    LpipsTerm,
    PixelTerm,
    View,
    join,
    perceptual_term,
    recognition_chips,
)
from vidinv.errors import MissingDependencyError
from vidinv.faces.dlib_chips import chip_crop


class Doubling:
    """A feature network of two levels that counts how often it looks."""

    name = "doubling"

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self, images_N3RR: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.looks += 1
        return images_N3RR * 2, torch.nn.functional.avg_pool2d(images_N3RR, 4)


@pytest.fixture
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 4, 3, 8, 8, generator=generator) * 2 - 1
    first, second = (
        torch.nn.functional.interpolate(c, size=64, mode="bicubic").clamp(-1, 1) for c in coarse
    )
    return first, second


def test_a_network_looks_once_at_a_view_and_at_its_parts(pictures):
    network = Doubling()
    view = View(pictures[0])
    levels = view.features(network)
    part = view[1:3]
    assert torch.equal(part.features(network)[0], levels[0][1:3])
    assert torch.equal(view.detach().features(network)[1], levels[1])
    joined = join([view, part], network)
    assert len(joined) == 6
    assert torch.equal(joined.features(network)[0][4:], levels[0][1:3])
    assert network.looks == 1


@pytest.mark.parametrize("make", [PixelTerm, lambda: FeatureTerm(Doubling())])
def test_a_term_is_zero_at_the_source_and_has_a_gradient_elsewhere(pictures, make):
    term, (source, other) = make(), pictures
    assert term.distance(View(source), View(source)).abs().max() < 1e-6
    images = other.clone().requires_grad_(True)
    distance = term.distance(View(images), View(source))
    assert distance.shape == (4,)
    distance.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().mean() > 0


@pytest.mark.parametrize("make", [PixelTerm, lambda: FeatureTerm(Doubling())])
def test_weights_say_where_a_difference_counts(pictures, make):
    source = pictures[0]
    changed = source.clone()
    changed[..., :32] = pictures[1][..., :32]
    left = torch.full((4, 1, 32, 32), 0.5)
    left[..., :16] = 1.5
    term = make()
    there = term.distance(View(changed), View(source), left)
    elsewhere = term.distance(View(changed), View(source), left.flip(-1))
    assert (there > 1.5 * elsewhere).all()


def test_auto_is_efficientnet_without_a_backbone_of_lpips(features, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    term = perceptual_term("auto", 64)
    assert isinstance(term, FeatureTerm)
    assert term.name == "EfficientNet-lite0"
    assert perceptual_term("none", 64) is None


def test_a_named_backbone_that_is_absent_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="LPIPS is absent"):
        perceptual_term("vgg", 64)


def test_lpips_serves_where_its_backbone_is_and_sees_three_scales(pictures):
    seen = []

    class Fake:
        def __init__(self, backbone: str) -> None:
            assert backbone == "alex"

        def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            seen.append(x.shape[-1])
            return (x - y).abs().mean(dim=(1, 2, 3))

    def absent(side: int, name: str) -> str:
        return "" if name == "alex" else "no"

    term = perceptual_term("auto", 128, absent=absent, load=Fake)
    assert isinstance(term, LpipsTerm)
    assert term.name == "LPIPS (alex)"
    first, second = (torch.nn.functional.interpolate(p, size=128) for p in pictures)
    assert term.distance(View(first), View(second)).shape == (4,)
    assert seen == [128, 64, 32]
    seen.clear()
    term.distance(View(pictures[0]), View(pictures[1]))
    assert seen == [64, 32]  # 16 px are less than the backbone takes


def test_the_chip_of_a_tight_crop_is_where_dlib_puts_it(shared_dir):
    landmarks = np.load(shared_dir / "faces" / "landmarks68.npz")["landmarks"].mean(axis=0)
    crop = chip_crop(landmarks.astype(np.float32))
    assert crop.side_px / 128 == pytest.approx(CHIP_SIDE, abs=2e-3)
    assert (crop.center_x + 0.5) / 64 - 1 == pytest.approx(CHIP_CENTRE[0], abs=2e-3)
    assert (crop.center_y + 0.5) / 64 - 1 == pytest.approx(CHIP_CENTRE[1], abs=2e-3)
    assert abs(crop.axis_y) < 2e-3 * crop.axis_x


@pytest.mark.parametrize("side", [64, 128])
def test_chips_show_the_same_place_at_every_size(side):
    x = torch.linspace(-1, 1, side + 1).add(1 / side)[:-1]  # centres of pixels
    ramps = torch.stack(
        [x.expand(side, side), x[:, None].expand(side, side), torch.zeros(side, side)]
    )
    chip = recognition_chips(ramps[None])[0] / 127.5 - 1
    assert chip.shape == (3, 150, 150)
    middle = chip[:2, 74:76, 74:76].mean(dim=(1, 2))
    assert middle.tolist() == pytest.approx(CHIP_CENTRE, abs=1e-4)
    width = chip[0, 75, 100] - chip[0, 75, 50]
    assert float(width) == pytest.approx(CHIP_SIDE * 2 * 50 / 150, abs=1e-4)


def test_identity_knows_a_person_and_gives_a_gradient(shared_dir):
    with zipfile.ZipFile(shared_dir / "faces" / "faces128.zip") as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")][:3]
        rows = [np.asarray(Image.open(io.BytesIO(archive.read(n))).convert("RGB")) for n in names]
    images = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float() / 127.5 - 1
    term = IdentityTerm()
    assert term.name == "dlib_face_recognition_resnet_v1"
    brighter = (images + 0.1).clamp(-1, 1).requires_grad_(True)
    same = term.embedding_distance(View(brighter), View(images))
    strangers = term.embedding_distance(View(images.roll(1, 0)), View(images))
    assert same.max() < 0.3 < strangers.min()
    distance = term.distance(View(brighter), View(images))
    assert (distance > same).all()
    distance.sum().backward()
    assert brighter.grad is not None
    assert brighter.grad.abs().sum() > 0
