"""A StyleGAN from z, and a pack's mapping: the paper's losses, exact resume, the pack's file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.packs.tiny import GENERATOR, write_tiny_pack
from tests.training.runs import LOOP, check_resumes_exactly
from tests.training.test_pack_stages import experiment, write_arrays
from training.discriminator import (
    DiscriminatorConfig,
    LogisticDiscriminator,
    PathLength,
    r1_penalty,
)
from training.loop import Loop, make_batch
from training.request import TrainingRequest
from training.samples import draw_samples, measure
from training.start import build, train
from training.stylegan import StyleGanStage, StyleGanTask
from training.terms import View
from training.weights import write_weights
from vidinv.errors import UsageError, VidinvError
from vidinv.packs import load_pack

SIZES = DiscriminatorConfig(channel_base=256, channel_max=8)
FROM_Z = StyleGanStage(
    loop=LOOP, generator=GENERATOR, discriminator=SIZES, r1_interval=3, path_interval=2
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny")


@pytest.fixture
def mapping_stage(folder):
    return StyleGanStage(
        loop=LOOP, pack=str(folder), learns="mapping", adversary="projected", path_weight=0.0
    )


def make_task(config: StyleGanStage) -> StyleGanTask:
    torch.manual_seed(0)
    return StyleGanTask(config)


def make_loop(faces, folder, config) -> Loop:
    folder.mkdir(exist_ok=True)
    return Loop(make_task(config), faces, config.loop, folder)


@pytest.mark.parametrize("learns", ["all", "mapping"])
def test_a_run_that_is_killed_resumes_to_the_same_losses(faces, tmp_path, mapping_stage, learns):
    config = FROM_Z if learns == "all" else mapping_stage
    config = replace(config, loop=replace(LOOP, total_images=56))
    resumed, whole = check_resumes_exactly(lambda name: make_loop(faces, tmp_path / name, config))
    means = [loop.task.path_length.mean for loop in (resumed, whole)]
    assert torch.equal(*means)
    assert bool(means[0]) == (learns == "all")


def test_a_step_has_the_lazy_terms_when_their_turn_comes(faces):
    task, batch = make_task(FROM_Z), make_batch(faces, np.arange(8))
    terms = [set(task.step(batch, number, lambda p: None)) for number in range(4)]
    always = {"generator", "discriminator"}
    assert terms == [always | {"path", "r1"}, always, always | {"path"}, always | {"r1"}]


def test_the_adversary_learns_before_it_acts(faces):
    task, batch = make_task(replace(FROM_Z, start_images=8)), make_batch(faces, np.arange(8))
    before = parameters_of(task.generator)
    assert "generator" not in task.step(batch, 0, lambda p: None)
    assert torch.equal(parameters_of(task.generator), before)
    assert "generator" in task.step(batch, 1, lambda p: None)
    assert not torch.equal(parameters_of(task.generator), before)


def parameters_of(module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_lazy_regularisation_slows_adam_as_the_paper_says():
    task = make_task(FROM_Z)
    for name, c in (("generator", 2 / 3), ("adversary", 3 / 4)):
        (group,) = task.optimizers[name].param_groups
        assert group["lr"] == pytest.approx(2e-3 * c)
        assert group["betas"] == pytest.approx((0.0, 0.99**c))
    task = make_task(replace(FROM_Z, r1_weight=0.0, path_weight=0.0))
    for optimizer in task.optimizers.values():
        assert optimizer.param_groups[0]["lr"] == 2e-3


def test_the_generator_learns_what_the_adversary_takes_for_real(faces):
    """An adversary that stands still and finds bright pictures real."""
    task = make_task(replace(FROM_Z, augment=(), path_weight=0.0, learning_rate=0.01))
    task.adversary.net.forward = lambda images: images.mean(dim=(1, 2, 3))[:, None] * 10
    task.adversary.discriminator_loss = lambda real, fake: sum(
        p.sum() * 0 for p in task.adversary.parameters()
    )
    task.has_r1 = False
    batch = make_batch(faces, np.arange(8))
    found = [float(task.step(batch, n, lambda p: None)["generator"].detach()) for n in range(15)]
    assert found[-1] < 0.7 * found[0]


def test_the_adversary_learns_to_tell_faces_from_samples(faces):
    alone = {"augment": (), "path_weight": 0.0, "r1_weight": 0.0}
    task = make_task(replace(FROM_Z, learning_rate=0.0, adversary_learning_rate=0.02, **alone))
    batch = make_batch(faces, np.arange(8))
    found = [
        float(task.step(batch, n, lambda p: None)["discriminator"].detach()) for n in range(12)
    ]
    assert found[-1] < 0.7 * found[0]


def test_logistic_losses_are_those_of_the_paper():
    torch.manual_seed(0)
    discriminator = LogisticDiscriminator(SIZES, 32)
    real, fake = (torch.randn(4, 3, 32, 32) for _ in range(2))
    scores_real, scores_fake = discriminator.net(real).sigmoid(), discriminator.net(fake).sigmoid()
    own = -(1 - scores_fake).log().mean() - scores_real.log().mean()
    torch.testing.assert_close(discriminator.discriminator_loss(View(real), View(fake)), own)
    torch.testing.assert_close(discriminator.generator_loss(View(fake)), -scores_fake.log().mean())
    fake.requires_grad_(True)
    discriminator.generator_loss(View(fake)).backward()
    assert fake.grad is not None
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())


def test_r1_is_the_squared_gradient_of_real_scores():
    weights = torch.randn(3, 8, 8)
    images = torch.randn(5, 3, 8, 8, requires_grad=True)
    scores = (images * weights).sum(dim=(1, 2, 3))[:, None]
    torch.testing.assert_close(r1_penalty(scores, images), weights.square().sum())


def test_path_lengths_are_held_at_their_running_mean():
    """A picture that is 5 w has J^T y = 5 y: lengths of 5 sqrt(3) with y scaled by 1 / R."""
    torch.manual_seed(0)
    term, side = PathLength(), 32
    latents = torch.randn(4, 1, 3 * side**2, requires_grad=True)
    pictures = (5 * latents).reshape(4, 3, side, side)
    assert float(term(pictures, latents).detach()) == pytest.approx(75 * 0.99**2, rel=0.05)
    assert float(term.mean) == pytest.approx(0.01 * 5 * 3**0.5, rel=0.05)
    term.mean.fill_(5 * 3**0.5)
    assert float(term(pictures, latents).detach()) < 0.1


def test_rows_of_two_people_are_mixed_as_often_as_asked():
    task = make_task(FROM_Z)
    torch.manual_seed(0)
    latents = task._draw_latents(400, torch.device("cpu"))
    changes = (latents[:, 1:] != latents[:, :-1]).any(dim=2).sum(dim=1)
    assert set(changes.tolist()) == {0, 1}
    assert float((changes == 1).float().mean()) == pytest.approx(0.9, abs=0.04)
    alone = make_task(replace(FROM_Z, style_mixing=0.0))._draw_latents(8, torch.device("cpu"))
    assert torch.equal(alone, alone[:, :1].expand_as(alone))


def test_noise_inputs_are_learned_from_z_and_a_packs_synthesis_stands_still(faces, mapping_stage):
    batch = make_batch(faces, np.arange(8))
    for config in (FROM_Z, mapping_stage):
        task = make_task(config)
        before = {k: v.clone() for k, v in task.generator.named_parameters()}
        task.step(batch, 0, lambda p: None)
        changed = {k for k, v in task.generator.named_parameters() if not torch.equal(v, before[k])}
        of_mapping = {name for name in before if name.startswith("mapping.")}
        if config is FROM_Z:
            assert {name for name in before if name.endswith("noise_strength")} <= changed
        else:
            assert changed == of_mapping


def test_evaluation_takes_w_avg_from_the_averaged_mapping(faces, mapping_stage):
    task = make_task(mapping_stage)
    with torch.no_grad():
        task.generator.mapping.fc1.bias.add_(50.0)
    metrics, rows = task.evaluate(task.modules, make_batch(faces, np.arange(16)))
    assert metrics["kid"] > 0
    assert [len(row) for row in rows] == [16, 16, 16]
    z = torch.randn(4000, GENERATOR.z_dim)
    mean = task.generator.mapping(z).mean(dim=0)
    torch.testing.assert_close(task.generator.mapping.w_avg, mean, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "either the sizes of a generator or a pack"),
        ({"pack": "PACK", "generator": {"resolution": 32}}, "either the sizes"),
        ({"generator": {"resolution": 32}, "learns": "mapping"}, "a synthesis that is trained"),
        ({"pack": "PACK", "style_mixing": 2}, "style_mixing must be a share"),
        ({"pack": "PACK", "r1_interval": 0}, "at least 1"),
        ({"pack": "PACK", "augment": ["color"]}, "expected one of 'colour'"),
        ({"pack": "PACK", "init": "nowhere"}, "expected the folder of a run"),
        ({"generator": {"kind": "pggan", "resolution": 32}, "init": "PACK"}, "does not fit"),
        (
            {"generator": {"kind": "pggan", "resolution": 32}, "learns": "mapping", "init": "PACK"},
            "has no mapping to learn",
        ),
    ],
)
def test_faults_of_an_experiment_are_said_in_one_line(folder, tmp_path, fields, said):
    fields = {k: str(folder) if v == "PACK" else v for k, v in fields.items()}
    path = experiment(tmp_path / "stage.yaml", loop={"total_images": 8, "batch": 8}, **fields)
    with pytest.raises(VidinvError, match=said) as caught:
        build("stylegan", path)
    assert "\n" not in str(caught.value)


def test_a_pack_gains_the_mapping_and_keeps_the_rest(faces, folder, tmp_path):
    stage = experiment(
        tmp_path / "stage.yaml", pack=str(folder), learns="mapping", adversary="projected",
        learning_rate=0.5, path_weight=0,
        loop={"total_images": 32, "batch": 8, "workers": 1, "warmup_images": 0, "decay_images": 1},
    )  # fmt: skip
    config, task = build("stylegan", stage)
    loop = Loop(task, faces, config.loop, tmp_path / "run")
    (tmp_path / "run").mkdir()
    loop.run()
    data = write_arrays(tmp_path / "data", faces)
    settings = experiment(
        tmp_path / "mapping.yaml", stage=str(stage), run=str(tmp_path / "run"), count=32, every=8
    )
    request = TrainingRequest("mapping", settings, tmp_path / "pack", data)
    train(request)
    old, new = load_pack(folder), load_pack(tmp_path / "pack")
    assert new.files.problems() == []
    assert new.meta["metrics"]["samples"]["samples"] == 32
    tensors = [load_file(pack.files.check("generator.safetensors")) for pack in (old, new)]
    changed = {k for k, v in tensors[0].items() if not torch.equal(v, tensors[1][k])}
    assert changed == {k for k in tensors[0] if k.startswith("mapping.")}
    assert {v.dtype for v in tensors[1].values()} == {torch.float16}
    assert new.directions().names() == old.directions().names()
    made_for = {entry["generator"] for entry in new.meta["directions"]["entries"].values()}
    assert made_for == {new.files.digest("generator.safetensors")}
    for truncation in (0.7, 1.0):
        ours, theirs = (
            next(draw_samples(g, 8, truncation=truncation))
            for g in (new.generator, loop.ema["generator"])
        )
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)
    with pytest.raises(UsageError, match="is there already"):
        train(request)
    stage.write_text(yaml.safe_dump({**yaml.safe_load(stage.read_text()), "learns": "all"}))
    with pytest.raises(UsageError, match="learns: mapping"):
        train(replace(request, out=tmp_path / "other"))


def test_a_mapping_of_another_synthesis_is_refused(folder, tmp_path):
    """It would have been taken over with it, and written into a pack that has its own."""
    stage = {"pack": str(folder), "learns": "mapping", "loop": {"total_images": 8, "batch": 8}}
    _, task = build("stylegan", experiment(tmp_path / "stage.yaml", **stage))
    state = {key: value.clone() for key, value in task.generator.state_dict().items()}
    for name in ("same", "other"):
        write_weights(tmp_path / f"{name}.safetensors", {"generator": state}, 0)
        next(v for k, v in state.items() if k.startswith("synthesis.")).add_(1)
    task.initialise(tmp_path / "same.safetensors")
    other = experiment(tmp_path / "init.yaml", init=str(tmp_path / "other.safetensors"), **stage)
    with pytest.raises(UsageError, match="its synthesis is not that of"):
        build("stylegan", other)


def test_samples_are_measured_against_training_faces_and_shown(faces, folder, tmp_path):
    data, out = write_arrays(tmp_path / "data", faces), tmp_path / "out"
    report = measure([str(folder)], data, out, count=32, every=16)
    assert (report["samples"], report["faces"]) == (32, 35)
    assert report["features"] == "EfficientNet-lite0"
    row = report["packs"][str(folder)]
    assert row["fid"] > 0
    assert sorted(path.name for path in out.iterdir()) == [
        "report.json", "tiny_0.7.png", "tiny_1.png",
    ]  # fmt: skip
    generator = load_pack(folder).generator
    few, many = (torch.cat(list(draw_samples(generator, count))) for count in (4, 20))
    torch.testing.assert_close(few, many[:4])


def test_packs_of_different_sizes_are_not_compared(folder, tmp_path):
    other = write_tiny_pack(tmp_path / "other", resolution=64)
    with pytest.raises(UsageError, match="different sizes"):
        measure([str(folder), str(other)], tmp_path, tmp_path / "out", count=8, every=1)
