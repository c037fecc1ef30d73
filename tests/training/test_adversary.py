"""The adversary: tells pictures apart, weighs as its share says, and is no judge of itself."""

from __future__ import annotations

import pytest
import torch

from training.adversary import Adversary, AdversaryConfig
from training.terms import View

PATCH_ONLY = AdversaryConfig(projected=False)


def pictures(seed: int) -> torch.Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_learns_to_tell_real_from_made():
    torch.manual_seed(0)
    adversary = Adversary(PATCH_ONLY, 32)
    real, fake = View(pictures(0) * 0.2), View(pictures(1))
    optimizer = torch.optim.Adam(adversary.parameters(), lr=2e-3, betas=(0.0, 0.99))
    first = adversary.discriminator_loss(real, fake)
    for _ in range(30):
        optimizer.zero_grad()
        adversary.discriminator_loss(real, fake).backward()
        optimizer.step()
    assert adversary.discriminator_loss(real, fake) < 0.5 * first
    assert adversary.generator_loss(fake) > adversary.generator_loss(real)


def test_the_generators_loss_gives_it_no_gradient():
    adversary = Adversary(PATCH_ONLY, 32)
    images = pictures(0).requires_grad_(True)
    adversary.generator_loss(View(images)).backward()
    assert images.grad is not None
    assert all(p.grad is None for p in adversary.parameters())
    assert all(p.requires_grad for p in adversary.parameters())


def test_its_gradient_is_its_share_of_the_reconstructions():
    adversary = Adversary(AdversaryConfig(share=0.4, projected=False), 32)
    images = pictures(0).requires_grad_(True)
    reconstruction, loss = images.square().mean(), adversary.generator_loss(View(images))
    adversary.measure_balance(reconstruction, loss, images)
    norms = [
        float(torch.autograd.grad(value, images, retain_graph=True)[0].norm())
        for value in (adversary.balance * loss, reconstruction)
    ]
    assert norms[0] == pytest.approx(0.4 * norms[1], rel=1e-3)
    before = float(adversary.balance)
    adversary.measure_balance(2 * reconstruction, loss, images)
    assert float(adversary.balance) == pytest.approx(1.1 * before, rel=1e-3)  # a tenth of the way
    adversary.forget_balance()
    adversary.measure_balance(2 * reconstruction, loss, images)
    assert float(adversary.balance) == pytest.approx(2 * before, rel=1e-3)


def test_heads_stand_on_every_level_and_the_network_is_not_saved(features):
    adversary = Adversary(AdversaryConfig(), 32)
    view = View(pictures(0))
    assert [logits.shape[-1] for logits in adversary.logits(view)] == [4, 4, 2, 1, 3]
    assert adversary.name == "projected discriminator on EfficientNet-lite0, PatchGAN on pixels"
    assert {key.split(".")[0] for key in adversary.state_dict()} == {"heads", "patch", "balance"}
    adversary.generator_loss(view)
    assert not any(p.requires_grad for p in features.parameters())
