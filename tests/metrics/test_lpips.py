"""LPIPS with a made-up backbone where torch keeps its downloads: golden distances."""

from __future__ import annotations

import sys

import pytest
import torch

from tests.golden import GoldenCase
from vidinv.errors import MissingDependencyError, UnknownNameError
from vidinv.metrics.lpips import BACKBONES, LPIPS, MAX_PX, cached_backbones, lpips_absent

PREFIX = "net.slice"
# The classifier that torchvision's file has and LPIPS does not use.
CLASSIFIER = {1: (4096, 9216), 4: (4096, 4096), 6: (1000, 4096)}


@pytest.fixture(scope="module")
def case(shared_dir):
    pytest.importorskip("lpips", reason="needs lpips: make setup-dev")
    return GoldenCase(shared_dir / "golden", "09_lpips_alex")


@pytest.fixture
def cache(case, tmp_path, monkeypatch):
    """A torch cache with AlexNet's file in torchvision's layout."""
    state = {
        f"features.{key.removeprefix(PREFIX).split('.', 1)[1]}": value
        for key, value in case.state("lpips").items()
        if key.startswith(PREFIX)
    }
    for number, (rows, columns) in CLASSIFIER.items():
        # One number in the file, seen as a whole matrix.
        state[f"classifier.{number}.weight"] = torch.zeros(1).expand(rows, columns)
        state[f"classifier.{number}.bias"] = torch.zeros(1).expand(rows)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(state, folder / BACKBONES["alex"].file)
    return folder


@pytest.fixture
def pictures(case):
    return [case.image(f"lpips.{name}", [2, 3, 128, 128]) for name in "ab"]


def test_distances_are_the_golden_ones(case, cache, pictures):
    assert lpips_absent(64) == ""
    assert cached_backbones() == ("alex",)
    measure = LPIPS()
    a, b = pictures
    with torch.inference_mode():
        for name, other in (("ab", b), ("a_c", 0.75 * a + 0.25 * b), ("aa", a)):
            found, wanted = measure(a, other), case.output(f"dist_{name}")
            torch.testing.assert_close(found, wanted, rtol=0, atol=case.atol(f"dist_{name}"))


def test_pictures_larger_than_in_the_literature_are_reduced(cache, pictures):
    measure = LPIPS()
    large = [p.repeat_interleave(4, 2).repeat_interleave(4, 3) for p in pictures]
    reduced = [p.repeat_interleave(2, 2).repeat_interleave(2, 3) for p in pictures]
    assert large[0].shape[-1] > MAX_PX == reduced[0].shape[-1]
    with torch.inference_mode():
        torch.testing.assert_close(measure(*large), measure(*reduced))


@pytest.mark.parametrize("side", [31, 64])
def test_small_pictures_are_measured_as_they_are(cache, pictures, side):
    a, b = (p[..., :side, :side] for p in pictures)
    with torch.inference_mode():
        assert (LPIPS()(a, b) > 0).all()


def test_gradients_reach_the_pictures(cache, pictures):
    a, b = pictures
    a.requires_grad_()
    LPIPS()(a, b).sum().backward()
    assert torch.isfinite(a.grad).all()
    assert a.grad.abs().max() > 0


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "not in the torch cache" in lpips_absent(64) or "not installed" in lpips_absent(64)
    assert "needs pictures of 31 px" in lpips_absent(30)


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_nothing_is_downloaded(tmp_path, monkeypatch, backbone):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="LPIPS is absent"):
        LPIPS(backbone)
    assert not any(tmp_path.rglob("*.pth"))
    assert f"{BACKBONES[backbone].min_px} px a side, got 8" in lpips_absent(8, backbone)


def test_without_the_package_it_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert "pip install -e '.[train]'" in lpips_absent(64)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(UnknownNameError, match="unknown LPIPS backbone 'alexnet'; there are: alex"):
        lpips_absent(64, "alexnet")
