"""LPIPS of a report, with a made-up backbone where torch keeps its downloads: golden distances."""

from __future__ import annotations

import pytest
import torch

from pipelines.report.inversion_meter import LPIPS, LPIPS_MAX_PX, lpips_absent
from tests.golden import GoldenCase

BACKBONE = "net.slice"
# The classifier that torchvision's file has and LPIPS does not use.
CLASSIFIER = {1: (4096, 9216), 4: (4096, 4096), 6: (1000, 4096)}


@pytest.fixture(scope="module")
def case(shared_dir):
    pytest.importorskip("lpips", reason="needs lpips: pip install 'vidinv[train]'")
    return GoldenCase(shared_dir / "golden", "09_lpips_alex")


@pytest.fixture
def cache(case, tmp_path, monkeypatch):
    """A torch cache with AlexNet's file in torchvision's layout."""
    state = {
        f"features.{key.removeprefix(BACKBONE).split('.', 1)[1]}": value
        for key, value in case.state("lpips").items()
        if key.startswith(BACKBONE)
    }
    for number, (rows, columns) in CLASSIFIER.items():
        # One number in the file, seen as a whole matrix.
        state[f"classifier.{number}.weight"] = torch.zeros(1).expand(rows, columns)
        state[f"classifier.{number}.bias"] = torch.zeros(1).expand(rows)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(state, folder / "alexnet-owt-7be5be79.pth")
    return folder


@pytest.fixture
def pictures(case):
    return [case.image(f"lpips.{name}", [2, 3, 128, 128]) for name in "ab"]


def test_distances_are_the_golden_ones(case, cache, pictures):
    assert lpips_absent(64) == ""
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
    assert large[0].shape[-1] > LPIPS_MAX_PX == reduced[0].shape[-1]
    with torch.inference_mode():
        torch.testing.assert_close(measure(*large), measure(*reduced))


@pytest.mark.parametrize("side", [31, 64])
def test_small_pictures_are_measured_as_they_are(cache, pictures, side):
    a, b = (p[..., :side, :side] for p in pictures)
    with torch.inference_mode():
        assert (LPIPS()(a, b) > 0).all()


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "not in the torch cache" in lpips_absent(64) or "not installed" in lpips_absent(64)
    assert "needs pictures of 31 px" in lpips_absent(30)
