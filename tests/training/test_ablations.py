"""Switches of the Feature-Style stage, by rows of the table of its supplement: each one acts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.packs.tiny import write_tiny_pack
from tests.training.runs import PIXELS_ALONE
from tests.training.test_training import CONFIG, ENCODER, F_FULL, PLAIN
from training.feature_style import FeatureStyleTask
from training.gan import GanTask, drawn_like
from training.loop import make_batch
from training.terms import View
from vidinv.errors import UnknownNameError
from vidinv.networks.bisenet import BiSeNet

FULL = F_FULL.judges


def taken(faces, config, *, number: int = 0):
    """The task after a step, and what the step logs."""
    torch.manual_seed(0)
    task = FeatureStyleTask(config)
    torch.manual_seed(1)
    metrics = task.step(make_batch(faces, np.arange(8)), number, lambda parameters: None)
    assert all(torch.isfinite(value) for value in metrics.values())
    return task, {name: float(value.detach()) for name, value in metrics.items()}


@pytest.fixture(scope="module")
def baseline(faces):
    return taken(faces, F_FULL)[1]


@pytest.mark.parametrize(
    ("row", "judges", "gone"),
    [
        ("A", {"pixel": "none"}, {"pixel", "pixel_w"}),
        ("B", {"identity_weight": 0.0}, {"identity", "edited_identity"}),
    ],
)
def test_a_term_that_is_left_out_is_not_in_the_loss(faces, baseline, row, judges, gone):
    task, metrics = taken(faces, replace(F_FULL, judges=replace(FULL, **judges)))
    assert baseline.keys() - metrics.keys() == gone
    assert metrics["perceptual"] == pytest.approx(baseline["perceptual"], rel=1e-4)
    assert (row == "A") == ("pixel" not in task.networks)


def test_c_a_pack_with_a_parsing_network_judges_by_it(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(BiSeNet, "input_px", 64)
    torch.manual_seed(0)
    pack = write_tiny_pack(
        tmp_path / "p", networks={"parsing": ("bisenet", BiSeNet().state_dict())}
    )
    judges = replace(PIXELS_ALONE, parsing=str(pack))
    task, metrics = taken(faces, replace(PLAIN, judges=judges, edit_weight=0.0))
    assert task.networks["parsing"] == f"BiSeNet of {pack}"
    assert metrics["parsing"] > 0
    images = make_batch(faces, np.arange(2)).images
    term, other = task.judges.parsing, (-images).requires_grad_(True)
    assert float(term.distance(View(images), View(images)).abs().max()) < 1e-4
    distance = term.distance(View(other), View(images))
    assert distance.min() > 0
    assert torch.autograd.grad(distance.sum(), other)[0].abs().sum() > 0
    plain = write_tiny_pack(tmp_path / "plain")
    with pytest.raises(UnknownNameError, match="parsing"):
        FeatureStyleTask(replace(PLAIN, judges=replace(PIXELS_ALONE, parsing=str(plain))))


def test_d_the_perceptual_term_sees_as_many_scales_as_asked(faces):
    task = FeatureStyleTask(replace(F_FULL, judges=replace(FULL, perceptual_scales=3)))
    assert task.networks["perceptual"] == "EfficientNet-lite0 at 3 scales"
    coarse = torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pair = [F.interpolate(images, size=128, mode="bicubic") for images in coarse]
    three = task.judges.perceptual.distance(*map(View, pair))
    single = FeatureStyleTask(F_FULL).judges.perceptual
    scales = [single.distance(*(View(F.avg_pool2d(x, k)) for x in pair)) for k in (1, 2, 4)]
    torch.testing.assert_close(three, torch.stack(scales).mean(dim=0))
    assert not torch.allclose(three, scales[0], rtol=0.05)


def test_e_without_the_feature_tensor_it_is_the_w_stage(faces):
    encoder = replace(ENCODER, feature_width=0, editor_width=0)
    task, metrics = taken(faces, replace(CONFIG, encoder=encoder, synthetic=0.5))
    assert {"feature", "edit", "pixel_w"}.isdisjoint(metrics)
    assert {"pixel", "pixel_synthetic"} <= metrics.keys()
    measures, rows = task.evaluate(task.modules, make_batch(faces, np.arange(16)))
    assert "psnr_w" in measures
    assert "psnr" not in measures
    assert len(rows) == 3
    task.forward(task.modules, make_batch(faces, np.arange(8)))


@pytest.mark.parametrize("stage", [GanTask, FeatureStyleTask])
def test_f_synthetic_pictures_take_their_share_of_the_batch_and_teach_g_of_w(faces, stage):
    config = replace(PLAIN, synthetic=0.5)
    torch.manual_seed(0)
    task, batch = stage(config), make_batch(faces, np.arange(8))
    seen = []
    task.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    metrics = task.step(batch, 0, lambda parameters: None)
    photographs, made = seen
    assert torch.equal(photographs, batch.images[:4])
    assert len(made) == 4
    assert not torch.isclose(made, batch.images[4:], atol=0.05).all()
    assert metrics["pixel_synthetic"] > 0
    plain = stage(replace(PLAIN, synthetic=0.0))
    seen.clear()
    assert "pixel_synthetic" not in plain.step(batch, 0, lambda parameters: None)


def test_f_synthetic_pictures_move_encoder_and_generator(faces):
    torch.manual_seed(0)
    task = GanTask(replace(PLAIN, synthetic=0.5))
    latents = task.encoder(make_batch(faces, np.arange(8)).images)[0].detach()
    task._synthetic_loss(latents, 4, {}).backward()
    for module in (task.generator.synthesis, task.encoder.latent_head):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_a_share_of_all_is_refused():
    with pytest.raises(ValueError, match="synthetic must be a share below 1"):
        replace(PLAIN, synthetic=1.0)
    with pytest.raises(ValueError, match="pixel or perceptual"):
        replace(FULL, pixel="none", perceptual="none")
    with pytest.raises(ValueError, match="perceptual_scales must be"):
        replace(FULL, perceptual_scales=0)


def test_what_is_drawn_has_the_mean_and_covariance_of_the_latents():
    torch.manual_seed(0)
    w = torch.randn(64, 3) @ torch.randn(3, 3) + 5
    drawn = drawn_like(w, torch.randn(20_000, 64))
    torch.testing.assert_close(drawn.mean(dim=0), w.mean(dim=0), rtol=0, atol=0.1)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(w.T, correction=0), rtol=0.1, atol=0.1)
