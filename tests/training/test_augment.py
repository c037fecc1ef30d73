"""DiffAugment: changes are the paper's, one for every picture, and let gradients through."""

from __future__ import annotations

import pytest
import torch

from training.augment import augment, colour, cutout, translation


def pictures(count: int = 64, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_translation_moves_whole_pixels_by_an_eighth_at_most_and_fills_with_zeros():
    x = pictures()
    torch.manual_seed(0)
    moved = translation(x)
    found = set()
    for before, after in zip(x, moved, strict=True):
        matches = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(after, shifted(before, down, right))
        ]
        assert len(matches) == 1
        found.update(matches)
    assert {down for down, _ in found} == {right for _, right in found} == {-2, -1, 0, 1, 2}


def shifted(image, down, right):
    out = torch.zeros_like(image)
    side = image.shape[-1]
    rows, columns = (slice(max(0, s), side + min(0, s)) for s in (down, right))
    back = [slice(max(0, -s), side + min(0, -s)) for s in (down, right)]
    out[:, rows, columns] = image[:, back[0], back[1]]
    return out


def test_cutout_masks_a_square_of_half_the_side():
    torch.manual_seed(0)
    masked = cutout(torch.ones(200, 1, 16, 16))[:, 0] == 0
    for mask in masked:
        rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
        assert mask.sum() == len(rows) * len(columns)
        assert 4 <= min(len(rows), len(columns)) <= max(len(rows), len(columns)) <= 8
    assert (masked.sum(dim=(1, 2)) == 64).any()


def test_colour_changes_brightness_saturation_and_contrast_within_the_papers_ranges():
    torch.manual_seed(0)
    flat = colour(torch.full((500, 3, 4, 4), 0.25)).mean(dim=(1, 2, 3)) - 0.25
    assert -0.5 <= flat.min() < -0.45
    assert 0.45 < flat.max() <= 0.5
    grey = torch.tensor([-1.0, 1.0]).repeat(500, 3, 2, 1)
    contrast = colour(grey).std(dim=(1, 2, 3)) / grey.std(dim=(1, 2, 3))
    assert 0.5 <= contrast.min() < 0.55
    assert 1.45 < contrast.max() <= 1.5
    tinted = torch.tensor([0.3, 0.0, -0.3])[:, None, None].expand(500, 3, 2, 2)
    after = colour(tinted)
    saturation = (after[:, 0] - after[:, 2])[:, 0, 0] / 0.6
    assert saturation.min() >= 0
    assert 1.5 < saturation.max() <= 3  # times the contrast


def test_a_gradient_of_a_gradient_goes_through_and_nothing_is_changed_without():
    x = pictures(4).requires_grad_(True)
    score = augment(x, ("colour", "translation", "cutout")).square().sum()
    (first,) = torch.autograd.grad(score, x, create_graph=True)
    first.square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0
    assert augment(x, ()) is x


@pytest.mark.parametrize("change", [colour, translation, cutout])
def test_every_picture_has_its_own_change(change):
    torch.manual_seed(0)
    changed = change(pictures(1).expand(16, -1, -1, -1))
    assert len({image.sum().item() for image in changed}) > 8
